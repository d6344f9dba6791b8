"""Gradient that is let through where it should stop: into the target of a loss, into the network that made another's input."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from gradlint.core import Confidence, Step
from gradlint.flow import facts
from gradlint.flow.heap import Obj
from gradlint.flow.lattice import NOTHING, Site, Trait, Value

if TYPE_CHECKING:
    from gradlint.flow.run import Run
    from gradlint.flow.verdicts import Judgement
    from gradlint.flow.watch import Root
    from gradlint.knowledge import Row

DISCOUNTED = "discounted"
# Words of rewards, discounts and what follows; only beside the form of a bootstrapped target do they say anything.
RETURNS = re.compile(r"gamma|discount|target|reward|\brews?\b|return|done|termina|next|bootstrap|(?:\b|_)td(?:\b|_)", re.I)
# Functions of automatic differentiation that turn a gradient round.
REVERSAL = re.compile(r"\.neg_?\(\)|=\s*-\s*\w|return\s+-|-\s*(?:ctx|self)\.|\*\s*-|-\w*grad", re.I)


class Made:
    """One call of a module, not from within another: the mark of what was computed with its result.

    ``owners``: the module's parameters.  ``reached``: for each argument, by position or name, what gradient reaches through it.
    """

    __slots__ = ("module", "owners", "reached", "site", "tags")

    def __init__(
        self, module: Obj, owners: frozenset[Obj], site: Site, reached: Mapping[str, frozenset[Obj]], tags: frozenset[object]
    ) -> None:
        self.module = module
        self.owners = owners
        self.site = site
        self.reached = reached
        self.tags = tags

    def argument(self, sources: frozenset[Obj]) -> str | None:
        """The argument through which gradient reaches some of ``sources``."""
        return next((name for name, reached in self.reached.items() if reached & sources), None)


class Bootstrapped:
    """The mark of a reward plus the discounted value of what follows, and of all that is computed from it with gradient."""

    __slots__ = ("modules", "named", "site", "sources")

    def __init__(self, site: Site, sources: frozenset[Obj], named: bool, modules: frozenset[Obj]) -> None:
        self.site = site
        self.sources = sources
        self.named = named
        self.modules = modules

    def fits(self, prediction: Value) -> bool:
        """Whether this is a target for a prediction: it says so, or the same network makes both."""
        return self.named or bool(self.modules & _modules(prediction))


class Compared(NamedTuple):
    """A loss that compares a prediction with a target, both with gradient.

    ``form`` as in ``facts.TargetNotDetached``.  ``mine``, ``theirs``: what only the prediction, only the target, reaches.
    """

    form: str
    site: Site
    mine: frozenset[Obj]
    theirs: frozenset[Obj]
    tags: frozenset[object]


class Crossings:
    """What one run observes of it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.compared: list[Compared] = []

    # -- calls ---------------------------------------------------------------------------------------------------------

    def called(self, obj: Obj, args: list[Value], kwargs: dict[str, Value], result: Value, node: ast.AST) -> Value:
        """A module was called from outside of any: its result, marked with the call."""
        from gradlint.flow import containers, modules
        from gradlint.flow.leaks import marked

        run = self.run
        if run.regions or run.watch.inside_forward or not (result.live or result.refs):
            return result
        owners = frozenset(entry.owner for entry in modules.parameters(run, obj))
        if not owners:
            return result
        reached: dict[str, frozenset[Obj]] = {}
        tags: frozenset[object] = frozenset()
        for name, value in (*((str(i), value) for i, value in enumerate(args)), *kwargs.items()):
            inside = containers.everything(run, value)
            live = frozenset(source for part in inside for source in part.live)
            if live:
                reached[name] = live
                tags |= {tag for part in inside for tag in part.tags if isinstance(tag, Made)}
        return marked(result, Made(obj, owners, run.site(node), reached, tags))

    # -- targets -------------------------------------------------------------------------------------------------------

    def combined(self, op: ast.operator, left: Value, right: Value, result: Value, node: ast.AST) -> None:
        """A binary operation: is it a step on the way to a bootstrapped target?"""
        if not result.live:
            return
        live, other = (left, right) if left.live else (right, left)
        inside = self.run.watch.inside_forward
        if isinstance(op, ast.Mult) and not other.live and not inside and _modules(live) and _discounts(other):
            result.trait = result.trait or Trait(DISCOUNTED, self.run.site(node))
        elif isinstance(op, ast.Add) and not other.live and live.trait is not None and live.trait.kind == DISCOUNTED:
            if not other.is_const:
                named = bool(RETURNS.search(ast.unparse(node)))
                mark = Bootstrapped(self.run.site(node), live.live, named, _modules(live))
                result.tags = result.tags | {mark}
        elif (isinstance(op, ast.Pow) and not right.live) or (isinstance(op, ast.Mult) and left is right):
            self.squared(left)
        elif isinstance(op, ast.Sub) and left.live and right.live:
            self._difference(left, right, result, node)
        elif isinstance(op, ast.Mult) and left.live and right.live:
            sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node, node)
            for target, scores, place in ((left, right, sides[0]), (right, left, sides[1])):
                if _kind(target) == "softmax" and _kind(scores) == "log-softmax":
                    self._teacher(scores, target, place)

    def _difference(self, left: Value, right: Value, result: Value, node: ast.AST) -> None:
        """``target - value``: the difference remembers that one side was bootstrapped and the other was not."""
        for target, value in ((left, right), (right, left)):
            mark = self._mark(target, value)
            if mark is not None:
                result.trait = Trait("td-error", mark.site)

    @staticmethod
    def _mark(target: Value, prediction: Value) -> Bootstrapped | None:
        """The mark of a bootstrapped target, where the prediction has none."""
        if any(isinstance(tag, Bootstrapped) for tag in prediction.tags):
            return None
        return next((tag for tag in target.tags if isinstance(tag, Bootstrapped) and tag.fits(prediction)), None)

    def squared(self, value: Value) -> None:
        """A value is squared, or its magnitude taken: where it is the error of a bootstrapped target, that is a loss."""
        if value.trait is not None and value.trait.kind == "td-error":
            for tag in value.tags:
                if isinstance(tag, Bootstrapped) and tag.site.node is value.trait.site.node:
                    self.compared.append(Compared("bootstrap", tag.site, NOTHING, tag.sources, _calls(value)))
                    return

    def loss(self, row: Row, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> None:
        """A loss of a library compares two values."""
        if self.run.regions:
            return
        names = row.get("positional", ())
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        target = given.get(next(iter(row.get("targets", ())), ""))
        score = given.get(next(iter(names), ""))
        if target is None or score is None or not target.live or not score.live:
            return
        for first, second in ((target, score), (score, target)):
            mark = self._mark(first, second)
            if mark is not None:
                self.compared.append(Compared("bootstrap", mark.site, NOTHING, mark.sources, _calls(first)))
                return
        if row.get("sided") and isinstance(node, ast.Call):
            self._teacher(score, target, _argument(node, names, str(next(iter(row.get("targets", ())), ""))) or node)

    def _teacher(self, score: Value, target: Value, node: ast.AST) -> None:
        mine, theirs = score.live - target.live, target.live - score.live
        if mine and theirs:
            self.compared.append(Compared("teacher", self.run.site(node), mine, theirs, NOTHING))

    # -- verdicts ------------------------------------------------------------------------------------------------------

    def judge(self, judgement: Judgement) -> None:
        """What one run says at its end."""
        run = self.run
        if run.truncated or run.watch.opaque_optimizers:
            return
        for compared in self.compared:
            fact = self._target(compared)
            if fact is not None:
                judgement.facts.append(fact)
        for fact in self._generators():
            judgement.facts.append(fact)

    def _target(self, compared: Compared) -> facts.Fact | None:
        from gradlint.flow.verdicts import names_of, span_of

        run = self.run
        for root in run.watch.roots:
            held = _held(run, root, compared.theirs)
            if not held:
                continue
            if compared.form == "bootstrap":
                if not compared.tags or not compared.tags <= _made(root):
                    continue
            elif not self._own_losses(compared, root) or not _held(run, root, compared.mine):
                continue
            where, loss = span_of(compared.site), span_of(root.site)
            names = names_of(run, held)
            behind = ", ".join(f"`{name}`" for name in names[:4])
            path = (
                Step(loss, "backward starts here"),
                Step(where, f"gradient goes on through the target, into {behind}"),
            )
            return facts.TargetNotDetached(where, Confidence.HIGH, path, form=compared.form, parts=names, loss=loss)
        return None

    def _own_losses(self, compared: Compared, root: Root) -> bool:
        """Whether both sides learn from a term of their own, and nothing pulls the other way round."""
        terms = root.value.summands()
        mine = any(term.live & compared.mine and not term.live & compared.theirs for term in terms)
        theirs = any(term.live & compared.theirs and not term.live & compared.mine for term in terms)
        back = any(
            other.form == "teacher" and other.mine & compared.theirs and other.theirs & compared.mine for other in self.compared
        )
        return mine and theirs and not back

    def _generators(self) -> list[facts.Fact]:
        """Calls of one network on what another made, whose gradient goes on into the other and does harm there."""
        found: dict[object, facts.Fact] = {}
        run = self.run
        roots = [root for root in run.watch.roots if not root.returned]
        if run.program.anywhere(_reverses):
            return []
        for index, root in enumerate(roots):
            for call, argument, sources in self._crossed(root):
                for other in roots[:index] + roots[index + 1 :]:
                    fact = self._graph(root, call, argument, sources, other, later=roots.index(other) > index)
                    if fact is not None:
                        found.setdefault(id(call.site.node), fact)
        for fact in self._leftovers():
            found.setdefault(fact.span, fact)
        spans: dict[object, facts.Fact] = {}
        for fact in found.values():
            spans.setdefault(fact.span, fact)
        return list(spans.values())

    def _crossed(self, root: Root) -> list[tuple[Made, str, frozenset[Obj]]]:
        """The calls in a loss of a network that the loss is for, on what a network made that it is not for."""
        run = self.run
        if not root.targets:
            return []
        result = []
        for call in _made(root):
            if not isinstance(call, Made) or not _held(run, root, call.owners):
                continue
            given = frozenset(source for reached in call.reached.values() for source in reached) - call.owners
            made = frozenset(
                source for source in given if not _held(run, root, frozenset((source,))) and root.frozen.get(source) is False
            )
            argument = call.argument(made) if made else None
            if argument is not None and self._also_real(call, made):
                result.append((call, argument, made))
        return result

    def _also_real(self, call: Made, made: frozenset[Obj]) -> bool:
        """Whether the same network is given something else too: what tells a discriminator from a decoder."""
        return any(
            isinstance(other, Made) and other.module is call.module and not any(r & made for r in other.reached.values())
            for root in self.run.watch.roots
            for other in _made(root)
        )

    def _graph(
        self, root: Root, call: Made, argument: str, sources: frozenset[Obj], other: Root, *, later: bool
    ) -> facts.Fact | None:
        """Whether another loss goes through the same call of the generator, when its graph is gone."""
        from gradlint.flow.verdicts import span_of
        from gradlint.flow.watch import retains

        run = self.run
        earlier = root if later else other
        if retains(earlier.site.node) or not run.watch.compatible(root.path, other.path) or other.site.node is root.site.node:
            return None
        shared = {made for made in call.tags & _made(other) if isinstance(made, Made) and made.owners & sources}
        mine = frozenset(_held(run, other, sources))
        if not shared or not mine:
            return None
        where, back, again = span_of(call.site), span_of(root.site), span_of(other.site)
        path = (
            Step(again, "this goes through the graph of the other network, too"),
            Step(back, "backward goes on through the input of the network"),
            Step(where, "the input is given here with its graph"),
        )
        return self._fact(call, argument, mine, "graph" if later else "freed", path, root, again)

    def _leftovers(self) -> list[facts.Fact]:
        from gradlint.flow.typestate import of_parties

        by_root: dict[int, list[tuple[Made, str, frozenset[Obj], Root]]] = {}
        for root in self.run.watch.roots:
            for call, argument, sources in self._crossed(root):
                by_root.setdefault(id(root.site.node), []).append((call, argument, sources, root))
        if not by_root:
            return []
        from gradlint.flow.leftovers import LetThrough

        return of_parties(self.run, lambda party: LetThrough(party, by_root, self._fact))

    def _fact(
        self, call: Made, argument: str, sources: frozenset[Obj], form: str, path: tuple[Step, ...], root: Root, other: object
    ) -> facts.Fact:
        from gradlint.flow.verdicts import names_of, span_of

        names = names_of(self.run, sources)
        if any(call in _made(other) and _held(self.run, other, sources) for other in self.run.watch.roots):
            argument = ""  # the other network learns from this very call
        return facts.GeneratorNotDetached(
            span_of(call.site),
            Confidence.HIGH,
            path,
            argument=argument,
            form=form,
            network=call.module.name() or "the discriminator",
            made_by=names[0] if names else "the generator",
            backward=span_of(root.site),
            other=other,  # type: ignore[arg-type]
        )


def _made(root: Root) -> frozenset[object]:
    """The calls of modules that a loss was computed with."""
    return frozenset(tag for part in (root.value, *root.value.terms) for tag in part.tags if isinstance(tag, Made))


def _modules(value: Value) -> frozenset[Obj]:
    """The modules whose results a value was computed from."""
    return frozenset(tag.module for tag in value.tags if isinstance(tag, Made))


def _calls(value: Value) -> frozenset[object]:
    return frozenset(tag for tag in value.tags if isinstance(tag, Made))


def _held(run: Run, root: Root, sources: frozenset[Obj]) -> set[Obj]:
    """Those of some sources that the optimizers stepping with a loss hold, and that are not frozen."""
    states = [optimizer.attrs["%optimizer"] for optimizer in root.targets]
    return {s for s in sources if root.frozen.get(s) is False and any(run.watch.holds(state, s) for state in states)}


def _discounts(factor: Value) -> bool:
    """Whether a factor can be a discount."""
    return not factor.is_const or (isinstance(factor.const, float) and 0.5 <= factor.const < 1)


def _kind(value: Value) -> str:
    return value.trait.kind if value.trait is not None else ""


def _argument(node: ast.Call, names: tuple[str, ...], wanted: str) -> ast.expr | None:
    """The argument of a call that has a name."""
    for keyword in node.keywords:
        if keyword.arg == wanted:
            return keyword.value
    position = names.index(wanted) if wanted in names else len(node.args)
    return node.args[position] if position < len(node.args) else None


def _reverses(text: str) -> bool:
    return "backward(" in text and "Function" in text and bool(REVERSAL.search(text))
