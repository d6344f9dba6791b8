"""GRD307. Page: rules/GRD307-functional-dropout-ignores-mode.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Edit, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import DropoutIgnoresMode
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class FunctionalDropoutIgnoresMode(Rule[DropoutIgnoresMode]):
    """GRD307: dropout that ``eval()`` does not reach."""

    spec = RuleSpec(
        "GRD307",
        "functional-dropout-ignores-mode",
        group=Group.STATE,
        severity=Severity.ERROR,
        fix=Safety.SAFE,
        probe="state",
    )
    facts = (DropoutIgnoresMode,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(DropoutIgnoresMode, node):
            self.tell(fact, self._switched(fact, node))

    def tell(self, fact: DropoutIgnoresMode, fix: Fix | None = None) -> None:
        if fact.form == "layer":
            message = (
                "This dropout layer is made where it is used: it is always in train mode, and `eval()` on the module never "
                "reaches it."
            )
            help = "Make the layer in `__init__`."
        elif fact.form == "rate":
            message = "This drops in evaluation as well: the function has no train mode, it drops at whatever rate it is given."
            help = "Give it a rate of zero in evaluation: `rate if self.training else 0.0`."
        else:
            told = (
                f"is told {code(fact.switch + '=True')}"
                if fact.form == "always"
                else f"is not told {code(fact.switch)}, which is true by default"
            )
            message = f"This drops in evaluation as well: the function does not see the mode of the module, and {told}."
            help = f"Pass {code(fact.switch + '=self.training')}."
        self.report(
            fact.span, message, fact=fact, help=help, claim=Claim("state", "random-in-evaluation", (), fact.span), fix=fix
        )

    def _switched(self, fact: DropoutIgnoresMode, node: cst.Call) -> Fix | None:
        """The module's own mode handed to the function."""
        message = f"Pass {code(fact.switch + '=self.training')}"
        if fact.form == "always":
            for argument in node.args:
                if argument.keyword is not None and argument.keyword.value == fact.switch:
                    return self.fix(message, edits.replace(self.candidate, argument.value, "self.training"))
            return None
        if fact.form != "function" or not node.args or any(argument.star for argument in node.args):
            return None
        last = self.candidate.outer_span(node.args[-1].value)
        end = Span(last.file, last.end_line, last.end_column, last.end_line, last.end_column)
        return self.fix(message, (Edit(end, f", {fact.switch}=self.training"),))
