"""GRD607. Page: rules/GRD607-gradient-penalty-without-create-graph.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Edit, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import DerivativeWithoutGraph
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, names


class GradientPenaltyWithoutCreateGraph(Rule[DerivativeWithoutGraph]):
    """GRD607: a loss is computed from a derivative that has no graph."""

    spec = RuleSpec(
        "GRD607",
        "gradient-penalty-without-create-graph",
        group=Group.AUTOGRAD,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (DerivativeWithoutGraph,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(DerivativeWithoutGraph, node):
            self.tell(fact, self._with_graph(node))

    def tell(self, fact: DerivativeWithoutGraph, fix: Fix | None = None) -> None:
        what = "one term of the loss" if fact.scope == "term" else "the loss"
        self.report(
            fact.span,
            f"{code(fact.api)} gives a derivative without a graph, and {what} at {self.place(fact.loss)} is computed from it: "
            f"that trains nothing of {names(fact.starved)}.",
            fact=fact,
            help="Pass `create_graph=True`, so that the derivative can be differentiated itself.",
            claim=Claim("flow", "severed-way", fact.starved, fact.span),
            fix=fix,
        )

    def _with_graph(self, node: cst.Call) -> Fix | None:
        message = "Pass `create_graph=True`"
        for argument in node.args:
            if argument.keyword is not None and argument.keyword.value == "create_graph":
                return self.fix(message, edits.replace(self.candidate, argument.value, "True"))
        if not node.args or any(argument.star for argument in node.args) or len(node.args) > 4:
            return None
        last = self.candidate.outer_span(node.args[-1].value)
        end = Span(last.file, last.end_line, last.end_column, last.end_line, last.end_column)
        return self.fix(message, (Edit(end, ", create_graph=True"),))
