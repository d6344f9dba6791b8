"""What the order of events says of a training program: gradients that are not cleared, not used, not scaled, clipped too late.

Each question is an automaton over the trace, asked of one optimizer, scheduler or module at a time.  All prefer silence:
where two paths meet and only one is faulty, where gradients are handled by hand or handed to code nobody can see into, there is
nothing to say, except that a fault which is faulty wherever it is reached may stand under a condition.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from gradlint.core import Confidence, Step
from gradlint.flow import facts, modules
from gradlint.flow.automata import Automaton, follow
from gradlint.flow.heap import Obj
from gradlint.flow.lattice import Site
from gradlint.flow.trace import (
    BACKWARD,
    BUILT,
    CLIP,
    FORWARD,
    GRADIENTS,
    HANDED,
    MODE,
    SCHEDULE,
    STEP,
    TOUCH,
    UNSCALE,
    UPDATE,
    ZERO,
    Block,
    Call,
    Choice,
    Event,
    Finally,
    Loop,
)

if TYPE_CHECKING:
    from gradlint.flow.facts import Fact
    from gradlint.flow.run import Run

# Names of functions that may clear gradients, or take a training step, when a model or an optimizer is handed to them.
CLEARS = re.compile(r"zero|clear|reset|clean|wipe", re.I)
WORKS = re.compile(
    r"zero|clear|reset|clean|grad|step|optim|train|update|backward|fit|\brun\b|hook|callback|on_|after|before", re.I
)
OPTIMIZER_NAME = re.compile(r"opt|adam|sgd|solver", re.I)


def judge(run: Run) -> list[Fact]:
    """All that the order of one run's events says."""
    trace = run.watch.trace
    events = list(_events(trace.root))
    kinds = {event.kind for event in events}
    found: list[Fact] = []
    if MODE in kinds and BACKWARD in kinds:
        for top in dict.fromkeys(e.subject for e in events if e.kind == MODE and e.note == "eval"):
            if top is not None:
                parts = frozenset(part for e in events if e.kind == MODE and e.subject is top for part in e.owners)
                if any(_acts_in_training(part) for part in parts):
                    found += _ask(run, ModeLost(top, parts))
    if FORWARD in kinds and not run.watch.symbolic and not run.truncated:
        found += _ask(run, Unevaluated())
    if BACKWARD in kinds and any(event.note == "retain" for event in events):
        found += _ask(run, Retained(events))
    if not kinds & {STEP, CLIP, SCHEDULE}:
        return found
    parties = _parties(run, events)
    for party in parties:
        found += _ask(run, Discarded(party))
        if not party.optimizer.attrs.get("%one_of"):
            found += _ask(run, Leftover(party))
            found += _ask(run, Early(party))
        found += _ask(run, Accumulated(party))
        if CLIP in kinds:
            found += _ask(run, Misclipped(party))
        if any(event.by is not None for event in events):
            found += _ask(run, Scaled(party))
            if not party.optimizer.attrs.get("%one_of"):
                found += _ask(run, NotUpdated(party))
    if parties:
        found += _wrong_optimizer(run, parties, events)
    if SCHEDULE in kinds:
        for scheduler in dict.fromkeys(e.subject for e in events if e.kind == SCHEDULE):
            if scheduler is not None and isinstance(scheduler.attrs.get("%scheduler"), Obj):
                found += _ask(run, Scheduled(scheduler, scheduler.attrs["%scheduler"]))
    return found


def of_parties(run: Run, question: Callable[[Party], Question]) -> list[Fact]:
    """What a question finds, asked of each optimizer that steps."""
    return [fact for party in _parties(run, list(_events(run.watch.trace.root))) for fact in _ask(run, question(party))]


def _ask(run: Run, question: Question) -> list[Fact]:
    question.run = run
    follow(run.watch.trace, question, apart=run.watch.symbolic)
    return list(question.found.values())


def _events(block: Block) -> Iterator[Event]:
    for item in block:
        if isinstance(item, Event):
            yield item
        else:
            for inner in getattr(item, "turns", None) or getattr(item, "arms", None) or [getattr(item, "body", [])]:
                yield from _events(inner)


# -- who is asked about --------------------------------------------------------------------------------------------------------


