"""GRD704. Page: rules/GRD704-ddp-unused-parameters.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import UnusedUnderWrap
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import agree, code, names


class DdpUnusedParameters(Rule[UnusedUnderWrap]):
    """GRD704: a wrapper waits for gradients that do not come."""

    spec = RuleSpec(
        "GRD704",
        "ddp-unused-parameters",
        group=Group.PLATFORM,
        severity=Severity.ERROR,
        probe="flow",
    )
    facts = (UnusedUnderWrap,)

    def tell(self, fact: UnusedUnderWrap, fix: Fix | None = None) -> None:
        parts, gets = names(fact.parts, "Some parameters"), agree(fact.parts, "gets", "get")
        when = "in some iterations" if fact.skipped else "from it"
        self.report(
            fact.span,
            f"{parts} {gets} no gradient {when} (loss at {self.place(fact.loss)}), and {code(fact.api)} waits for "
            "it: the next iteration fails.",
            fact=fact,
            help="Wrap with `find_unused_parameters=True`; or freeze what is not used before wrapping, or take it out.",
            claim=Claim("flow", "unused", fact.parts, fact.span),
            fix=fix,
        )
