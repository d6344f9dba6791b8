"""GRD401. Page: rules/GRD401-missing-zero-grad.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import GradientNotCleared
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class MissingZeroGrad(Rule[GradientNotCleared]):
    """GRD401: a loop steps with gradients that nothing ever clears."""

    spec = RuleSpec(
        "GRD401",
        "missing-zero-grad",
        group=Group.STEP,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="order",
    )
    facts = (GradientNotCleared,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(GradientNotCleared, node):
            self.tell(fact, self._cleared(node))

    def tell(self, fact: GradientNotCleared, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"Nothing on the way round the loop clears the gradients of {code(fact.optimizer)}: the backward at "
            f"{self.place(fact.backward)} adds to those of all turns before, and each step uses the sum.",
            fact=fact,
            help=f"Call {code(fact.optimizer + '.zero_grad()')} in each turn, before the backward or after the step.",
            claim=Claim("order", "gradients-not-cleared", (fact.optimizer,), fact.span),
            fix=fix,
        )

    def _cleared(self, node: cst.Call) -> Fix | None:
        """The gradients cleared right after the step, where it stands as a statement."""
        statement = edits.statement(self.candidate, node)
        if not isinstance(statement, cst.Expr) or statement.value is not node or not isinstance(node.func, cst.Attribute):
            return None
        optimizer = node.args[0].value if node.args else node.func.value
        if not isinstance(optimizer, cst.Name | cst.Attribute):
            return None
        text = f"{self.candidate.code(optimizer)}.zero_grad()"
        return self.fix(f"Insert {code(text)}", edits.insert_after(self.candidate, statement, text))