class Party:
    """An optimizer and what is known of the parameters it holds.

    ``open``: nobody knows which they are.  ``others``: all that the other, known optimizers hold.
    """

    def __init__(self, optimizer: Obj, held: frozenset[Obj], closed: bool) -> None:
        self.optimizer = optimizer
        self.held = held
        self.closed = closed
        self.others: frozenset[Obj] = frozenset()

    @property
    def name(self) -> str:
        return self.optimizer.name() or "the optimizer"

    @property
    def open(self) -> bool:
        return not self.held

    def holds(self, owners: Iterable[Obj]) -> bool:
        """Whether some of ``owners`` are surely its own."""
        return any(related(owner, mine) for owner in owners for mine in self.held)

    def may_hold(self, event: Event) -> bool:
        """Whether the gradients of an event may be its own."""
        if self.holds(event.owners) or not event.owners:
            return True
        if self.closed:
            return not event.closed
        return not event.closed or not all(any(related(o, other) for other in self.others) for o in event.owners)


def related(first: Obj, second: Obj) -> bool:
    """Whether two are one, or one was read from the other that nobody can see into."""
    if first is second:
        return True
    return _inside(first, second) or _inside(second, first)


def _inside(part: Obj, whole: Obj) -> bool:
    here = part.parent if part.kind == "opaque" else None
    while here is not None:
        if here is whole:
            return True
        here = here.parent
    return False


def _kept_in(part: Obj, whole: Obj) -> bool:
    """Whether an object is reached through another: one of its attributes, or of their attributes."""
    here: Obj | None = part
    for _ in range(20):
        if here is None:
            return False
        if here is whole:
            return True
        here = here.owner[0] if here.owner is not None else here.parent
    return False


def _parties(run: Run, events: list[Event]) -> list[Party]:
    """The optimizers that step."""
    found: dict[int, Party] = {}
    for event in events:
        optimizer = event.subject
        if event.kind != STEP or optimizer is None:
            continue
        known = modules.is_optimizer(run, optimizer)
        if not known and not OPTIMIZER_NAME.search(optimizer.name()):
            continue
        if (
            known
            and optimizer.attrs.get("%candidate")
            and not OPTIMIZER_NAME.search(f"{optimizer.name()} {optimizer.attrs.get('%type', '')}")
        ):
            continue
        party = found.setdefault(id(optimizer), Party(optimizer, event.owners, event.closed))
        party.held |= event.owners
    parties = list(found.values())
    for party in parties:
        party.others = frozenset(o for other in parties if other is not party for o in other.held)
    return parties


