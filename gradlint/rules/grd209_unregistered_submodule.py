"""GRD209. Page: rules/GRD209-unregistered-submodule.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import UnregisteredModule
from gradlint.syntax import edits
from gradlint.syntax.naming import reach
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import agree, code, names

_REGISTERING = {"list": "ModuleList", "tuple": "ModuleList", "dict": "ModuleDict"}


class UnregisteredSubmodule(Rule[UnregisteredModule]):
    """GRD209: a module keeps layers in a plain list, dict or object."""

    spec = RuleSpec(
        "GRD209",
        "unregistered-submodule",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="membership",
    )
    facts = (UnregisteredModule,)

    def visit_Assign(self, node: cst.Assign) -> None:
        self._consider(node, node.value)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        if node.value is not None:
            self._consider(node, node.value)

    def tell(self, fact: UnregisteredModule, fix: Fix | None = None) -> None:
        attribute = code(fact.attribute)
        if fact.kept == "object":
            message = (
                f"{names(fact.parts)} is no `nn.Module`: what {attribute} holds is not among the parameters of this module."
            )
            help = f"Derive {names(fact.parts)} from `nn.Module` and call `super().__init__()` in its constructor."
        else:
            layers, are = names(fact.parts, "The layers"), agree(fact.parts, "is", "are")
            message = (
                f"{layers} in the plain {fact.kept} {attribute} {are} not registered: not in `parameters()`, not "
                "moved, not saved."
            )
            help = f"Keep them in an `nn.{_REGISTERING.get(fact.kept, 'ModuleList')}`."
        claim = Claim("membership", "not-registered", (fact.attribute.removeprefix("self."),), fact.span)
        self.report(fact.span, message, fact=fact, help=help, claim=claim, fix=fix)

    def _consider(self, node: cst.Assign | cst.AnnAssign, value: cst.BaseExpression) -> None:
        if fact := self.fact(UnregisteredModule, node):
            self.tell(fact, self.fix(f"Keep them in an `nn.{_REGISTERING.get(fact.kept)}`", self._registered(fact, value)))

    def _registered(self, fact: UnregisteredModule, value: cst.BaseExpression) -> edits.Edits:
        name, prefix = _REGISTERING.get(fact.kept), reach(self.source, "torch.nn")
        if (
            name is None
            or not prefix
            or not isinstance(value, cst.List | cst.ListComp | cst.Tuple | cst.Dict | cst.DictComp | cst.Name)
        ):
            return ()
        empty = isinstance(value, cst.List | cst.Tuple | cst.Dict) and not value.elements
        return edits.replace(self.candidate, value, f"{prefix}{name}({'' if empty else self.candidate.code(value)})")
