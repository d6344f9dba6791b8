"""GRD003. Page: rules/GRD003-invalid-suppression.md"""

from __future__ import annotations

from gradlint.core import Group, RuleSpec, Severity
from gradlint.flow.facts import Fact
from gradlint.syntax.rule import Rule


class InvalidSuppression(Rule[Fact]):
    """GRD003: found while the comments of a file are read."""

    spec = RuleSpec("GRD003", "invalid-suppression", group=Group.OWN, severity=Severity.WARNING)