# -- what is asked -------------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """A state by name, with the events that led to it and the loops that have gone round since the last of them.

    ``first`` and ``second``: the events to tell of.  ``inside``: the loops around the latest of them.
    """

    name: str
    first: Event | None = None
    second: Event | None = None
    inside: tuple[Loop, ...] = ()
    round: frozenset[Loop] = frozenset()
    flag: bool = False
    prior: Event | None = None


NOTHING = State("nothing")


class Question(Automaton[State]):
    """An automaton that collects facts, one a place.

    ``ranks``: where paths meet, the state that stands earlier here remains; states that are not named meet as ``nothing``.
    """

    ranks: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.found: dict[object, Fact] = {}
        self.run: Run = None  # type: ignore[assignment]

    def start(self) -> State:
        return NOTHING

    def meet(self, first: State, second: State) -> State:
        if first == second:
            return first
        if first.name == second.name:
            return first._replace(round=first.round | second.round, flag=first.flag or second.flag)
        ranks = self.ranks
        if first.name in ranks and second.name in ranks:
            return min(first, second, key=lambda state: ranks.index(state.name))
        return NOTHING

    def turn(self, state: State, loop: Loop) -> State:
        return state._replace(round=state.round | {loop}) if loop in state.inside else state

    def goes_round(self, state: State) -> bool:
        """Whether a loop around this place has begun its next turn since the state arose."""
        return any(loop in state.round for loop in self.loops)

    def report(self, kind: type, at: Event, sure: bool, path: tuple[Step, ...], **more: object) -> None:
        """Report a fact at an event."""
        from gradlint.flow.verdicts import span_of

        confidence = Confidence.HIGH if sure else Confidence.MEDIUM
        self.found.setdefault((kind, id(at.site.node)), kind(span_of(at.site), confidence, path, **more))


def _at(event: Event, text: str) -> Step:
    from gradlint.flow.verdicts import span_of

    return Step(span_of(event.site), text)


def _name(obj: Obj | None) -> str:
    return obj.name() if obj is not None else ""


def _span(event: Event) -> object:
    from gradlint.flow.verdicts import span_of

    return span_of(event.site)


class Gradients(Question):
    """A question about the gradients of one optimizer."""

    def __init__(self, party: Party) -> None:
        super().__init__()
        self.party = party

    def on(self, state: State, event: Event) -> State:
        kind, party = event.kind, self.party
        if kind == BACKWARD:
            if party.holds(event.owners) or (party.open and party.may_hold(event)):
                return self.computed(state, event)
            return self.maybe_computed(state, event) if party.may_hold(event) else state
        if kind == STEP:
            return self.stepped(state, event) if event.subject is party.optimizer else state
        if kind == ZERO:
            return self.cleared(state, event) if self._clears(event) else state
        if kind == BUILT:
            rebuilt = event.subject is not None and event.subject.key == party.optimizer.key
            return self.start() if rebuilt else state
        if kind == TOUCH:
            return self.touched(state, event) if party.open or party.holds(event.owners) or not event.closed else state
        if kind == HANDED:
            return self.lost(state, event) if self._hands(event) else state
        return self.other(state, event)

    def _clears(self, event: Event) -> bool:
        if event.subject is self.party.optimizer:
            return True
        return self.party.holds(event.owners) or not event.closed or self.party.open

    def _hands(self, event: Event) -> bool:
        """Whether code nobody can see into may have done something to the gradients."""
        optimizer, name = self.party.optimizer, event.note
        receiver = event.subject
        for item in event.owners:
            if item is receiver:
                continue
            if item is optimizer or _kept_in(optimizer, item):
                return True
            if WORKS.search(name) and (
                modules.is_module(self.run, item) or any(related(item, mine) for mine in self.party.held)
            ):
                return True
        if receiver is not None and _kept_in(optimizer, receiver):
            return bool(WORKS.search(name))
        return bool(CLEARS.search(name)) and ("grad" in name or receiver is None)

    def computed(self, state: State, event: Event) -> State:
        """Gradients of the optimizer's parameters are computed."""
        return state

    def maybe_computed(self, state: State, event: Event) -> State:
        """Gradients are computed, perhaps of the optimizer's parameters."""
        return state

    def stepped(self, state: State, event: Event) -> State:
        """The optimizer steps."""
        return state

    def cleared(self, state: State, event: Event) -> State:
        """Gradients of the optimizer's parameters, or some that may be, are cleared."""
        return state

    def touched(self, state: State, event: Event) -> State:
        """The program looks at gradients, or sets them."""
        return state

    def lost(self, state: State, event: Event) -> State:
        """Code nobody can see into had its hands on them."""
        return NOTHING

    def other(self, state: State, event: Event) -> State:
        """Anything else happens."""
        return state


class Leftover(Gradients):
    """Does a step use a gradient to which the one of an earlier step was added?"""

    ranks = ("cleared", "reused", "used", "computed", "nothing")

    def computed(self, state: State, event: Event) -> State:
        if state.name in ("nothing", "cleared"):
            return State("computed", event)
        if state.name == "used" and self.goes_round(state):
            return State("reused", state.first, event)
        return state

    def stepped(self, state: State, event: Event) -> State:
        if state.name == "computed":
            return State("used", event, inside=self.loops)
        if state.name == "reused":
            assert state.first is not None and state.second is not None
            path = (
                _at(state.second, "this adds to the gradient that is there"),
                _at(event, "a step that uses both, and leaves them where they are"),
            )
            sure = not self.party.open and self.party.closed
            self.report(facts.GradientNotCleared, event, sure, path, optimizer=self.party.name, backward=_span(state.second))
            return State("used", event, inside=self.loops)
        return state

    def cleared(self, state: State, event: Event) -> State:
        return State("cleared")

    def touched(self, state: State, event: Event) -> State:
        return State("cleared") if event.note == "write" else state

    def lost(self, state: State, event: Event) -> State:
        return State("cleared")


class Discarded(Gradients):
    """Is a gradient cleared before the step that should use it?"""

    def computed(self, state: State, event: Event) -> State:
        return State("computed", event, inside=self.loops)

    def maybe_computed(self, state: State, event: Event) -> State:
        return NOTHING

    def stepped(self, state: State, event: Event) -> State:
        if state.name == "cleared" and state.first is not None and state.second is not None:
            path = (
                _at(event, "the step finds no gradient"),
                _at(state.second, "it is cleared here"),
                _at(state.first, "it was computed here"),
            )
            sure = not self.party.open
            self.report(
                facts.ZeroGradBeforeStep,
                state.second,
                sure,
                path,
                optimizer=self.party.name,
                backward=_span(state.first),
                step=_span(event),
            )
        return NOTHING

    def cleared(self, state: State, event: Event) -> State:
        if state.name == "cleared":
            return state
        if state.name != "computed" or state.first is None or state.round:
            return NOTHING
        mine = {o for o in state.first.owners if self.party.holds((o,))}
        whole = event.subject is self.party.optimizer or (
            bool(mine) and all(any(related(o, c) for c in event.owners) for o in mine)
        )
        return State("cleared", state.first, event, state.inside) if whole else NOTHING

    def touched(self, state: State, event: Event) -> State:
        return NOTHING


