"""GRD304. Page: rules/GRD304-frozen-buffers-updated.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import FrozenBufferUpdated
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class FrozenBuffersUpdated(Rule[FrozenBufferUpdated]):
    """GRD304: the forward of a frozen module writes a buffer."""

    spec = RuleSpec(
        "GRD304",
        "frozen-buffers-updated",
        group=Group.STATE,
        severity=Severity.WARNING,
        probe="state",
    )
    facts = (FrozenBufferUpdated,)

    def tell(self, fact: FrozenBufferUpdated, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"{code(fact.buffer)} is updated in every forward, whatever the mode: {code(fact.module)}, frozen at "
            f"{self.place(fact.freeze)}, goes on changing.",
            fact=fact,
            help="Update it only `if self.training:`, and put what is frozen into eval mode.",
            claim=Claim("state", "drifts", (fact.module,), fact.span),
            fix=fix,
        )
