"""GRD402. Page: rules/GRD402-zero-grad-before-step.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import ZeroGradBeforeStep
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class ZeroGradComesBeforeStep(Rule[ZeroGradBeforeStep]):
    """GRD402: gradients are cleared between the backward and the step."""

    spec = RuleSpec(
        "GRD402",
        "zero-grad-before-step",
        group=Group.STEP,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="order",
    )
    facts = (ZeroGradBeforeStep,)

    @classmethod
    def context(cls, fact: ZeroGradBeforeStep) -> tuple[Span, ...]:
        return (fact.backward,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(ZeroGradBeforeStep, node):
            moved = edits.move_beside(self.candidate, node, fact.backward, after=False)
            self.tell(fact, self.fix("Clear the gradients before the backward", moved))

    def tell(self, fact: ZeroGradBeforeStep, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"This clears the gradients that the backward at {self.place(fact.backward)} has just computed, before the step of "
            f"{code(fact.optimizer)} at {self.place(fact.step)} can use them: nothing is learned.",
            fact=fact,
            help="Clear the gradients before the backward, or after the step.",
            claim=Claim("order", "cleared-before-step", (fact.optimizer,), fact.span),
            fix=fix,
        )
