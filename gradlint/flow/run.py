"""One abstract execution of the program from one entry: its heap, its grad mode, its optimizers and what it observed."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gradlint.flow.frame import Frame
from gradlint.flow.heap import Heap, Items, Obj, ParamSet, node_key
from gradlint.flow.hooks import Hook
from gradlint.flow.lattice import (
    NO_CUTS,
    NO_MARKS,
    NO_TAGS,
    NOTHING,
    OBJECT,
    TENSOR,
    Cut,
    Cuts,
    Site,
    Trail,
    Value,
    union_dead,
)
from gradlint.flow.watch import Watch

if TYPE_CHECKING:
    from gradlint.flow.program import Program
    from gradlint.survey.source import SourceFile


# More severed paths than this say nothing new about one value.
MAX_PATHS = 300


class Exhausted(Exception):
    """The run took more steps than it may."""


class Run:
    """The state of one abstract execution.

    ``regions``: the stretches of code now switching gradient off, outermost first; empty means gradient is on.
    ``watch``: the observations that facts are made of.  ``budget``: how many steps the run may still take.
    """

    def __init__(self, program: Program, budget: int) -> None:
        self.program = program
        self.heap = Heap()
        self.regions: tuple[Cut, ...] = ()
        self.frame: Frame = None  # type: ignore[assignment]
        self.frames: list[Frame] = []
        self.depth = 0
        self.stack: list[ast.AST] = []
        self.budget = budget
        self.truncated = False
        self.watch = Watch(self)
        self.files: dict[int, Frame] = {}
        self.loading: set[tuple[int, str]] = set()
        self.guards: list[str] = []
        self.handling = 0  # how many handlers of exceptions the run is in, beside the way on which nothing is raised
        self.closed: set[int] = set()  # ids of the tests whose failing is not meant to happen
        self.hooks: list[Hook] = []  # the forward hooks that are running
        self.asked: dict[int, Site | None] = {}  # … and who had them registered
        self.memory: dict[tuple[object, ...], Value | None] = {}
        self._cuts: dict[tuple[int, str], Cut] = {}
        self._objects: dict[tuple[object, ...], Obj] = {}

    # -- places --------------------------------------------------------------------------------------------------------

    def site(self, node: ast.AST) -> Site:
        """The place of a node of the file that is being executed."""
        return Site(self.frame.file, node)

    def tick(self, cost: int = 1) -> None:
        """Count a step."""
        self.budget -= cost
        if self.budget < 0:
            self.truncated = True
            raise Exhausted

    # -- objects -------------------------------------------------------------------------------------------------------

    def allocate(self, kind: str, node: ast.AST, *, tag: str = "", **fields: object) -> Obj:
        """A new object made at a node."""
        key = (kind, tag, *node_key(self.frame.file, node))
        obj = Obj(kind, key, site=self.site(node), **fields)  # type: ignore[arg-type]
        if self.handling:
            obj.attrs["%handling"] = True
        self.watch.allocated(obj)
        if self.regions and self.regions[-1].kind == "inference-mode":
            obj.attrs["%inference"] = self.regions[-1]
        return obj

    def container(self, kind: str, items: Items, node: ast.AST) -> Value:
        """A new list, tuple, dict or set."""
        obj = Obj(kind, (kind, *node_key(self.frame.file, node)), site=self.site(node))
        obj.attrs["%items"] = items
        return Value(OBJECT, refs=(obj,))

    # -- gradient ------------------------------------------------------------------------------------------------------

    def cut(self, kind: str, construct: str, api: str, node: ast.AST, *, differentiable: str = "") -> Cut:
        """The cut that a node makes; the same object each time the node is met."""
        key = (id(node), kind)
        found = self._cuts.get(key)
        if found is None:
            found = Cut(kind, construct, api, self.site(node), differentiable=differentiable)
            found.function = self.frame.info.node if self.frame.info else None
            self._cuts[key] = found
        if self.guards:
            found.guarded = True
        if self.hooks:
            found.hook = self.hooks[-1]
        return found

    def flow(self, values: Iterable[Value], kind: str = TENSOR) -> Value:
        """The value of a differentiable operation on ``values`` in the present grad mode."""
        live, dead, marks, opaque, tags = NOTHING, NO_CUTS, NO_MARKS, False, NO_TAGS
        for value in values:
            if value.live:
                live = live | value.live if live else value.live
                if value.tags:
                    tags = tags | value.tags
            if value.dead:
                dead = union_dead(dead, value.dead)
            if value.marks:
                marks = marks | value.marks
            opaque = opaque or value.opaque
            if len(dead) > MAX_PATHS:
                dead = dict(itertools.islice(dead.items(), MAX_PATHS))
            for item in value.refs:
                if type(item) is ParamSet:
                    live = live | {entry.owner for entry in item.entries}
        if self.regions:
            regions = self.regions
            if dead:
                dead = {(s, _further(cuts, regions)): trail for (s, cuts), trail in dead.items() if not _number(cuts)}
            if live:
                cuts = (*marks, *regions)[:6]
                dead = union_dead(dead, {(source, cuts): None for source in live})
                live = NOTHING
            return Value(kind, live, dead, region=self.regions[-1])
        return Value(kind, live, dead, marks=marks, opaque=opaque, tags=tags)

    def sever(self, value: Value, cut: Cut, kind: str = TENSOR) -> Value:
        """``value`` cut off from everything it reached; what was cut off already is now cut off twice."""
        dead = {(source, _further(cuts, (cut,))): trail for (source, cuts), trail in value.dead.items() if not _number(cuts)}
        dead.update({(source, (*value.marks, cut)): None for source in value.live})
        return Value(kind, NOTHING, dead, region=self.regions[-1] if self.regions else None)

    def leave(self, value: Value, node: ast.AST, text: str) -> Value:
        """``value`` with one more step in the story of what was cut from it."""
        if not value.dead and not value.terms:
            return value
        site = self.site(node)
        dead = {key: _longer(trail, site, text) for key, trail in value.dead.items()}
        terms = tuple(self.leave(term, node, text) for term in value.terms)
        return value.replace(dead=dead, terms=terms)


def _number(cuts: Cuts) -> bool:
    """Whether what was cut off is a derivative: to cut it off again says that its value alone is wanted."""
    return bool(cuts) and cuts[-1].kind == "derivative"


def _further(cuts: Cuts, more: Cuts) -> Cuts:
    new = tuple(cut for cut in more if cut not in cuts)
    return cuts + new if new and len(cuts) < 6 else cuts


def _longer(trail: Trail | None, site: Site, text: str) -> Trail:
    if trail is not None and trail.site.node is site.node:
        return trail
    return Trail(site, text, trail)


def shown(file: SourceFile, node: ast.AST, limit: int = 60) -> str:
    """A node in the words of the source, on one line."""
    try:
        text = " ".join(ast.unparse(node).split())
    except (ValueError, RecursionError):
        return "…"
    return text if len(text) <= limit else text[: limit - 1] + "…"
