"""GRD101. Page: rules/GRD101-no-grad-on-training-path.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import Severed
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, meant_frozen, starvation, starved


class NoGradOnTrainingPath(Rule[Severed]):
    """GRD101: a region or function without gradient computes what should train."""

    spec = RuleSpec(
        "GRD101",
        "no-grad-on-training-path",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (Severed,)

    @classmethod
    def concerns(cls, fact: Severed) -> bool:
        return fact.cut in ("no-grad", "inference-mode")

    def visit_Decorator(self, node: cst.Decorator) -> None:
        if fact := self.fact(Severed, node.decorator):
            self.tell(fact, self.fix(f"Remove {code(fact.api)}", edits.remove_decorator(self.candidate, node)))

    def visit_With(self, node: cst.With) -> None:
        if fact := self.fact(Severed, node):
            self.tell(
                fact, self.fix(f"Take the block out of {code(fact.api)}", edits.lift_item(self.candidate, node, fact.api))
            )

    def tell(self, fact: Severed, fix: Fix | None = None) -> None:
        region = fact.construct if fact.construct in ("decorator", "statement") else "region"
        self.report(
            fact.span,
            starvation(fact, self.source, code(fact.api)),
            fact=fact,
            help=f"Take the {region} away where training comes through. {meant_frozen(fact.starved)}",
            claim=starved(fact),
            fix=fix,
        )
