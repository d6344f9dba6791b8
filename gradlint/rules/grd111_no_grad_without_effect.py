"""GRD111. Page: rules/GRD111-no-grad-without-effect.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import NoGradWithoutEffect as Fact
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class NoGradWithoutEffect(Rule[Fact]):
    """GRD111: a region without gradient that nobody enters."""

    spec = RuleSpec(
        "GRD111",
        "no-grad-without-effect",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
    )
    facts = (Fact,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(Fact, node):
            self.tell(fact)

    def visit_Attribute(self, node: cst.Attribute) -> None:
        self._name(node)

    def visit_Name(self, node: cst.Name) -> None:
        self._name(node)

    def tell(self, fact: Fact, fix: Fix | None = None) -> None:
        if fact.form == "uncalled":
            message = "This names the context manager and does not make one: entering it raises an error."
            help = "Add `()`."
        else:
            made = "makes a context manager and throws it away" if fact.form == "dropped" else "names a context manager"
            message = f"This line only {made}: gradient is recorded as before."
            help = f"Write {code('with torch.no_grad():')} and put what is meant below it."
        self.report(fact.span, message, fact=fact, help=help, fix=fix)

    def _name(self, node: cst.Attribute | cst.Name) -> None:
        if fact := self.fact(Fact, node):
            self.tell(fact, self.fix("Add `()`", edits.append(self.candidate, node, "()")) if fact.form == "uncalled" else None)
