"""Graphs that live too long: losses kept with all they were computed from, and state carried into the next iteration."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

from gradlint.core import Confidence, Step
from gradlint.flow import facts
from gradlint.flow.heap import Items, Obj
from gradlint.flow.lattice import OBJECT, Site, Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradlint.flow.frame import Frame
    from gradlint.flow.run import Run
    from gradlint.flow.verdicts import Judgement
    from gradlint.flow.watch import Root

# Functions that may go on to back-propagate what they are given.
WORKS = re.compile(r"backward|step|optimi|train|update|scaler|grad|criterion|loss", re.I)


class Guessed:
    """The mark of a value that code nobody can see into has made: perhaps no tensor, perhaps without a graph."""

    def __repr__(self) -> str:
        return "guessed"


GUESSED = Guessed()


class Kept:
    """A place where values are added up or collected, and the turns of loops that what is kept there outlives."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.before: tuple[int, ...] = ()
        self.crossed: dict[int, list[Value]] = {}
        self.let_go = False


class Spent:
    """The graph behind a value is gone: a backward went through it.

    ``name``: what holds the value, and ``site`` where it got it.  ``of_all``: what is said holds where it holds of all
    ``graphs`` that a value may have, or on all ``paths``.
    """

    def __init__(self, root: Root, name: str, site: Site, *, slot: bool) -> None:
        self.of_all = "paths" if slot else "graphs"
        self.root = root
        self.name = name
        self.site = site


class Turn(NamedTuple):
    """One turn of a loop: a number, the age of objects made from here on, the frame and its variables at the start.

    ``sole``: no other turn of the loop is executed.
    """

    number: int
    serial: int
    frame: Frame
    env: dict[str, Value]
    sole: bool


