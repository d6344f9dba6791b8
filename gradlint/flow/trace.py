"""What happens while a program trains, in the order of execution: events, and the loops, branches and calls around them.

A run writes the trace as it goes.  Every arm of a branch is there, and every turn of a loop that was executed; what happens in
project functions stands where they are called.  ``typestate`` reads it.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from gradlint.flow.heap import Obj
from gradlint.flow.lattice import NOTHING, Site

if TYPE_CHECKING:
    from gradlint.survey.source import SourceFile

BACKWARD, STEP, ZERO, BUILT, CLIP, TOUCH = "backward", "step", "zero", "built", "clip", "touch"
SCHEDULE, UNSCALE, UPDATE, MODE, HANDED = "schedule", "unscale", "update", "mode", "handed"
FORWARD, GRADIENTS = "forward", "gradients"


class Event:
    """One thing that happens.

    ``kind``: ``backward``; ``step`` and ``zero`` of an optimizer or module, or of bare parameters; ``built`` (an optimizer);
    ``clip`` of gradients; ``touch`` (the program reads or writes a gradient itself); ``schedule`` (a scheduler steps);
    ``unscale`` and ``update`` of a gradient scaler; ``mode`` (train or eval); ``forward`` (a module is called, not by another);
    ``gradients`` (asked for as values); ``handed`` (given to code nobody can see into).
    ``subject``: the optimizer, module, scaler or scheduler, where it is one.  ``owners``: whose parameters or gradients are
    concerned; of ``forward``, the layers that ran as in training and would run otherwise in evaluation.  ``closed``: nothing
    else is.  ``by``: the gradient scaler through which it happens; ``open_scale`` says that it may be scaled or not.
    ``note``: the mode that is set, the name of the function that something is handed to, ``off`` for a forward without
    gradient, ``retain`` for a backward that keeps the graph.
    ``call``: the innermost call of a project function that it happens in.
    """

    __slots__ = ("by", "call", "closed", "kind", "note", "open_scale", "owners", "site", "subject")

    def __init__(
        self,
        kind: str,
        site: Site,
        subject: Obj | None,
        owners: frozenset[Obj],
        closed: bool,
        by: Obj | None,
        open_scale: bool,
        note: str,
        call: Call | None,
    ) -> None:
        self.kind = kind
        self.site = site
        self.subject = subject
        self.owners = owners
        self.closed = closed
        self.by = by
        self.open_scale = open_scale
        self.note = note
        self.call = call

    def __repr__(self) -> str:
        line = getattr(self.site.node, "lineno", 0)
        name = self.subject.name() if self.subject is not None else ", ".join(sorted(o.name() for o in self.owners))
        return f"{self.kind}({name})@{line}"


class Exit:
    """Control leaves: ``break``, ``continue`` or ``return``."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


class Loop:
    """A loop and the turns of it that were executed; ``exact`` where these are all there are."""

    __slots__ = ("exact", "node", "turns")

    def __init__(self, node: ast.AST, exact: bool) -> None:
        self.node = node
        self.exact = exact
        self.turns: list[Block] = []


class Choice:
    """The arms of a branch; an arm that raises is not among them."""

    __slots__ = ("arms",)

    def __init__(self) -> None:
        self.arms: list[Block] = []


class Finally:
    """What happens in a ``try``, and what happens after it however it is left."""

    __slots__ = ("body", "end")

    def __init__(self) -> None:
        self.body: Block = []
        self.end: Block = []


class Call:
    """A project function in place of its call.

    ``node``: the call.  ``file``: where the call stands.  ``function``: the definition.  ``outer``: the call that this one
    happens in.  ``around``: it is a context manager's, and the statements it stands around are in its body.
    """

    __slots__ = ("around", "body", "file", "function", "node", "outer")

    def __init__(
        self, node: ast.AST, file: SourceFile | None, function: ast.AST, outer: Call | None, *, around: bool = False
    ) -> None:
        self.around = around
        self.node = node
        self.file = file
        self.function = function
        self.outer = outer
        self.body: Block = []


