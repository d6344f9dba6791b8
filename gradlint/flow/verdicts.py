"""From observations to facts: which losses are severed, what starves, and by which cut."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from gradlint.core import Confidence, Span, Step
from gradlint.flow import contracts, facts, hooks, typestate
from gradlint.flow.heap import Obj, source_sort
from gradlint.flow.lattice import Cut, Site, Trail, Value
from gradlint.flow.modules import frozen, has_own_parameters, is_module, may_be_module, walk
from gradlint.flow.run import Exhausted

if TYPE_CHECKING:
    from gradlint.flow.membership import Missed
    from gradlint.flow.run import Run
    from gradlint.flow.watch import Note, Root

EXPLICIT, ASSUMED = "explicit", "assumed"
MAX_STEPS = 10


class Starved:
    """A source that a loss depends on without gradient, with what cut it, waiting for the verdict of the whole program."""

    __slots__ = ("cuts", "root", "run", "source")

    def __init__(self, run: Run, root: Root, source: Obj, cuts: list[tuple[Cut, Trail | None]]) -> None:
        self.run = run
        self.root = root
        self.source = source
        self.cuts = cuts


class Judgement:
    """The verdicts of one run, and what the whole program has to decide about them."""

    def __init__(self) -> None:
        self.facts: list[facts.Fact] = []
        self.starved: list[Starved] = []
        self.live: set[tuple[object, ...]] = set()
        self.truncated = False
        self.missed: list[Missed] = []
        self.held: set[tuple[object, ...]] = set()
        self.leaking: list[facts.GraphKept] = []
        self.kept_in_use: set[tuple[str, int, int]] = set()
        self.promises: list[contracts.Promise] = []


def judge(run: Run) -> Judgement:
    """Judge every loss of a run."""
    judgement = Judgement()
    judgement.truncated = run.truncated
    for fact, parts in run.watch.ordered:
        # what is unfrozen again later was set aside on purpose
        if not (isinstance(fact, facts.FrozenAfterOptimizer) and any(part in run.watch.unfrozen for part in parts)):
            judgement.facts.append(fact)
    for root in run.watch.roots:
        _judge_root(run, root, judgement)
    run.watch.autograd.judge()
    judgement.facts.extend(run.watch.facts)
    _judge_modes(run, judgement)
    run.watch.membership.judge(judgement)
    run.watch.leaks.judge(judgement)
    with suppress(Exhausted):  # a run that has no steps left says nothing more
        run.watch.restless.judge(judgement)
        run.watch.crossings.judge(judgement)
    judgement.facts.extend(typestate.judge(run))
    judgement.promises = contracts.observe(run)
    judgement.facts = [_by_statement(fact) for fact in judgement.facts]
    return judgement


def _by_statement(fact: facts.Fact) -> facts.Fact:
    """What a statement did that switched gradient off for good is a fault of its own kind."""
    if isinstance(fact, facts.BackwardDisabled | facts.Severed) and fact.construct == "statement":
        backward = fact.backward if isinstance(fact, facts.BackwardDisabled) else fact.loss
        return facts.GradDisabled(fact.span, fact.confidence, fact.path, api=fact.api, backward=backward)
    return fact


def _judge_root(run: Run, root: Root, judgement: Judgement) -> None:
    terms = root.value.summands()
    for term in terms:
        judgement.live.update(s.key for s in term.live)
    dead = {source: _standing(run, source, root) for term in terms for source, _ in term.dead}
    wanted = {source: standing for source, standing in dead.items() if standing}
    held = _held(run, root)
    if held is not None:
        # the loss is for the optimizers that step with it; what others train may well be cut off
        wanted = {source: standing for source, standing in wanted.items() if source in held}
    if wanted:
        _judge_terms(run, root, terms, wanted, held, judgement)
    _round_trips(root, terms, judgement)
    _derivatives_and_hooks(run, root, wanted, judgement)


def _derivatives_and_hooks(run: Run, root: Root, wanted: dict[Obj, str], judgement: Judgement) -> None:
    """What is cut off from something that lives by another way, and was plainly meant to give gradient too."""
    found: dict[Cut, tuple[Trail | None, set[Obj]]] = {}
    for term in root.value.summands():
        for (source, cuts), trail in term.dead.items():
            if source in wanted and len(cuts) == 1:
                (cut,) = cuts
                kept = cut.hook is not None and cut.hook.mixed and cut.hook.returned is None and hooks.unasked(cut)
                if kept or (cut.kind == "derivative" and cut.higher):
                    found.setdefault(cut, (trail, set()))[1].add(source)
    for cut, (trail, sources) in found.items():
        confidence = Confidence.HIGH if cut.kind == "derivative" and not run.truncated else Confidence.MEDIUM
        names = names_of(run, sources)
        fact = _severed(run, root, cut, trail, names, "term", confidence)
        if isinstance(fact, facts.Severed):
            assert cut.hook is not None
            span = span_of(cut.hook.asked or cut.site)
            fact = facts.HookCutsGraph(
                span, confidence, fact.path, api=cut.api, cut=fact.span, starved=names, scope="kept", loss=fact.loss
            )
        judgement.facts.append(fact)


def _judge_terms(
    run: Run, root: Root, terms: tuple[Value, ...], wanted: dict[Obj, str], held: set[Obj] | None, judgement: Judgement
) -> None:
    explicit = EXPLICIT in wanted.values()
    inert: list[Value] = []
    alive: list[Value] = []
    for term in terms:
        cut_off = any(s in wanted for s, _ in term.dead) and not _only_corrections(term)
        if _alive(run, term, root, explicit) and not (held is not None and cut_off and _only_others(run, root, term, held)):
            alive.append(term)
        elif cut_off:
            inert.append(term)
    live = {s for t in terms for s in t.live}
    if not alive:
        if inert:
            _report_severed(run, root, inert, wanted, "loss", judgement)
        return
    for term in inert:
        mine = {s: w for s, w in wanted.items() if any(d is s for d, _ in term.dead)}
        # where something never gets gradient, that is the fault; what lives through another term was cut in passing
        starving = {s: w for s, w in mine.items() if s not in live}
        _report_severed(run, root, [term], starving or mine, "term", judgement)
    for source, standing in wanted.items():
        if standing == EXPLICIT and source not in live and not any(s is source for t in inert for s, _ in t.dead):
            cuts = blamed(list(terms), source)
            if cuts:
                judgement.starved.append(Starved(run, root, source, cuts))


def _held(run: Run, root: Root) -> set[Obj] | None:
    """The sources that the optimizers stepping with a loss hold; None where nothing is known to step."""
    states = [o.attrs["%optimizer"] for o in root.targets]
    if not states or any(state.opaque for state in states) or run.watch.opaque_optimizers:
        return None
    sources = {s for t in root.value.summands() for s in (*t.live, *(d for d, _ in t.dead))}
    held = {s for s in sources if any(run.watch.holds(state, s) for state in states)}
    live = {s for t in root.value.summands() for s in t.live}
    if not live & held and any(
        run.watch.holds(o.attrs["%optimizer"], s) for o in run.watch.optimizers if o not in run.watch.steppers for s in live
    ):
        return None  # the wrong optimizer steps: that is another fault
    return held


def _only_others(run: Run, root: Root, term: Value, held: set[Obj]) -> bool:
    """Whether a term gives gradient only to what other optimizers train."""
    if any(s in held for s in term.live):
        return False
    return all(run.watch.covered(s) or root.frozen.get(s) is True for s in term.live)


def blamed(terms: list[Value], source: Obj) -> list[tuple[Cut, Trail | None]]:
    """The cuts to take away so that gradient reaches ``source``: those of the path that has fewest of them."""
    paths = [
        (_guilty(cuts), trail)
        for term in terms
        for (s, cuts), trail in term.dead.items()
        if s is source and not any(cut.correction for cut in cuts)
    ]
    if not paths:
        return []
    fewest = min(len([c for c in cuts if c.kind != "cpu"]) for cuts, _ in paths)
    found: dict[int, tuple[Cut, Trail | None]] = {}
    for cuts, trail in paths:
        if len([c for c in cuts if c.kind != "cpu"]) == fewest:
            for cut in cuts:
                found.setdefault(id(cut), (cut, trail))
    return list(found.values())


def _guilty(cuts: tuple[Cut, ...]) -> list[Cut]:
    """Of the cuts of one path: all stretches and detaches, and the first operation that has no derivative.

    A detach that only serves the conversion after it (``x.detach().numpy()``) is not the fault; the conversion is.
    """
    found: list[Cut] = []
    hard: Cut | None = None
    for i, cut in enumerate(cuts):
        if cut.is_region or (cut.kind == "cpu" and hard is None):
            found.append(cut)
        elif cut.kind == "cpu":
            continue
        elif cut.kind in ("detach", "data"):
            after = next((c for c in cuts[i + 1 :] if not c.is_region and c.kind != "cpu"), None)
            if not (after is not None and after.kind == "python" and _same_line(cut, after)) and hard is None:
                found.append(cut)
        elif hard is None:
            hard = cut
            found.append(cut)
    return found


def _same_line(first: Cut, second: Cut) -> bool:
    a, b = first.site, second.site
    return a.file is b.file and a.node.lineno == b.node.lineno  # type: ignore[attr-defined]


def _only_corrections(term: Value) -> bool:
    return bool(term.dead) and all(any(cut.correction for cut in cuts) for _, cuts in term.dead)


def _alive(run: Run, term: Value, root: Root, explicit: bool) -> bool:
    """Whether gradient of a term reaches anything, as far as one can see."""
    if term.opaque and not explicit:
        return True
    for source in term.live:
        if ("%revived" in source.attrs and "%fed" not in source.attrs) or root.frozen.get(source) is True:
            continue
        if source.kind == "opaque" and "%evidence" not in source.attrs and not _is_part(run, source):
            if explicit or source.attrs.get("%called_with", 0) >= 2:
                continue
        return True
    return False


def _is_part(run: Run, source: Obj) -> bool:
    """Whether something nobody can see into was read from a module, and so may well be a module itself."""
    return source.parent is not None and source.parent.kind == "instance" and is_module(run, source.parent)


def _standing(run: Run, source: Obj, root: Root) -> str:
    """Whether a source is meant to train: ``explicit`` evidence, ``assumed``, or empty for no."""
    watch = run.watch
    if "%revived" in source.attrs:
        return ""
    state = root.frozen.get(source, False)
    if state is True or state == "maybe":
        return ""
    if any(watch.holds(o.attrs["%optimizer"], source) for o in (*watch.optimizers, *root.targets)):
        return EXPLICIT
    if source.kind == "leaf" and "%parameter" not in source.attrs:
        return ""
    if any(not o.attrs["%optimizer"].opaque for o in watch.optimizers) and not watch.opaque_optimizers:
        return ""
    if _is_copy(source, watch.copies) or _noted(source, "%pretrained"):
        return ""
    if source.kind == "opaque" and not _noted(source, "%evidence"):
        return ""
    if root.modes.get(source) == "eval":
        return ""
    return ASSUMED


def _noted(source: Obj, key: str) -> bool:
    here: Obj | None = source
    for _ in range(30):
        if here is None:
            return False
        if here.attrs.get(key):
            return True
        here = here.parent if here.parent is not None else here.owner[0] if here.owner is not None else None
    return False


def _is_copy(source: Obj, copies: set[Obj]) -> bool:
    """Whether something is a copy, or a part of one: averaged and target networks are."""
    here: Obj | None = source
    for _ in range(30):
        if here is None:
            return False
        if "%copy" in here.attrs or here in copies:
            return True
        here = here.parent if here.parent is not None else here.owner[0] if here.owner is not None else None
    return False


# -- facts ---------------------------------------------------------------------------------------------------------------


def _report_severed(run: Run, root: Root, terms: list[Value], wanted: dict[Obj, str], scope: str, judgement: Judgement) -> None:
    sure = all(wanted[s] == EXPLICIT for t in terms for s, _ in t.dead if s in wanted) and not run.truncated
    confidence = Confidence.HIGH if sure else Confidence.MEDIUM
    loss = span_of(root.site)
    value = root.value
    revived = [s for t in terms for s in t.live if "%revived" in s.attrs and "%fed" not in s.attrs]
    starved = {s for t in terms for s, _ in t.dead if s in wanted}
    names = names_of(run, starved)
    if revived:
        for leaf in dict.fromkeys(revived):
            cut, trail = next((c[0], tr) for t in terms for (s, c), tr in t.dead.items() if s in wanted)
            judgement.facts.append(
                facts.Revived(
                    span_of(leaf.attrs["%revived"]),
                    confidence,
                    story(root, trail, cut, names),
                    starved=names,
                    cut=span_of(cut.site),
                    loss=loss,
                )
            )
        return
    region = value.region
    if scope == "loss" and region is not None:
        path = (
            Step(loss, "backward is called here"),
            Step(span_of(region.site), f"{region.api} switches gradient off while the loss is computed"),
        )
        judgement.facts.append(
            facts.BackwardDisabled(
                span_of(region.site), confidence, path, construct=region.construct, api=region.api, backward=loss
            )
        )
        return
    by_cut: dict[int, tuple[Cut, Trail | None, set[Obj]]] = {}
    for source in starved:
        for cut, trail in blamed(terms, source):
            by_cut.setdefault(id(cut), (cut, trail, set()))[2].add(source)
    if any(cut.kind == "derivative" for cut, _, _ in by_cut.values()):
        by_cut = {key: found for key, found in by_cut.items() if found[0].kind == "derivative"}
    for cut, trail, sources in by_cut.values():
        if cut.kind == "cpu":
            judgement.facts.append(_round_trip(root, cut))
        elif cut.is_region and run.watch.autograd.rebinds(cut, sources, root):
            continue
        else:
            judgement.facts.append(_severed(run, root, cut, trail, names_of(run, sources), scope, confidence))


def _severed(
    run: Run, root: Root, cut: Cut, trail: Trail | None, names: tuple[str, ...], scope: str, confidence: Confidence
) -> facts.Fact:
    path, where, loss = story(root, trail, cut, names), span_of(cut.site), span_of(root.site)
    if cut.kind == "derivative":
        return facts.DerivativeWithoutGraph(where, confidence, path, api=cut.api, starved=names, scope=scope, loss=loss)
    if cut.hook is not None and cut.hook.returned is not None:
        given = span_of(cut.hook.returned)
        return facts.HookCutsGraph(given, confidence, path, api=cut.api, cut=where, starved=names, scope=scope, loss=loss)
    return facts.Severed(
        where,
        confidence,
        path,
        cut=cut.kind,
        construct=cut.construct,
        api=cut.api,
        starved=names,
        scope=scope,
        loss=loss,
        differentiable=cut.differentiable,
    )


def starvation(judgements: list[Judgement]) -> list[facts.Fact]:
    """Modules that live in no loss of the whole program although an optimizer is to train them."""
    live = set().union(*(judgement.live for judgement in judgements))
    found: dict[tuple[int, int], tuple[Starved, Cut, Trail | None, set[Obj]]] = {}
    for judgement in judgements:
        if judgement.truncated:
            continue
        for item in judgement.starved:
            if item.source.key in live:
                continue
            for cut, trail in item.cuts:
                entry = found.setdefault((id(cut), id(item.run)), (item, cut, trail, set()))
                entry[3].add(item.source)
    result: list[facts.Fact] = []
    for item, cut, trail, sources in found.values():
        if cut.kind == "cpu":
            result.append(_round_trip(item.root, cut))
            continue
        confidence = Confidence.LOW if cut.guarded or all(_noted(s, "%pretrained") for s in sources) else Confidence.MEDIUM
        if cut.is_region and cut.construct == "decorator" and not cut.guarded:
            confidence = Confidence.HIGH if not any(_noted(s, "%pretrained") for s in sources) else Confidence.MEDIUM
        if all(item.root.modes.get(s) == "eval" for s in sources):
            confidence = Confidence.LOW
        result.append(_severed(item.run, item.root, cut, trail, names_of(item.run, sources), "module", confidence))
    return result


def _round_trips(root: Root, terms: tuple[Value, ...], judgement: Judgement) -> None:
    for mark in {id(m): m for t in terms for m in t.marks if t.live}.values():
        judgement.facts.append(_round_trip(root, mark))


def _round_trip(root: Root, mark: Cut) -> facts.Fact:
    loss, where = span_of(root.site), span_of(mark.site)
    path = (
        Step(loss, "the loss is computed from it"),
        Step(where, f"`{mark.api}` moves a tensor that carries gradient to the CPU"),
    )
    return facts.DeviceRoundTrip(where, Confidence.MEDIUM, path, api=mark.api, loss=loss)


def _judge_modes(run: Run, judgement: Judgement) -> None:
    watch = run.watch
    by_freeze: dict[int, tuple[Note, list[Obj]]] = {}
    reset = {leaf for leaf, _, _ in watch.confirmed_resets}
    for leaf, note in watch.confirmed_drift:
        if leaf in watch.unfrozen or leaf in reset or _is_copy(leaf, watch.copies):
            continue
        by_freeze.setdefault(id(note.site.node), (note, []))[1].append(leaf)
    for note, leaves in by_freeze.values():
        unique = source_sort(set(leaves))
        certain = all(leaf.kind == "library" for leaf in unique)
        where = span_of(note.site)
        names = tuple(dict.fromkeys(leaf.name() for leaf in unique))
        holder = common_holder(unique)
        path = (
            Step(where, f"`{holder}` is frozen here, its parameters only"),
            *(
                Step(span_of(leaf.site), f"`{leaf.name()}` keeps running statistics")
                for leaf in unique[:3]
                if leaf.site is not None
            ),
        )
        judgement.facts.append(
            facts.FrozenNormTraining(
                where, Confidence.HIGH if certain else Confidence.MEDIUM, path, module=holder, norms=names, certain=certain
            )
        )
    by_eval: dict[int, tuple[Note, Note, list[Obj]]] = {}
    for leaf, off, on in watch.confirmed_resets:
        if leaf in watch.unfrozen:
            continue
        by_eval.setdefault(id(off.site.node), (off, on, []))[2].append(leaf)
    for off, on, leaves in by_eval.values():
        unique = source_sort(set(leaves))
        where, back = span_of(off.site), span_of(on.site)
        top = off.top
        name = top.name() if top is not None else common_holder(unique)
        path = (
            Step(back, "train() puts every part back into train mode"),
            Step(where, f"`{name}` is put into eval mode here, once"),
        )
        certain = all(leaf.kind == "library" for leaf in unique)
        judgement.facts.append(
            facts.FrozenModeReset(where, Confidence.HIGH if certain else Confidence.MEDIUM, path, module=name, train=back)
        )


# -- words -----------------------------------------------------------------------------------------------------------------


def story(root: Root, trail: Trail | None, cut: Cut, names: Iterable[str]) -> tuple[Step, ...]:
    """The path of the gradient that is missing: from the loss, back step by step, to the cut and what lies behind it."""
    steps = [Step(span_of(root.site), "the loss is returned to the framework" if root.returned else "backward starts here")]
    here = trail
    last = steps[0].span
    while here is not None:
        where = span_of(here.site)
        if (where.file, where.line) != (last.file, last.line):
            steps.append(Step(where, here.text))
            last = where
        here = here.before
    if len(steps) > MAX_STEPS:
        steps = [*steps[: MAX_STEPS // 2], *steps[-MAX_STEPS // 2 :]]
    behind = ", ".join(f"`{name}`" for name in list(names)[:4])
    steps.append(Step(span_of(cut.site), f"{cut.api} cuts the gradient here; behind it: {behind}"))
    return tuple(steps)


def span_of(site: Site) -> Span:
    """The span that facts give a node: a ``with`` statement only up to its last item."""
    node = site.node
    if isinstance(node, ast.With | ast.AsyncWith):
        whole = site.file.span(node)
        last = node.items[-1]
        end = site.file.span(last.optional_vars or last.context_expr)
        return Span(whole.file, whole.line, whole.column, end.end_line, end.end_column)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        whole = site.file.span(node)
        column = whole.column
        return Span(whole.file, whole.line, column, whole.line, column + len("def ") + len(node.name))
    return site.file.span(node)


def common_holder(parts: list[Obj]) -> str:
    """The name of the smallest thing that holds all parts."""
    chains = []
    for part in parts:
        chain = [part]
        while (chain[-1].owner is not None or chain[-1].parent is not None) and len(chain) < 30:
            chain.append(chain[-1].owner[0] if chain[-1].owner is not None else chain[-1].parent)  # type: ignore[arg-type]
        chains.append(chain)
    if not chains:
        return "the module"
    for candidate in chains[0]:
        if all(candidate in chain for chain in chains):
            return candidate.name() or _class_name(candidate)
    return parts[0].name() or _class_name(parts[0])


def _class_name(obj: Obj) -> str:
    if obj.cls is not None:
        return obj.cls.name
    if obj.row is not None:
        return obj.row.name.rpartition(".")[2]
    return "the module"


def names_of(run: Run, sources: Iterable[Obj]) -> tuple[str, ...]:
    """Names for starved sources: a module where all it has starves, else the parts."""
    left = set(sources)
    named: list[str] = []
    for source in source_sort(left):
        best = source
        here = source
        for _ in range(20):
            if here.owner is None:
                break
            holder = here.owner[0]
            if not may_be_module(run, holder):
                break
            own = {p for _, p in walk(run, holder) if has_own_parameters(p) and frozen(p) is not True}
            if own and own <= left:
                if holder.owner is not None or holder.label:
                    best = holder
                here = holder
            else:
                break
        name = best.name() or _class_name(best)
        if name not in named:
            named.append(name)
    return tuple(named)
