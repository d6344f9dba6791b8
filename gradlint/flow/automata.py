"""Following a trace with automata: the states in which each place is reached, along every arm of a branch and round every loop.

Knows nothing of what the states mean.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from gradlint.flow.trace import Block, Call, Choice, Event, Exit, Finally, Loop, Trace

S = TypeVar("S")


class Automaton(Generic[S]):
    """What reads a trace: a state, how an event changes it, and what is left of two where paths come together.

    ``loops``: the loops around the event that is being read, outermost first.
    """

    loops: tuple[Loop, ...] = ()

    def start(self) -> S:
        """The state before anything happens."""
        raise NotImplementedError

    def on(self, state: S, event: Event) -> S:
        """The state after an event."""
        raise NotImplementedError

    def meet(self, first: S, second: S) -> S:
        """The state where two paths come together."""
        raise NotImplementedError

    def turn(self, state: S, loop: Loop) -> S:
        """The state when a loop begins its next turn."""
        return state


def follow(trace: Trace, automaton: Automaton[S], *, apart: bool = False) -> None:
    """Run an automaton over a trace; with ``apart``, over each call at its top as if nothing else had happened."""
    for block in [[item] for item in trace.root] if apart else [trace.root]:
        _Walk(trace, automaton).block(block, automaton.start())


class _Walk(Generic[S]):
    """One automaton on its way.  None stands for a place that is not reached."""

    def __init__(self, trace: Trace, automaton: Automaton[S]) -> None:
        self.automaton = automaton
        self.unfinished = set(map(id, trace.unfinished))
        self.broken: list[S] = []
        self.continued: list[S] = []
        self.returned: list[S] = []

    def met(self, states: list[S]) -> S | None:
        if not states:
            return None
        result = states[0]
        for state in states[1:]:
            result = self.automaton.meet(result, state)
        return result

    def block(self, items: Block, state: S | None) -> S | None:
        for item in items:
            if state is None:
                return None
            if type(item) is Event:
                state = self.automaton.on(state, item)
            elif type(item) is Choice:
                ends = [self.block(arm, state) for arm in item.arms]
                state = self.met([end for end in ends if end is not None])
            elif type(item) is Loop:
                state = self.loop(item, state)
            elif type(item) is Call:
                state = self.call(item, state)
            elif type(item) is Finally:
                state = self.guarded(item, state)
            elif type(item) is Exit:
                {"break": self.broken, "continue": self.continued, "return": self.returned}[item.kind].append(state)
                return None
        return state

    def guarded(self, guarded: Finally, state: S) -> S | None:
        """What leaves the body goes through the end on its way."""
        kept = self.broken, self.continued, self.returned
        self.broken, self.continued, self.returned = [], [], []
        end = self.block(guarded.body, state)
        inside = self.broken, self.continued, self.returned
        self.broken, self.continued, self.returned = kept
        for left, outside in zip(inside, kept, strict=True):
            after = self.block(guarded.end, self.met(left))
            if after is not None:
                outside.append(after)
        return self.block(guarded.end, end)

    def call(self, call: Call, state: S) -> S | None:
        if call.around:
            return self.block(call.body, state)
        kept = self.broken, self.continued, self.returned
        self.broken, self.continued, self.returned = [], [], []
        end = self.block(call.body, state)
        ends = [*([end] if end is not None else []), *self.returned, *self.broken, *self.continued]
        self.broken, self.continued, self.returned = kept
        return self.met(ends)

    def loop(self, loop: Loop, state: S) -> S | None:
        """The turns of a loop: those that were executed, and once more where only one was and there may be others."""
        automaton = self.automaton
        kept = self.broken, self.continued
        self.broken, self.continued = [], []
        automaton.loops = (*automaton.loops, loop)
        turns = loop.turns
        if len(turns) == 1 and not loop.exact and id(loop) not in self.unfinished:
            turns = turns * 2
        here: S | None = state
        for number, turn in enumerate(turns):
            assert here is not None
            if number:
                here = automaton.turn(here, loop)
            end = self.block(turn, here)
            here = self.met([*([end] if end is not None else []), *self.continued])
            self.continued = []
            if here is None:
                break
        ends = [*([here] if here is not None else []), *self.broken]
        automaton.loops = automaton.loops[:-1]
        self.broken, self.continued = kept
        return self.met(ends)
