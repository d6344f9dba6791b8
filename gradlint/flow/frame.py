"""Activation records: the variables of a running function, and how branches of it come together again."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from gradlint.flow.lattice import Cut, Site, Value, join

if TYPE_CHECKING:
    from gradlint.flow.classes import FunctionInfo
    from gradlint.flow.heap import Obj
    from gradlint.flow.run import Run
    from gradlint.survey.source import SourceFile

T = TypeVar("T")
U = TypeVar("U")

# How a statement ends: control falls through, or leaves by one of these.  DONE: every path left, and each was recorded.
FALL, RETURN, BREAK, CONTINUE, RAISE, DONE = range(6)

Changes = dict[tuple["Obj", str], object]


class Frame:
    """One activation of a function (or of a file's top level)."""

    __slots__ = ("broken", "env", "exits", "file", "info", "loops", "on_yield", "outer", "places", "result", "yielded")

    def __init__(self, file: SourceFile, info: FunctionInfo | None = None, outer: Frame | None = None) -> None:
        self.file = file
        self.info = info
        self.outer = outer
        self.env: dict[str, Value] = {}
        self.places: dict[str, Site] = {}  # where variables got their values last
        self.result: Value | None = None
        self.yielded: Value | None = None
        self.exits: list[Changes] = []
        self.loops: list[list[tuple[int, dict[str, Value], Changes]]] = []
        self.on_yield: Callable[[Value, ast.AST], None] | None = None

    def give(self, value: Value) -> None:
        """Add a possible return value."""
        self.result = value if self.result is None else join(self.result, value)


def join_envs(envs: list[dict[str, Value]]) -> dict[str, Value]:
    """Variables after several paths meet: joined where all know them, kept where only some do."""
    merged = dict(envs[0])
    for env in envs[1:]:
        for name, value in env.items():
            mine = merged.get(name)
            merged[name] = value if mine is None or mine is value else join(mine, value)
    return merged


def branch(run: Run, frame: Frame, arms: list[Callable[[], int]], *, split: bool = False) -> int:
    """Run alternatives from the same state and join what falls out of them.

    Every arm starts from the same variables and heap.  Arms that leave (return, break, continue) hand their state to where
    they go; arms that raise are dropped.  ``split``: the arms handle different objects (see ``Heap.merge``).
    """
    base = frame.env
    regions = run.regions
    falls: list[dict[str, Value]] = []
    fallen: list[Changes] = []
    after: list[tuple[Cut, ...]] = []
    left = False
    run.watch.branches += 1
    path, label = run.watch.path, run.watch.branches
    trace = run.watch.trace
    choice = trace.choice() if len(arms) > 1 else None
    for number, arm in enumerate(arms):
        frame.env = dict(base)
        run.regions = regions
        exits_before = len(frame.exits)
        loop = frame.loops[-1] if frame.loops else None
        loop_before = len(loop) if loop is not None else 0
        mark = run.heap.mark()
        if len(arms) > 1:
            path.append((label, number))
        outer = trace.arm(choice) if choice is not None else None
        status = arm()
        if choice is not None and outer is not None:
            trace.arm_done(choice, outer, raised=status == RAISE)
        if len(arms) > 1:
            path.pop()
        changes = run.heap.take_back(mark)
        for i in range(exits_before, len(frame.exits)):
            frame.exits[i] = {**changes, **frame.exits[i]}
        if loop is not None:
            for i in range(loop_before, len(loop)):
                kind, env, inner = loop[i]
                loop[i] = (kind, env, {**changes, **inner})
        if status == FALL:
            falls.append(frame.env)
            fallen.append(changes)
            after.append(run.regions)
        elif status == RETURN:
            frame.exits.append(changes)
            left = True
        elif status in (BREAK, CONTINUE) and loop is not None:
            loop.append((status, frame.env, changes))
            left = True
        elif status == DONE:
            left = True
    if choice is not None:
        trace.choice_done(choice)
    if not falls:
        frame.env = base
        run.regions = regions
        return DONE if left else RAISE
    frame.env = falls[0] if len(falls) == 1 else join_envs(falls)
    run.heap.merge(fallen, split=split)
    run.regions = min(after, key=len)
    return FALL


def guarded(run: Run, body: Callable[[], T], end: Callable[[], U]) -> tuple[T, U]:
    """Run ``body`` and then ``end``, through which all goes that leaves the body."""
    exits, trace = run.frame.exits, run.watch.trace
    before = len(exits)
    opened = trace.guard()
    result = body()
    trace.guard_ends(opened)
    mark = run.heap.mark()
    ended = end()
    changes = run.heap.since(mark)
    exits[before:] = [{**left, **changes} for left in exits[before:]]
    trace.guard_done(opened)
    return result, ended
