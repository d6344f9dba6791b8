"""One run as the probes see it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from gradlint.core import Span
from gradlint.core.verdict import Evidence, Outcome, Verdict
from gradlint.verify.instrument import Asked
from gradlint.verify.names import matches, summarise
from gradlint.verify.places import Place
from gradlint.verify.recorder import Recorder
from gradlint.verify.tracer import Cut, leaves_of

MOST_GROUPS = 4


@dataclass(slots=True)
class Ending:
    """How a run ended.

    ``kind``: ``end`` (by itself), ``enough`` (all was seen), ``time``, ``error`` (an exception), ``exit`` (it left).
    ``text``: a phrase that goes after "the run ended:"; empty when there is nothing to say.  ``place``: where it raised, the
    innermost of the user's frames, and ``stack`` all of them, from the outermost.
    """

    kind: str = "end"
    text: str = ""
    place: Place | None = None
    stack: tuple[Place, ...] = ()


@dataclass
class Run:
    """What was noted, and how to speak of it. ``degenerate``: why nothing may be concluded from it.

    ``alone``: a class was driven by itself, without the program that trains it.
    """

    recorder: Recorder
    ending: Ending
    description: str
    device: str
    seconds: float
    degenerate: str = ""
    shown: dict[str, str] = field(default_factory=dict)
    alone: bool = False

    # Verdicts --------------------------------------------------------------------------------------------------------

    def _verdict(self, outcome: Outcome, reason: str, evidence: Iterable[Evidence]) -> Verdict:
        return Verdict(outcome, f"{reason}.", tuple(evidence), self.description, self.device, round(self.seconds, 3))

    def confirmed(self, reason: str, *evidence: Evidence) -> Verdict:
        """The claim holds."""
        if self.degenerate:
            return self.inconclusive(f"The run says little, because {self.degenerate}", *evidence)
        return self._verdict(Outcome.CONFIRMED, reason, evidence)

    def refuted(self, reason: str, *evidence: Evidence) -> Verdict:
        """The claim does not hold."""
        if self.degenerate:
            return self.inconclusive(f"The run says little, because {self.degenerate}", *evidence)
        return self._verdict(Outcome.REFUTED, reason, evidence)

    def inconclusive(self, reason: str, *evidence: Evidence) -> Verdict:
        """The run does not say."""
        return self._verdict(Outcome.INCONCLUSIVE, reason, evidence)

    def unreached(self) -> Verdict:
        """The claim's line did not run."""
        return self.inconclusive(f"The line did not run{self.how_it_ended()}")

    def how_it_ended(self) -> str:
        """Why there was no more to see, as the end of a sentence."""
        match self.ending.kind:
            case "error" | "exit":
                where = f" at {self.place(self.ending.place.span())}" if self.ending.place else ""
                return f": the program ended before with {self.ending.text}{where}"
            case "time":
                return f" within the time limit ({self.ending.text})"
            case _:
                return ""

    @cached_property
    def waiting(self) -> set[int]:
        """The ids of what only optimizers hold whose turn was still to come when the run was ended, while others stepped."""
        if self.ending.kind not in ("enough", "time") or not self.recorder.steps:
            return set()
        stepped = {id(t) for each in self.recorder.optimizers if each.steps for t in self.parameters(each.optimizer)}
        idle = {id(t) for each in self.recorder.optimizers if not each.steps for t in self.parameters(each.optimizer)}
        return idle - stepped

    # Parameters ------------------------------------------------------------------------------------------------------

    @cached_property
    def names(self) -> dict[int, list[str]]:
        """The names of all tensors seen."""
        self.recorder.names.look()
        return self.recorder.names.finish(self.recorder.modules.values())

    @cached_property
    def every(self) -> list[Any]:
        """All parameters of all modules, and all other leaves."""
        found: dict[int, Any] = {}
        for module in self.recorder.modules.values():
            for parameter in module._parameters.values():
                if parameter is not None:
                    found[id(parameter)] = parameter
        for leaf in self.recorder.tracer.trace.leaves:
            tensor = leaf.tensor()
            if tensor is not None:
                found[id(tensor)] = tensor
        return list(found.values())

    def meant(self, subjects: Sequence[str]) -> list[Any]:
        """The parameters that a claim's subjects mean."""
        return [tensor for tensor in self.every if self.is_meant(tensor, subjects)]

    def is_meant(self, tensor: Any, subjects: Sequence[str]) -> bool:
        """Whether a tensor is among the subjects."""
        return any(matches(subject, name) for name in self.names.get(id(tensor), ()) for subject in subjects)

    def parameters(self, optimizer: Any) -> list[Any]:
        """What an optimizer holds."""
        return [tensor for group in optimizer.param_groups for tensor in group["params"]]

    def mask(self, tensors: Iterable[Any]) -> int:
        """The leaves among tensors as a set."""
        wanted = {id(tensor) for tensor in tensors}
        found = 0
        for leaf in self.recorder.tracer.trace.leaves:
            if id(leaf.tensor()) in wanted:
                found |= 1 << leaf.number
        return found

    def leaves(self, mask: int) -> list[Any]:
        """The tensors of a set of leaves."""
        return list(leaves_of(self.recorder.tracer.trace, mask))

    def tell(self, tensors: Sequence[Any], what: str, where: Place | None = None) -> Evidence:
        """``"`encoder.*`, 12 tensors, 1.2 M parameters: no gradient"``."""
        groups = summarise(tensors, self.names, self.every)
        told = [f"`{name}`, {_count(held)}, {_amount(size)}" for name, held, size in groups[:MOST_GROUPS]]
        if len(groups) > MOST_GROUPS:
            rest = groups[MOST_GROUPS:]
            told.append(f"and {_count(sum(g[1] for g in rest))} more")
        return Evidence(f"{'; '.join(told)}: {what}", where.span() if where else None)

    # Places ----------------------------------------------------------------------------------------------------------

    def place(self, span: Span) -> str:
        """A place in a sentence."""
        return f"{self.shown.get(span.file, span.file)}:{span.line}"

    def cuts(self, asked: Asked, kinds: Sequence[str] = ()) -> list[Cut]:
        """The cuts seen at a claim's site, those that fit best. ``kinds``: only these; by default all that end gradient."""
        from gradlint.verify.places import overlap

        ranked: list[tuple[int, Cut]] = []
        for cut in self.recorder.tracer.trace.cuts:
            if cut.place is None or (cut.kind not in kinds if kinds else cut.kind in ("move", "custom", "stay")):
                continue
            rank = overlap(cut.place, asked.claim.site)
            if rank:
                ranked.append((rank, cut))
        best = max((rank for rank, _ in ranked), default=0)
        return [cut for rank, cut in ranked if rank == best]

    def steps(self) -> str:
        """How much training was seen, in words."""
        steps, gradients = self.recorder.steps, self.recorder.gradients
        if steps:
            return f"{steps} optimizer step{'s' if steps > 1 else ''}"
        return f"{gradients} backward pass{'es' if gradients != 1 else ''}"


def _count(number: int) -> str:
    return f"{number} tensor{'s' if number != 1 else ''}"


def _amount(number: int) -> str:
    for limit, sign in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if number >= limit:
            unit = 1000 if sign == "k" else limit
            return f"{number / unit:.3g} {sign} parameters"
    return f"{number} parameter{'s' if number != 1 else ''}"


def device_of(tensors: Iterable[Any]) -> str:
    """``cuda`` when any tensor is there, else ``cpu``."""
    kinds = {tensor.device.type for tensor in tensors if isinstance(tensor, torch.Tensor)}
    kinds.discard("cpu")
    return sorted(kinds)[0] if kinds else "cpu"
