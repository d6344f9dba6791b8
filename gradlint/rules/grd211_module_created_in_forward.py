"""GRD211. Page: rules/GRD211-module-created-in-forward.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import ModuleMadeInForward
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class ModuleCreatedInForward(Rule[ModuleMadeInForward]):
    """GRD211: a layer is made anew each time it is used."""

    spec = RuleSpec(
        "GRD211",
        "module-created-in-forward",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        probe="membership",
    )
    facts = (ModuleMadeInForward,)

    def tell(self, fact: ModuleMadeInForward, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"{code(fact.module)} is made anew in each call of {code(fact.function)}: its weights are random "
            "every time, and no step trains them.",
            fact=fact,
            help="Make the layer once, in `__init__`, and call it here.",
            claim=Claim("membership", "made-anew", (fact.module,), fact.span),
            fix=fix,
        )
