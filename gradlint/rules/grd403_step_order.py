"""GRD403. Page: rules/GRD403-step-order.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import StepBeforeBackward
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class StepOrder(Rule[StepBeforeBackward]):
    """GRD403: in each turn of the loop the optimizer steps first and the gradient is computed last."""

    spec = RuleSpec(
        "GRD403",
        "step-order",
        group=Group.STEP,
        severity=Severity.ERROR,
        probe="order",
    )
    facts = (StepBeforeBackward,)

    def tell(self, fact: StepBeforeBackward, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"{code(fact.optimizer)} steps before the backward at {self.place(fact.backward)} computes the gradient of this "
            "turn: the step has none to use, or one that is a turn old.",
            fact=fact,
            help="Clear the gradients, call backward, then step.",
            claim=Claim("order", "step-before-backward", (fact.optimizer,), fact.span),
            fix=fix,
        )
