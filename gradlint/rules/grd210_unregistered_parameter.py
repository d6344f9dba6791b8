"""GRD210. Page: rules/GRD210-unregistered-parameter.md"""

from __future__ import annotations

import libcst as cst
import libcst.matchers as m

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import UnregisteredParameter
from gradlint.syntax import edits
from gradlint.syntax.naming import reach
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code

_FLAG = m.Arg(keyword=m.Name("requires_grad"), value=m.Name("True"))


class UnregisteredParameterRule(Rule[UnregisteredParameter]):
    """GRD210: a tensor that should train is no parameter of the module that holds it."""

    spec = RuleSpec(
        "GRD210",
        "unregistered-parameter",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="membership",
    )
    facts = (UnregisteredParameter,)

    def visit_Assign(self, node: cst.Assign) -> None:
        if fact := self.fact(UnregisteredParameter, node):
            self.tell(fact, self.fix("Make it a parameter", self._parameter(fact, node.value)))

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        if fact := self.fact(UnregisteredParameter, node):
            self.tell(fact)

    def tell(self, fact: UnregisteredParameter, fix: Fix | None = None) -> None:
        attribute = code(fact.attribute)
        if fact.form == "derived":
            message = (
                f"{attribute} is not the parameter but what {code(fact.operation)} makes of it: the module does not "
                "register it."
            )
            help = "Do that to the tensor first, and make the result the parameter: `nn.Parameter(tensor.to(device))`."
        elif fact.form == "container":
            message = (
                f"The parameters in the plain {fact.operation} {attribute} are not registered: not in `parameters()`, "
                "not moved, not saved."
            )
            help = f"Keep them in an `nn.{'ParameterDict' if fact.operation == 'dict' else 'ParameterList'}`."
        else:
            message = (
                f"{attribute} requires gradient but is not among the parameters of the module: no optimizer built "
                "from them moves it."
            )
            help = "Make it an `nn.Parameter`; or a buffer without gradient, if it is not meant to train."
        claim = Claim("membership", "not-registered", (fact.attribute.removeprefix("self."),), fact.span)
        self.report(fact.span, message, fact=fact, help=help, claim=claim, fix=fix)

    def _parameter(self, fact: UnregisteredParameter, value: cst.BaseExpression) -> edits.Edits:
        prefix = reach(self.source, "torch.nn")
        if not prefix or not isinstance(value, cst.Call):
            return ()
        if fact.form == "tensor":
            if isinstance(value.func, cst.Attribute) and value.func.attr.value == "requires_grad_":
                return edits.replace(self.candidate, value, f"{prefix}Parameter({self.candidate.code(value.func.value)})")
            left = [argument for argument in value.args if not m.matches(argument, _FLAG)]
            if len(left) != len(value.args) - 1 or not left:
                return ()
            left[-1] = left[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
            return edits.replace(
                self.candidate, value, f"{prefix}Parameter({self.candidate.code(value.with_changes(args=left))})"
            )
        if fact.form == "derived" and isinstance(value.func, cst.Attribute) and isinstance(value.func.value, cst.Call):
            inner = value.func.value
            if len(inner.args) == 1 and m.matches(inner.func, m.Name("Parameter") | m.Attribute(attr=m.Name("Parameter"))):
                moved = value.with_changes(func=value.func.with_changes(value=inner.args[0].value))
                return edits.replace(self.candidate, value, f"{self.candidate.code(inner.func)}({self.candidate.code(moved)})")
        return ()
