"""GRD408. Page: rules/GRD408-accumulation-not-scaled.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import AccumulationNotScaled as Fact
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class AccumulationNotScaled(Rule[Fact]):
    """GRD408: the sum of several means is used as if it were one mean."""

    spec = RuleSpec(
        "GRD408",
        "accumulation-not-scaled",
        group=Group.STEP,
        severity=Severity.WARNING,
        probe="order",
        preview=True,
    )
    facts = (Fact,)

    def tell(self, fact: Fact, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"The step at {self.place(fact.step)} uses the sum of the gradients of {code(fact.every)} batches, each of them "
            "of a mean: it is that many times as long as for one large batch.",
            fact=fact,
            help=f"Divide the loss by {code(fact.every)} before the backward.",
            claim=Claim("order", "accumulation-not-scaled", (), fact.span),
            fix=fix,
        )
