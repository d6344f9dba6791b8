"""GRD113. Page: rules/GRD113-checkpoint-without-grad-inputs.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Edit, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import CheckpointSevered
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import agree, code, names


class CheckpointWithoutGradInputs(Rule[CheckpointSevered]):
    """GRD113: a reentrant checkpoint passes gradient only to inputs, and none of these requires any."""

    spec = RuleSpec(
        "GRD113",
        "checkpoint-without-grad-inputs",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        fix=Safety.SAFE,
        probe="flow",
    )
    facts = (CheckpointSevered,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(CheckpointSevered, node):
            self.tell(fact, self.fix(f"Pass {code(f'{fact.switch}=False')}", self._switched(fact, node)))

    def tell(self, fact: CheckpointSevered, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"No gradient reaches {names(fact.parts)}: a reentrant checkpoint passes gradient on only where one of its inputs "
            f"requires it, and none does here. The loss at {self.place(fact.loss)} does not train "
            f"{agree(fact.parts, 'it', 'them')}.",
            fact=fact,
            help=f"Pass {code(f'{fact.switch}=False')}.",
            claim=Claim("flow", "starved", fact.parts, fact.span),
            fix=fix,
        )

    def _switched(self, fact: CheckpointSevered, node: cst.Call) -> edits.Edits:
        for argument in node.args:
            if argument.keyword is not None and argument.keyword.value == fact.switch:
                return edits.replace(self.candidate, argument.value, "False")
        if not node.args or node.args[-1].star == "**":
            return ()
        last = self.candidate.outer_span(node.args[-1].value)
        end = Span(last.file, last.end_line, last.end_column, last.end_line, last.end_column)
        return (Edit(end, f", {fact.switch}=False"),)
