"""GRD106. Page: rules/GRD106-nondifferentiable-op-on-loss-path.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import Severed
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, meant_frozen, starvation, starved


class NondifferentiableOpOnLossPath(Rule[Severed]):
    """GRD106: an operation without a useful derivative lies on the only way to the loss."""

    spec = RuleSpec(
        "GRD106",
        "nondifferentiable-op-on-loss-path",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (Severed,)

    @classmethod
    def concerns(cls, fact: Severed) -> bool:
        return fact.cut == "nondifferentiable"

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(Severed, node):
            changes: edits.Edits = ()
            if fact.differentiable and isinstance(node.func, cst.Attribute):
                changes = edits.rename(self.candidate, node.func.attr, fact.differentiable)
            self.tell(fact, self.fix(f"Write {code(f'.{fact.differentiable}()')}", changes))

    def tell(self, fact: Severed, fix: Fix | None = None) -> None:
        if fact.differentiable:
            advice = f"{code(f'.{fact.differentiable}()')} gives the same and lets gradient through."
        else:
            advice = "Use a smooth stand-in for training (soft counts, a relaxation, a straight-through estimator)."
        self.report(
            fact.span,
            starvation(fact, self.source, f"{code(fact.api)} has no useful gradient and"),
            fact=fact,
            help=f"{advice} {meant_frozen(fact.starved)}",
            claim=starved(fact),
            fix=fix,
        )
