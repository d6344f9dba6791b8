"""GRD213. Page: rules/GRD213-shared-parameter-frozen.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import SharedParameterFrozen
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class SharedParameterFrozenRule(Rule[SharedParameterFrozen]):
    """GRD213: freezing one of two layers with tied weights freezes the other."""

    spec = RuleSpec(
        "GRD213",
        "shared-parameter-frozen",
        group=Group.MEMBERSHIP,
        severity=Severity.WARNING,
        probe="membership",
    )
    facts = (SharedParameterFrozen,)

    def tell(self, fact: SharedParameterFrozen, fix: Fix | None = None) -> None:
        part, other = code(fact.part), code(fact.other)
        self.report(
            fact.span,
            f"Freezing {part} freezes {other} as well: they were given one weight at {self.place(fact.tie)}.",
            fact=fact,
            help=(
                f"Give {other} a weight of its own where it should train; where both are meant to stay as they are, "
                "freeze both by name."
            ),
            claim=Claim("membership", "frozen-with-another", (fact.other,), fact.span),
            fix=fix,
        )
