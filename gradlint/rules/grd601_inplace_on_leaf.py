"""GRD601. Page: rules/GRD601-inplace-on-leaf.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import LeafChanged
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class InplaceOnLeaf(Rule[LeafChanged]):
    """GRD601: a leaf that requires gradient is changed in place."""

    spec = RuleSpec(
        "GRD601",
        "inplace-on-leaf",
        group=Group.AUTOGRAD,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (LeafChanged,)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        self._visit(node)

    def visit_Assign(self, node: cst.Assign) -> None:
        self._visit(node)

    def visit_Call(self, node: cst.Call) -> None:
        self._visit(node)

    def _visit(self, node: cst.CSTNode) -> None:
        if fact := self.fact(LeafChanged, node):
            statement = edits.statement(self.candidate, node)
            changes = (
                edits.put_under(self.candidate, statement, "with torch.no_grad():")
                if isinstance(statement, cst.BaseSmallStatement)
                else ()
            )
            self.tell(fact, self.fix("Put it under `torch.no_grad()`", changes))

    def tell(self, fact: LeafChanged, fix: Fix | None = None) -> None:
        leaf = code(fact.leaf)
        self.report(
            fact.span,
            f"{leaf} is a leaf that requires gradient, and {code(fact.api)} changes it in place where autograd records: "
            "PyTorch refuses that with an error.",
            fact=fact,
            help="Change it under `torch.no_grad()`, which leaves it the same leaf.",
            claim=Claim("flow", "raises", (fact.leaf,), fact.span),
            fix=fix,
        )