class Early(Gradients):
    """Does the optimizer step before the gradient of the same turn is computed, and never after?"""

    def start(self) -> State:
        return State("fresh")

    def computed(self, state: State, event: Event) -> State:
        if state.name == "early" and state.inside == self.loops and not state.round and state.first is not None:
            return State("late", state.first, event, self.loops)
        return NOTHING

    def maybe_computed(self, state: State, event: Event) -> State:
        return NOTHING

    def stepped(self, state: State, event: Event) -> State:
        if state.name == "fresh" and self.loops:
            return State("early", event, inside=self.loops)
        if state.name == "late" and state.first is not None and state.second is not None:
            if event.site.node is state.first.site.node and self.goes_round(state):
                path = (
                    _at(state.second, "the gradient is computed here"),
                    _at(event, "the step comes first in each turn of the loop"),
                )
                self.report(
                    facts.StepBeforeBackward,
                    event,
                    not self.party.open,
                    path,
                    optimizer=self.party.name,
                    backward=_span(state.second),
                )
            return NOTHING
        return state if state.name == "fresh" else NOTHING

    def touched(self, state: State, event: Event) -> State:
        return NOTHING


class Misclipped(Gradients):
    """Are gradients clipped where there are none yet, or where they were used already?"""

    ranks = ("clipped", "pointless", "early", "late", "none", "used")

    def start(self) -> State:
        return State("none")

    def computed(self, state: State, event: Event) -> State:
        if state.name == "early":
            return State("pointless", state.first, event)
        return NOTHING if state.name not in ("pointless", "clipped") else state

    maybe_computed = computed

    def stepped(self, state: State, event: Event) -> State:
        if state.name == "pointless" and state.first is not None and state.second is not None:
            path = (
                _at(event, "the step uses the gradient as it was computed"),
                _at(state.second, "the gradient is computed here"),
                _at(state.first, "before that there was none to clip"),
            )
            self._tell(state.first, "before", state.second, path)
            return State("used", event, inside=self.loops)
        return State("done") if state.name in ("clipped", "done") else State("used", event, inside=self.loops)

    def cleared(self, state: State, event: Event) -> State:
        if state.name == "late" and state.first is not None and state.second is not None:
            path = (
                _at(event, "the clipped gradient is cleared"),
                _at(state.first, "it is clipped here"),
                _at(state.second, "the step has used it already"),
            )
            self._tell(state.first, "after", state.second, path)
            return State("none")
        return state if state.name == "early" else State("none")

    def other(self, state: State, event: Event) -> State:
        if event.kind != CLIP or not (self.party.holds(event.owners) or (self.party.open and event.owners)):
            return state
        if state.name == "none":
            return State("early", event)
        if state.name == "used":
            return State("late", event, state.first) if event.note == "bare" else State("done")
        return State("clipped")

    def touched(self, state: State, event: Event) -> State:
        return NOTHING if event.note == "write" else state

    def _tell(self, clip: Event, when: str, other: Event, path: tuple[Step, ...]) -> None:
        self.report(
            facts.ClipMisplaced, clip, not self.party.open, path, when=when, other=_span(other), optimizer=self.party.name
        )


