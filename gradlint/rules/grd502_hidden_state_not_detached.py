"""GRD502. Page: rules/GRD502-hidden-state-not-detached.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import StateCarried
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class HiddenStateNotDetached(Rule[StateCarried]):
    """GRD502: state is carried into the next iteration with a graph that is gone."""

    spec = RuleSpec(
        "GRD502",
        "hidden-state-not-detached",
        group=Group.LEAK,
        severity=Severity.ERROR,
        probe="flow",
    )
    facts = (StateCarried,)

    def tell(self, fact: StateCarried, fix: Fix | None = None) -> None:
        name = code(fact.name)
        self.report(
            fact.span,
            f"{name} carries its graph into the next iteration, whose backward ({self.place(fact.backward)}) goes through it a "
            f"second time and fails.",
            fact=fact,
            help=f"Detach it once it was used: {code(f'{fact.name} = {fact.name}.detach()')}; each part of a tuple.",
            claim=Claim("flow", "carried", (fact.name,), fact.span),
            fix=fix,
        )
