"""GRD303. Page: rules/GRD303-frozen-dropout-in-train-mode.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import FrozenDropoutTraining
from gradlint.syntax.evaluation import evaluated
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import agree, code, expression, names


class FrozenDropoutInTrainMode(Rule[FrozenDropoutTraining]):
    """GRD303: a network is frozen, but goes on dropping units."""

    spec = RuleSpec(
        "GRD303",
        "frozen-dropout-in-train-mode",
        group=Group.STATE,
        severity=Severity.WARNING,
        fix=Safety.UNSAFE,
        probe="state",
    )
    facts = (FrozenDropoutTraining,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(FrozenDropoutTraining, node):
            if fact.form == "use":
                self.tell(fact)
                return
            receiver = node.func.value if isinstance(node.func, cst.Attribute) else None
            self._tell_at(fact, node, receiver)

    def visit_Assign(self, node: cst.Assign) -> None:
        if fact := self.fact(FrozenDropoutTraining, node):
            target = node.targets[0].target
            owner = target.value if isinstance(target, cst.Attribute) and len(node.targets) == 1 else None
            self._tell_at(fact, node, owner)

    def tell(self, fact: FrozenDropoutTraining, fix: Fix | None = None, module: str = "") -> None:
        """As for any rule; ``module`` is how the code spells what is frozen, where that can be seen."""
        subject = module or fact.module
        call = code(f"{module or expression(fact.module)}.eval()")
        state = "is frozen but runs" if fact.form == "freeze" else "is not trained, and runs"
        when = "after the freeze" if fact.form == "freeze" else "once it is loaded"
        self.report(
            fact.span,
            f"{code(subject)} {state} in train mode: {names(fact.layers, 'its dropout')} "
            f"{agree(fact.layers, 'drops', 'drop')} units at random, and what trains on it ({self.place(fact.loss)}) sees "
            "another network in every batch.",
            fact=fact,
            help=f"Call {call} {when}, and again after each `train()` that covers it.",
            claim=Claim(
                "state",
                "random-though-frozen" if fact.form == "freeze" else "evaluated-in-train-mode",
                (fact.module,),
                fact.span,
            ),
            fix=fix,
        )

    def _tell_at(self, fact: FrozenDropoutTraining, node: cst.Call | cst.Assign, owner: cst.BaseExpression | None) -> None:
        changes, module = evaluated(self.candidate, fact.module, node, owner)
        self.tell(fact, self.fix(f"Put {code(module or fact.module)} into eval mode", changes), module)
