"""Runs one job in this process: a program under the tracer, and the probes on what it did. For a worker process only."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gradlint.core import Claim, Span
from gradlint.core.verdict import Evidence, Outcome, Verdict
from gradlint.verify import confine, instrument
from gradlint.verify.driving import DRIVERS, take_steps
from gradlint.verify.instrument import Asked, Hooks
from gradlint.verify.interfaces import DriverError, Target
from gradlint.verify.places import Place, Places
from gradlint.verify.probes import judge
from gradlint.verify.probes.run import Ending, Run, device_of
from gradlint.verify.recorder import Recorder, Stop
from gradlint.verify.summary import summary


@dataclass(frozen=True, slots=True)
class Job:
    """What to run and what to ask of it.

    ``kind``: ``script``, ``config`` or ``auto``.  ``file``: absolute path.  ``roots``: the user's folders, absolute.
    ``shown``: how paths are shown, by absolute path.  ``steps``: optimizer steps to see after the last new line of a claim.
    ``seconds``: when to stop and judge what was seen.  ``text``: the program's text where it is not
    the file's (a notebook's).  ``package``: the package that the file belongs to.  ``traced``: stop
    after the steps, reached or not, and tell what the run shows by itself.
    """

    kind: str
    file: str
    roots: tuple[str, ...]
    claims: tuple[Asked, ...]
    arguments: tuple[str, ...] = ()
    shown: Mapping[str, str] | None = None
    steps: int = 12
    seconds: float = 60.0
    seed: int = 0
    text: str | None = None
    package: str = ""
    traced: bool = False
    factory: str = ""
    module: str = ""
    qualname: str = ""
    device: str = "auto"


_BETTER = (Outcome.CONFIRMED, Outcome.REFUTED, Outcome.INCONCLUSIVE)


class Session:
    """The state of the one job of this process. ``deliver`` gets the verdicts, once."""

    def __init__(self, job: Job, deliver: Callable[[dict[int, Verdict], Ending, dict[str, Any]], None]) -> None:
        self.job = job
        self.places = Places(job.roots)
        self.recorder = Recorder(self.places, job.claims, job.steps, self._enough, patient=not job.traced)
        self.deliver = deliver
        self.delivered = False
        self.began = time.monotonic()
        self.process = os.getpid()
        self.children = Path(tempfile.gettempdir()) / "gradlint-children"
        self.description = ""
        self.degenerate = ""

    def install(self) -> None:
        """Get ready to see everything."""
        recorder = self.recorder
        recorder.install()
        hooks = Hooks(
            recorder.hear_reached,
            recorder.hear_flag,
            recorder.hear_value,
            recorder.hear_number,
            recorder.hear_legacy,
            recorder.hear_iterated,
            recorder.hear_passes,
        )
        asked: dict[str, list[Asked]] = {}
        for each in self.job.claims:
            asked.setdefault(each.claim.site.file, []).append(each)
        instrument.install(hooks, self.places.is_user, asked)
        if hasattr(torch.compiler, "set_stance"):
            torch.compiler.set_stance("force_eager")
        leave = os._exit

        def exit(status: int) -> None:
            self.finish(Ending("exit", f"os._exit({status})", self.places.here(sys._getframe(1))))
            leave(status)

        os._exit = exit  # type: ignore[assignment]
        signal.signal(signal.SIGALRM, lambda *_: self.stop("time"))
        signal.signal(signal.SIGUSR1, lambda *_: self.stop("enough"))
        signal.setitimer(signal.ITIMER_REAL, self.job.seconds)
        self._watch_children()

    def _watch_children(self) -> None:
        """Let processes that train for the program be forked from this one: what a fresh one does is not seen."""
        library: Any = torch.multiprocessing
        start = library.start_processes

        def start_processes(*args: Any, **kwargs: Any) -> Any:
            if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                kwargs["start_method"] = "fork"
                args = args[:5]
            return start(*args, **kwargs)

        def spawn(
            fn: Any, args: Any = (), nprocs: int = 1, join: bool = True, daemon: bool = False, start_method: str = ""
        ) -> Any:
            return start_processes(fn, args, nprocs, join, daemon)

        def set_start_method(method: str | None, force: bool = False) -> None:
            """Keep forking."""

        library.start_processes = library.spawn.__globals__["start_processes"] = start_processes
        library.spawn = spawn
        multiprocessing.set_start_method = library.set_start_method = set_start_method
        compiled = torch.compile

        def compile(*args: Any, **kwargs: Any) -> Any:
            self.recorder.compiled = True
            return compiled(*args, **kwargs)

        torch.compile = compile

    def stop(self, why: str) -> None:
        """Judge now and leave, from the middle of the program."""
        self.finish(Ending(why, f"{self.job.seconds:g} s"))
        raise Stop

    def _enough(self) -> None:
        self.stop("enough")

    def run_script(self) -> None:
        """Run a program as ``__main__``."""
        file = self.job.file
        self.description = " ".join([self.job.shown.get(file, file) if self.job.shown else file, *self.job.arguments])
        module = types.ModuleType("__main__")
        module.__file__ = file
        module.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = module
        sys.argv = [file, *self.job.arguments]
        asked = [each for each in self.job.claims if each.claim.site.file == file]
        ending = Ending()
        torch.manual_seed(self.job.seed)
        try:
            if self.job.package:
                __import__(self.job.package)
                module.__package__ = self.job.package
            code = instrument.compile_source(self.job.text or Path(file).read_bytes(), file, asked)
            with self.recorder.tracer:
                exec(code, module.__dict__)
        except Stop:
            return
        except SystemExit as leaving:
            if leaving.code not in (None, 0):
                ending = Ending("exit", f"exit status {leaving.code}")
        except BaseException as error:
            ending = self.failure(error)
            traceback.print_exc()
        self.recorder.names.look([module.__dict__])
        self.finish(ending)

    def run_driven(self) -> None:
        """Take what a driver makes of a class or a factory through some steps."""
        job = self.job
        target = Target(
            job.kind,
            job.file,
            job.roots[0],
            job.module,
            job.qualname,
            job.factory,
            device="cuda" if job.device == "cuda" else "cpu",
            claims=tuple(each.claim for each in job.claims),
            seed=job.seed,
        )
        ending = Ending()
        recorder = self.recorder
        self.description = job.factory or job.qualname
        try:
            with recorder.tracer:
                wanted, recorder.wanted = recorder.wanted, 1 << 60
                driven = DRIVERS[job.kind](target, job.seconds)
                recorder.start_over(wanted)
                self.description = driven.description
                self.degenerate = driven.degenerate
                recorder.names.add(dict(driven.objects))
                if job.factory in recorder.promises.names:
                    for module in driven.objects.values():
                        recorder.promises.adopt(job.factory, module)
                take_steps(driven, max(3, wanted // 2))
        except Stop:
            return
        except DriverError as error:
            ending = Ending("undriven", str(error))
        except BaseException as error:
            ending = self.failure(error)
            traceback.print_exc()
        self.finish(ending)

    def failure(self, error: BaseException) -> Ending:
        """An exception of the program as an ending."""
        text = " ".join(str(error).split())
        said = f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
        stack: list[Place] = []
        trace = error.__traceback__
        while trace is not None:
            if self.places.is_user(trace.tb_frame.f_code.co_filename):
                stack.append(self.places.place(trace.tb_frame.f_code, trace.tb_lasti))
            trace = trace.tb_next
        return Ending("error", said, stack[-1] if stack else None, tuple(stack))

    def finish(self, ending: Ending) -> None:
        """Judge all claims and deliver the verdicts; at most once.

        A process that the program forked leaves its verdicts to this one, if it has trained anything.
        """
        if self.delivered:
            return
        self.delivered = True
        forked = os.getpid() != self.process
        if forked and not self.recorder.gradients:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        with torch._C.DisableTorchFunction(), self.recorder.tracer.pause():
            recorder = self.recorder
            recorder.names.look()
            tensors = [leaf.tensor() for leaf in recorder.tracer.trace.leaves]
            main = vars(sys.modules["__main__"])
            recorder.names.look([main])
            run = Run(
                recorder,
                ending,
                f"{self.description}, ",
                device_of(tensors),
                time.monotonic() - self.began,
                self.degenerate,
                dict(self.job.shown or {}),
                alone=self.job.kind == "auto",
            )
            run.description += run.steps()
            if ending.kind == "undriven":
                run.description = ""
                verdicts = {each.number: run.inconclusive(ending.text.rstrip(".")) for each in self.job.claims}
            else:
                verdicts = {each.number: judge(each, run) for each in self.job.claims}
            if self.recorder.compiled:
                note = Evidence("compiled parts ran without compilation")
                verdicts = {number: replace(v, evidence=(*v.evidence, note)) for number, v in verdicts.items()}
            shows = summary(run) if self.job.traced else {}
            if forked:
                self._leave(verdicts, shows, ending)
            else:
                self.deliver(*self._gathered(verdicts, shows, ending))

    def _leave(self, verdicts: dict[int, Verdict], shows: dict[str, Any], ending: Ending) -> None:
        """Put down for the first process what this one saw; tell it to stop when that was enough."""
        self.children.mkdir(exist_ok=True)
        (self.children / f"{os.getpid()}.pickle").write_bytes(pickle.dumps((verdicts, shows, ending)))
        if ending.kind == "enough":
            os.kill(self.process, signal.SIGUSR1)

    def _gathered(
        self, verdicts: dict[int, Verdict], shows: dict[str, Any], ending: Ending
    ) -> tuple[dict[int, Verdict], Ending, dict[str, Any]]:
        """What this process saw, or for want of it what those did that it forked."""
        found = sorted(self.children.glob("*.pickle")) if self.children.is_dir() else []
        for file in found:
            others, seen, _ = pickle.loads(file.read_bytes())  # written by this program's own processes, a moment ago
            for number, other in others.items():
                if _BETTER.index(other.outcome) < _BETTER.index(verdicts[number].outcome):
                    verdicts[number] = replace(other, driver=f"{other.driver}, in one of {len(found)} processes")
            if not self.recorder.gradients and seen:
                shows = seen
        return verdicts, ending, shows


def perform(row: Mapping[str, Any], folder: str, scratch: str, answer: int) -> None:
    """Carry out a job given as plain data, in a confined process, and write the answer to a pipe.

    ``folder``: where to run.  ``scratch``: where temporary files go.
    """
    writable = [folder, scratch, "/dev/shm"]
    if os.path.commonpath([folder, scratch]) != scratch:
        writable += row["layers"]
    temporary = os.path.join(scratch, "tmp")
    os.makedirs(temporary, exist_ok=True)
    os.environ.update(confine.OFFLINE)
    os.environ.update(row["environment"])
    os.environ.update(
        TMPDIR=temporary,
        MPLCONFIGDIR=temporary,
        TRITON_CACHE_DIR=temporary,
        TORCHINDUCTOR_CACHE_DIR=temporary,
        OMP_NUM_THREADS="1",
    )
    tempfile.tempdir = None
    if row["device"] == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.chdir(folder)
    sys.dont_write_bytecode = True
    sys.path[:] = [path for path in sys.path if path not in ("", os.getcwd())]
    sys.path[:0] = [path for path in row["path"] if path not in sys.path]
    confine.limit(int(row["memory"]), float(row["seconds"]) + 60)
    guard = confine.Guard(writable)

    def deliver(verdicts: dict[int, Verdict], ending: Ending, summary: dict[str, Any]) -> None:
        _send(
            answer,
            {
                "verdicts": {number: verdict_row(verdict) for number, verdict in verdicts.items()},
                "ending": {"kind": ending.kind, "text": ending.text},
                "summary": summary,
                "asked": guard.asked[:8],
                "denied": guard.denied[:8],
            },
        )

    claims = tuple(Asked(number, claim_from(claim)) for number, claim in enumerate(row["claims"]))
    job = Job(
        row["kind"],
        row["file"],
        tuple(row["roots"]),
        claims,
        tuple(row["arguments"]),
        row["shown"],
        int(row["steps"]),
        float(row["seconds"]),
        int(row["seed"]),
        row["text"],
        row["package"],
        row["traced"],
        row["factory"],
        row["module"],
        row["qualname"],
        row["device"],
    )
    session = Session(job, deliver)
    session.install()
    guard.install()
    if job.kind == "script":
        session.run_script()
    else:
        session.run_driven()


def _send(descriptor: int, answer: Mapping[str, Any]) -> None:
    data = json.dumps(answer).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]
    os.close(descriptor)


def claim_from(row: Mapping[str, Any]) -> Claim:
    """A claim from plain data."""
    return Claim(row["probe"], row["kind"], tuple(row["subjects"]), Span(*row["site"]))


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data."""
    return {
        "outcome": verdict.outcome.value,
        "reason": verdict.reason,
        "evidence": [
            {
                "text": each.text,
                "span": [each.span.file, each.span.line, each.span.column, each.span.end_line, each.span.end_column]
                if each.span
                else None,
            }
            for each in verdict.evidence
        ],
        "driver": verdict.driver,
        "device": verdict.device,
        "seconds": verdict.seconds,
    }


def numbered(claims: Sequence[Claim]) -> tuple[Asked, ...]:
    """Claims with their numbers."""
    return tuple(Asked(number, claim) for number, claim in enumerate(claims))
