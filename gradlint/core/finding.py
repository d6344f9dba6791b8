"""What gradlint says: findings, the steps that explain them, and the edits that fix them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gradlint.core.span import Span


class Severity(enum.StrEnum):
    """How bad the flagged fault is when it is real."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Confidence(enum.StrEnum):
    """How sure gradlint is that the fault is real; see the catalogue's definition of the three levels."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for low, 1 for medium, 2 for high."""
        return ("low", "medium", "high").index(self.value)


class Safety(enum.StrEnum):
    """What applying a fix may change. ``SAFE`` restores what the text plainly says; ``UNSAFE`` changes training."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a gradient's path, told from the loss back to the module: a place and what happens there."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the text of ``span`` by ``text`` (an insertion where the span is empty)."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Fix:
    """Edits that belong together, applied all or not at all."""

    message: str
    edits: tuple[Edit, ...]
    safety: Safety


@dataclass(frozen=True, slots=True)
class Claim:
    """What a finding asserts about the running program, for the verifier to confirm or refute.

    ``probe`` is one of flow, step, state, membership, order, autograd.  ``kind`` names the assertion, such as ``starved``
    (``subjects`` get no gradient), ``severed`` (the loss has no gradient at all),
    ``not-in-optimizer``, ``moves-though-frozen``, ``drifts``.  ``subjects`` are dotted names as the user's code spells them.
    ``site`` is the guilty line.
    """

    probe: str
    kind: str
    subjects: tuple[str, ...]
    site: Span


@dataclass(frozen=True, slots=True)
class Finding:
    """One reported fault.

    ``message`` says what happens, ``help`` what to do; ``path`` tells why, step by step, from the loss to the cut.
    """

    code: str
    name: str
    message: str
    severity: Severity
    confidence: Confidence
    span: Span
    path: tuple[Step, ...] = ()
    help: str = ""
    claim: Claim | None = None
    fix: Fix | None = None

    @property
    def url(self) -> str:
        """The address of the rule's page."""
        return f"https://gradlint.dev/rules/{self.code}-{self.name}"
