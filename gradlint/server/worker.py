"""The process that analyses. The server stays free to talk: pure Python analysis in a thread of its own would hold it up."""

from __future__ import annotations

import _thread
import gc
import importlib
import os
import pkgutil
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from gradlint.server.rows import Row, rows
from gradlint.server.wire import Cancel, Check, Checked, Forget, Home, pack, receive
from gradlint.session import ConfigError, load_config
from gradlint.session.live import Live

_IDLE = 2.0  # seconds without a request after which memory is tidied up
_BUSY = 50  # requests after which it is tidied up even so
_AGAIN = 0.02  # seconds after which an interruption that came in the middle of an import is tried again
_NEEDED = ("core", "knowledge", "survey", "flow", "syntax", "rules", "session")  # what an analysis may import on its way


class _Cancelled(BaseException):
    """The request under way is given up. Not an ``Exception``, so that nothing on the way takes it for a fault."""


class Worker:
    """Answers requests one at a time. A second thread listens meanwhile, so that one under way can be given up."""

    def __init__(self, requests: BinaryIO, answer: Callable[[Checked], None]) -> None:
        self._requests = requests
        self._answer = answer
        self._queue: queue.SimpleQueue[Check | Forget | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._current = 0  # the number of the request under way
        self._given_up: set[int] = set()
        self._projects: dict[Home, Live] = {}
        self._untidy = 0  # requests since memory was tidied up
        self._grown = False  # whether a project was read anew since then

    def run(self) -> None:
        """Work until the server is gone."""
        _load()
        signal.signal(signal.SIGINT, self._interrupted)
        threading.Thread(target=self._listen, daemon=True).start()
        gc.disable()  # syntax trees have no cycles, and there are millions of nodes: look for cycles only when there is time
        while (request := self._next()) is not None:
            if isinstance(request, Forget):
                self._projects.pop(request.home, None)
            else:
                self._answer(self._carry_out(request))
                self._untidy += 1
                if self._untidy >= _BUSY or (self._grown and self._queue.empty()):  # who has just opened a project, looks first
                    self._tidy()

    def _next(self) -> Check | Forget | None:
        while True:
            try:
                return self._queue.get(timeout=_IDLE if self._untidy else None)
            except queue.Empty:
                self._tidy()

    def _tidy(self) -> None:
        gc.collect()
        if self._grown:  # what is left of a project just read stays, and need not be walked over again
            gc.freeze()
        self._untidy, self._grown = 0, False

    # Listening -------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while (message := receive(self._requests)) is not None:
            if isinstance(message, Cancel):
                with self._lock:
                    self._given_up.add(message.number)
                    if self._current == message.number:
                        _thread.interrupt_main(signal.SIGINT)
            else:
                self._queue.put(message)
        # The server is gone, perhaps in the middle of a long analysis that nobody waits for.
        os._exit(0)

    def _interrupted(self, _signal: int, frame: FrameType | None) -> None:
        if self._current not in self._given_up:
            return
        if _importing(frame):  # a module that is half there would stay so
            again = threading.Timer(_AGAIN, _thread.interrupt_main, [signal.SIGINT])
            again.daemon = True
            again.start()
            return
        raise _Cancelled

    # Working ---------------------------------------------------------------------------------------------------------

    def _carry_out(self, request: Check) -> Checked:
        number = request.number
        try:
            project = self._project(request)  # quick, and must not be left half done
            with self._lock:
                if number in self._given_up:
                    return Checked(number, cancelled=True)
                self._current = number
            try:
                return self._check(project, request)
            finally:
                self._current = 0
        except _Cancelled:
            return Checked(number, cancelled=True)
        except ConfigError as error:
            self._projects.pop(request.home, None)
            return Checked(number, misconfigured=str(error))
        except Exception as error:
            traceback.print_exc()
            self._projects.pop(request.home, None)  # whatever broke, start from nothing
            return Checked(number, trouble=f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._given_up = {other for other in self._given_up if other > number}

    def _project(self, request: Check) -> Live:
        home = request.home
        project = self._projects.get(home)
        if project is None or request.reload:
            self._grown = True
            try:
                config = load_config(
                    [home.root],
                    cwd=home.root,
                    file=home.settings,
                    overrides=home.overrides,
                    isolated=home.settings is None,
                )
            except ConfigError:
                self._projects.pop(home, None)
                raise
            fresh = Live(home.root, config, whole=home.whole)
            if project is not None:
                fresh.inherit(project)
            self._projects[home] = project = fresh
        for path, text in request.texts.items():
            project.put(path, text)
        if request.refresh:
            project.refresh()
        return project

    def _check(self, project: Live, request: Check) -> Checked:
        report = project.check(request.wanted, everything=request.everything)
        files: dict[Path, list[Row]] = {path: [] for path in request.wanted}
        for row in rows(report.findings, project.sources, report.fingerprints, request.encoding):
            files.setdefault(row.place.path, []).append(row)
        notes = tuple((note.level, f"{note.path}: {note.message}" if note.path else note.message) for note in report.notes)
        trouble = next((text for level, text in notes if level == "error"), "")
        return Checked(request.number, {} if trouble else files, notes, trouble=trouble)


def _load() -> None:
    """Import all that an analysis may need: nobody waits for it yet, and later it would be in the way."""
    for part in _NEEDED:
        package = importlib.import_module(f"gradlint.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def main() -> None:
    """Work for the server at the other end of standard input and output."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints must not be taken for an answer

    def answer(message: Checked) -> None:
        answers.write(pack(message))
        answers.flush()

    try:
        Worker(sys.stdin.buffer, answer).run()
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    main()
