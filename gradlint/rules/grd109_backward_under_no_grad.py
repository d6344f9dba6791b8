"""GRD109. Page: rules/GRD109-backward-under-no-grad.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import BackwardDisabled
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class BackwardUnderNoGrad(Rule[BackwardDisabled]):
    """GRD109: a loss is computed, or back-propagated, with gradient switched off."""

    spec = RuleSpec(
        "GRD109",
        "backward-under-no-grad",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (BackwardDisabled,)

    def visit_Decorator(self, node: cst.Decorator) -> None:
        if fact := self.fact(BackwardDisabled, node.decorator):
            self.tell(fact, self.fix(f"Remove {code(fact.api)}", edits.remove_decorator(self.candidate, node)))

    def visit_With(self, node: cst.With) -> None:
        if fact := self.fact(BackwardDisabled, node):
            changes = edits.lift_item(self.candidate, node, fact.api)
            self.tell(fact, self.fix(f"Take the block out of {code(fact.api)}", changes))

    def tell(self, fact: BackwardDisabled, fix: Fix | None = None) -> None:
        region = fact.construct if fact.construct in ("decorator", "statement") else "region"
        self.report(
            fact.span,
            f"{code(fact.api)} switches gradient off where the loss is computed, so the backward at "
            f"{self.place(fact.backward)} finds no graph to go back through.",
            fact=fact,
            help=f"Compute the loss outside it, or take the {region} away.",
            claim=Claim("flow", "severed", (), fact.span),
            fix=fix,
        )
