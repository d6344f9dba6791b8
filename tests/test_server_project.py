"""When a project is analysed: the newest state only, the older given up, and nothing shown that nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pygls")

from gradlint.server.analyst import Died
from gradlint.server.project import Project
from gradlint.server.wire import Check, Checked, Home

HERE = Path("/project")


class Analyst:
    """Stands in for the process: answers each request as it is told, and notes what it was asked."""

    def __init__(self, answer: Callable[[Check], Any]) -> None:
        self.life = 1
        self.asked: list[Check] = []
        self.given_up: list[int] = []
        self.stopped = asyncio.Event()
        self._answer = answer

    def number(self) -> int:
        return len(self.asked) + 1

    async def start(self) -> None:
        return

    async def check(self, request: Check) -> Checked:
        self.asked.append(request)
        found = self._answer(request)
        return await found if asyncio.iscoroutine(found) else found

    def cancel(self, number: int) -> None:
        self.given_up.append(number)
        self.stopped.set()


@asynccontextmanager
async def working() -> AsyncIterator[None]:
    yield


def project(analyst: Analyst, shown: list[Checked]) -> Project:
    made = Project(Home(HERE, None), analyst, None, "utf-16", lambda it: shown.append(it.answer), working)  # type: ignore[arg-type]
    made.everything = True
    return made


def run(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario, 10))


def test_a_newer_edit_cancels_an_older_analysis() -> None:
    async def scenario() -> None:
        async def slow() -> Checked:
            await analyst.stopped.wait()
            return Checked(1, cancelled=True)

        analyst = Analyst(lambda request: slow() if request.number == 1 else Checked(request.number, {HERE: []}))
        shown: list[Checked] = []
        it = project(analyst, shown)
        it.touch(refresh=True)
        while not analyst.asked:
            await asyncio.sleep(0)
        it.touch()
        await it.settle()
        assert analyst.given_up == [1]
        assert [answer.number for answer in shown] == [2]  # of the first, nothing was shown
        assert analyst.asked[1].refresh  # what the one given up was to do is not forgotten

    run(scenario())


def test_an_answer_about_an_older_state_is_not_shown() -> None:
    async def scenario() -> None:
        async def late() -> Checked:
            it.touch()  # an edit arrives while the answer is on its way
            return Checked(1, {HERE: []})

        analyst = Analyst(lambda request: late() if request.number == 1 else Checked(request.number, {HERE: []}))
        shown: list[Checked] = []
        it = project(analyst, shown)
        it.touch()
        await it.settle()
        assert [answer.number for answer in shown] == [2]

    run(scenario())


def test_a_death_is_tried_again_once_and_then_told() -> None:
    async def scenario() -> None:
        deaths = 1

        def answer(request: Check) -> Checked:
            if len(analyst.asked) in (2, 3, 4)[:deaths]:
                raise Died("it ended with status -9")
            return Checked(request.number, {HERE: []})

        analyst = Analyst(answer)
        shown: list[Checked] = []
        it = project(analyst, shown)
        it.touch()
        await it.settle()
        it.touch()  # dies, and is asked again
        await it.settle()
        assert [bool(answer.trouble) for answer in shown] == [False, False]
        assert analyst.asked[2].refresh
        analyst.asked.clear()
        analyst.asked.append(Check(0, it.home, {}, (), "utf-16"))
        deaths = 3
        it.touch()  # dies again and again: nothing is known, and so nothing is shown
        await it.settle()
        assert "died" in shown[-1].trouble
        assert it.rows == {}
        it.touch()  # dies once more
        await it.settle()
        assert not shown[-1].trouble

    run(scenario())
