"""GRD000. Page: rules/GRD000-internal-error.md"""

from __future__ import annotations

from gradlint.core import Group, RuleSpec, Severity
from gradlint.flow.facts import Fact
from gradlint.syntax.rule import Rule


class InternalError(Rule[Fact]):
    """GRD000: reported in place of a rule that breaks."""

    spec = RuleSpec("GRD000", "internal-error", group=Group.OWN, severity=Severity.WARNING)
