"""GRD301. Page: rules/GRD301-frozen-batchnorm-in-train-mode.md"""

from __future__ import annotations

from itertools import pairwise

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import FrozenNormTraining
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, expression, names


class FrozenBatchnormInTrainMode(Rule[FrozenNormTraining]):
    """GRD301: parameters are frozen, but running statistics still move."""

    spec = RuleSpec(
        "GRD301",
        "frozen-batchnorm-in-train-mode",
        group=Group.STATE,
        severity=Severity.WARNING,
        fix=Safety.UNSAFE,
        probe="state",
    )
    facts = (FrozenNormTraining,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(FrozenNormTraining, node):
            receiver = node.func.value if isinstance(node.func, cst.Attribute) else None
            self._tell_at(fact, node, receiver)

    def visit_Assign(self, node: cst.Assign) -> None:
        if fact := self.fact(FrozenNormTraining, node):
            target = node.targets[0].target
            owner = target.value if isinstance(target, cst.Attribute) and len(node.targets) == 1 else None
            self._tell_at(fact, node, owner)

    def tell(self, fact: FrozenNormTraining, fix: Fix | None = None) -> None:
        module = code(fact.module)
        if fact.certain:
            layers = f" of {names(fact.norms)}" if fact.norms else ""
            message = (
                f"{module} is frozen but runs in train mode: the running statistics{layers} go on moving with every batch."
            )
        else:
            message = (
                f"{module} is frozen but runs in train mode: if it has batch normalisation, as networks of its kind do, "
                "the running statistics go on moving with every batch."
            )
        call = code(f"{expression(fact.module)}.eval()")
        self.report(
            fact.span,
            message,
            fact=fact,
            help=f"Call {call} after the freeze, and again after each `train()` that covers it. "
            "Freezing parameters does not freeze buffers.",
            claim=Claim("state", "drifts", fact.norms or (fact.module,), fact.span),
            fix=fix,
        )

    def _tell_at(self, fact: FrozenNormTraining, node: cst.Call | cst.Assign, owner: cst.BaseExpression | None) -> None:
        changes = self._evaluated(fact, node, owner) if owner is not None else ()
        self.tell(fact, self.fix(f"Put {code(fact.module)} into eval mode", changes))

    def _evaluated(self, fact: FrozenNormTraining, node: cst.Call | cst.Assign, owner: cst.BaseExpression) -> edits.Edits:
        """The edits that put what is frozen into eval mode, where the syntax names it."""
        statement = edits.statement(self.candidate, node)
        loop = self._loop(statement)
        if loop is not None and isinstance(owner, cst.Name) and self.candidate.code(owner) in _words(loop.target):
            match loop.iter:
                case cst.Call(func=cst.Attribute(value=module), args=[]) if self._named(module, fact.module):
                    return edits.insert_after(self.candidate, loop, f"{self.candidate.code(module)}.eval()")
        elif isinstance(statement, cst.Expr) and statement.value is node and self._named(owner, fact.module):
            return edits.insert_after(self.candidate, statement, f"{self.candidate.code(owner)}.eval()")
        elif isinstance(statement, cst.Assign) and statement.value is node and isinstance(owner, cst.Call):
            if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value == "requires_grad_":
                return edits.append(self.candidate, node, ".eval()")
        return ()

    def _loop(self, statement: cst.CSTNode | None) -> cst.For | None:
        """The loop whose body is this statement alone."""
        around = list(self.candidate.ancestors(statement)) if statement is not None else []
        for block, loop in pairwise(around):
            if isinstance(loop, cst.For):
                return loop if len(loop.body.body) == 1 and loop.orelse is None else None
            if isinstance(block, cst.BaseCompoundStatement):
                return None
        return None

    def _named(self, node: cst.BaseExpression, module: str) -> bool:
        """Whether an expression spells the module, or the part of its name that this code uses."""
        if isinstance(node, cst.Attribute):
            return node.attr.value == module.rpartition(".")[2] and isinstance(node.value, cst.Name | cst.Attribute)
        return isinstance(node, cst.Name) and node.value == module.rpartition(".")[2]


def _words(target: cst.BaseExpression) -> set[str]:
    """The variables of a loop's target."""
    elements = target.elements if isinstance(target, cst.Tuple | cst.List) else ()
    named = [target, *(element.value for element in elements)]
    return {node.value for node in named if isinstance(node, cst.Name)}
