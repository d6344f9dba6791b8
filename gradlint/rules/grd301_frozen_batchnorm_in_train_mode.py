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

    def tell(self, fact: FrozenNormTraining, fix: Fix | None = None, module: str = "") -> None:
        """As for any rule; ``module`` is how the code spells what is frozen, where that can be seen."""
        subject = module or fact.module
        if fact.certain:
            own = set(fact.norms) <= {subject}
            statistics = "its running statistics" if own else f"the running statistics of {names(fact.norms)}"
            message = f"{code(subject)} is frozen but runs in train mode: {statistics} go on moving with every batch."
        else:
            message = (
                f"{code(subject)} is frozen but runs in train mode: if it has batch normalisation, as networks of its kind do, "
                "the running statistics go on moving with every batch."
            )
        call = code(f"{module or expression(fact.module)}.eval()")
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
        changes, module = self._evaluated(fact, node, owner) if owner is not None else ((), "")
        self.tell(fact, self.fix(f"Put {code(module or fact.module)} into eval mode", changes), module)

    def _evaluated(
        self, fact: FrozenNormTraining, node: cst.Call | cst.Assign, owner: cst.BaseExpression
    ) -> tuple[edits.Edits, str]:
        """The edits that put what is frozen into eval mode, and how the code spells it, where the syntax shows it."""
        statement = edits.statement(self.candidate, node)
        loop = self._loop(statement)
        whole = isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value == "requires_grad_"
        if loop is not None and isinstance(owner, cst.Name) and owner.value in _words(loop.target):
            match loop.iter:
                case cst.Call(func=cst.Attribute(value=module), args=[]) if _names(module, fact.module, whole=True):
                    spelled = self.candidate.code(module)
                    return edits.insert_after(self.candidate, loop, f"{spelled}.eval()"), spelled
        elif isinstance(statement, cst.Expr) and statement.value is node and _names(owner, fact.module, whole=whole):
            spelled = self.candidate.code(owner)
            return edits.insert_after(self.candidate, statement, f"{spelled}.eval()"), spelled
        elif isinstance(statement, cst.Assign) and statement.value is node and isinstance(owner, cst.Call) and whole:
            return edits.append(self.candidate, node, ".eval()"), ""
        return (), ""

    def _loop(self, statement: cst.CSTNode | None) -> cst.For | None:
        """The loop whose body is this statement alone."""
        around = list(self.candidate.ancestors(statement)) if statement is not None else []
        for block, loop in pairwise(around):
            if isinstance(loop, cst.For):
                return loop if len(loop.body.body) == 1 and loop.orelse is None else None
            if isinstance(block, cst.BaseCompoundStatement):
                return None
        return None


def _names(node: cst.BaseExpression, module: str, *, whole: bool) -> bool:
    """Whether an expression spells the module, by the last part of its name; with ``whole`` also one that the module is in."""
    *owners, name = module.split(".")
    last = node.attr.value if isinstance(node, cst.Attribute) else getattr(node, "value", "")
    dotted = isinstance(node, cst.Name) or (
        isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name | cst.Attribute)
    )
    return dotted and (last == name or (whole and last in owners))


def _words(target: cst.BaseExpression) -> set[str]:
    """The variables of a loop's target."""
    elements = target.elements if isinstance(target, cst.Tuple | cst.List) else ()
    named = [target, *(element.value for element in elements)]
    return {node.value for node in named if isinstance(node, cst.Name)}
