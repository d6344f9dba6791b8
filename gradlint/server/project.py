"""One project in the editor: what is open of it, when it is analysed, and what was found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from gradlint.server.analyst import Analyst, Died
from gradlint.server.documents import Documents
from gradlint.server.opened import Opened
from gradlint.server.rows import Row
from gradlint.server.wire import Check, Checked, Home

LONGEST_PAUSE = 0.15
"""Seconds for which typing has to pause before an analysis starts, at most: half as long as an analysis takes."""

QUICK = 0.25
"""An analysis of up to so many seconds is started at once; it costs little to give it up for the next keystroke."""


class Project:
    """A project that is kept analysed.

    ``rows``: what was found, by file, for the texts that ``shown`` names the versions of. ``problem``: why nothing is known.
    """

    def __init__(
        self,
        home: Home,
        analyst: Analyst,
        documents: Documents,
        encoding: str,
        show: Callable[[Project], None],
        working: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self.home = home
        self.open: dict[Path, Opened] = {}
        self.everything = False
        self.rows: Mapping[Path, list[Row]] = {}
        self.shown: dict[Path, tuple[tuple[str, int | None], ...]] = {}
        self.answer = Checked(0)
        self._analyst = analyst
        self._documents = documents
        self._encoding = encoding
        self._show = show
        self._working = working
        self._wanted = self._done = 0
        self._due = 0.0
        self._refresh = self._reload = False
        self._number = 0  # of the request under way
        self._cost = 0.0  # seconds that the last analysis took
        self._sent: dict[Path, str] = {}
        self._life = -1
        self._deaths = 0
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def settled(self) -> bool:
        """Whether what was found is about the texts as they are now."""
        return self._done == self._wanted

    def touch(self, *, typing: bool = False, refresh: bool = False, reload: bool = False) -> None:
        """Have the project analysed: something changed. A request under way is given up.

        Args:
            typing: more changes are likely to follow at once.
            refresh: files on disk may have changed.
            reload: the settings may have changed.
        """
        self._wanted += 1
        self._deaths = 0
        self._refresh = self._refresh or refresh
        self._reload = self._reload or reload
        pause = min(LONGEST_PAUSE, self._cost / 2) if typing and self._cost > QUICK else 0.0
        self._due = asyncio.get_running_loop().time() + pause
        if self._number:
            self._analyst.cancel(self._number)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def settle(self) -> None:
        """Wait until what was found is about the texts as they are now."""
        while not self.settled:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def waited_for(self) -> bool:
        """Whether somebody waits for the analysis."""
        return any(not future.done() for future in self._waiting)

    def close(self) -> None:
        """Analyse no more."""
        if self._task is not None:
            self._task.cancel()
        if self._number:
            self._analyst.cancel(self._number)
        self._done = self._wanted
        self._release()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self.settled:
                if (pause := self._due - loop.time()) > 0:
                    await asyncio.sleep(pause)
                    continue
                target = self._wanted
                shown = {path: opened.versions(self._documents) for path, opened in self.open.items()}
                began = loop.time()
                answer = await self._ask()
                if answer is None or target != self._wanted:
                    continue  # a newer text waits
                self._cost = loop.time() - began
                self._done = target
                self.answer, self.shown, self.rows = answer, shown, answer.files
                self._show(self)
                self._release()
        finally:
            if self.settled:
                self._release()

    async def _ask(self) -> Checked | None:
        """Ask for an analysis; None when it was given up or should be tried again."""
        await self._analyst.start()
        if self._life != self._analyst.life:  # the process is new and knows nothing
            self._life, self._sent = self._analyst.life, {}
        texts = {path: opened.text(self._documents) for path, opened in self.open.items()}
        if not texts and not self.everything:
            return Checked(0)
        changed: dict[Path, str | None] = {path: text for path, text in texts.items() if self._sent.get(path) != text}
        changed.update(dict.fromkeys(path for path in self._sent if path not in texts))
        refresh, reload = self._refresh, self._reload
        self._refresh = self._reload = False
        self._number = self._analyst.number()
        request = Check(
            self._number, self.home, changed, tuple(texts), self._encoding, self.everything, refresh=refresh, reload=reload
        )
        self._sent = texts
        try:
            async with self._working():
                answer = await self._analyst.check(request)
        except Died as error:
            self._life = -1
            self._deaths += 1
            self._refresh = True
            return None if self._deaths == 1 else Checked(request.number, trouble=f"the process that analyses died: {error}")
        finally:
            self._number = 0
        if answer.cancelled:
            self._refresh, self._reload = self._refresh or refresh, self._reload or reload
            return None
        if answer.misconfigured or answer.trouble:  # the other end starts from nothing
            self._sent = {}
            self._reload = True
        return answer