class Scaled(Gradients):
    """Does a step, or a clip, meet gradients that still carry the scaler's factor, or a scaled step ones that never did?"""

    ranks = ("unscaled", "clipped", "scaled")

    def computed(self, state: State, event: Event) -> State:
        if event.open_scale:
            return NOTHING
        if event.by is not None:
            if event.by.attrs.get("%scaler") is False:
                return NOTHING
            return State("scaled", event, flag=event.by.attrs.get("%scaler") is True)
        return State("plain", event) if state.name in ("nothing", "plain") else NOTHING

    def maybe_computed(self, state: State, event: Event) -> State:
        return self.computed(state, event) if event.by is not None else NOTHING

    def stepped(self, state: State, event: Event) -> State:
        first, clip = state.first, state.second
        if event.by is None:
            if state.name in ("scaled", "clipped") and first is not None:
                path: tuple[Step, ...] = (
                    _at(event, "the step takes the gradients as they are"),
                    _at(first, "they were computed from the scaled loss"),
                )
                self.report(
                    facts.ScalerMisused,
                    event,
                    state.flag,
                    path,
                    form="step",
                    optimizer=self.party.name,
                    backward=_span(first),
                    scaler=_name(first.by),
                )
        elif state.name == "plain" and first is not None and event.by.attrs.get("%scaler") is not False:
            path = (
                _at(event, "the scaler divides the gradients by its factor"),
                _at(first, "they were computed from the loss itself"),
            )
            sure = event.by.attrs.get("%scaler") is True
            self.report(
                facts.ScalerMisused,
                first,
                sure,
                path,
                form="backward",
                optimizer=self.party.name,
                backward=_span(first),
                scaler=_name(event.by),
            )
        elif state.name == "clipped" and first is not None and clip is not None:
            path = (
                _at(event, "the scaler takes its factor out here"),
                _at(clip, "the gradients are clipped with the factor in them"),
                _at(first, "they were computed from the scaled loss"),
            )
            self.report(
                facts.ScaledClip, clip, state.flag, path, optimizer=self.party.name, step=_span(event), scaler=_name(event.by)
            )
        return NOTHING

    def cleared(self, state: State, event: Event) -> State:
        return NOTHING

    def touched(self, state: State, event: Event) -> State:
        return state if event.note != "write" else NOTHING

    def other(self, state: State, event: Event) -> State:
        if event.kind == UNSCALE:
            if state.name == "scaled" and (self.party.optimizer in event.owners or not event.closed):
                return State("unscaled", state.first, flag=state.flag)
        elif event.kind == CLIP and state.name == "scaled" and state.first is not None:
            mine = self.party.holds(event.owners) or (
                self.party.open and any(related(a, b) for a in event.owners for b in state.first.owners)
            )
            if mine:
                return State("clipped", state.first, event, flag=state.flag)
        return state


class NotUpdated(Gradients):
    """Does a scaler step twice with no update in between?"""

    ranks = ("nothing", "stepped")

    def stepped(self, state: State, event: Event) -> State:
        if event.by is None or event.by.attrs.get("%scaler") is False:
            return NOTHING
        if state.name == "stepped" and state.first is not None and self.goes_round(state) and state.first.by is event.by:
            path = (_at(event, "the scaler steps again, and was not updated since its last step"),)
            sure = event.by.attrs.get("%scaler") is True
            self.report(
                facts.ScalerMisused,
                event,
                sure,
                path,
                form="update",
                optimizer=self.party.name,
                backward=_span(event),
                scaler=_name(event.by),
            )
        return State("stepped", event, inside=self.loops)

    def other(self, state: State, event: Event) -> State:
        return NOTHING if event.kind == UPDATE else state

    def lost(self, state: State, event: Event) -> State:
        return NOTHING

    def on(self, state: State, event: Event) -> State:
        if event.kind == HANDED and state.first is not None and state.first.by in event.owners:
            return NOTHING
        return super().on(state, event)


class Scheduled(Question):
    """Does a scheduler step in each turn of a loop before its optimizer does?"""

    ranks = ("done", "nothing")

    def __init__(self, scheduler: Obj, optimizer: Obj) -> None:
        super().__init__()
        self.scheduler = scheduler
        self.optimizer = optimizer

    def on(self, state: State, event: Event) -> State:
        if state.name == "done":
            return state
        if event.kind == SCHEDULE and event.subject is self.scheduler:
            if not self.loops or event.note == "told":
                return State("done")
            return State("early", event, inside=self.loops) if state.name == "nothing" else state
        if event.kind == STEP and event.subject is self.optimizer:
            if state.name == "early" and state.first is not None and state.inside[-1] in self.loops and not state.round:
                path = (_at(event, "the optimizer steps here"), _at(state.first, "the scheduler has stepped before"))
                self.report(
                    facts.SchedulerBeforeOptimizer, state.first, True, path, optimizer=self.optimizer.name(), step=_span(event)
                )
            return State("done")
        if event.kind == HANDED and (self.optimizer in event.owners or any(_kept_in(self.optimizer, o) for o in event.owners)):
            return State("done")
        return state


