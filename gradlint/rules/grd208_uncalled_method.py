"""GRD208. Page: rules/GRD208-uncalled-method.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import UncalledMethod
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class MethodNotCalled(Rule[UncalledMethod]):
    """GRD208: a method of a module, an optimizer or a loss is named as a statement, and not called."""

    spec = RuleSpec(
        "GRD208",
        "uncalled-method",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        fix=Safety.SAFE,
        probe="order",
    )
    facts = (UncalledMethod,)

    def visit_Attribute(self, node: cst.Attribute) -> None:
        if fact := self.fact(UncalledMethod, node):
            self.tell(fact, self.fix("Add `()`", edits.append(self.candidate, node, "()")))

    def tell(self, fact: UncalledMethod, fix: Fix | None = None) -> None:
        of = "" if fact.receiver in ("", "unknown") else f" of the {fact.receiver}"
        self.report(
            fact.span,
            f"{code(fact.method)}{of} is named, not called: this line does nothing.",
            fact=fact,
            help="Add `()`.",
            claim=Claim("order", "never-called", (fact.method,), fact.span),
            fix=fix,
        )
