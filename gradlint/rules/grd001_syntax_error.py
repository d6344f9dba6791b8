"""GRD001. Page: rules/GRD001-syntax-error.md"""

from __future__ import annotations

from gradlint.core import Group, RuleSpec, Severity
from gradlint.flow.facts import Fact
from gradlint.syntax.rule import Rule


class UnreadableFile(Rule[Fact]):
    """GRD001: found while files are read, before there is any syntax to visit."""

    spec = RuleSpec("GRD001", "syntax-error", group=Group.OWN, severity=Severity.ERROR)
