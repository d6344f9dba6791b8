"""GRD305. Page: rules/GRD305-mode-not-restored.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import ModeNotRestored as Fact
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, expression


class ModeNotRestored(Rule[Fact]):
    """GRD305: after the first evaluation, training goes on in eval mode."""

    spec = RuleSpec(
        "GRD305",
        "mode-not-restored",
        group=Group.STATE,
        severity=Severity.ERROR,
        probe="state",
    )
    facts = (Fact,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(Fact, node):
            self.tell(fact, module=self.candidate.code(node.func.value) if isinstance(node.func, cst.Attribute) else "")

    def tell(self, fact: Fact, fix: Fix | None = None, module: str = "") -> None:
        """As for any rule; ``module`` is how the code spells what is put into eval mode."""
        module = module or expression(fact.module)
        self.report(
            fact.span,
            f"{code(module)} stays in eval mode after this: from the next turn of the loop on, training at "
            f"{self.place(fact.backward)} runs without dropout and with batch norm standing still.",
            fact=fact,
            help=f"Call {code(module + '.train()')} after the evaluation, or at the beginning of each turn.",
            claim=Claim("state", "trains-in-eval-mode", (fact.module,), fact.span),
            fix=fix,
        )
