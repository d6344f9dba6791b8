"""Who trains: iterators used up, wrappers that noted who trains, tied weights, and what no optimizer holds."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

from gradlint.core import Confidence, Step
from gradlint.flow import facts
from gradlint.flow.heap import Obj, Parameter, ParamSet
from gradlint.flow.lattice import Site, Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradlint.flow.run import Run
    from gradlint.flow.verdicts import Judgement
    from gradlint.flow.watch import Path, Root
    from gradlint.knowledge import Row

# Names of networks that nobody means to train where they are used.
STANDS_STILL = re.compile(
    r"target|teacher|(?:^|[._])(?:ema|ref|reference|momentum|prior|old|prev|fixed|frozen|random|guide|oracle|victim|pretrained)(?:$|[._\d])",
    re.I,
)


class Use:
    """Where an iterator was used up."""

    __slots__ = ("site",)

    def __init__(self, site: Site) -> None:
        self.site = site


class Wrap:
    """A wrapper that notes, when it is made, which parameters train."""

    def __init__(
        self, module: Obj, owners: frozenset[Obj], frozen: frozenset[Obj], site: Site, api: str, tolerant: bool, path: Path
    ) -> None:
        self.module = module
        self.owners = owners
        self.frozen = frozen
        self.site = site
        self.api = api
        self.tolerant = tolerant
        self.path = path
        self.losses: list[Root] = []
        self.used: set[Obj] = set()
        self.always: set[Obj] = set()


class Toggle(NamedTuple):
    """Parameters of a wrapped module, frozen or unfrozen."""

    wrap: Wrap
    owners: tuple[Obj, ...]
    trains: bool
    site: Site
    path: Path


class Tie(NamedTuple):
    """``holder.name = weight of owner``."""

    holder: Obj
    name: str
    owner: Obj
    site: Site


class Membership:
    """What one run observes of parameters and who holds them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.wraps: list[Wrap] = []
        self.toggles: list[Toggle] = []
        self.ties: list[Tie] = []
        self.given: set[Obj] = set()
        self.held: set[tuple[object, ...]] = set()
        self.loaded: set[Obj] = set()
        self.told: set[Obj] = set()
        self.updated: set[Obj] = set()
        self.random: set[int] = set()

    # -- iterators -----------------------------------------------------------------------------------------------------

    def iterator(self, params: ParamSet, node: ast.AST) -> ParamSet:
        """The same parameters as an iterator that is made here and can be used once."""
        made = ParamSet(params.entries, params.root)
        made.generator = Obj("iterator", ("iterator", id(node)), site=self.run.site(node))
        return made

    @staticmethod
    def unused(values: Iterable[Value]) -> list[Obj]:
        """The iterators among some values from which nothing is taken yet."""
        states = [r.generator for v in values for r in v.refs if isinstance(r, ParamSet) and r.generator is not None]
        return [state for state in states if state.attrs.get("%used", False) is False]

    def consumed(self, value: Value, node: ast.AST, *, surely: bool = True) -> None:
        """Everything that an iterator gives is taken from it."""
        for item in value.refs:
            if isinstance(item, ParamSet) and item.generator is not None:
                self._use(item.generator, node, surely and len(value.refs) == 1 and not value.opaque)

    def _use(self, state: Obj, node: ast.AST, surely: bool) -> None:
        before = state.attrs.get("%used", False)
        if isinstance(before, Use) and surely:
            self._exhausted(state, before, node)
        if before is False or (before == "maybe" and surely):
            self.run.heap.write(state, "%used", Use(self.run.site(node)) if surely and before is False else "maybe")

    def _exhausted(self, state: Obj, before: Use, node: ast.AST) -> None:
        from gradlint.flow.verdicts import span_of

        assert state.site is not None
        first, made, here = span_of(before.site), span_of(state.site), span_of(self.run.site(node))
        again = before.site.node is node
        path = (
            Step(here, "nothing is left of the iterator here"),
            Step(
                first, "this turn of the loop and the first take from one iterator" if again else "the iterator is used up here"
            ),
            Step(made, "it is made here, once"),
        )
        self.run.watch.facts.append(facts.IteratorExhausted(here, Confidence.HIGH, path, first=first, made=made, again=again))

    # -- wrappers ------------------------------------------------------------------------------------------------------

    def wrapped(self, obj: Obj, row: Row, kwargs: dict[str, Value], node: ast.AST) -> None:
        """A module is wrapped."""
        from gradlint.flow import modules

        if not row.get("synchronizes") or not modules.is_module(self.run, obj):
            return
        options = [kwargs[name] for name in (*row.get("tolerates", ()), "**") if name in kwargs]
        tolerant = any(not (value.is_const and not value.const) for value in options)
        owners = frozenset(e.owner for e in modules.parameters(self.run, obj))
        frozen = frozenset(o for o in owners if modules.frozen(o) is not False)
        api = row.name.rpartition(".")[2]
        self.wraps.append(Wrap(obj, owners, frozen, self.run.site(node), api, tolerant, self.run.watch.here()))

    def froze(self, owners: Iterable[Obj], trains: bool | None, node: ast.AST) -> None:
        """Parameters are frozen or unfrozen."""
        watch = self.run.watch
        for wrap in self.wraps:
            mine = tuple(o for o in owners if o in wrap.owners)
            if not mine or wrap.tolerant or not watch.compatible(wrap.path, watch.here()):
                continue
            if trains is None:
                self.toggles = [t for t in self.toggles if not (t.wrap is wrap and set(t.owners) & set(mine))]
                continue
            self.toggles = [t._replace(owners=tuple(o for o in t.owners if o not in mine)) for t in self.toggles]
            changed = tuple(o for o in mine if (o in wrap.frozen) is trains)
            if changed:
                self.toggles.append(Toggle(wrap, changed, trains, self.run.site(node), watch.here()))

    def chance(self, branch: int) -> None:
        """A branch is about to be taken or left by chance."""
        self.random.add(branch)

    def ran(self, obj: Obj) -> None:
        """A layer runs."""
        if not self.wraps:
            return
        here = self.run.watch.here()
        by_chance = any(branch in self.random for branch, _ in here)
        for wrap in self.wraps:
            if obj in wrap.owners:
                wrap.used.add(obj)
                if not by_chance:
                    wrap.always.add(obj)

    def backward(self, root: Root) -> None:
        """A loss is back-propagated: wrappers wait for the gradients of all that they noted."""
        from gradlint.flow.modules import frozen

        watch = self.run.watch
        live = {s for term in root.value.summands() for s in term.live}
        left: list[Toggle] = []
        for toggle in self.toggles:
            wrap = toggle.wrap
            if not toggle.owners or not watch.compatible(toggle.path, root.path):
                left.append(toggle)
                continue
            if toggle.trains:
                parts = tuple(o for o in toggle.owners if o in live and frozen(o) is False)
                others = True
            else:
                parts = tuple(o for o in toggle.owners if frozen(o) is True)
                others = any(o in live and frozen(o) is False and o not in wrap.frozen for o in wrap.owners)
            if parts and others:
                self._toggled(toggle, parts, root)
            else:
                left.append(toggle)
        self.toggles = left
        for wrap in self.wraps:
            if live & wrap.owners and watch.compatible(wrap.path, root.path):
                wrap.losses.append(root)
                wrap.used.update(live & wrap.owners)
                wrap.used.update(s for term in root.value.summands() for s, _ in term.dead)

    def _toggled(self, toggle: Toggle, parts: tuple[Obj, ...], root: Root) -> None:
        from gradlint.flow.verdicts import names_of, span_of

        run, wrap = self.run, toggle.wrap
        here, made, loss = span_of(toggle.site), span_of(wrap.site), span_of(root.site)
        names = names_of(run, parts)
        done = "unfrozen" if toggle.trains else "frozen"
        path = (
            Step(loss, "the loss is back-propagated"),
            Step(here, f"{', '.join(f'`{n}`' for n in names[:4])}: {done} here"),
            Step(made, f"{wrap.api} noted before that which parameters train"),
        )
        run.watch.facts.append(
            facts.ToggledAfterWrap(
                here, Confidence.HIGH, path, wrap=made, api=wrap.api, parts=names, trains=toggle.trains, loss=loss
            )
        )

    # -- tied weights --------------------------------------------------------------------------------------------------

    def stored(self, obj: Obj, name: str, value: Value, node: ast.AST) -> None:
        """A parameter is put into a layer: does another layer hold it already?"""
        if obj.kind != "library" or obj.row is None or name not in obj.row.get("weights", ("weight", "bias")):
            return
        for item in value.refs:
            if isinstance(item, ParamSet) and len(item.entries) == 1 and item.entries[0].owner is not obj:
                self.ties.append(Tie(obj, name, item.entries[0].owner, self.run.site(node)))

    def _shared(self, root: Root, judgement: Judgement, told: set[tuple[int, int]]) -> None:
        from gradlint.flow.modules import frozen
        from gradlint.flow.verdicts import span_of
        from gradlint.flow.watch import Note

        live = {s for term in root.value.summands() for s in term.live}
        for tie in self.ties:
            pairs = ((tie.owner, tie.holder), (tie.holder, tie.owner))
            for one, other in pairs:
                note = one.attrs.get("%froze_at")
                if root.frozen.get(one, frozen(one)) is not True or root.frozen.get(other, frozen(other)) is not False:
                    continue
                if other not in live or not isinstance(note, Note) or (id(tie.site.node), id(note.site.node)) in told:
                    continue
                told.add((id(tie.site.node), id(note.site.node)))
                here, tied, loss = span_of(note.site), span_of(tie.site), span_of(root.site)
                path = (
                    Step(loss, f"`{other.name()}` is to learn from this loss"),
                    Step(here, f"`{one.name()}` is frozen here"),
                    Step(tied, "both hold one parameter"),
                )
                judgement.facts.append(
                    facts.SharedParameterFrozen(here, Confidence.MEDIUM, path, part=one.name(), other=other.name(), tie=tied)
                )

    # -- optimizers ----------------------------------------------------------------------------------------------------

    def built(self, entries: Iterable[Parameter]) -> None:
        """An optimizer takes parameters."""
        self.held.update(e.owner.key for e in entries)

    def handed(self, entries: Iterable[Parameter], sources: Iterable[Value] = ()) -> None:
        """Parameters, or the sources of modules, are given to code nobody can see into, which may train them."""
        self.given.update(e.owner for e in entries)
        for value in sources:
            self.given |= value.live

    def restored(self, obj: Obj) -> None:
        """A module gets its parameters from elsewhere."""
        from gradlint.flow import modules

        self.loaded.update(e.owner for e in modules.parameters(self.run, obj))

    def left_out(self, parts: Iterable[Obj]) -> None:
        """Why an optimizer does not hold these is told by a fact of its own."""
        self.told.update(parts)

    def changed(self, params: ParamSet) -> None:
        """Parameters are changed by hand."""
        if self.run.watch.roots:
            self.updated.update(e.owner for e in params.entries)

    # -- verdicts ------------------------------------------------------------------------------------------------------

    def judge(self, judgement: Judgement) -> None:
        """What one run says at its end."""
        judgement.held |= self.held
        told: set[tuple[int, int]] = set()
        for root in self.run.watch.roots:
            if self.ties:
                self._shared(root, judgement, told)
        if self.run.truncated:
            return
        for wrap in self.wraps:
            self._unused(wrap, judgement)
        judgement.missed.extend(self._missed())

    def _unused(self, wrap: Wrap, judgement: Judgement) -> None:
        from gradlint.flow.verdicts import names_of, span_of

        if wrap.tolerant or not wrap.losses or any(o.kind == "opaque" for o in wrap.owners):
            return
        if any(term.opaque for root in wrap.losses for term in root.value.summands()):
            return
        layers = [
            o
            for o in wrap.owners
            if o.kind == "library" and o not in wrap.frozen and o not in wrap.module.attrs.get("%kept", ())
        ]
        toggled = {o for t in self.toggles for o in t.owners}
        idle = [o for o in layers if o not in wrap.used and o not in toggled]
        sometimes = [
            o
            for o in layers
            if o in wrap.used and o not in wrap.always and any(root.frozen.get(o) is False for root in wrap.losses)
        ]
        if len(idle) == len(layers):
            return
        run, root = self.run, wrap.losses[-1]
        here, loss = span_of(wrap.site), span_of(root.site)
        for parts, skipped in ((idle, False), (sometimes, True)):
            if not parts:
                continue
            names = names_of(run, parts)
            what = "are skipped in some iterations" if skipped else "are never used"
            path = (Step(loss, "the loss is back-propagated"), Step(here, f"{', '.join(f'`{n}`' for n in names[:4])} {what}"))
            judgement.facts.append(
                facts.UnusedUnderWrap(here, Confidence.MEDIUM, path, api=wrap.api, parts=names, skipped=skipped, loss=loss)
            )
            return

    def _missed(self) -> list[Missed]:
        """Sources of a loss that no optimizer of this run holds, although one steps with the loss."""
        run, watch = self.run, self.run.watch
        states = [o.attrs["%optimizer"] for o in watch.optimizers]
        if not states or watch.opaque_optimizers or any(state.opaque for state in states):
            return []
        found: dict[tuple[int, int], Missed] = {}
        for root in watch.roots:
            sources = {s for term in root.value.summands() for s in term.live}
            out = [
                s for s in sources if s.kind in ("library", "leaf") and s.key not in self.held and self._should_train(s, root)
            ]
            if not out:
                continue
            for optimizer in root.targets:
                state = optimizer.attrs["%optimizer"]
                mates = [s for s in sources if watch.holds(state, s) and (s.kind == "library" or s.owner is not None)]
                if mates and not any(STANDS_STILL.search(m.name()) for m in mates):
                    entry = found.setdefault((id(optimizer), 0), Missed(run, root, state.site, set(), False))
                    entry.sources.update(out)
                    copies = {e.owner.attrs.get("%copy") for e in state.params}
                    if any(s in copies for s in out):
                        found[id(optimizer), 0] = entry._replace(copied=True)
                    break
        return list(found.values())

    def _should_train(self, source: Obj, root: Root) -> bool:
        from gradlint.flow.modules import frozen, has_own_parameters
        from gradlint.flow.verdicts import _is_copy, _noted

        if not has_own_parameters(source) or root.frozen.get(source, False) is not False or frozen(source) is not False:
            return False
        if source in self.given | self.loaded | self.updated | self.told or root.modes.get(source) == "eval":
            return False
        if _is_copy(source, self.run.watch.copies) or _noted(source, "%pretrained"):
            return False
        whole = self._whole(source)
        if whole is None or STANDS_STILL.search(whole.name()) or STANDS_STILL.search(source.name()):
            return False
        return not any(part.key in self.held or part in self.given for part in self._parts(whole))

    def _parts(self, whole: Obj) -> list[Obj]:
        from gradlint.flow import modules

        return [e.owner for e in modules.parameters(self.run, whole)] if whole.kind != "leaf" else [whole]

    def _whole(self, source: Obj) -> Obj | None:
        """The largest module around a source that is not the program itself; None where that is not known."""
        from gradlint.flow import frameworks, modules

        here = source
        for _ in range(30):
            if here.owner is None:
                maker = here.attrs.get("%maker")
                hidden = maker is not None and self.run.program.is_module_class(self.run, maker)
                return here if here.label and not hidden else None
            holder = here.owner[0]
            if not modules.is_module(self.run, holder) or holder.attrs.get("%symbolic"):
                return None if self._in_module(holder) else here
            if holder.cls is not None and frameworks.framework_of(self.run, holder.cls) is not None:
                return here
            here = holder
        return None

    def _in_module(self, obj: Obj) -> bool:
        """Whether an object that is no module is kept by one, which does not register what is in it."""
        from gradlint.flow import modules

        here, count = obj, 0
        while here.owner is not None and count < 20:
            here, count = here.owner[0], count + 1
            if modules.is_module(self.run, here) and not here.attrs.get("%symbolic"):
                return True
        return False


