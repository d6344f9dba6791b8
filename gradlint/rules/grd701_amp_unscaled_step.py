"""GRD701. Page: rules/GRD701-amp-unscaled-step.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import ScalerMisused
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class AmpUnscaledStep(Rule[ScalerMisused]):
    """GRD701: a gradient scaler takes part in half of the training step."""

    spec = RuleSpec(
        "GRD701",
        "amp-unscaled-step",
        group=Group.PLATFORM,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="order",
    )
    facts = (ScalerMisused,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(ScalerMisused, node):
            self.tell(fact, self._completed(fact, node))

    def tell(self, fact: ScalerMisused, fix: Fix | None = None) -> None:
        optimizer, scaler = code(fact.optimizer), fact.scaler or "scaler"
        if fact.form == "step":
            message = (
                f"{optimizer} steps with gradients that still carry the scaler's factor: they come from the scaled loss at "
                f"{self.place(fact.backward)}, and are thousands of times too large."
            )
            help = f"Step through the scaler: {code(f'{scaler}.step({fact.optimizer})')}, then {code(f'{scaler}.update()')}."
        elif fact.form == "update":
            message = (
                f"The scaler steps {optimizer} in each turn and is never updated: its second step raises, and the factor "
                "never adapts."
            )
            help = f"Call {code(f'{scaler}.update()')} after the step."
        else:
            message = (
                f"The loss is back-propagated without the scaler that steps {optimizer}: the step divides the gradients by a "
                "factor they never had, or raises."
            )
            help = f"Scale the loss first: {code(f'{scaler}.scale(loss).backward()')}."
        self.report(
            fact.span,
            message,
            fact=fact,
            help=help,
            claim=Claim("order", f"amp-{fact.form}", (fact.optimizer,), fact.span),
            fix=fix,
        )

    def _completed(self, fact: ScalerMisused, node: cst.Call) -> Fix | None:
        """The step made through the scaler, or the update that is missing."""
        statement = edits.statement(self.candidate, node)
        if not isinstance(statement, cst.Expr) or statement.value is not node or not fact.scaler:
            return None
        if fact.form == "update":
            text = f"{fact.scaler}.update()"
            return self.fix(f"Insert {code(text)}", edits.insert_after(self.candidate, statement, text))
        if fact.form == "step" and isinstance(node.func, cst.Attribute) and not node.args:
            text = f"{fact.scaler}.step({self.candidate.code(node.func.value)})"
            return self.fix(f"Write {code(text)}", edits.replace(self.candidate, node, text))
        return None
