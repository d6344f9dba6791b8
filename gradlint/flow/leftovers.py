"""Gradient that one network's step leaves in another, which steps with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gradlint.core import Step
from gradlint.flow.trace import Event
from gradlint.flow.typestate import NOTHING, Gradients, Party, State

if TYPE_CHECKING:
    from gradlint.flow.crossings import Made
    from gradlint.flow.facts import Fact
    from gradlint.flow.heap import Obj
    from gradlint.flow.watch import Root

Crossed = tuple["Made", str, "frozenset[Obj]", "Root"]


class LetThrough(Gradients):
    """Does an optimizer step with a gradient to which a loss that is for another network has added?

    The states: ``crossed`` (such a loss was back-propagated), ``left`` (the other network has stepped with it), ``mixed`` (a
    loss of the optimizer's own was added).
    """

    ranks = ("nothing", "crossed", "left", "mixed")

    def __init__(self, party: Party, crossed: Mapping[int, list[Crossed]], fact: Callable[..., Fact]) -> None:
        super().__init__(party)
        self.crossed = crossed
        self.fact = fact

    def _mine(self, event: Event) -> Crossed | None:
        return next((item for item in self.crossed.get(id(event.site.node), ()) if self.party.holds(item[2])), None)

    def computed(self, state: State, event: Event) -> State:
        if self._mine(event) is not None:
            return State("crossed", event)
        if state.name == "left" and state.first is not None:
            return State("mixed", state.first, event)
        return state

    def maybe_computed(self, state: State, event: Event) -> State:
        return NOTHING

    def stepped(self, state: State, event: Event) -> State:
        if state.name == "mixed" and state.first is not None and state.second is not None:
            from gradlint.flow.verdicts import span_of

            item = self._mine(state.first)
            if item is not None:
                call, argument, sources, root = item
                path = (
                    Step(span_of(event.site), "the step uses both gradients"),
                    Step(span_of(state.second.site), "this adds the gradient that is meant"),
                    Step(span_of(state.first.site), "this has left one that is meant for the other network"),
                )
                mine = frozenset(source for source in sources if self.party.holds((source,)))
                fact = self.fact(call, argument, mine, "gradient", path, root, span_of(event.site))
                self.found.setdefault(id(call.site.node), fact)
        return NOTHING

    def cleared(self, state: State, event: Event) -> State:
        return NOTHING

    def touched(self, state: State, event: Event) -> State:
        return NOTHING if event.note == "write" else state

    def other(self, state: State, event: Event) -> State:
        return state

    def on(self, state: State, event: Event) -> State:
        if event.kind == "step" and event.subject is not self.party.optimizer and state.name == "crossed":
            return State("left", state.first)
        return super().on(state, event)