class Wrong(Question):
    """After a loss is back-propagated, does only an optimizer step that holds nothing it reaches?

    ``idle``: the optimizers that never step.
    """

    def __init__(self, parties: list[Party], idle: list[Obj]) -> None:
        super().__init__()
        self.parties = {id(party.optimizer): party for party in parties}
        self.idle = idle

    def on(self, state: State, event: Event) -> State:
        if event.kind == BACKWARD:
            return State("computed", event, inside=self.loops) if event.closed and event.owners else NOTHING
        if event.kind == STEP and state.name == "computed" and state.first is not None:
            party = self.parties.get(id(event.subject))
            owners = state.first.owners
            if party is None or party.open or not party.closed or state.round or party.holds(owners):
                return NOTHING
            for meant in self.idle:
                held = {entry.owner for entry in meant.attrs["%optimizer"].params}
                if any(related(owner, mine) for owner in owners for mine in held):
                    self._tell(event, state.first, party, meant)
                    return NOTHING
            return state
        return NOTHING if event.kind == TOUCH and event.note == "write" else state

    def _tell(self, event: Event, backward: Event, party: Party, meant: Obj) -> None:
        right = meant.name() or "another optimizer"
        path = (
            _at(backward, f"the loss reaches what `{right}` holds"),
            _at(event, f"`{party.name}` steps, which holds nothing of it"),
        )
        at, argument = _argument(event)
        self.report(
            facts.WrongOptimizerStep,
            at,
            True,
            path,
            stepped=party.name,
            meant=right,
            backward=_span(backward),
            argument=argument,
        )


def _argument(event: Event) -> tuple[Event, str]:
    """Where the optimizer was given to a function twice: that argument, and the name it has inside; else the step itself."""
    call, step = event.call, event.site.node
    if call is None or call.file is None or not isinstance(call.node, ast.Call) or not isinstance(step, ast.Call):
        return event, ""
    receiver = step.func.value if isinstance(step.func, ast.Attribute) else None
    if not isinstance(receiver, ast.Name) or not isinstance(call.function, ast.FunctionDef):
        return event, ""
    names = [parameter.arg for parameter in (*call.function.args.posonlyargs, *call.function.args.args)]
    if isinstance(call.node.func, ast.Attribute) and names[:1] == ["self"]:
        names = names[1:]
    given = dict(zip(names, call.node.args, strict=False))
    given.update({keyword.arg: keyword.value for keyword in call.node.keywords if keyword.arg})
    mine = given.get(receiver.id)
    if mine is None or sum(ast.dump(mine) == ast.dump(other) for other in given.values()) < 2:
        return event, ""
    site = Site(call.file, mine)
    at = Event(event.kind, site, event.subject, event.owners, event.closed, event.by, event.open_scale, event.note, call.outer)
    return at, receiver.id


def _wrong_optimizer(run: Run, parties: list[Party], events: list[Event]) -> list[Fact]:
    """Optimizers that step for a loss that is another's, who never steps."""
    if run.truncated:
        return []
    steps = {id(event.subject) for event in events if event.kind == STEP}
    away = [item for event in events if event.kind == HANDED and WORKS.search(event.note) for item in event.owners]
    idle = [
        optimizer
        for optimizer in run.watch.optimizers
        if id(optimizer) not in steps
        and not optimizer.attrs["%optimizer"].opaque
        and not any(_kept_in(optimizer, item) for item in away)
        and not (run.watch.symbolic and optimizer.owner is not None)
    ]
    return _ask(run, Wrong(parties, idle)) if idle else []


# -- modes -------------------------------------------------------------------------------------------------------------------

MODES = re.compile(r"train|eval|mode|test|val|infer|predict|fit|set", re.I)
EVALUATION = re.compile(
    r"eval|test|valid|\bval|_val|predict|infer|sampl|generat|score|accura|metric|encode_all|embed_all|extract", re.I
)
ON_PURPOSE = re.compile(
    r"(?:\b|_)mc(?:\b|_)|mc_?drop|monte|bayes|uncert|stochastic|dropout|calib|update_bn|recalib|warm|bn_stat|precise|init|sanity|summary|dummy|pseudo",
    re.I,
)


def _acts_in_training(part: Obj) -> bool:
    """Whether a layer does in training what it does not in evaluation; what nobody can see into may."""
    if part.kind == "opaque":
        return part.attrs.get("%norm") != "none"
    if part.kind != "library" or part.row is None or part.attrs.get("%inert"):
        return False
    return part.row.get("norm") in ("batch", "sync", "maybe") or part.row.get("dropout") is True


