"""GRD205. Page: rules/GRD205-exhausted-parameter-iterator.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import IteratorExhausted
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule


class ExhaustedParameterIterator(Rule[IteratorExhausted]):
    """GRD205: an iterator over parameters is used twice; the second time it gives nothing."""

    spec = RuleSpec(
        "GRD205",
        "exhausted-parameter-iterator",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        fix=Safety.SAFE,
        probe="membership",
    )
    facts = (IteratorExhausted,)

    @classmethod
    def context(cls, fact: IteratorExhausted) -> tuple[Span, ...]:
        return (fact.made,)

    def visit_Module(self, node: cst.Module) -> None:
        for fact in list(self.pending):
            made = [
                n for n in self.candidate.positions if isinstance(n, cst.BaseExpression) and self.candidate.span(n) == fact.made
            ]
            if made and self.candidate.holds(fact.span) and fact.made.file == fact.span.file:
                text = self.candidate.code(made[-1]).strip()
                inner = text[1:-1] if isinstance(made[-1], cst.GeneratorExp) else text
                self.tell(
                    fact, self.fix("Keep the parameters in a list", edits.replace(self.candidate, made[-1], f"list({inner})"))
                )

    def tell(self, fact: IteratorExhausted, fix: Fix | None = None) -> None:
        first, made = self.place(fact.first), self.place(fact.made)
        if fact.again:
            message = f"From the second time on this goes over nothing: the iterator made at {made} can be used once."
        else:
            message = f"This goes over nothing: the iterator made at {made} was used up at {first}."
        self.report(
            fact.span,
            message,
            fact=fact,
            help="Keep the parameters in a list, `list(...)`, or make the iterator anew for each use.",
            claim=Claim("membership", "exhausted", (), fact.span),
            fix=fix,
        )
