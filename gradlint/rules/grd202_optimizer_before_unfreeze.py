"""GRD202. Page: rules/GRD202-optimizer-before-unfreeze.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import UnfrozenAfterOptimizer
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import agree, names


class OptimizerBeforeUnfreeze(Rule[UnfrozenAfterOptimizer]):
    """GRD202: parameters are unfrozen that the optimizer never took."""

    spec = RuleSpec(
        "GRD202",
        "optimizer-before-unfreeze",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        probe="membership",
    )
    facts = (UnfrozenAfterOptimizer,)

    def tell(self, fact: UnfrozenAfterOptimizer, fix: Fix | None = None) -> None:
        parts, them = names(fact.parts, "This part"), agree(fact.parts, "it", "them")
        self.report(
            fact.span,
            f"{parts} {agree(fact.parts)} unfrozen after the optimizer at {self.place(fact.optimizer)} was built without "
            f"{them}: the gradient is computed, but no step moves {them} ({self.place(fact.step)}).",
            fact=fact,
            help="Build the optimizer after this, or hand the parameters over with `optimizer.add_param_group({...})`.",
            claim=Claim("membership", "not-in-optimizer", fact.parts, fact.span),
            fix=fix,
        )
