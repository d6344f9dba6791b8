"""GRD407. Page: rules/GRD407-retain-graph-misuse.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import GraphRetained
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule


class RetainGraphMisuse(Rule[GraphRetained]):
    """GRD407: a graph is kept that nothing goes through again."""

    spec = RuleSpec(
        "GRD407",
        "retain-graph-misuse",
        group=Group.STEP,
        severity=Severity.WARNING,
        fix=Safety.UNSAFE,
        probe="order",
        preview=True,
    )
    facts = (GraphRetained,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(GraphRetained, node):
            only = len(node.args) == 1 and node.args[0].keyword is not None and node.args[0].keyword.value == "retain_graph"
            receiver = node.func if only else None
            text = f"{self.candidate.code(receiver)}()" if receiver is not None else ""
            changes = edits.replace(self.candidate, node, text) if text else ()
            self.tell(fact, self.fix("Drop `retain_graph=True`", changes))

    def tell(self, fact: GraphRetained, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            "The graph of this loss is kept after the backward, and no other backward in the program goes through it: it only "
            "takes memory, unless it hides a value that is carried from turn to turn with its history.",
            fact=fact,
            help="Drop `retain_graph=True`. If backward then complains, detach what is carried over.",
            claim=Claim("order", "graph-kept", (), fact.span),
            fix=fix,
        )
