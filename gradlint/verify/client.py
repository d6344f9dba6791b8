"""The parent's end: starts the warm process, hands it jobs and makes sure that it ends. Imports no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Unavailable(Exception):
    """Code cannot be run here; the message says why and what to do."""


class Server:
    """The warm process, started with the first job and ended with the ``with`` block.

    ``environment``: variables to set for it.  ``path``: folders to find gradlint itself in.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self.environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin and process.stdout
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def start(self) -> None:
        """Start the process and wait until it is warm.

        Raises:
            Unavailable: it does not start.
        """
        if self._process is not None:
            return
        if not hasattr(os, "fork"):
            raise Unavailable("Running code needs a system that can fork processes: Linux or macOS")
        own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        environment = {**os.environ, **self.environment, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        code = f"import sys; sys.path.append({own!r}); from gradlint.verify.server import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if not os.environ.get("GRADLINT_DEBUG") else None,
            env=environment,
            start_new_session=True,  # Ctrl-C comes to the parent alone, which ends the process by closing its input
        )
        said = self._read()
        if "failed" in said:
            raise Unavailable(said["failed"])

    def carry_out(self, job: dict[str, Any], waiting: Callable[[], None] | None = None) -> dict[str, Any]:
        """Run one job and return the answer; see ``gradlint.verify.server``.

        Raises:
            Unavailable: the process does not start, or dies.
        """
        self.start()
        assert self._process is not None and self._process.stdin
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        if waiting:
            waiting()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._process = None
            raise Unavailable(f"The process that runs code ended unexpectedly, with status {status}")
        answer: dict[str, Any] = json.loads(line)
        return answer
