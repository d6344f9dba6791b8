"""The metadata of a rule; its prose lives in the rule's page."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gradlint.core.finding import Safety, Severity


class Group(enum.StrEnum):
    """The chapters of the catalogue, by the first digit of a code."""

    OWN = "gradlint's own"
    GRAPH = "the severed graph"
    MEMBERSHIP = "who trains"
    STATE = "the state of what is frozen or evaluated"
    STEP = "the training step"
    LEAK = "leaks"
    AUTOGRAD = "autograd machinery"
    PLATFORM = "platforms"
    CONTRACT = "contracts"


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """Code (``GRD102``), kebab-case name, chapter, default severity, the safety of its fix, its probe, and preview status."""

    code: str
    name: str
    group: Group
    severity: Severity
    fix: Safety = Safety.NONE
    probe: str = ""
    preview: bool = False
