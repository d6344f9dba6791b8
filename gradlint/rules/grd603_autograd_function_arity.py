"""GRD603. Page: rules/GRD603-autograd-function-arity.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import GradientCount
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class AutogradFunctionArity(Rule[GradientCount]):
    """GRD603: ``backward`` returns fewer gradients than ``forward`` takes arguments."""

    spec = RuleSpec(
        "GRD603",
        "autograd-function-arity",
        group=Group.AUTOGRAD,
        severity=Severity.ERROR,
        probe="autograd",
    )
    facts = (GradientCount,)

    def visit_Return(self, node: cst.Return) -> None:
        if fact := self.fact(GradientCount, node):
            self.tell(fact)

    def tell(self, fact: GradientCount, fix: Fix | None = None) -> None:
        some = f"{fact.returned} gradient{'s' if fact.returned != 1 else ''}"
        self.report(
            fact.span,
            f"{code(fact.function + '.backward')} returns {some}, and {code(fact.function + '.forward')} "
            f"({self.place(fact.forward)}) takes {fact.wanted} arguments: PyTorch wants one for each, in order, and fails.",
            fact=fact,
            help="Return one value for each argument, `None` for those that are no tensors or need no gradient.",
            claim=Claim("autograd", "too-few-gradients", (fact.function,), fact.span),
            fix=fix,
        )
