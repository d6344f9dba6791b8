"""GRD103. Page: rules/GRD103-cpu-in-graph.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import DeviceRoundTrip
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class CpuInGraph(Rule[DeviceRoundTrip]):
    """GRD103: the loss takes a detour over the CPU."""

    spec = RuleSpec(
        "GRD103",
        "cpu-in-graph",
        group=Group.GRAPH,
        severity=Severity.WARNING,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (DeviceRoundTrip,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(DeviceRoundTrip, node):
            changes: edits.Edits = ()
            if fact.api.startswith(".") and isinstance(node.func, cst.Attribute):  # a method of the tensor that moves
                changes = edits.replace(self.candidate, node, node.func.value)
            self.tell(fact, self.fix(f"Drop {code(fact.api)}", changes))

    def tell(self, fact: DeviceRoundTrip, fix: Fix | None = None) -> None:
        self.report(
            fact.span,
            f"{code(fact.api)} leads the way to the loss at {self.place(fact.loss)} over the CPU. The gradient survives that, "
            "but each step waits for the device and copies, forward and backward, and what follows runs on the CPU.",
            fact=fact,
            help="Keep the value on its device; move only what is logged or stored, after `.detach()`.",
            claim=Claim("flow", "leaves-device", (), fact.span),
            fix=fix,
        )
