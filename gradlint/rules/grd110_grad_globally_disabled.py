"""GRD110. Page: rules/GRD110-grad-globally-disabled.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import GradDisabled
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class GradGloballyDisabled(Rule[GradDisabled]):
    """GRD110: gradient is switched off by a statement and stays off where training goes on."""

    spec = RuleSpec(
        "GRD110",
        "grad-globally-disabled",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        probe="flow",
    )
    facts = (GradDisabled,)

    def tell(self, fact: GradDisabled, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"{code(fact.api)} switches gradient off from here on, and it is still off where the loss at "
            f"{self.place(fact.backward)} is computed: that loss has no graph.",
            fact=fact,
            help="Use it as a region, `with torch.no_grad():`, which ends where the block ends.",
            claim=Claim("flow", "severed", (), fact.span),
            fix=fix,
        )
