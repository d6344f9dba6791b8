"""GRD201. Page: rules/GRD201-optimizer-before-freeze.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import FrozenAfterOptimizer
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import agree, names


class OptimizerBeforeFreeze(Rule[FrozenAfterOptimizer]):
    """GRD201: what an optimizer already holds is frozen."""

    spec = RuleSpec(
        "GRD201",
        "optimizer-before-freeze",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="membership, step",
    )
    facts = (FrozenAfterOptimizer,)

    @classmethod
    def context(cls, fact: FrozenAfterOptimizer) -> tuple[Span, ...]:
        return (fact.optimizer,)

    def visit_Call(self, node: cst.Call) -> None:
        self._consider(node)

    def visit_Assign(self, node: cst.Assign) -> None:
        self._consider(node)

    def tell(self, fact: FrozenAfterOptimizer, fix: Fix | None = None) -> None:
        parts, optimizer = names(fact.parts, "This part"), self.place(fact.optimizer)
        held = f"{parts} {agree(fact.parts)} frozen after the optimizer at {optimizer} took {agree(fact.parts, 'it', 'them')}"
        if fact.moves:
            message = f"{held}: what is left of the gradient, momentum or weight decay goes on moving {_it(fact)} at each step"
            claim = Claim("step", "moves-though-frozen", fact.parts, fact.span)
        else:
            message = f"{held}: without a gradient the optimizer passes {_it(fact)} over, but carries {_it(fact)} for nothing"
            claim = Claim("membership", "frozen-in-optimizer", fact.parts, fact.span)
        self.report(
            fact.span,
            f"{message} ({self.place(fact.step)}).",
            fact=fact,
            help="Freeze first, then build the optimizer from the parameters that still require gradient.",
            severity=Severity.ERROR if fact.moves else Severity.WARNING,
            claim=claim,
            fix=fix,
        )

    def _consider(self, node: cst.Call | cst.Assign) -> None:
        if fact := self.fact(FrozenAfterOptimizer, node):
            same_file = fact.optimizer.file == fact.span.file
            changes = edits.move_above(self.candidate, node, fact.optimizer) if same_file else ()
            self.tell(fact, self.fix("Freeze before the optimizer is built", changes))


def _it(fact: FrozenAfterOptimizer) -> str:
    return agree(fact.parts, "it", "them")