class Leaks:
    """What one run observes of graphs that outlive their iteration."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.turns: list[Turn] = []
        self.count = 0
        self.kept: dict[int, Kept] = {}
        self.used: set[Kept] = set()
        self.inside: dict[int, set[int]] = {}
        self.slots: dict[tuple[Obj, str], Site] = {}
        self.carried: dict[int, tuple[Spent, Root]] = {}
        self.reused: list[tuple[Spent, Root]] = []
        self.meant: set[Spent] = set()
        self.let_go: set[Spent] = set()

    # -- loops ---------------------------------------------------------------------------------------------------------

    def turn(self, frame: Frame, *, sole: bool) -> None:
        """A turn of a loop begins."""
        self.count += 1
        self.turns.append(Turn(self.count, Obj("turn", ("turn",)).serial, frame, frame.env, sole))

    def turn_done(self) -> None:
        """The turn ends."""
        self.turns.pop()

    # -- keeping -------------------------------------------------------------------------------------------------------

    def added(self, node: ast.AST, target: ast.expr, old: Value, new: Value, result: Value) -> Value:
        """``target = old + new``: the sum, marked as kept here."""
        if not self.turns or self.run.regions or not result.live or not self._alive(new) or old.refs:
            return result
        kept = self._kept(self._place(node, [new]))
        here = self.turns[-1]
        if here.sole and here.frame is self.run.frame and isinstance(target, ast.Name) and here.env.get(target.id) is old:
            kept.crossed.setdefault(here.number, []).append(new)
        self._cross(kept, old, new)
        kept.before = tuple(turn.number for turn in self.turns)
        return result.replace(tags=result.tags | {kept})

    def collected(self, node: ast.AST, place: Obj, value: Value) -> Value:
        """``place.append(value)``: the value, marked as kept here."""
        from gradlint.flow import containers

        if not self.turns or self.run.regions:
            return value
        inside = [inner for inner in containers.everything(self.run, value) if self._alive(inner)]
        if not inside:
            return value
        kept = self._kept(self._place(node, inside))
        here = self.turns[-1]
        if here.sole and place.serial < here.serial:
            kept.crossed.setdefault(here.number, []).extend(inside)
        items = place.attrs.get("%items")
        if isinstance(items, Items):
            known = items.known.values() if isinstance(items.known, dict) else items.known
            for held in (*known, *([items.rest] if items.rest is not None else [])):
                for inner in containers.everything(self.run, held):
                    self._cross(kept, inner, inside[0])
        kept.before = tuple(turn.number for turn in self.turns)
        return marked(value, kept)

    def rebound(self, old: Value, new: Value) -> None:
        """A variable gets a new value. Done in the loop that keeps something in it, that bounds what is kept."""
        for inner in self._within(old):
            for tag in inner.tags:
                if isinstance(tag, Kept) and tag not in new.tags and len(self.turns) >= len(tag.before):
                    tag.let_go = True

    def _cross(self, kept: Kept, old: Value, new: Value) -> None:
        """Note the outermost turn that has ended since the last time something was kept here, if that is still there."""
        now = tuple(turn.number for turn in self.turns)
        if kept in old.tags:
            for before, present in zip(kept.before, now, strict=False):
                if before != present:
                    kept.crossed.setdefault(before, []).append(new)
                    break

    def _place(self, node: ast.AST, values: list[Value]) -> Site:
        """Where values are kept, in the words of who computed them: the call of a helper that was given them to keep."""
        run = self.run
        site, call = run.site(node), run.watch.trace.call
        for frame in reversed(run.frames):
            info = frame.info
            if (
                call is None
                or info is None
                or isinstance(info.node, ast.Lambda)
                or frame is self.turns[-1].frame
                or call.file is None
            ):
                break
            names = {a.arg for a in (*info.node.args.posonlyargs, *info.node.args.args, *info.node.args.kwonlyargs)}
            held = [value for name, value in frame.env.items() if name in names]
            if not any(value is one for value in values for given in held for one in self._within(given)):
                break
            if not isinstance(call.node, ast.Call):
                break
            site, call = Site(call.file, call.node), call.outer
        return site

    def _within(self, value: Value) -> list[Value]:
        from gradlint.flow import containers

        return containers.everything(self.run, value)

    def _kept(self, site: Site) -> Kept:
        found = self.kept.get(id(site.node))
        if found is None:
            found = self.kept[id(site.node)] = Kept(site)
        return found

    def _alive(self, value: Value) -> bool:
        from gradlint.flow.modules import frozen

        return bool(value.live) and any(frozen(s) is not True for s in value.live) and not self._is_parameter(value)

    @staticmethod
    def _is_parameter(value: Value) -> bool:
        """Whether a value is a leaf, or an object rather than a result."""
        return bool(value.refs)

    def escaped(self, values: Iterable[Value], node: ast.AST) -> None:
        """Values are given to code nobody can see into."""
        from gradlint.flow import containers

        func = node.func if isinstance(node, ast.Call) else None
        name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
        if WORKS.search(name):
            for value in values:
                for inner in containers.everything(self.run, value):
                    self.use(inner)

    def use(self, value: Value) -> None:
        """Something is done with a value that may need its graph."""
        self.used.update(tag for tag in value.tags if isinstance(tag, Kept))
        for term in value.terms:
            self.used.update(tag for tag in term.tags if isinstance(tag, Kept))

    def freed(self, value: Value) -> None:
        """A value is taken out of its graph where it lies, whoever else holds it."""
        self.let_go.update(tag for tag in value.tags if isinstance(tag, Spent))

    def dropped(self, value: Value) -> None:
        """A value is detached and the result thrown away: that is told where it is done, not where the value is carried on."""
        self.meant.update(tag for tag in value.tags if isinstance(tag, Spent))

    # -- back-propagation ----------------------------------------------------------------------------------------------

    def stored(self, obj: Obj, name: str, value: Value, node: ast.AST) -> None:
        """An attribute gets a value that has a graph."""
        if value.live and not value.refs and self.turns:
            self.slots[obj, name] = self.run.site(node)

    def backward(self, root: Root, *, retains: bool) -> None:
        """A loss is back-propagated: what it was computed from loses its graph."""
        value = root.value
        self.use(value)
        for turn in self.turns:
            self.inside.setdefault(turn.number, set()).add(len(self.run.watch.roots) - 1)
        for tag in {tag for part in (value, *value.terms) for tag in part.tags}:
            if isinstance(tag, Spent):
                if tag.root.site.node is root.site.node:
                    self.carried.setdefault(id(tag.site.node), (tag, root))
                else:
                    self.reused.append((tag, root))
        if not retains and not root.returned and self.turns:
            self._spend(root)

    def _spend(self, root: Root) -> None:
        """Mark the variables and attributes whose graph shares something with that of a loss."""
        sources = {s for term in root.value.summands() for s in term.live if s.kind != "opaque" or "%evidence" in s.attrs}
        run = self.run
        files = [run.frame] if run.frame.info is None else []
        for frame in [*run.files.values(), *run.frames, *files]:
            for name, value in list(frame.env.items()):
                if value is root.value:
                    continue
                changed = self._spent(value, sources, root, name, frame.places.get(name), slot=False)
                if changed is not value:
                    frame.env[name] = changed
        for (obj, name), site in list(self.slots.items()):
            held = obj.attrs.get(name)
            if isinstance(held, Value):
                changed = self._spent(held, sources, root, f"{obj.name() or 'self'}.{name}", site, slot=True)
                if changed is not held:
                    run.heap.write(obj, name, changed)

    def _spent(self, value: Value, sources: set[Obj], root: Root, name: str, site: Site | None, *, slot: bool) -> Value:
        if site is None:
            return value
        if value.kind == OBJECT and len(value.refs) == 1 and isinstance(value.refs[0], Obj):
            obj = value.refs[0]
            items = obj.attrs.get("%items")
            if obj.kind in ("tuple", "list") and isinstance(items, Items) and isinstance(items.known, tuple):
                known = tuple(self._spent(v, sources, root, name, site, slot=slot) for v in items.known)
                if any(a is not b for a, b in zip(known, items.known, strict=True)):  # the rest stands for several things
                    self.run.heap.write(obj, "%items", Items(known, items.rest))
            return value
        if value.refs or not value.live or GUESSED in value.tags or not any(s in sources for s in trained(value)):
            return value
        if value.trait is not None and value.trait.kind in ("moved", "rebound"):
            return value
        return value.replace(tags=value.tags | {Spent(root, name, site, slot=slot)})

    # -- verdicts ------------------------------------------------------------------------------------------------------

    def judge(self, judgement: Judgement) -> None:
        """What one run says at its end."""
        judgement.kept_in_use |= {place_of(kept.site) for kept in self.used}
        for kept in self.kept.values():
            if kept in self.used or kept.let_go or not kept.crossed:
                continue
            verdict = self._leaks(kept)
            if verdict is not None:
                judgement.leaking.append(verdict)
        for spent, root in self.carried.values():
            if spent in self.let_go or any(spent.name == other.name for other in self.meant):
                continue
            judgement.facts.append(self._carried(spent, root))

    def _leaks(self, kept: Kept) -> facts.GraphKept | None:
        from gradlint.flow.verdicts import span_of

        roots = self.run.watch.roots
        for turn, values in kept.crossed.items():
            for number in self.inside.get(turn, ()):
                root = roots[number]
                live = {s for term in root.value.summands() for s in term.live}
                terms = (root.value, *root.value.terms)
                for value in values:
                    same = any(value is term for term in terms)
                    if same or (GUESSED not in value.tags and value.live <= live):
                        here, loss = span_of(kept.site), span_of(root.site)
                        path = (
                            Step(here, "what is kept here holds on to the graph it was computed with"),
                            Step(loss, "the loss of the same iteration is back-propagated; what is kept never is"),
                        )
                        return facts.GraphKept(here, Confidence.HIGH, path, backward=loss)
        return None

    def _carried(self, spent: Spent, root: Root) -> facts.StateCarried:
        from gradlint.flow.verdicts import span_of

        here, loss = span_of(spent.site), span_of(root.site)
        path = (
            Step(loss, "from the second iteration on, backward goes through the graph of the one before"),
            Step(here, f"`{spent.name}` keeps its graph from one iteration to the next"),
        )
        return facts.StateCarried(here, Confidence.HIGH, path, name=spent.name, backward=loss)


def marked(value: Value, tag: object) -> Value:
    """The value, or the items of the tuple, with a tag; what else holds it is not marked."""
    if value.live:
        return value.replace(tags=value.tags | {tag})
    refs: list[object] = []
    for item in value.refs:
        items = item.attrs.get("%items") if isinstance(item, Obj) and item.kind == "tuple" else None
        if not isinstance(item, Obj) or not isinstance(items, Items) or isinstance(items.known, dict):
            refs.append(item)
            continue
        copy = Obj(item.kind, item.key, label=item.label, site=item.site, serial=item.serial)
        rest = None if items.rest is None else marked(items.rest, tag)
        parts = tuple(marked(inner, tag) for inner in items.known)
        names = {id(inner): one for inner, one in zip(items.known, parts, strict=True)}
        copy.attrs.update({key: names.get(id(held), held) for key, held in item.attrs.items()})
        copy.attrs["%items"] = Items(parts, rest)
        refs.append(copy)
    return value.replace(refs=tuple(refs)) if refs else value


def trained(value: Value) -> list[Obj]:
    """What a value has gradient from, less what is frozen."""
    from gradlint.flow.modules import frozen

    return [source for source in value.live if frozen(source) is not True]


def place_of(site: Site) -> tuple[str, int, int]:
    """A name for a place that is the same in every run."""
    return (site.file.path, site.node.lineno, site.node.col_offset)  # type: ignore[attr-defined]


def settle(judgements: list[Judgement]) -> list[facts.Fact]:
    """The places where values are kept that no run of the program back-propagates."""
    used = {(file, line, column) for judgement in judgements for file, line, column in judgement.kept_in_use}
    lines = {(file, line) for file, line, _ in used}
    return [fact for judgement in judgements for fact in judgement.leaking if (fact.span.file, fact.span.line) not in lines]
