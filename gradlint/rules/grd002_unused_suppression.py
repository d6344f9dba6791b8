"""GRD002. Page: rules/GRD002-unused-suppression.md"""

from __future__ import annotations

from gradlint.core import Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import Fact
from gradlint.syntax.rule import Rule


class UnusedSuppression(Rule[Fact]):
    """GRD002: found when all other findings are known."""

    spec = RuleSpec("GRD002", "unused-suppression", group=Group.OWN, severity=Severity.WARNING, fix=Safety.SAFE)
