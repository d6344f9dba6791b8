"""GRD301. Page: rules/GRD301-frozen-batchnorm-in-train-mode.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import FrozenNormTraining
from gradlint.syntax.evaluation import evaluated
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
        changes, module = evaluated(self.candidate, fact.module, node, owner)
        self.tell(fact, self.fix(f"Put {code(module or fact.module)} into eval mode", changes), module)
