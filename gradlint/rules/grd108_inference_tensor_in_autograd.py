"""GRD108. Page: rules/GRD108-inference-tensor-in-autograd.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import InferenceTensorUsed
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import agree, code, names


class InferenceTensorInAutograd(Rule[InferenceTensorUsed]):
    """GRD108: what was made in inference mode is used where autograd records."""

    spec = RuleSpec(
        "GRD108",
        "inference-tensor-in-autograd",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (InferenceTensorUsed,)

    @classmethod
    def context(cls, fact: InferenceTensorUsed) -> tuple[Span, ...]:
        return (fact.region,)

    def visit_Decorator(self, node: cst.Decorator) -> None:
        if fact := self.fact(InferenceTensorUsed, node.decorator):
            self.tell(fact, self._without_inference(fact, node.decorator))

    def visit_With(self, node: cst.With) -> None:
        if fact := self.fact(InferenceTensorUsed, node):
            self.tell(fact, self._in_items(fact, node))

    def visit_Call(self, node: cst.Call) -> None:
        self._used(node)

    def visit_BinaryOperation(self, node: cst.BinaryOperation) -> None:
        self._used(node)

    def tell(self, fact: InferenceTensorUsed, fix: Fix | None = None) -> None:
        if fact.parts:
            message = (
                f"{names(fact.parts)} {agree(fact.parts)} made in inference mode: autograd cannot record what is computed with "
                f"{agree(fact.parts, 'it', 'them')}, and no optimizer can change {agree(fact.parts, 'it', 'them')}. "
                f"Training at {self.place(fact.use)} fails."
            )
            help = f"Use `torch.no_grad()` instead of {code(fact.api)}."
        else:
            message = (
                f"This uses a tensor that was made in inference mode ({self.place(fact.region)}) in an operation that autograd "
                "records: it fails, inference tensors cannot be saved for backward."
            )
            help = "Make it under `torch.no_grad()` instead, or `clone()` it outside of the region first."
        self.report(fact.span, message, fact=fact, help=help, claim=Claim("flow", "raises", fact.parts, fact.span), fix=fix)

    def _used(self, node: cst.Call | cst.BinaryOperation) -> None:
        if fact := self.fact(InferenceTensorUsed, node):
            self.tell(fact, self._at_region(fact))

    def _at_region(self, fact: InferenceTensorUsed) -> Fix | None:
        """The region of a use in the same file, made one that only switches gradient off."""
        if fact.region.file != fact.span.file:
            return None
        for node in self.candidate.positions:
            if isinstance(node, cst.Decorator) and self.candidate.span(node.decorator) == fact.region:
                return self._without_inference(fact, node.decorator)
            if isinstance(node, cst.With):
                span = self.candidate.span(node)
                if (span.line, span.column) == (fact.region.line, fact.region.column):
                    return self._in_items(fact, node)
        return None

    def _in_items(self, fact: InferenceTensorUsed, node: cst.With) -> Fix | None:
        for item in node.items:
            if self.candidate.code(item.item) in fact.api:
                return self._without_inference(fact, item.item)
        return None

    def _without_inference(self, fact: InferenceTensorUsed, node: cst.BaseExpression) -> Fix | None:
        named = node.func if isinstance(node, cst.Call) else node
        if isinstance(node, cst.Call) and node.args:
            return None
        if not isinstance(named, cst.Attribute) or named.attr.value != "inference_mode":
            return None
        return self.fix("Use `no_grad` instead", edits.rename(self.candidate, named.attr, "no_grad"))