class ModeLost(Question):
    """Is a module put into eval mode in a training loop, evaluated, and trained on in that mode in the next turn?

    The state ``off`` holds the eval call, the evaluation that follows, and the ``train()`` before it (``prior``); its flag, as
    that of any state, says that the module was trained before.
    """

    ranks = ("kept", "on", "off", "nothing")

    def __init__(self, top: Obj, parts: frozenset[Obj]) -> None:
        super().__init__()
        self.top = top
        self.parts = parts

    def on(self, state: State, event: Event) -> State:
        if event.kind == MODE:
            return self._mode(state, event)
        if event.kind == BACKWARD and any(related(o, part) for o in event.owners for part in self.parts):
            return self._backward(state, event)
        if event.kind == FORWARD and state.name == "off" and state.second is None and event.subject is not None:
            if any(related(event.subject, part) for part in self.parts) or any(
                _kept_in(part, event.subject) for part in self.parts
            ):
                return state._replace(second=event)
        if event.kind == HANDED and state.name == "off" and self._handed(event):
            return State("on", event, flag=state.flag)
        return state

    def _mode(self, state: State, event: Event) -> State:
        if event.note == "eval":
            if event.subject is not self.top or state.name in ("off", "kept"):
                return state
            return State("off", event, inside=self.loops, flag=state.flag, prior=state.first if state.name == "on" else None)
        if any(related(part, mine) for part in event.owners for mine in self.parts):
            return State("on", event, flag=state.flag)
        return state

    def _backward(self, state: State, event: Event) -> State:
        if state.name != "off":
            return state._replace(flag=True)
        if self.goes_round(state) and state.flag and state.second is not None and state.first is not None:
            from gradlint.flow.modules import is_module

            name = self.top.name() or "the module"
            path = (
                _at(event, "training goes on here, in eval mode"),
                _at(state.second, f"`{name}` is evaluated"),
                _at(state.first, f"`{name}` is put into eval mode, and nothing puts it back"),
            )
            sure = is_module(self.run, self.top) and self.top.kind != "opaque" and state.first.closed
            self.report(facts.ModeNotRestored, state.first, sure, path, module=name, backward=_span(event))
        return State("kept", flag=True)

    def _handed(self, event: Event) -> bool:
        given = [item for item in event.owners if item is not event.subject]
        if any(item is self.top or _kept_in(self.top, item) for item in given):
            return True
        return event.subject is not None and _kept_in(self.top, event.subject) and bool(MODES.search(event.note))

    def meet(self, first: State, second: State) -> State:
        for off, other in ((first, second), (second, first)):
            if off.name == "off" and other.name == "on" and other.first is off.prior:
                return off._replace(flag=off.flag or other.flag)  # the other way merely does not evaluate
        merged = super().meet(first, second)
        return merged._replace(flag=first.flag or second.flag)


class Unevaluated(Question):
    """Is a module that was trained, or loaded, evaluated without gradient and in train mode?"""

    def __init__(self) -> None:
        super().__init__()
        self.trained: set[Obj] = set()
        self.used: set[int] | None = None

    def on(self, state: State, event: Event) -> State:
        if event.kind == BACKWARD:
            self.trained |= event.owners
        elif event.kind == FORWARD and event.note == "off" and event.owners and event.subject is not None:
            self._forward(event, event.subject)
        return state

    def _forward(self, event: Event, top: Obj) -> None:
        from gradlint.flow.verdicts import span_of

        run = self.run
        layers = [layer for layer in event.owners if layer.kind == "library" and layer.attrs.get("%mode") != "eval"]
        layers = [layer for layer in layers if "%random" not in layer.attrs]
        region = run.watch.switched.get(id(event.site.node))
        if not layers or region is None or region.guarded or modules.frozen(layers[0]) is True:
            return
        own = {entry.owner for entry in modules.parameters(run, top)}
        learned = any(owner in self.trained for owner in own) or any(
            _kept_in(top, obj) or obj is top for obj in run.watch.loaded_into
        )
        if (
            not own
            or not learned
            or any(_kept_in(top, copy) or top is copy for copy in run.watch.copies)
            or "%copy" in top.attrs
        ):
            return
        if self.loops and _trains_here(self.loops[-1].turns):
            return
        if self.used is None:
            self.used = {
                id(cut) for root in run.watch.roots for term in root.value.summands() for _, cuts in term.dead for cut in cuts
            }
        if id(region) in self.used:
            return
        words = _words(event)
        if not EVALUATION.search(words) or ON_PURPOSE.search(words):
            return
        names = tuple(dict.fromkeys(layer.name() for layer in sorted(layers, key=lambda layer: layer.serial) if layer.name()))
        name = top.name() or "the module"
        path = (
            _at(event, f"`{name}` runs as in training"),
            Step(span_of(region.site), "gradient is switched off here, and nothing else"),
        )
        self.report(facts.EvalMissing, event, True, path, module=name, layers=names, region=span_of(region.site))


