"""GRD409. Page: rules/GRD409-double-softmax.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import DoubleSoftmax as Fact
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule


class DoubleSoftmax(Rule[Fact]):
    """GRD409: scores are turned into probabilities before a loss that does so itself."""

    spec = RuleSpec(
        "GRD409",
        "double-softmax",
        group=Group.STEP,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
    )
    facts = (Fact,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(Fact, node):
            self.tell(fact, self._dropped(fact, node))

    def tell(self, fact: Fact, fix: Fix | None = None) -> None:
        if fact.span == fact.loss:
            first = f"its scores come from the {fact.squash} at {self.place(fact.inner)}"
            message = f"This loss applies a {fact.squash} itself, and {first}: the second one flattens what the first has done."
        else:
            message = (
                f"This {fact.squash} comes before a loss that applies one itself ({self.place(fact.loss)}): the second one "
                "flattens what the first has done."
            )
        self.report(
            fact.span,
            message + " The loss cannot come near zero, and gradients are small.",
            fact=fact,
            help="Give the loss the raw scores; take probabilities from them where they are needed.",
            fix=fix,
        )

    def _dropped(self, fact: Fact, node: cst.Call) -> Fix | None:
        """The raw scores in place of the probabilities."""
        if fact.span == fact.loss:
            return None
        match node:
            case cst.Call(func=cst.Attribute(value=owner, attr=cst.Name(method))) if method == fact.squash and (
                not node.args
                or isinstance(node.args[0].value, cst.Integer | cst.UnaryOperation)
                or node.args[0].keyword is not None
            ):
                scores: cst.BaseExpression = owner
            case cst.Call(args=[cst.Arg(keyword=None, star="", value=value), *_]):
                scores = value
            case _:
                return None
        return self.fix("Drop it", edits.replace(self.candidate, node, scores))