class Missed(NamedTuple):
    """Sources that an optimizer should hold, waiting for the other runs: one of them may train them."""

    run: Run
    root: Root
    site: Site
    sources: set[Obj]
    copied: bool


def settle(judgements: list[Judgement], classes: list[facts.Fact]) -> list[facts.Fact]:
    """What no optimizer of the whole program holds, unless ``classes`` says so already of its class."""
    from gradlint.flow.verdicts import names_of, span_of

    held = set().union(*(judgement.held for judgement in judgements))
    anew = {(fact.span.file, fact.span.line) for fact in classes if isinstance(fact, facts.ModuleMadeInForward)}
    result: list[facts.Fact] = []
    for judgement in judgements:
        for item in judgement.missed:
            sources = [s for s in item.sources if s.key not in held and tuple(s.key[2:4]) not in anew]
            if not sources:
                continue
            names = names_of(item.run, sources)
            here, loss = span_of(item.site), span_of(item.root.site)
            path = (
                Step(loss, "the loss gives gradient to " + ", ".join(f"`{n}`" for n in names[:4])),
                Step(here, "the optimizer is built without"),
            )
            sure = Confidence.MEDIUM if item.run.watch.symbolic else Confidence.HIGH
            result.append(facts.MissedByOptimizer(here, sure, path, parts=names, loss=loss, copied=item.copied))
    return result