def _trains_here(turns: list[Block]) -> bool:
    """Whether a loop back-propagates in its own turns, not only in loops within."""
    for block in turns:
        for item in block:
            if isinstance(item, Event) and item.kind == BACKWARD:
                return True
            inner = (
                item.arms
                if isinstance(item, Choice)
                else [item.body]
                if isinstance(item, Call)
                else [item.body, item.end]
                if isinstance(item, Finally)
                else []
            )
            if inner and _trains_here(inner):
                return True
    return False


def _words(event: Event) -> str:
    """The names of the functions around an event, and the call itself."""
    words = [ast.unparse(event.site.node)] if isinstance(event.site.node, ast.expr) else []
    call = event.call
    while call is not None:
        words.append(getattr(call.function, "name", ""))
        call = call.outer
    return " ".join(words)


# -- graphs that are kept ------------------------------------------------------------------------------------------------


class Retained(Question):
    """Is the graph of a loss kept in a loop in which nothing else goes through a graph?"""

    def __init__(self, events: list[Event]) -> None:
        super().__init__()
        self.users = {id(e.site.node) for e in events if e.kind in (BACKWARD, GRADIENTS)}
        self.outside: set[Obj] = set()

    def on(self, state: State, event: Event) -> State:
        if event.kind == FORWARD and event.note == "on" and event.subject is not None and not self.loops:
            self.outside.update(entry.owner for entry in modules.parameters(self.run, event.subject))
        if event.kind != BACKWARD or event.note != "retain" or not self.loops or len(self.users) != 1:
            return state
        if self.outside & event.owners or not event.owners or not event.closed:
            return state
        path = (_at(event, "nothing goes through this graph again"),)
        self.report(facts.GraphRetained, event, False, path, carried=False)
        return state


# -- sums of gradients ---------------------------------------------------------------------------------------------------


def _divides(text: str, divided: re.Pattern[str]) -> bool:
    return bool(divided.search(text)) or ("sum" in text and bool(re.search(r"reduction\s*=\s*['\"]sum", text)))


class Accumulated(Gradients):
    """Does the optimizer step once for several turns of a loop, with the sum of the gradients of means?"""

    def computed(self, state: State, event: Event) -> State:
        return State("computed", event, inside=self.loops) if self.loops and state.name != "computed" else state

    def stepped(self, state: State, event: Event) -> State:
        backward = state.first
        if backward is None or not self.loops or backward.call is not event.call or state.inside != self.loops:
            return NOTHING
        body = event.call.function if event.call is not None else event.site.file.tree
        every = _every(body, event.site.node) if body is not None else None
        if every is None or _every(body, backward.site.node) is not None:  # type: ignore[arg-type]
            return NOTHING
        name = (
            every.attr if isinstance(every, ast.Attribute) else every.id if isinstance(every, ast.Name) else ast.unparse(every)
        )
        divided = re.compile(
            rf"(?:/=?|\bdiv_?\()\s*(?:float\()?\s*[\w.\[\]'\"]*\b{re.escape(name)}\b|1(?:\.0*)?\s*/\s*[\w.]*\b{re.escape(name)}\b"
        )
        if self.run.program.anywhere(_divides, divided):
            return NOTHING
        if re.search(r"loss\w*\s*(?:/=|\*=)|loss\w*\s*[/*]|[/*]\s*loss|\.div_?\(|\.mul_?\(", ast.unparse(body)):  # type: ignore[arg-type]
            return NOTHING
        path = (_at(event, f"one step for {ast.unparse(every)} turns"), _at(backward, "each adds the gradient of a mean"))
        self.report(facts.AccumulationNotScaled, backward, False, path, every=ast.unparse(every), step=_span(event))
        return NOTHING


def _every(body: ast.AST, node: ast.AST) -> ast.expr | None:
    """The number of turns after which a condition around a node holds: ``k`` in ``if (i + 1) % k == 0:``."""
    for part in ast.walk(body):
        if isinstance(part, ast.If) and any(inner is node for statement in part.body for inner in ast.walk(statement)):
            for test in ast.walk(part.test):
                if (
                    isinstance(test, ast.BinOp)
                    and isinstance(test.op, ast.Mod)
                    and isinstance(test.right, ast.Name | ast.Attribute | ast.Constant)
                ):
                    return test.right
    return None
