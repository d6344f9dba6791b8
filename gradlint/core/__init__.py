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
from gradlint.core.verdict import Evidence, Outcome, Verdict

__all__ = [
    "Claim",
    "Confidence",
    "Edit",
    "Evidence",
    "Finding",
    "Fix",
    "Group",
    "Outcome",
    "RuleSpec",
    "Safety",
    "Severity",
    "Span",
    "Step",
    "Verdict",
]
