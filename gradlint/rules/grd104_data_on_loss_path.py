"""GRD104. Page: rules/GRD104-data-on-loss-path.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import Severed
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, meant_frozen, starvation, starved


class DataOnLossPath(Rule[Severed]):
    """GRD104: a value is read through ``.data`` on its only way to the loss."""

    spec = RuleSpec(
        "GRD104",
        "data-on-loss-path",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (Severed,)

    @classmethod
    def concerns(cls, fact: Severed) -> bool:
        return fact.cut == "data"

    def visit_Attribute(self, node: cst.Attribute) -> None:
        if fact := self.fact(Severed, node):
            self.tell(fact, self.fix(f"Drop {code(fact.api)}", edits.replace(self.candidate, node, node.value)))

    def tell(self, fact: Severed, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            starvation(fact, self.source, code(fact.api)),
            fact=fact,
            help=f"Use the tensor itself where the value goes on to the loss. {meant_frozen(fact.starved)}",
            claim=starved(fact),
            fix=fix,
        )
