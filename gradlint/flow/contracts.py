"""Contracts of the settings: what the author says should train and what should not, held against what losses reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlint.core import Confidence, Step
from gradlint.flow import facts
from gradlint.flow.heap import ClassRef, Obj
from gradlint.flow.modules import has_own_parameters, walk

if TYPE_CHECKING:
    from gradlint.flow.run import Run
    from gradlint.flow.watch import Root


class Contract(NamedTuple):
    """``module``: a class, as ``package.module:Class``. ``trains`` and ``frozen``: its parts by dotted name."""

    module: str
    trains: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Contract:
        """A contract from its table in the settings."""
        return cls(table["module"], tuple(table.get("trains", ())), tuple(table.get("frozen", ())))


class Promise(NamedTuple):
    """What one run shows of one part of a module under contract: ``fact`` says how it is broken; None when it is kept."""

    contract: Contract
    word: str
    part: str
    name: str
    fact: facts.ContractBroken | None


def observe(run: Run) -> list[Promise]:
    """What a run shows of the contracts."""
    if not run.program.contracts or not run.watch.roots or run.truncated:
        return []
    return [
        promise
        for contract in run.program.contracts
        for obj in run.watch.made
        if _is(run, obj, contract)
        for word, wanted in (("trains", contract.trains), ("frozen", contract.frozen))
        for part in wanted
        for promise in _promises(run, obj, contract, word, part)
    ]


def _is(run: Run, obj: Obj, contract: Contract) -> bool:
    """Whether an object is of the class that a contract is about."""
    if obj.cls is None:
        return False
    module, _, name = contract.module.rpartition(":")
    for item in run.program.mro(run, obj.cls):
        if isinstance(item, ClassRef) and item.info.name == name.rpartition(".")[2]:
            dotted = run.program.project.dotted(item.info.file)
            if module == dotted or module.endswith(f".{dotted}"):
                return True
    return False


def _promises(run: Run, obj: Obj, contract: Contract, word: str, part: str) -> Iterator[Promise]:
    for name, item in walk(run, obj):
        if (name == part or name.startswith(f"{part}.")) and has_own_parameters(item) and item.kind != "opaque":
            judge = _trains if word == "trains" else _frozen
            known, fact = judge(run, contract, part, item)
            if known:
                yield Promise(contract, word, part, name, fact)


def _trains(run: Run, contract: Contract, part: str, item: Obj) -> tuple[bool, facts.ContractBroken | None]:
    """Whether something is known of a part that should train, and how it is broken if it is."""
    from gradlint.flow.verdicts import blamed, names_of, span_of, story

    watch = run.watch
    names = names_of(run, [item])
    broken: facts.ContractBroken | None = None
    for root in watch.roots:
        terms = root.value.summands()
        loss = span_of(root.site)
        if any(item in term.live for term in terms):
            if root.frozen.get(item) is not True:
                broken = _unheld(run, contract, part, item, root, names)
                return True, broken
            steps = (Step(loss, "backward starts here"), Step(span_of(item.site or root.site), "its parameters are frozen"))
            broken = broken or _fact(contract, "trains", part, "frozen", root, steps, names)
        elif cuts := blamed(list(terms), item):
            cut, trail = cuts[0]
            path = story(root, trail, cut, names)
            where = span_of(cut.site)
            broken = facts.ContractBroken(
                where,
                Confidence.HIGH,
                path,
                module=contract.module,
                word="trains",
                part=part,
                how="cut",
                parts=names,
                loss=loss,
            )
    return broken is not None, broken


def _unheld(
    run: Run, contract: Contract, part: str, item: Obj, root: Root, names: tuple[str, ...]
) -> facts.ContractBroken | None:
    """Broken when optimizers are built and stepped, all of them known, and none has the part."""
    from gradlint.flow.verdicts import span_of

    watch = run.watch
    states = [optimizer.attrs["%optimizer"] for optimizer in watch.optimizers]
    if not watch.steppers or watch.opaque_optimizers or any(state.opaque for state in states):
        return None
    if any(watch.holds(state, item) for state in states):
        return None
    steps = tuple(Step(span_of(o.site), "the optimizer is built here") for o in watch.optimizers[:3] if o.site is not None)
    return _fact(contract, "trains", part, "no optimizer", root, steps, names)


def _frozen(run: Run, contract: Contract, part: str, item: Obj) -> tuple[bool, facts.ContractBroken | None]:
    """Whether something is known of a part that should be frozen, and how it is broken if it is."""
    from gradlint.flow.verdicts import names_of

    known = False
    for root in run.watch.roots:
        if any(item in term.live for term in root.value.summands()):
            known = True
            if root.frozen.get(item, False) is False:
                return True, _fact(contract, "frozen", part, "trained", root, (), names_of(run, [item]))
    return known, None


def _fact(
    contract: Contract, word: str, part: str, how: str, root: Root, steps: tuple[Step, ...], names: tuple[str, ...]
) -> facts.ContractBroken:
    from gradlint.flow.verdicts import span_of

    loss = span_of(root.site)
    path = steps or (Step(loss, "backward starts here"),)
    return facts.ContractBroken(
        loss, Confidence.HIGH, path, module=contract.module, word=word, part=part, how=how, parts=names, loss=loss
    )


def settle(promises: Sequence[Promise]) -> Iterable[facts.Fact]:
    """What the runs together say: a part trains that trains in any of them, and is frozen that is frozen in all."""
    kept = {(p.contract, p.part, p.name) for p in promises if p.word == "trains" and p.fact is None}
    found: dict[tuple[Contract, str, str, object], facts.ContractBroken] = {}
    for promise in promises:
        fact = promise.fact
        if fact is None or (promise.contract, promise.part, promise.name) in kept:
            continue
        key = (promise.contract, promise.word, promise.part, fact.span)
        before = found.get(key)
        if before is None:
            found[key] = fact
        elif not set(fact.parts) <= set(before.parts):
            found[key] = before.with_parts(tuple(dict.fromkeys((*before.parts, *fact.parts))))
    return found.values()
