"""What running the code said of a claim."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gradlint.core.span import Span


class Outcome(enum.StrEnum):
    """The three answers of the verifier."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One observed thing, as a sentence; ``span`` where it was observed, if it has a place."""

    text: str
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer and what it rests on.

    ``reason``: one sentence that says why the answer is what it is.  ``evidence``: what was observed, the most telling first.
    ``driver``: what was run, with which arguments and shapes (``train.py, 8 optimizer steps``).  ``device``: ``cpu``, ``cuda``,
    or empty when nothing ran.  ``seconds``: how long the run took that the answer comes from.
    """

    outcome: Outcome
    reason: str
    evidence: tuple[Evidence, ...] = ()
    driver: str = ""
    device: str = ""
    seconds: float = 0.0

    @property
    def confirmed(self) -> bool:
        """Whether the claim was seen to hold."""
        return self.outcome is Outcome.CONFIRMED
