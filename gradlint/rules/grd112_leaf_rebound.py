"""GRD112. Page: rules/GRD112-leaf-rebound.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import LeafRebound as Fact
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class LeafRebound(Rule[Fact]):
    """GRD112: a name loses the leaf tensor that it is taken for."""

    spec = RuleSpec(
        "GRD112",
        "leaf-rebound",
        group=Group.GRAPH,
        severity=Severity.ERROR,
        fix=Safety.UNSAFE,
        probe="flow",
    )
    facts = (Fact,)

    def visit_Assign(self, node: cst.Assign) -> None:
        if fact := self.fact(Fact, node):
            self.tell(fact, self.fix(*self._fixed(fact, node)))

    def tell(self, fact: Fact, fix: Fix | None = None) -> None:
        name, gradient = code(fact.name), code(f"{fact.name}.grad")
        in_place = "Change it in place, under `torch.no_grad()`, and clear its gradient."
        if fact.form == "lost":
            message = f"This gives {name} a new tensor, which nothing reads: the tensor that has the gradient stays as it was."
            help = in_place
        elif fact.form == "listed":
            message = (
                f"This fills {name} with new tensors, which are no leaves: in the next turn none of them has a gradient, and "
                "the tensors that are updated are no longer trained."
            )
            help = "Change each in place, under `torch.no_grad()`, and clear its gradient."
        elif fact.used == "optimizer":
            message = (
                f"{name} is the result of an operation and no leaf: the optimizer at {self.place(fact.use)} refuses it, "
                "because it cannot be optimized."
            )
            help = "Make the tensor where it is to be first, then let it require gradient."
        elif fact.used == "loss":
            message = (
                f"This gives {name} a new tensor that does not require gradient: the loss at {self.place(fact.use)} comes "
                "from it, and the tensor that was to be trained is not part of that loss."
            )
            help = in_place
        elif fact.form == "update":
            message = (
                f"This gives {name} a new tensor, which is no leaf: {gradient} at {self.place(fact.use)} is None from then on, "
                "and what is updated is no longer trained."
            )
            help = in_place
        else:
            message = (
                f"{name} is the result of an operation here and no leaf: {gradient}, read at {self.place(fact.use)}, is None; "
                "the gradient is in a tensor that has no name."
            )
            help = "Do this first, and call `requires_grad_()` on the result."
        self.report(
            fact.span, message, fact=fact, help=help, claim=Claim("flow", "not-a-leaf", (fact.name,), fact.span), fix=fix
        )

    def _fixed(self, fact: Fact, node: cst.Assign) -> tuple[str, edits.Edits]:
        if fact.form in ("update", "lost"):
            return "Update in place", self._in_place(fact, node)
        if fact.form == "derived":
            return "Require gradient last", self._last(node)
        return "", ()

    def _in_place(self, fact: Fact, node: cst.Assign) -> edits.Edits:
        """``w -= …`` for ``w = w - …``, in a region without gradient."""
        value = node.value
        if not isinstance(value, cst.BinaryOperation) or len(node.targets) != 1:
            return ()
        target = self.candidate.code(node.targets[0].target)
        sign = {cst.Subtract: "-=", cst.Add: "+="}.get(type(value.operator))
        if sign is None or self.candidate.code(value.left) != target:
            return ()
        update = f"{target} {sign} {self.candidate.code(value.right)}"
        if fact.off or self._under_region(node):
            return edits.replace(self.candidate, node, update)
        line = next(self.candidate.ancestors(node), None)
        if not isinstance(line, cst.SimpleStatementLine) or len(line.body) > 1:
            return ()
        text = self.candidate.text.line(self.candidate.span(line).line)
        indent = text[: len(text) - len(text.lstrip())]
        lines = ["with torch.no_grad():", f"{indent}    {update}"]
        if not fact.cleared:
            lines.append(f"{indent}{target}.grad = None")
        return edits.replace(self.candidate, node, self.candidate.text.newline.join(lines))

    def _under_region(self, node: cst.CSTNode) -> bool:
        return any(
            isinstance(around, cst.With) and "grad" in self.candidate.code(item.item)
            for around in self.candidate.ancestors(node)
            for item in (around.items if isinstance(around, cst.With) else ())
        )

    def _last(self, node: cst.Assign) -> edits.Edits:
        """``requires_grad=True`` taken out of the call that makes the tensor, and called for at the end."""
        here = node.value
        while isinstance(here, cst.Call) and isinstance(here.func, cst.Attribute) and isinstance(here.func.value, cst.Call):
            here = here.func.value
        if not isinstance(here, cst.Call) or here is node.value:
            return ()
        for before, argument in zip(here.args, here.args[1:], strict=False):
            if argument.keyword is not None and argument.keyword.value == "requires_grad":
                gone = edits.drop_after(self.candidate, before, argument)
                return (*gone, *edits.append(self.candidate, node.value, ".requires_grad_()")) if gone else ()
        return ()
