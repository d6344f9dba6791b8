"""GRD703. Page: rules/GRD703-hook-mask-dtype.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import HookMaskType
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class HookMaskDtype(Rule[HookMaskType]):
    """GRD703: a gradient hook returns a gradient of another type."""

    spec = RuleSpec(
        "GRD703",
        "hook-mask-dtype",
        group=Group.PLATFORM,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (HookMaskType,)

    def visit_Name(self, node: cst.Name) -> None:
        if fact := self.fact(HookMaskType, node):
            new = f"{fact.mask}.to({fact.gradient}.dtype)"
            self.tell(fact, self.fix(f"Write {code(new)}", edits.replace(self.candidate, node, new)))

    def tell(self, fact: HookMaskType, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"The gradient has the type of the value it belongs to, which was computed under autocast "
            f"({self.place(fact.tensor)}), and {code(fact.mask)} is {code(fact.kept)}: where the two differ, the hook returns "
            "a gradient of another type, and backward fails.",
            fact=fact,
            help=f"Cast it to the gradient's type: {code(f'{fact.mask}.to({fact.gradient}.dtype)')}.",
            claim=Claim("flow", "hook-changes-dtype", (fact.mask,), fact.span),
            fix=fix,
        )
