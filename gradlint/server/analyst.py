"""The server's end of the process that analyses: starts it, asks it, and starts it again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from gradlint.server.wire import HEAD, Cancel, Check, Checked, Forget, Request, pack, size

LONGEST = 300.0
"""Seconds after which an analysis is taken to hang."""


class Died(Exception):
    """The process that analyses ended in the middle of a request; all that it knew is lost."""


class Analyst:
    """Asks the process that analyses.

    ``life``: grows whenever a new process is started, which knows nothing of what the one before was told.
    """

    def __init__(self) -> None:
        self.life = 0
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Checked]] = {}
        self._starting = asyncio.Lock()
        self._numbers = itertools.count(1)

    def number(self) -> int:
        """A number for a new request."""
        return next(self._numbers)

    async def start(self) -> None:
        """Make sure that the process runs."""
        async with self._starting:
            if self._process is not None and self._process.returncode is None and self._reader and not self._reader.done():
                return
            package = str(Path(__file__).resolve().parents[2])
            path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gradlint.server.worker",
                stdin=PIPE,
                stdout=PIPE,
                env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
                start_new_session=True,  # Ctrl-C is for the server, which then ends this one by closing its input
            )
            self.life += 1
            self._reader = asyncio.create_task(self._read(self._process))

    async def check(self, request: Check) -> Checked:
        """Have a project analysed.

        Raises:
            Died: the process ended, or took longer than ``LONGEST`` and was ended.
        """
        future: asyncio.Future[Checked] = asyncio.get_running_loop().create_future()
        self._waiting[request.number] = future
        try:
            await self._send(request)
            return await asyncio.wait_for(future, LONGEST)
        except TimeoutError:
            self.kill()
            raise Died(f"it took more than {LONGEST:.0f} seconds") from None
        finally:
            self._waiting.pop(request.number, None)

    def cancel(self, number: int) -> None:
        """Give up a request; its answer says so."""
        if number in self._waiting:
            self._write(Cancel(number))

    def forget(self, request: Forget) -> None:
        """Let the process drop a project."""
        self._write(request)

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if self._reader is not None:
            self._reader.cancel()
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _send(self, request: Request) -> None:
        await self.start()
        self._write(request)
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # the reader sees it too
            await self._process.stdin.drain()

    def _write(self, request: Request) -> None:
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(pack(request))

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        try:
            while True:
                head = await process.stdout.readexactly(HEAD)
                answer: Checked = pickle.loads(await process.stdout.readexactly(size(head)))
                future = self._waiting.get(answer.number)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            status = await process.wait()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(Died(f"it ended with status {status}"))
