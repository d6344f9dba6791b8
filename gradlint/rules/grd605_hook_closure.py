"""GRD605. Page: rules/GRD605-hook-closure.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Edit, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import HookClosure as Fact
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code, names


class HookClosure(Rule[Fact]):
    """GRD605: the hooks made in a loop all see its last turn."""

    spec = RuleSpec(
        "GRD605",
        "hook-closure",
        group=Group.AUTOGRAD,
        severity=Severity.ERROR,
        fix=Safety.SAFE,
        probe="flow",
    )
    facts = (Fact,)

    def visit_Lambda(self, node: cst.Lambda) -> None:
        if fact := self.fact(Fact, node):
            self.tell(fact, self._bound(fact, node.params))

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        if fact := self.fact(Fact, node.name):
            self.tell(fact, self._bound(fact, node.params))

    def tell(self, fact: Fact, fix: Fix | None = None) -> None:
        late = names(fact.names)
        name = fact.names[0]
        self.report(
            fact.span,
            f"The hook looks {late} up when it runs, and by then the loop is over: all hooks that {code(fact.api)} registers "
            "here see the values of the last turn.",
            fact=fact,
            help=f"Bind the value when the hook is made: an argument with a default, {code(f'{name}={name}')}.",
            claim=Claim("flow", "late-bound", fact.names, fact.span),
            fix=fix,
        )

    def _bound(self, fact: Fact, params: cst.Parameters) -> Fix | None:
        """The variables as arguments with defaults, behind all others."""
        if params.star_kwarg is not None or not params.params:
            return None
        new = ", ".join(f"{name}={name}" for name in fact.names)
        if isinstance(params.star_arg, cst.Param) or params.kwonly_params:
            last = params.kwonly_params[-1] if params.kwonly_params else params.star_arg
        else:
            last = params.params[-1]
        if not isinstance(last, cst.Param):
            return None
        span = self.candidate.span(last)
        end = Span(span.file, span.end_line, span.end_column, span.end_line, span.end_column)
        return self.fix(f"Bind {names(fact.names)} when the hook is made", (Edit(end, f", {new}"),))
