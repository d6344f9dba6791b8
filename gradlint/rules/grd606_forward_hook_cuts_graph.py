"""GRD606. Page: rules/GRD606-forward-hook-cuts-graph.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import HookCutsGraph
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import agree, code, names


class ForwardHookCutsGraph(Rule[HookCutsGraph]):
    """GRD606: what a forward hook returns has no graph, and takes the place of the module's output."""

    spec = RuleSpec(
        "GRD606",
        "forward-hook-cuts-graph",
        group=Group.AUTOGRAD,
        severity=Severity.ERROR,
        probe="flow",
    )
    facts = (HookCutsGraph,)

    def tell(self, fact: HookCutsGraph, fix: Fix | None = None) -> None:
        if fact.scope == "kept":
            self._kept(fact, fix)
            return
        subjects = names(fact.starved)
        them = agree(fact.starved, "it", "them")
        self.report(
            fact.span,
            f"What this hook returns takes the place of the module's output, and {code(fact.api)} ({self.place(fact.cut)}) has "
            f"cut it off: no gradient of the loss at {self.place(fact.loss)} gets back to {subjects} through {them}.",
            fact=fact,
            help="Return nothing from a hook that only looks, and keep what it notes apart from what it returns.",
            claim=Claim("flow", {"loss": "severed", "term": "inert"}.get(fact.scope, "starved"), fact.starved, fact.cut),
            fix=fix,
        )

    def _kept(self, fact: HookCutsGraph, fix: Fix | None) -> None:
        """A hook keeps a severed copy for a layer of the same network."""
        self.report(
            fact.span,
            f"The forward hook keeps a value that {code(fact.api)} ({self.place(fact.cut)}) has cut off, and the network goes "
            f"on from it: by that way no gradient of the loss at {self.place(fact.loss)} gets back to {names(fact.starved)}.",
            fact=fact,
            help="Keep the output as it is where the network needs it again; detach what is only looked at.",
            claim=Claim("flow", "severed-way", fact.starved, fact.cut),
            fix=fix,
        )
