"""GRD501. Page: rules/GRD501-loss-accumulated-with-graph.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import GraphKept
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class LossAccumulatedWithGraph(Rule[GraphKept]):
    """GRD501: a value is kept beyond its iteration with the graph that made it."""

    spec = RuleSpec(
        "GRD501",
        "loss-accumulated-with-graph",
        group=Group.LEAK,
        severity=Severity.WARNING,
        fix=Safety.UNSAFE,
        probe="state",
    )
    facts = (GraphKept,)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        if fact := self.fact(GraphKept, node):
            self.tell(fact, self._detached(node.value))

    def visit_Assign(self, node: cst.Assign) -> None:
        if fact := self.fact(GraphKept, node):
            self.tell(fact)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(GraphKept, node):
            only = node.args[0].value if len(node.args) == 1 and not node.args[0].star else None
            self.tell(fact, self._detached(only))

    def tell(self, fact: GraphKept, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"What is kept here outlives its iteration together with the graph it was computed with, and is never "
            f"back-propagated (the backward of the iteration: {self.place(fact.backward)}): memory grows with each iteration.",
            fact=fact,
            help="Keep the number alone: `.item()`, or `.detach()` for a tensor.",
            claim=Claim("state", "graph-outlives", (), fact.span),
            fix=fix,
        )

    def _detached(self, value: cst.BaseExpression | None) -> Fix | None:
        """The fix that detaches what is kept, where it is a simple name or attribute."""
        if not isinstance(value, cst.Name | cst.Attribute | cst.Subscript):
            return None
        return self.fix(
            f"Keep {code(f'{self.candidate.code(value)}.detach()')}", edits.append(self.candidate, value, ".detach()")
        )
