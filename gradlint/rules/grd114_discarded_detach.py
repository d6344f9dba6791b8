"""GRD114. Page: rules/GRD114-discarded-detach.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import ResultDropped
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class DiscardedDetach(Rule[ResultDropped]):
    """GRD114: a method that returns a new tensor is called for its effect."""

    spec = RuleSpec(
        "GRD114",
        "discarded-detach",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (ResultDropped,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(ResultDropped, node):
            changes: edits.Edits = ()
            target = node.func.value if isinstance(node.func, cst.Attribute) else None
            if not fact.each and isinstance(target, cst.Name | cst.Attribute | cst.Subscript):
                written = self.candidate.code(node)
                changes = edits.replace(self.candidate, node, f"{self.candidate.code(target)} = {written}")
            self.tell(fact, self.fix("Assign the result", changes))

    def visit_Attribute(self, node: cst.Attribute) -> None:
        if fact := self.fact(ResultDropped, node):
            self.tell(fact, self.fix("Add `()`", edits.append(self.candidate, node, "()")))

    def tell(self, fact: ResultDropped, fix: Fix | None = None) -> None:
        method = code(f"{fact.method}()")
        match fact.form:
            case "uncalled":
                message = f"{code(fact.method)} is named, not called: this line does nothing."
                help = "Add `()`."
            case "move":
                message = f"{method} of a tensor returns a new tensor, and this line throws it away: nothing has changed."
                help = "Assign the result. Only modules are moved in place."
            case _:
                message = f"{method} returns a new tensor, and this line throws it away: nothing is detached."
                help = (
                    "Put the detached tensors where the old ones are; assigning the variable of the loop is not enough."
                    if fact.each
                    else "Assign the result, or call `detach_()`."
                )
        self.report(fact.span, message, fact=fact, help=help, claim=Claim("flow", "discarded", (), fact.span), fix=fix)
