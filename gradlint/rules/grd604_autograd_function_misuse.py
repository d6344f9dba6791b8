"""GRD604. Page: rules/GRD604-autograd-function-misuse.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import FunctionMisused
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code

_CLAIMS = {
    "direct": "bypassed",
    "instance": "raises",
    "method": "raises",
    "result": "not-saved",
    "between": "not-saved",
}


class AutogradFunctionMisuse(Rule[FunctionMisused]):
    """GRD604: a custom autograd function is used past autograd."""

    spec = RuleSpec(
        "GRD604",
        "autograd-function-misuse",
        group=Group.AUTOGRAD,
        severity=Severity.ERROR,
        fix=Safety.SAFE,
        probe="autograd",
    )
    facts = (FunctionMisused,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(FunctionMisused, node):
            self.tell(fact, self._applied(fact, node))

    def visit_Assign(self, node: cst.Assign) -> None:
        if fact := self.fact(FunctionMisused, node):
            self.tell(fact)

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        if fact := self.fact(FunctionMisused, node.name):
            self.tell(fact, self._made_static(node))

    def tell(self, fact: FunctionMisused, fix: Fix | None = None) -> None:
        function, name = code(fact.function), code(fact.name)
        severity = Severity.ERROR
        if fact.form == "direct":
            message = f"{name} runs as an ordinary function here: the backward that {function} defines is never asked."
            help = f"Call {code(fact.function + '.apply(…)')}, without the context."
        elif fact.form == "instance":
            message = f"An instance of {function} is made and called: PyTorch refuses to call instances of functions."
            help = f"Call {code(fact.function + '.apply(…)')}; there is nothing to make."
        elif fact.form == "method":
            message = f"{code(fact.function + '.' + fact.name)} is not static: PyTorch refuses to apply functions of this kind."
            help = (
                "Put `@staticmethod` on the methods, take the context as the first argument, and use the function through "
                f"{code(fact.function + '.apply(…)')}."
            )
        elif fact.form == "result":
            severity = Severity.WARNING
            message = (
                f"{name} keeps the function's own result, which holds on to the context: the two keep each other, and all they "
                "hold, in memory."
            )
            help = "Hand the result to `ctx.save_for_backward` and take it from `ctx.saved_tensors`."
        else:
            severity = Severity.WARNING
            message = (
                f"{name} keeps a value that was computed from the inputs, without its history: the second derivative, which "
                "this program takes, leaves that part out."
            )
            help = "Save the inputs with `ctx.save_for_backward`, and compute the value anew in `backward`."
        self.report(
            fact.span,
            message,
            fact=fact,
            help=help,
            severity=severity,
            claim=Claim("autograd", _CLAIMS[fact.form], (fact.function,), fact.span),
            fix=fix,
        )

    def _applied(self, fact: FunctionMisused, node: cst.Call) -> Fix | None:
        """``Scale.apply(x)`` for ``Scale.forward(None, x)`` and for ``Scale()(x)``."""
        message = f"Call {code(fact.function + '.apply')}"
        if fact.form == "instance":
            around = next(self.candidate.ancestors(node), None)
            if node.args or not (isinstance(around, cst.Call) and around.func is node):
                return None
            return self.fix(message, edits.replace(self.candidate, node, f"{self.candidate.code(node.func)}.apply"))
        if not isinstance(node.func, cst.Attribute):
            return None
        changes = edits.rename(self.candidate, node.func.attr, "apply")
        first = node.args[0].value if node.args else None
        if isinstance(first, cst.Name) and first.value == "None":
            dropped = edits.drop_argument(self.candidate, node, 0)
            if not dropped:
                return None
            changes = (*changes, *dropped)
        return self.fix(message, changes)

    def _made_static(self, node: cst.FunctionDef) -> Fix | None:
        """``@staticmethod`` where the first argument is a context already."""
        first = node.params.params[0].name.value if node.params.params else "self"
        if first in ("self", "cls"):
            return None
        return self.fix("Make it static", edits.insert_before(self.candidate, node, "@staticmethod"))
