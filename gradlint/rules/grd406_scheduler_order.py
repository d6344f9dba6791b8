"""GRD406. Page: rules/GRD406-scheduler-order.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import SchedulerBeforeOptimizer
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class SchedulerOrder(Rule[SchedulerBeforeOptimizer]):
    """GRD406: the learning rate moves on before its first value was used."""

    spec = RuleSpec(
        "GRD406",
        "scheduler-order",
        group=Group.STEP,
        severity=Severity.WARNING,
        fix=Safety.UNSAFE,
        probe="order",
    )
    facts = (SchedulerBeforeOptimizer,)

    @classmethod
    def context(cls, fact: SchedulerBeforeOptimizer) -> tuple[Span, ...]:
        return (fact.step,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(SchedulerBeforeOptimizer, node):
            moved = edits.move_beside(self.candidate, node, fact.step, after=True)
            self.tell(fact, self.fix("Step the scheduler after the optimizer", moved))

    def tell(self, fact: SchedulerBeforeOptimizer, fix: Fix | None = None) -> None:
        of = f" of {code(fact.optimizer)}" if fact.optimizer else ""
        self.report(
            fact.span,
            f"The scheduler steps before the step{of} at {self.place(fact.step)}: the first value of the learning rate is "
            "never used, and all later ones come one step early.",
            fact=fact,
            help="Step the scheduler after the optimizer: at the end of the iteration, or of the epoch.",
            claim=Claim("order", "scheduler-before-optimizer", (fact.optimizer,), fact.span),
            fix=fix,
        )
