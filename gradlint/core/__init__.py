"""The words every layer shares. Imports nothing else of gradlint."""

from gradlint.core.finding import (
    Claim,
    Confidence,
    Edit,
    Finding,
    Fix,
    Safety,
    Severity,
    Step,
)
from gradlint.core.rule_spec import Group, RuleSpec
from gradlint.core.span import Span

__all__ = [
    "Claim",
    "Confidence",
    "Edit",
    "Finding",
    "Fix",
    "Group",
    "RuleSpec",
    "Safety",
    "Severity",
    "Span",
    "Step",
]
