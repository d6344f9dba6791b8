"""Running the code to confirm or refute a finding: in a child process, in the user's interpreter, only when asked."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from gradlint.server.opened import Opened
from gradlint.server.present import Verdict
from gradlint.server.rows import Row
from gradlint.server.settings import ClientSettings
from gradlint.server.wire import Home

if TYPE_CHECKING:
    from gradlint.server.server import Server

VERIFY = "gradlint.verify"
"""The command that a client asks for; its argument is an object with the ``uri`` of a document and the ``fingerprint`` of a
finding in it."""

_tokens = itertools.count(1)


class Unverified(Exception):
    """The code could not be run, or not to an end; the message says why, for the person who asked."""


def interpreter(chosen: ClientSettings, root: Path) -> list[str]:
    """The Python of the user's code: the one that is set, else the project's virtual environment, else gradlint's own."""
    if chosen.interpreter:
        return list(chosen.interpreter)
    folders = [root / name for name in (".venv", "venv")]
    if active := os.environ.get("VIRTUAL_ENV"):
        folders.insert(0, Path(active))
    for folder in folders:
        for name in ("bin/python", "Scripts/python.exe"):
            if (folder / name).is_file():
                return [str(folder / name)]
    return [sys.executable]


def command(row: Row, home: Home, chosen: ClientSettings) -> list[str]:
    """The command line that verifies a finding."""
    options = ["--output-format", "json", "--quiet", "--fail-on", "never", "--select", row.code]
    options += ["--timeout", str(chosen.verify_timeout), "--min-confidence", "low"]
    if home.settings is not None:
        options += ["--config", str(home.settings)]
    return [*interpreter(chosen, home.root), "-m", "gradlint", "verify", *options, "--", str(row.place.path)]


async def verified(server: Server, row: Row, opened: Opened, home: Home, chosen: ClientSettings) -> Verdict:
    """The verdict on a finding. Shows progress, which the person can cancel.

    Raises:
        Unverified: there is none.
    """
    _saved(server, opened)
    token = f"gradlint-verify-{next(_tokens)}"
    cancelled: asyncio.Event = asyncio.Event()
    shows = bool(server.can("window.work_done_progress"))
    if shows:
        await server.work_done_progress.create_async(token)
        title = types.WorkDoneProgressBegin(title=f"gradlint runs the code for {row.code}", cancellable=True)
        server.work_done_progress.begin(token, title)
        loop = asyncio.get_running_loop()
        server.work_done_progress.tokens[token].add_done_callback(lambda _: loop.call_soon(cancelled.set))
    try:
        document = await _run(command(row, home, chosen), home.root, cancelled)
    finally:
        if shows:
            server.work_done_progress.end(token, types.WorkDoneProgressEnd())
            server.work_done_progress.tokens.pop(token, None)
    return _verdict(document, row)


def _saved(server: Server, opened: Opened) -> None:
    """Make sure that what is shown is what is on disk."""
    unsaved = Unverified("Save the file first: what is on disk is what runs.")
    if opened.notebook:
        raise Unverified("A notebook's cells cannot be run on their own; verify the modules that it imports.")
    try:
        kept = opened.path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise unsaved from None
    if kept != opened.text(server.documents).removeprefix("\ufeff"):
        raise unsaved


async def _run(arguments: list[str], folder: Path, cancelled: asyncio.Event) -> Any:
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
    except OSError as error:
        raise Unverified(f"{arguments[0]} cannot be started: {error.strerror or error}.") from None
    work = asyncio.create_task(process.communicate())
    stop = asyncio.create_task(cancelled.wait())
    try:
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Unverified("The run was cancelled; nothing was decided.")
        said, complaints = work.result()
    finally:
        stop.cancel()
        if not work.done():
            await _end(process)
            work.cancel()
    errors = complaints.decode("utf-8", "replace").strip()
    if b"No module named gradlint" in complaints:
        raise Unverified(f"gradlint is not installed in {arguments[0]}: pip install torch-gradlint there, where torch is.")
    try:
        return json.loads(said)
    except ValueError:
        last = errors.splitlines()[-1] if errors else f"it ended with status {process.returncode}"
        raise Unverified(f"The code could not be run: {last}") from None


async def _end(process: Process) -> None:
    """End a process and those that it started: kindly, then not."""
    for kind in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, kind)
            else:
                process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 3)
            return


def _verdict(document: Any, row: Row) -> Verdict:
    """The verdict on a finding in the rows that the command line wrote."""
    found = document if isinstance(document, list) else []
    mine = next((entry for entry in found if entry.get("fingerprint") == row.fingerprint), None)
    if mine is None:
        raise Unverified("The finding was not there when the files on disk were checked; save all files and try again.")
    if not mine.get("verdict"):
        raise Unverified("Running the code cannot decide this finding.")
    verification = mine.get("verification") or {}
    evidence = tuple(str(entry.get("text", "")) for entry in mine.get("evidence") or ())
    return Verdict(mine["verdict"], str(verification.get("reason", "")), evidence, str(verification.get("driver", "")))
