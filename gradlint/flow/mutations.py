"""Changes in place where autograd records: of leaves, which it forbids, and of results that a backward still needs."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from gradlint.core import Confidence, Span, Step
from gradlint.flow import facts
from gradlint.flow.heap import Obj, ParamSet
from gradlint.flow.lattice import CONST, NUMBER, TENSOR, Site, Value
from gradlint.flow.leaks import GUESSED
from gradlint.flow.reading import words

if TYPE_CHECKING:
    from gradlint.flow.run import Run
    from gradlint.flow.watch import Root

SYMBOLS: dict[type[ast.operator], str] = {
    ast.Add: "+=",
    ast.Sub: "-=",
    ast.Mult: "*=",
    ast.Div: "/=",
    ast.Pow: "**=",
    ast.MatMult: "@=",
    ast.FloorDiv: "//=",
    ast.Mod: "%=",
}
# Decorators that may switch the grad mode; those of the project are executed.
SWITCHES = re.compile(r"grad|inference|torch|optim", re.I)
# Indices that give a view; a tensor as index copies.
BASIC = (ast.Constant, ast.Slice, ast.Tuple, ast.UnaryOp, ast.USub, ast.Load)


class Damaged:
    """The mark of all that is computed from a result that was changed after it was made, and that its backward needs."""

    __slots__ = ("api", "made", "site", "sure")

    def __init__(self, site: Site, made: Site, api: str, *, sure: bool) -> None:
        self.site = site
        self.made = made
        self.api = api
        self.sure = sure


class Stepped:
    """The mark of what was computed with weights that a step has changed since, and of the turns of loops it was made in."""

    __slots__ = ("marked", "site", "turns")

    def __init__(self, site: Site, turns: tuple[int, ...]) -> None:
        self.site = site
        self.turns = turns
        self.marked: list[Value] = []


class Mutations:
    """What one run changes in place."""

    def __init__(self, run: Run) -> None:
        self.run = run

    # -- events --------------------------------------------------------------------------------------------------------

    def augmented(self, node: ast.AugAssign, old: Value, new: Value, result: Value) -> Value:
        """``target op= new``: the result, marked where ``old`` was needed."""
        symbol = SYMBOLS.get(type(node.op))
        if new.is_const and isinstance(new.const, str):
            return result
        if symbol is None or self.run.regions or _holds(node.target, "grad") or _holds(node.target, "data"):
            return result
        if isinstance(node.op, ast.Add) and (new.refs or new.kind not in (TENSOR, NUMBER, CONST)) and not old.live:
            return result  # a list of parameters that grows
        target: ast.expr = node.target
        while isinstance(target, ast.Subscript):
            target = target.value
        holder = old
        if target is not node.target:
            from gradlint.flow.expressions import evaluate

            holder = evaluate(self.run, _loaded(target))
            if not holder.live:
                return result
        self._leaf(holder, target, symbol, node, node.value)
        return self._changed(old, result, symbol, node)

    def stored(self, holder: Value, target: ast.Subscript, result: Value, node: ast.AST) -> Value:
        """``holder[…] = value``: what ``holder`` then is, marked where its backward needed it as it was."""
        if self.run.regions or not holder.live or isinstance(node, ast.AugAssign):
            return result
        place: ast.expr = target.value
        while isinstance(place, ast.Subscript):
            place = place.value
        if not (_holds(place, "grad") or _holds(place, "data")):
            self._leaf(holder, place, "[…] =", node, getattr(node, "value", None))
        return self._changed(holder, result, "[…] =", node)

    def method(self, receiver: Value, result: Value, name: str, node: ast.AST) -> Value:
        """``receiver.name_(…)``: the result, marked where the receiver was needed."""
        if self.run.regions or not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            return result
        target: ast.expr = node.func.value
        holder = receiver
        if isinstance(target, ast.Subscript) and not any(isinstance(item, Obj | ParamSet) for item in receiver.refs):
            from gradlint.flow.expressions import evaluate

            while isinstance(target, ast.Subscript):
                if not _basic(target.slice):
                    return result  # what is changed is a copy
                target = target.value
            if isinstance(target, ast.Name | ast.Attribute):
                holder = evaluate(self.run, target)
                if not holder.live:
                    return result
        if isinstance(target, ast.Name | ast.Attribute) and not (_holds(target, "grad") or _holds(target, "data")):
            self._leaf(holder, target, f".{name}()", node, node)
        return self._changed(receiver, result, f".{name}()", node)

    def called(self, value: Value | None, result: Value, node: ast.AST) -> Value:
        """A function or layer that works in place is called on ``value``."""
        if value is None or self.run.regions:
            return result
        return self._changed(value, result, "inplace=True", node)

    def stepped(self, owners: frozenset[Obj], node: ast.AST) -> None:
        """An optimizer changes its weights: what was computed with them, and is still there, cannot be differentiated."""
        run = self.run
        turns = tuple(turn.number for turn in run.watch.leaks.turns)
        if not (run.watch.leaks.inside.get(turns[-1]) if turns else run.watch.roots):
            return  # a step without a backward before it is another fault
        mark = Stepped(run.site(node), turns)
        for frame in run.frames or [run.frame]:
            for name, value in frame.env.items():
                if value.refs or value.kind != TENSOR or not value.live or len(value.live & owners) < 2:
                    continue
                # a layer's weight is needed to go on to what lies in front of it
                if any(isinstance(tag, Stepped) for tag in value.tags) or GUESSED in value.tags:
                    continue
                frame.env[name] = value.replace(tags=value.tags | {mark})
                mark.marked.append(frame.env[name])

    def backward(self, root: Root) -> None:
        """A loss is back-propagated: what it needs has been changed, or not."""
        for tag in {tag for part in (root.value, *root.value.terms) for tag in part.tags if isinstance(tag, Damaged)}:
            self.run.watch.facts.append(_told(tag, root))
        turns = tuple(turn.number for turn in self.run.watch.leaks.turns)
        for mark in {tag for tag in root.value.tags if isinstance(tag, Stepped) and tag.turns == turns}:
            if any(value is root.value for value in mark.marked):
                self._after_step(mark, root)

    # -- verdicts ------------------------------------------------------------------------------------------------------

    def _after_step(self, tag: Stepped, root: Root) -> None:
        """A loss is back-propagated through weights that have been changed since it was computed."""
        node = root.site.node
        name = ""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            name = node.func.value.id
        made = self.run.frame.places.get(name)
        if made is None or root.returned:
            return
        where, loss = _span(tag.site), _span(root.site)
        path = (
            Step(loss, "backward needs the weights as they were when the loss was computed"),
            Step(where, "the step changes them in place"),
            Step(_span(made), f"`{name}` was computed before"),
        )
        fact = facts.SavedChanged(
            where, Confidence.MEDIUM, path, api=words(tag.site.node), made=_span(made), by=name, backward=loss
        )
        self.run.watch.facts.append(fact)

    def _changed(self, old: Value, result: Value, api: str, node: ast.AST) -> Value:
        from gradlint.flow.modules import frozen

        if old.saved is None or not result.live:
            return result
        sources = [s for s in old.live if frozen(s) is False and (s.kind != "opaque" or "%evidence" in s.attrs)]
        if not sources:
            return result
        sure = any(s.kind != "opaque" for s in sources)
        tag = Damaged(self.run.site(node), old.saved, api, sure=sure)
        return result.replace(tags=frozenset(t for t in result.tags if not _same(t, tag)) | {tag})

    def _leaf(self, holder: Value, target: ast.expr, api: str, node: ast.AST, value: ast.AST | None) -> None:
        """Whether what is changed surely is a leaf that requires gradient."""
        from gradlint.flow.modules import frozen

        if not isinstance(target, ast.Name | ast.Attribute) or not holder.refs or self._mode_is_open():
            return
        owners: list[Obj] = []
        for item in holder.refs:
            if isinstance(item, ParamSet) and item.entries and all(entry.certain for entry in item.entries):
                owners.extend(entry.owner for entry in item.entries)
            elif isinstance(item, Obj) and item.kind == "leaf" and holder.live == {item}:
                owners.append(item)
            else:
                return
        owners = [owner for owner in owners if frozen(owner) is not True]
        if not owners or any(frozen(owner) is not False or "%copy" in owner.attrs for owner in owners):
            return
        steps = value is not None and any(_holds(part, "grad") for part in ast.walk(value))
        opaque = any(owner.kind == "opaque" for owner in owners)
        if opaque and not steps:
            return
        sure = not opaque and (steps or not self.run.watch.symbolic)
        self.run.watch.facts.append(
            facts.LeafChanged(
                _span(self.run.site(node)),
                Confidence.HIGH if sure else Confidence.MEDIUM,
                (),
                leaf=words(target),
                api=api,
            )
        )

    def _mode_is_open(self) -> bool:
        """Whether a decorator of torch's that nobody knows may have switched gradient off around what runs now."""
        return any(
            frame.info is not None and any(SWITCHES.search(words(decorator)) for decorator in frame.info.decorators)
            for frame in self.run.frames
        )


