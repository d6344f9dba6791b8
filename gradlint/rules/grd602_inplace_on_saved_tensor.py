"""GRD602. Page: rules/GRD602-inplace-on-saved-tensor.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import SavedChanged
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code

_OPERATORS: dict[type[cst.BaseAugOp], str] = {
    cst.AddAssign: "+",
    cst.SubtractAssign: "-",
    cst.MultiplyAssign: "*",
    cst.DivideAssign: "/",
    cst.PowerAssign: "**",
    cst.MatrixMultiplyAssign: "@",
}
_TIGHT = (cst.Name, cst.Attribute, cst.Subscript, cst.Call, cst.BaseNumber)


class InplaceOnSavedTensor(Rule[SavedChanged]):
    """GRD602: a result is changed in place that its own backward needs."""

    spec = RuleSpec(
        "GRD602",
        "inplace-on-saved-tensor",
        group=Group.AUTOGRAD,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (SavedChanged,)

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        if fact := self.fact(SavedChanged, node):
            self.tell(fact, self._spelled_out(node))

    def visit_Assign(self, node: cst.Assign) -> None:
        if fact := self.fact(SavedChanged, node):
            self.tell(fact)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(SavedChanged, node):
            self.tell(fact, self._on_a_copy(node))

    def tell(self, fact: SavedChanged, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"{code(fact.api)} changes a result in place that {code(fact.by)} ({self.place(fact.made)}) needs for its "
            f"gradient: the backward at {self.place(fact.backward)} fails.",
            fact=fact,
            help="Compute a new tensor instead of changing this one.",
            claim=Claim("flow", "saved-changed", (), fact.span),
            fix=fix,
        )

    def _spelled_out(self, node: cst.AugAssign) -> Fix | None:
        """``x = x * y`` for ``x *= y``."""
        symbol = _OPERATORS.get(type(node.operator))
        if symbol is None or not isinstance(node.target, cst.Name):
            return None
        value = self.candidate.code(node.value)
        if not isinstance(node.value, _TIGHT) and not node.value.lpar:
            value = f"({value})"
        new = f"{node.target.value} = {node.target.value} {symbol} {value}"
        return self.fix(f"Write {code(new)}", edits.replace(self.candidate, node, new))

    def _on_a_copy(self, node: cst.Call) -> Fix | None:
        """``x = x.mul(y)`` for ``x.mul_(y)``, and ``inplace`` switched off."""
        for argument in node.args:
            if argument.keyword is not None and argument.keyword.value == "inplace":
                return self.fix("Do not work in place", edits.replace(self.candidate, argument.value, "False"))
        func = node.func
        if not (isinstance(func, cst.Attribute) and isinstance(func.value, cst.Name) and func.attr.value.endswith("_")):
            return None
        changes = edits.rename(self.candidate, func.attr, func.attr.value.rstrip("_"))
        around = next(self.candidate.ancestors(node), None)
        if isinstance(around, cst.Expr):
            changes = (*edits.prepend(self.candidate, node, f"{func.value.value} = "), *changes)
        return self.fix(f"Write {code(func.attr.value.rstrip('_'))}", changes)
