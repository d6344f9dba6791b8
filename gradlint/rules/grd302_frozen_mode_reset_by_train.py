"""GRD302. Page: rules/GRD302-frozen-mode-reset-by-train.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import FrozenModeReset
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, expression


class FrozenModeResetByTrain(Rule[FrozenModeReset]):
    """GRD302: a frozen part's eval mode does not outlast the next ``train()``."""

    spec = RuleSpec(
        "GRD302",
        "frozen-mode-reset-by-train",
        group=Group.STATE,
        severity=Severity.WARNING,
        probe="state",
    )
    facts = (FrozenModeReset,)

    def tell(self, fact: FrozenModeReset, fix: Fix | None = None) -> None:
        owner, _, part = expression(fact.module).partition(".")
        part = f"self.{part or owner}"
        self.report(
            fact.span,
            f"{code(fact.module)} is put into eval mode here, but the `train()` at {self.place(fact.train)} puts it back into "
            "train mode, and nothing undoes that.",
            fact=fact,
            help="Call `eval()` again after it, or let the owner keep the mode: "
            f"`def train(self, mode=True): super().train(mode); {part}.eval(); return self`.",
            claim=Claim("state", "mode-reset", (fact.module,), fact.span),
            fix=fix,
        )
