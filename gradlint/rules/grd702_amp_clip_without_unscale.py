"""GRD702. Page: rules/GRD702-amp-clip-without-unscale.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import ScaledClip
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class AmpClipWithoutUnscale(Rule[ScaledClip]):
    """GRD702: gradients are clipped with the scaler's factor in them."""

    spec = RuleSpec(
        "GRD702",
        "amp-clip-without-unscale",
        group=Group.PLATFORM,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="order",
    )
    facts = (ScaledClip,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(ScaledClip, node):
            statement = edits.statement(self.candidate, node)
            small = isinstance(statement, cst.Expr | cst.Assign) and statement.value is node
            if fact.scaler and fact.optimizer.isidentifier() and small and isinstance(statement, cst.BaseSmallStatement):
                text = f"{fact.scaler}.unscale_({fact.optimizer})"
                self.tell(fact, self.fix(f"Insert {code(text)}", edits.insert_before(self.candidate, statement, text)))
            else:
                self.tell(fact)

    def tell(self, fact: ScaledClip, fix: Fix | None = None) -> None:
        scaler = fact.scaler or "scaler"
        self.report(
            fact.span,
            f"The gradients of {code(fact.optimizer)} are clipped while they carry the scaler's factor, which is taken out "
            f"only at {self.place(fact.step)}: nearly all of them are cut down, and "
            "what is left is thousands of times too small.",
            fact=fact,
            help=f"Call {code(f'{scaler}.unscale_({fact.optimizer})')} before clipping.",
            claim=Claim("order", "clip-before-unscale", (fact.optimizer,), fact.span),
            fix=fix,
        )