def views(old: Value, node: ast.AST) -> Site | None:
    """The operation that needs the memory that an index or a method of ``old`` looks at, if it looks at the same."""
    if isinstance(node, ast.Subscript):
        return old.saved if _basic(node.slice) else None
    return old.saved


SAME_MEMORY = frozenset("view squeeze unsqueeze permute transpose t expand narrow select swapaxes movedim mT T".split())


def _told(tag: Damaged, root: Root) -> facts.SavedChanged:
    where, made, loss = _span(tag.site), _span(tag.made), _span(root.site)
    by = tag.made.node.func if isinstance(tag.made.node, ast.Call) else tag.made.node
    path = (
        Step(loss, "backward needs every result as it was when it was made"),
        Step(where, "this one is changed in place"),
        Step(made, f"`{words(by)}` made it and computes its gradient from it"),
    )
    confidence = Confidence.HIGH if tag.sure else Confidence.MEDIUM
    return facts.SavedChanged(where, confidence, path, api=tag.api, made=made, by=words(by), backward=loss)


def _same(tag: object, other: Damaged) -> bool:
    return isinstance(tag, Damaged) and tag.site.node is other.site.node


def _span(site: Site) -> Span:
    return site.file.span(site.node)


def _holds(node: ast.AST, name: str) -> bool:
    """Whether an expression is an attribute of this name, or an item of one."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Attribute) and node.attr == name


def _basic(index: ast.AST) -> bool:
    return all(isinstance(part, BASIC) for part in ast.walk(index))


def _loaded(target: ast.expr) -> ast.expr:
    return ast.copy_location(ast.Name(target.id, ast.Load()), target) if isinstance(target, ast.Name) else target
