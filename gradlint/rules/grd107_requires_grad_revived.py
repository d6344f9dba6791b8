"""GRD107. Page: rules/GRD107-requires-grad-revived.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import Revived
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import names


class RequiresGradRevived(Rule[Revived]):
    """GRD107: a severed loss is made a leaf so that ``backward`` no longer complains."""

    spec = RuleSpec(
        "GRD107",
        "requires-grad-revived",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        probe="flow",
    )
    facts = (Revived,)

    def tell(self, fact: Revived, fix: Fix | None = None) -> None:
        lost = "here" if fact.cut == fact.span else f"at {self.place(fact.cut)}"
        self.report(
            fact.span,
            f"Making the value require gradient again silences the error of `backward` at {self.place(fact.loss)} and trains "
            f"nothing: its history was lost {lost}, so no gradient reaches {names(fact.starved)}.",
            fact=fact,
            help="Take this away and mend the place where the history is lost.",
            claim=Claim("flow", "severed", fact.starved, fact.span),
            fix=fix,
        )
