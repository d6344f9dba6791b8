"""GRD503. Page: rules/GRD503-target-not-detached.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import TargetNotDetached as Fact
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, names


class TargetNotDetached(Rule[Fact]):
    """GRD503: a loss trains the target that it compares with."""

    spec = RuleSpec(
        "GRD503",
        "target-not-detached",
        group=Group.LEAK,
        severity=Severity.WARNING,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (Fact,)

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.BaseExpression) and (fact := self.fact(Fact, node)):
            self.tell(fact, self.fix("Detach the target", self._detached(node)))
        return super().on_visit(node)

    def tell(self, fact: Fact, fix: Fix | None = None) -> None:
        behind = names(fact.parts)
        if fact.form == "bootstrap":
            message = (
                f"This target is computed with gradient: the loss at {self.place(fact.loss)} moves {behind} not only towards "
                "the target, but the target towards the prediction as well."
            )
        else:
            message = (
                f"What should be learned from is learned, too: the loss at {self.place(fact.loss)} pulls {behind} towards the "
                "prediction that is compared with it."
            )
        self.report(
            fact.span,
            message,
            fact=fact,
            help=f"Compute the target under {code('torch.no_grad()')}, or detach it.",
            claim=Claim("flow", "let-through", fact.parts, fact.span),
            fix=fix,
        )

    def _detached(self, node: cst.BaseExpression) -> edits.Edits:
        if isinstance(node, cst.Name | cst.Attribute | cst.Subscript | cst.Call) or node.lpar:
            span = self.candidate.outer_span(node)
            return edits.append_at(span, ".detach()")
        return edits.replace(self.candidate, node, f"({self.candidate.code(node)}).detach()")