Block = list[Event | Exit | Loop | Choice | Call | Finally]


class Trace:
    """The trace of one run while it is written.

    ``root``: all of it.  ``unfinished``: the loops that were being executed when the run was given up.
    """

    def __init__(self) -> None:
        self.root: Block = []
        self.unfinished: list[Loop] = []
        self._block = self.root
        self._count = 0
        self._before: list[int] = []
        self.call: Call | None = None

    def event(
        self,
        kind: str,
        site: Site,
        subject: Obj | None = None,
        owners: frozenset[Obj] = NOTHING,
        *,
        closed: bool = True,
        by: Obj | None = None,
        open_scale: bool = False,
        note: str = "",
    ) -> None:
        """Something happens."""
        if self._count < MOST_EVENTS:
            self._count += 1
            self._block.append(Event(kind, site, subject, owners, closed, by, open_scale, note, self.call))

    def exit(self, kind: str) -> None:
        """Control leaves what is being executed, by ``break``, ``continue`` or ``return``."""
        self._block.append(Exit(kind))

    # Structure: what begins something gives what its end needs ----------------------------------------------------------

    def loop(self, node: ast.AST, *, exact: bool = False) -> None:
        """A loop begins; its turns follow."""
        loop = Loop(node, exact)
        self._block.append(loop)
        self.unfinished.append(loop)
        self._before.append(self._count)

    def loop_done(self) -> None:
        """The innermost loop ends; one in which nothing happened is forgotten."""
        loop, count = self.unfinished.pop(), self._before.pop()
        if self._count == count and self._block[-1] is loop:
            self._block.pop()

    def turn(self) -> Block:
        """A turn of the innermost loop begins."""
        outer, self._block = self._block, []
        self.unfinished[-1].turns.append(self._block)
        return outer

    def turn_done(self, outer: Block) -> None:
        """The turn ends."""
        self._block = outer

    def choice(self) -> Choice:
        """A branch begins; its arms follow."""
        choice = Choice()
        self._block.append(choice)
        return choice

    def arm(self, choice: Choice) -> Block:
        """An arm of a branch begins."""
        outer, self._block = self._block, []
        choice.arms.append(self._block)
        return outer

    def arm_done(self, choice: Choice, outer: Block, *, raised: bool) -> None:
        """The arm ends; it does not count where it ends in an exception."""
        self._block = outer
        if raised:
            choice.arms.pop()

    def choice_done(self, choice: Choice) -> None:
        """The branch ends; one in which nothing happened is forgotten."""
        if not any(choice.arms) and self._block[-1] is choice:
            self._block.pop()

    def guard(self) -> tuple[Finally, Block, int]:
        """A ``try`` that has a ``finally`` begins."""
        guarded = Finally()
        opened = guarded, self._block, self._count
        self._block.append(guarded)
        self._block = guarded.body
        return opened

    def guard_ends(self, opened: tuple[Finally, Block, int]) -> None:
        """Its ``finally`` begins."""
        self._block = opened[0].end

    def guard_done(self, opened: tuple[Finally, Block, int]) -> None:
        """Its ``finally`` ends; one in which nothing happened, and that nothing leaves, is forgotten."""
        guarded, self._block, count = opened
        if self._count == count and not guarded.body and self._block[-1] is guarded:
            self._block.pop()

    def enter(
        self, node: ast.AST, file: SourceFile | None, function: ast.AST, *, around: bool = False
    ) -> tuple[Call, Block, int]:
        """A project function begins."""
        call = Call(node, file, function, self.call, around=around)
        opened = call, self._block, self._count
        self._block.append(call)
        self._block, self.call = call.body, call
        return opened

    def leave(self, opened: tuple[Call, Block, int]) -> None:
        """The function ends; one in which nothing happened is forgotten."""
        call, self._block, count = opened
        self.call = call.outer
        if self._count == count and self._block[-1] is call:
            self._block.pop()


MOST_EVENTS = 6000
"""How many events of a run are kept."""
