"""GRD306. Page: rules/GRD306-eval-missing.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import EvalMissing as Fact
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, expression, names


class EvalMissing(Rule[Fact]):
    """GRD306: a module is evaluated in train mode."""

    spec = RuleSpec(
        "GRD306",
        "eval-missing",
        group=Group.STATE,
        severity=Severity.WARNING,
        probe="state",
    )
    facts = (Fact,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(Fact, node):
            self.tell(fact, module=self.candidate.code(node.func) if isinstance(node.func, cst.Name | cst.Attribute) else "")

    def tell(self, fact: Fact, fix: Fix | None = None, module: str = "") -> None:
        """As for any rule; ``module`` is how the code spells what it calls."""
        module = module or expression(fact.module)
        layers = names(fact.layers, "its layers")
        self.report(
            fact.span,
            f"{code(module)} is evaluated in train mode: {layers} go on dropping, or normalise with each batch and move their "
            "statistics. Switching gradient off does not switch the mode.",
            fact=fact,
            help=f"Call {code(module + '.eval()')} before, and {code(module + '.train()')} after where training goes on.",
            claim=Claim("state", "evaluated-in-train-mode", (fact.module,), fact.span),
            fix=fix,
        )
