"""GRD206. Page: rules/GRD206-module-requires-grad-attribute.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import ModuleFlagAssigned
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, expression

_EFFECTS = {False: "freezes", True: "unfreezes", None: "changes"}


class ModuleRequiresGradAttribute(Rule[ModuleFlagAssigned]):
    """GRD206: ``requires_grad`` is assigned on a module, where it is an attribute like any other."""

    spec = RuleSpec(
        "GRD206",
        "module-requires-grad-attribute",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        fix=Safety.SAFE,
        probe="membership",
    )
    facts = (ModuleFlagAssigned,)

    def visit_Assign(self, node: cst.Assign) -> None:
        if fact := self.fact(ModuleFlagAssigned, node):
            changes: edits.Edits = ()
            if len(node.targets) == 1:
                changes = edits.as_call(self.candidate, node.targets[0].target, node.value, "requires_grad_")
            self.tell(fact, self.fix("Call `.requires_grad_(…)`", changes))

    def tell(self, fact: ModuleFlagAssigned, fix: Fix | None = None) -> None:
        value = "…" if fact.value is None else str(fact.value)
        self.report(
            fact.span,
            f"This {_EFFECTS[fact.value]} nothing: on a module, `requires_grad` is an attribute like any other, and the "
            f"parameters of {code(fact.module)} keep theirs.",
            fact=fact,
            help=f"Call {code(f'{expression(fact.module)}.requires_grad_({value})')}, which sets it on every parameter.",
            claim=Claim("membership", "flag-without-effect", (fact.module,), fact.span),
            fix=fix,
        )
