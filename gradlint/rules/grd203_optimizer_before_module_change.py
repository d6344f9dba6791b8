"""GRD203. Page: rules/GRD203-optimizer-before-module-change.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import ReplacedAfterOptimizer
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import agree, names


class OptimizerBeforeModuleChange(Rule[ReplacedAfterOptimizer]):
    """GRD203: a module gets new parameters when the optimizer already has its list."""

    spec = RuleSpec(
        "GRD203",
        "optimizer-before-module-change",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        probe="membership",
    )
    facts = (ReplacedAfterOptimizer,)

    def tell(self, fact: ReplacedAfterOptimizer, fix: Fix | None = None) -> None:
        parts = names(fact.parts, "A part of the module")
        self.report(
            fact.span,
            f"{parts} {agree(fact.parts, 'changes', 'change')} after the optimizer at {self.place(fact.optimizer)} took the "
            f"parameters: the new ones are in no optimizer and stay as they were initialised ({self.place(fact.step)}).",
            fact=fact,
            help="Build the optimizer after the last change of the module, or add the new parameters with "
            "`optimizer.add_param_group({...})`.",
            claim=Claim("membership", "not-in-optimizer", fact.parts, fact.span),
            fix=fix,
        )
