"""GRD204. Page: rules/GRD204-optimizer-misses-parameters.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import MissedByOptimizer
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import agree, names


class OptimizerMissesParameters(Rule[MissedByOptimizer]):
    """GRD204: a loss gives gradient to a module that no optimizer holds."""

    spec = RuleSpec(
        "GRD204",
        "optimizer-misses-parameters",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        probe="membership",
    )
    facts = (MissedByOptimizer,)

    def tell(self, fact: MissedByOptimizer, fix: Fix | None = None) -> None:
        parts, them = names(fact.parts, "A part of the model"), agree(fact.parts, "it", "them")
        if fact.copied:
            message = (
                f"This optimizer holds a copy of {parts}: the loss at {self.place(fact.loss)} trains the original, "
                "which no step moves."
            )
            help = "Build the optimizer over the module that the loss is computed with."
        else:
            message = (
                f"{parts} {agree(fact.parts, 'gets', 'get')} gradient from the loss at {self.place(fact.loss)}, "
                "but no optimizer "
                f"holds {them}: {agree(fact.parts, 'it stays', 'they stay')} as made."
            )
            help = f"Hand the parameters of {parts} to this optimizer too, or freeze {them} if that is meant."
        self.report(
            fact.span,
            message,
            fact=fact,
            help=help,
            claim=Claim("membership", "not-in-optimizer", fact.parts, fact.span),
            fix=fix,
        )
