"""GRD405. Page: rules/GRD405-clip-order.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import ClipMisplaced
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule


class ClipOrder(Rule[ClipMisplaced]):
    """GRD405: gradients are clipped before there are any, or after they were used."""

    spec = RuleSpec(
        "GRD405",
        "clip-order",
        group=Group.STEP,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="order",
    )
    facts = (ClipMisplaced,)

    @classmethod
    def context(cls, fact: ClipMisplaced) -> tuple[Span, ...]:
        return (fact.other,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(ClipMisplaced, node):
            early = fact.when == "before"
            where = "after the backward" if early else "before the step"
            moved = edits.move_beside(self.candidate, node, fact.other, after=early)
            self.tell(fact, self.fix(f"Clip {where}", moved))

    def tell(self, fact: ClipMisplaced, fix: Fix | None = None) -> None:
        if fact.when == "before":
            message = (
                f"The gradients are clipped before the backward at {self.place(fact.other)} computes them: there is nothing to "
                "clip yet, and the step uses them as they come."
            )
        else:
            message = (
                f"The gradients are clipped after the step at {self.place(fact.other)} has used them, and cleared before the "
                "next: clipping changes nothing."
            )
        self.report(
            fact.span,
            message,
            fact=fact,
            help="Clip between the backward and the step.",
            claim=Claim("order", "clip-without-effect", (fact.optimizer,), fact.span),
            fix=fix,
        )
