"""GRD105. Page: rules/GRD105-python-roundtrip-on-loss-path.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import Severed
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, meant_frozen, starvation, starved

_CONSTANTS = (
    cst.BaseNumber,
    cst.BaseString,
    cst.BaseList,
    cst.Tuple,
    cst.UnaryOperation,
    cst.ListComp,
    cst.Dict,
)


class PythonRoundtripOnLossPath(Rule[Severed]):
    """GRD105: a tensor becomes a Python or NumPy value on its only way to the loss."""

    spec = RuleSpec(
        "GRD105",
        "python-roundtrip-on-loss-path",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (Severed,)

    @classmethod
    def concerns(cls, fact: Severed) -> bool:
        return fact.cut == "python"

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(Severed, node):
            self.tell(fact, self._kept_a_tensor(node))

    def tell(self, fact: Severed, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            starvation(fact, self.source, f"{code(fact.api)} keeps the number, not its history, and"),
            fact=fact,
            help="Keep the value a tensor all the way to the loss: compute with tensor operations, and collect tensors with "
            f"`torch.stack`. {meant_frozen(fact.starved)}",
            claim=starved(fact),
            fix=fix,
        )

    def _kept_a_tensor(self, node: cst.Call) -> Fix | None:
        func = node.func
        if not isinstance(func, cst.Attribute):
            return None
        if func.attr.value == "item" and not node.args:
            return self.fix("Drop `.item()`", edits.replace(self.candidate, node, func.value))
        if func.attr.value in ("tensor", "as_tensor") and isinstance(func.value, cst.Name) and _holds_tensors(node):
            renamed = edits.rename(self.candidate, func.attr, "stack")
            rest = edits.keep_first_argument(self.candidate, node)
            if rest or len(node.args) == 1:
                return self.fix("Write `stack`, which keeps the history", (*renamed, *rest))
        return None


def _holds_tensors(node: cst.Call) -> bool:
    """Whether the call is given a list whose elements may all be tensors, and otherwise only options."""
    if not node.args or node.args[0].keyword is not None or node.args[0].star:
        return False
    if any(option.keyword is None for option in node.args[1:]):
        return False
    values: list[cst.BaseExpression]
    match node.args[0].value:
        case cst.List(elements=elements) | cst.Tuple(elements=elements) if elements:
            values = [element.value for element in elements]
        case cst.ListComp(elt=elt):
            values = [elt]
        case _:
            return False
    return not any(isinstance(value, _CONSTANTS) for value in values)
