"""Measure how many module classes auto-drive takes through forward and backward with no help.

Each class runs in a child process of its own, with limits of time and memory. ``--sample 60 --seed 1`` draws that many of a
package's classes; without it all are tried. Writes a Markdown table of the shares and one of the classes that were not driven,
with the reasons; ``--json`` writes every outcome.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import pkgutil
import random
import resource
import select
import signal
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import nn

from gradlint.verify.drive import Run, drive

torch.set_num_threads(1)

NOTHING = "nothing to run"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one class.

    ``result``: ``driven``, ``degenerate``, ``no gradient`` (forward went through and no output carries gradient), ``nothing to
    run``, or the stage that failed.  ``how``: the run in one line.  ``why``: the reason, empty for ``driven``.
    ``replayed``: whether the source that the run comes with repeats it, ``None`` where that was not asked for.
    """

    package: str
    name: str
    result: str
    how: str = ""
    why: str = ""
    origin: str = ""
    attempts: int = 0
    seconds: float = 0.0
    outputs: str = ""
    missing: int = 0
    replayed: bool | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """The classes of one package: ``tried`` of ``total``."""

    package: str
    version: str
    total: int
    tried: tuple[Outcome, ...]
    unimported: int


def main() -> None:
    """Run over the packages and write the tables."""
    arguments = _arguments()
    sys.path[:0] = [str(path) for path in arguments.path]
    _without_compiled_torchvision()
    groups: list[Group] = []
    for package in arguments.packages:
        groups.append(_measure(package, arguments))
    report = _report(groups, arguments)
    if arguments.output:
        arguments.output.write_text(_merged(arguments.output, report), encoding="utf-8")
    else:
        print(report)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(group) for group in groups], indent=1), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "packages", nargs="+", help="packages, or parts joined by a plus sign: torch.nn timm.layers+timm.models"
    )
    parser.add_argument("--path", action="append", type=Path, default=[], help="a folder that holds packages")
    parser.add_argument("--sample", type=int, help="how many classes to draw of each package")
    parser.add_argument("--seed", type=int, default=0, help="for the draw")
    parser.add_argument("--only", nargs="*", help="names of classes, instead of a draw")
    parser.add_argument("--seconds", type=float, default=20.0, help="time limit for one class")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--replay", action="store_true", help="run the source of each run as well and compare the loss")
    parser.add_argument("--output", type=Path, help="a Markdown file; the part between its markers is replaced")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def _without_compiled_torchvision() -> None:
    """Let torchvision import where its compiled part does not fit the installed torch: declare what its import refers to."""
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        declare: Any = torch.library.Library
        library = declare("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
        importlib.import_module("torchvision")


_KEPT: list[Any] = []


def classes_of(package: str) -> tuple[list[type[nn.Module]], int]:
    """The public module classes that a package defines, by name, and how many of its modules did not import."""
    found: dict[str, type[nn.Module]] = {}
    failed = 0
    for part in package.split("+"):
        modules = [importlib.import_module(part)]
        if part != "torch.nn":
            for module in _submodules(modules[0]):
                if module is None:
                    failed += 1
                else:
                    modules.append(module)
        for module in modules:
            for name, value in list(vars(module).items()):
                if not (isinstance(value, type) and issubclass(value, nn.Module)) or name.startswith("_"):
                    continue
                if value.__module__.startswith(part) and not value.__name__.startswith("_"):
                    found.setdefault(f"{value.__module__}.{value.__qualname__}", value)
    return [found[name] for name in sorted(found)], failed


def _submodules(package: Any) -> Iterator[Any]:
    for info in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + ".", onerror=lambda name: None):
        parts = info.name.split(".")
        if any(part in {"tests", "testing", "__main__", "conftest"} for part in parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield importlib.import_module(info.name)
        except (Exception, SystemExit):
            yield None


def _measure(package: str, arguments: argparse.Namespace) -> Group:
    classes, unimported = classes_of(package)
    total = len(classes)
    if arguments.only:
        classes = [cls for cls in classes if cls.__name__ in arguments.only]
    elif arguments.sample and package != "torch.nn" and arguments.sample < total:
        classes = random.Random(arguments.seed).sample(classes, arguments.sample)
        classes.sort(key=lambda cls: f"{cls.__module__}.{cls.__qualname__}")
    outcomes = []
    for cls in classes:
        outcome = _in_child(package, cls, arguments)
        outcomes.append(outcome)
        if arguments.verbose:
            print(
                f"{outcome.result:12} {outcome.seconds:6.2f}s {outcome.attempts:4} {outcome.name}: {outcome.how} {outcome.why}",
                flush=True,
            )
    top = importlib.import_module(package.split("+")[0].split(".")[0])
    return Group(package, str(getattr(top, "__version__", "")), total, tuple(outcomes), unimported)


def _in_child(package: str, cls: type[nn.Module], arguments: argparse.Namespace) -> Outcome:
    """Drive a class in a forked process."""
    name = f"{cls.__module__}.{cls.__qualname__}"
    reader, writer = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
        try:
            outcome = _outcome(package, name, cls, arguments)
        except BaseException:
            outcome = Outcome(package, name, "internal", why=traceback.format_exc()[-600:])
        with os.fdopen(writer, "w") as stream:
            stream.write(json.dumps(asdict(outcome)))
        os._exit(0)
    os.close(writer)
    data = b""
    limit = began + arguments.seconds * 4 + 20
    while True:
        ready, _, _ = select.select([reader], [], [], max(limit - time.monotonic(), 0))
        if not ready:
            break
        chunk = os.read(reader, 65536)
        if not chunk:
            break
        data += chunk
    os.close(reader)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        return Outcome(**json.loads(data))
    except ValueError:
        late = time.monotonic() > limit
        return Outcome(
            package,
            name,
            "hung" if late else "died",
            why="did not come back in time" if late else "the process ended",
            seconds=time.monotonic() - began,
        )


def _outcome(package: str, name: str, cls: type[nn.Module], arguments: argparse.Namespace) -> Outcome:
    result = drive(cls, device=arguments.device, time_limit=arguments.seconds)
    if not isinstance(result, Run):
        word = NOTHING if result.stage == "nothing" else result.stage
        return Outcome(package, name, word, result.tried, result.reason, "", result.attempts, result.seconds)
    word = "degenerate" if result.degenerate else "no gradient" if "no output carries gradient" in result.notes else "driven"
    replayed = _replayed(result) if arguments.replay else None
    return Outcome(
        package,
        name,
        word,
        result.description,
        result.degenerate,
        result.origin,
        result.attempts,
        result.seconds,
        result.outputs,
        len(result.missing),
        replayed,
    )


def _replayed(run: Run) -> bool:
    """Whether the program that a run comes with gives the same loss."""
    space: dict[str, Any] = {}
    try:
        exec(run.source, space)
    except Exception:
        return False
    return bool(
        torch.allclose(space["loss"].detach().double().cpu(), torch.tensor(run.loss, dtype=torch.float64), rtol=1e-3, atol=1e-5)
    )


BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def _merged(path: Path, report: str) -> str:
    before = path.read_text(encoding="utf-8") if path.exists() else f"{BEGIN}\n{END}\n"
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{report}{END}{tail}"


def _report(groups: Sequence[Group], arguments: argparse.Namespace) -> str:
    lines = [
        f"torch {torch.__version__}, {arguments.device}, one thread, {arguments.seconds:g} s a class."
        + (
            f" Packages other than torch.nn: {arguments.sample} classes drawn with seed {arguments.seed}."
            if arguments.sample
            else ""
        ),
        "",
        "| package | classes | tried | with a forward | driven | share | degenerate | no gradient | median attempts "
        "| median s | 90 % within |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for group in groups:
        runnable = [item for item in group.tried if item.result != NOTHING]
        driven = [item for item in runnable if item.result == "driven"]
        seconds = sorted(item.seconds for item in driven) or [0.0]
        lines.append(
            f"| {group.package.replace('+', ', ')} {group.version} | {group.total} | {len(group.tried)} | {len(runnable)} "
            f"| {len(driven)} | {100 * len(driven) / max(len(runnable), 1):.1f} % "
            f"| {sum(item.result == 'degenerate' for item in runnable)} "
            f"| {sum(item.result == 'no gradient' for item in runnable)} "
            f"| {statistics.median([item.attempts for item in driven] or [0]):g} "
            f"| {statistics.median(seconds):.2f} | {seconds[int(0.9 * (len(seconds) - 1))]:.1f} s |"
        )
    rest = [item for group in groups for item in group.tried if item.result not in {"driven", NOTHING}]
    idle = [item for group in groups for item in group.tried if item.result == NOTHING]
    lines += ["", "### Not driven", "", "| class | how far | reason |", "|---|---|---|"]
    lines += [f"| {item.name} | {item.result} | {_cell(item.why)} |" for item in rest]
    lines += [
        "",
        f"Nothing to run in {len(idle)} classes: "
        + (", ".join(f"{item.name.split('.')[-1]} ({item.why})" for item in idle) or "none")
        + ".",
        "",
    ]
    replays = [item.replayed for group in groups for item in group.tried if item.replayed is not None]
    if replays:
        lines += [f"The source of {sum(replays)} of {len(replays)} runs was run again and gave the same loss.", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:260]


if __name__ == "__main__":
    main()
