"""GRD102. Page: rules/GRD102-detach-on-loss-path.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import Severed
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, meant_frozen, starvation, starved


class DetachOnLossPath(Rule[Severed]):
    """GRD102: a value is detached on its only way to the loss."""

    spec = RuleSpec(
        "GRD102",
        "detach-on-loss-path",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (Severed,)

    @classmethod
    def concerns(cls, fact: Severed) -> bool:
        return fact.cut == "detach"

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(Severed, node):
            self.tell(fact, self.fix(f"Drop {code(fact.api)}", self._dropped(node)))

    def tell(self, fact: Severed, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            starvation(fact, self.source, code(fact.api)),
            fact=fact,
            help=f"Drop it where the value goes on to the loss. {meant_frozen(fact.starved)}",
            claim=starved(fact),
            fix=fix,
        )

    def _dropped(self, node: cst.Call) -> edits.Edits:
        """The edits that leave what is detached: the receiver of ``x.detach()``, the argument of ``torch.detach(x)``."""
        called = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
        if not isinstance(called, cst.Name) or "detach" not in called.value:
            return ()
        if isinstance(node.func, cst.Attribute) and not node.args:
            statement = edits.statement(self.candidate, node)
            if isinstance(statement, cst.Expr) and statement.value is node:
                return edits.remove_statement(self.candidate, statement)
            return edits.replace(self.candidate, node, node.func.value)
        if len(node.args) == 1 and not node.args[0].star:
            return edits.replace(self.candidate, node, node.args[0].value)
        return ()
