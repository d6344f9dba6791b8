"""GRD504. Page: rules/GRD504-generator-not-detached.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import GeneratorNotDetached as Fact
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class GeneratorNotDetached(Rule[Fact]):
    """GRD504: the discriminator's step reaches the generator."""

    spec = RuleSpec(
        "GRD504",
        "generator-not-detached",
        group=Group.LEAK,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (Fact,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(Fact, node):
            self.tell(fact, self.fix("Detach what the other network made", self._detached(fact, node)))

    def tell(self, fact: Fact, fix: Fix | None = None) -> None:
        network, made_by = code(fact.network), code(fact.made_by)
        goes = f"The loss of {network} at {self.place(fact.backward)} back-propagates into {made_by}, which made this input"
        if fact.form == "graph":
            message = f"{goes}; the graph is gone then, and the loss at {self.place(fact.other)}, which needs it, fails."
        elif fact.form == "freed":
            message = f"{goes}; its graph is gone since the backward at {self.place(fact.other)}, and this one fails."
        else:
            message = f"{goes}; that gradient is still there when {made_by} steps at {self.place(fact.other)}, against its own."
        self.report(
            fact.span,
            message,
            fact=fact,
            help="Detach the input: the loss of one network should not reach the other."
            if fact.argument
            else f"Compute the loss of {made_by} from a call of its own, and detach the input here.",
            claim=Claim("flow", "leaks-into", (fact.made_by,), fact.span),
            fix=fix,
        )

    def _detached(self, fact: Fact, node: cst.Call) -> edits.Edits:
        for index, argument in enumerate(node.args):
            named = argument.keyword.value if argument.keyword is not None else str(index)
            if named == fact.argument and not argument.star:
                if isinstance(argument.value, cst.Name | cst.Attribute | cst.Subscript | cst.Call):
                    return edits.append_at(self.candidate.outer_span(argument.value), ".detach()")
                return ()
        return ()
