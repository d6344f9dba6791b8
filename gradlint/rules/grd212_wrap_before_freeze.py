"""GRD212. Page: rules/GRD212-wrap-before-freeze.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import ToggledAfterWrap
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import agree, code, names


class WrapBeforeFreeze(Rule[ToggledAfterWrap]):
    """GRD212: parameters are frozen or unfrozen after a wrapper has noted which of them train."""

    spec = RuleSpec(
        "GRD212",
        "wrap-before-freeze",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="membership",
    )
    facts = (ToggledAfterWrap,)

    @classmethod
    def context(cls, fact: ToggledAfterWrap) -> tuple[Span, ...]:
        return (fact.wrap,)

    def visit_Call(self, node: cst.Call) -> None:
        self._consider(node)

    def visit_Assign(self, node: cst.Assign) -> None:
        self._consider(node)

    def tell(self, fact: ToggledAfterWrap, fix: Fix | None = None) -> None:
        parts, wrapper, them = names(fact.parts, "This part"), code(fact.api), agree(fact.parts, "it", "them")
        if fact.trains:
            message = (
                f"{parts} {agree(fact.parts)} unfrozen after {wrapper} at {self.place(fact.wrap)} noted what trains: "
                f"it does not average {agree(fact.parts, 'its gradient', 'their gradients')}, and the replicas drift apart."
            )
        else:
            message = (
                f"{parts} {agree(fact.parts)} frozen after {wrapper} at {self.place(fact.wrap)} noted what trains: it goes on "
                f"waiting for {agree(fact.parts, 'its gradient', 'their gradients')}, and the next iteration fails."
            )
        self.report(
            fact.span,
            message,
            fact=fact,
            help=(
                f"Change what trains first, then wrap; wrap again where it changes during training, or leave {them} "
                f"as {agree(fact.parts, 'it was', 'they were')}."
            ),
            claim=Claim("membership", "toggled-after-wrap", fact.parts, fact.span),
            fix=fix,
        )

    def _consider(self, node: cst.Call | cst.Assign) -> None:
        if fact := self.fact(ToggledAfterWrap, node):
            changes = edits.move_above(self.candidate, node, fact.wrap) if fact.wrap.file == fact.span.file else ()
            self.tell(fact, self.fix("Change it before it is wrapped", changes))
