"""GRD404. Page: rules/GRD404-wrong-optimizer-step.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import WrongOptimizerStep as Fact
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class WrongOptimizerStep(Rule[Fact]):
    """GRD404: a loss is back-propagated for one optimizer, and another steps."""

    spec = RuleSpec(
        "GRD404",
        "wrong-optimizer-step",
        group=Group.STEP,
        severity=Severity.ERROR,
        probe="step",
    )
    facts = (Fact,)

    def tell(self, fact: Fact, fix: Fix | None = None) -> None:
        never = f"{code(fact.meant)} never steps, and what it holds is not trained."
        if fact.argument:
            message = (
                f"{code(fact.stepped)} is passed as {code(fact.argument)} as well, and steps for the loss at "
                f"{self.place(fact.backward)}, which reaches nothing it holds; {never}"
            )
            help = f"Pass {code(fact.meant)} here."
        else:
            message = (
                f"{code(fact.stepped)} steps, but the loss at {self.place(fact.backward)} reaches only what "
                f"{code(fact.meant)} holds; {never}"
            )
            help = f"Step {code(fact.meant)} here."
        self.report(
            fact.span, message, fact=fact, help=help, claim=Claim("step", "never-stepped", (fact.meant,), fact.span), fix=fix
        )
