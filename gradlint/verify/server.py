"""The warm process: has torch loaded and forks a confined worker for each job. Run as ``python -m gradlint.verify.server``.

One JSON job a line on standard input, one JSON answer a line on standard output.  It never touches a CUDA device itself, so its
children may.  It ends, and its workers with it, when standard input ends or its parent does.

Answer: ``{"verdicts": {number: row}, "ending": {"kind", "text"}, "output": the last of what was printed}``; a worker that gave
none is told as the ending ``killed``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from typing import Any

from gradlint.verify import confine

GRACE = 5.0
"""Seconds that a worker gets beyond its own time limit before it is killed."""

MOST_OUTPUT = 16_384


def main() -> None:
    """Serve until standard input ends."""
    confine.die_with_parent()
    confine.adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it closes standard input
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what is printed while libraries load is no answer
    try:
        warm()
    except ImportError as error:
        answers.write(json.dumps({"failed": f"PyTorch cannot be imported: {error}"}) + "\n")
        answers.flush()
        return
    answers.write(json.dumps({"ready": os.getpid()}) + "\n")
    answers.flush()
    for line in iter(sys.stdin.buffer.readline, b""):
        answer = carry_out(json.loads(line))
        if answer is None:
            return
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def warm() -> None:
    """Load what every worker needs."""
    import torch

    # A process forked from one that has used two threads hangs in its first matrix product.
    torch.set_num_threads(1)
    # The first optimizer step imports half of torch again; let the children inherit it.
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    import gradlint.verify.worker

    with contextlib.suppress(ImportError):
        import numpy  # noqa: F401

    assert gradlint.verify.worker


def carry_out(job: dict[str, Any]) -> dict[str, Any] | None:
    """Fork a worker for one job and wait for its answer; None when standard input ended meanwhile."""
    scratch = tempfile.mkdtemp(prefix="gradlint-")
    answer_read, answer_write = os.pipe()
    output_read, output_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answer_read)
        os.close(output_read)
        _keeper(job, scratch, answer_write, output_write)
    os.close(answer_write)
    os.close(output_write)
    data, output, why = b"", b"", "gone"
    try:
        data, output, why = _listen(answer_read, output_read, float(job["seconds"]) + GRACE)
    finally:
        os.close(answer_read)
        os.close(output_read)
        status = _ended(child) if why == "end" and not data else None
        confine.kill_descendants(child)
        if status is None:
            _, status = os.waitpid(child, 0)
        confine.kill_orphans()
        shutil.rmtree(scratch, ignore_errors=True)
    if why == "gone":
        return None
    text = output[-MOST_OUTPUT:].decode("utf-8", "replace")
    if data:
        with contextlib.suppress(ValueError):
            return {**json.loads(data), "output": text}
    if why == "time":
        said = f"it did not stop within {float(job['seconds']):g} s"
    else:
        said = _status(status)
    return {"verdicts": {}, "ending": {"kind": "killed", "text": said}, "output": text}


def _ended(process: int, patience: float = 2.0) -> int | None:
    """The status of a process that is about to end; None when it does not."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    return None


def _status(status: int) -> str:
    """How a process ended, in words."""
    code = os.waitstatus_to_exitcode(status)
    number = -code if code < 0 else code - 128 if code > 128 else 0
    if number:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = str(number)
        return f"it was ended by the signal {name}"
    return f"its process left with status {code} and no answer"


def _listen(answer: int, output: int, seconds: float) -> tuple[bytes, bytes, str]:
    """Read both pipes until the answer's ends. Returns both and why it stopped: ``end``, ``time`` or ``gone``."""
    deadline = time.monotonic() + seconds
    data, said = b"", b""
    waiting = {answer, output}
    poll = select.poll()
    for descriptor in (answer, output):
        poll.register(descriptor, select.POLLIN)
    poll.register(0, 0)  # only whether it is hung up
    while answer in waiting:
        left = deadline - time.monotonic()
        if left <= 0:
            return data, said, "time"
        for descriptor, _ in poll.poll(min(left, 1.0) * 1000):
            if descriptor == 0:
                return data, said, "gone"
            chunk = os.read(descriptor, 65536)
            if not chunk:
                waiting.discard(descriptor)
                poll.unregister(descriptor)
            elif descriptor == answer:
                data += chunk
                if data.endswith(b"\n"):  # the pipe's other end may live on in the program's own children
                    return data, said + _rest(output), "end"
            else:
                said = (said + chunk)[-4 * MOST_OUTPUT :]
    return data, said, "end"


def _rest(descriptor: int) -> bytes:
    """What lies in a pipe already."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        return os.read(descriptor, MOST_OUTPUT)
    return b""


# In the worker's processes --------------------------------------------------------------------------------------------


def _keeper(job: dict[str, Any], scratch: str, answer: int, output: int) -> None:
    """The outer process of a worker: makes the namespaces, starts the inner one, and passes on how it ended."""
    status = 1
    try:
        os.setsid()
        confine.die_with_parent()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        apart = not job.get("shared") and confine.unshare()
        inner = os.fork()
        if inner == 0:
            confine.die_with_parent()
            if not apart:
                _user(job, scratch, answer, output, apart)
            # Process 1 of a namespace takes no signals it has no handler for; let it only wait, and be another for the program.
            confine.own_processes()
            program = os.fork()
            if program == 0:
                confine.die_with_parent()
                _user(job, scratch, answer, output, apart)
            os.close(answer)
            os.close(output)
            os._exit(_wait(program))
        os.close(answer)
        os.close(output)
        for descriptor in (1, 2):
            os.dup2(null, descriptor)
        status = _wait(inner)
    finally:
        os._exit(status)


def _wait(process: int) -> int:
    """Wait for a process, reaping others meanwhile; its exit code, 128 + n when signal n ended it."""
    while True:
        ended, status = os.wait()
        if ended == process:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def _user(job: dict[str, Any], scratch: str, answer: int, output: int, apart: bool) -> None:
    """The process that runs the user's code. Never returns."""
    from gradlint.verify import worker

    leave = os._exit
    try:
        os.close(output)
        folder = _folder(job, scratch, apart)
        worker.perform(job, folder, scratch, answer)
    except BaseException:
        import traceback

        traceback.print_exc()
        leave(70)
    leave(0)


def _folder(job: dict[str, Any], scratch: str, apart: bool) -> str:
    """The folder that the program runs in: its own under a writable layer, or a copy made of links."""
    folder: str = job["folder"]
    layers = [os.path.join(scratch, str(number)) for number, _ in enumerate(job["layers"])]
    for layer in layers:
        os.mkdir(layer)
    if apart and all(confine.overlay(root, layer) for root, layer in zip(job["layers"], layers, strict=True)):
        return folder
    return confine.mirror(folder, scratch)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
