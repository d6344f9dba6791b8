"""GRD207. Page: rules/GRD207-misspelled-grad-attribute.md"""

from __future__ import annotations

import libcst as cst

from gradlint.core import Claim, Fix, Group, RuleSpec, Safety, Severity
from gradlint.flow.facts import MisspelledGradAttribute
from gradlint.syntax import edits
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class MisspelledAttribute(Rule[MisspelledGradAttribute]):
    """GRD207: an assignment misses the gradient attribute it is meant for."""

    spec = RuleSpec(
        "GRD207",
        "misspelled-grad-attribute",
        group=Group.MEMBERSHIP,
        severity=Severity.ERROR,
        fix=Safety.SAFE,
        probe="membership",
    )
    facts = (MisspelledGradAttribute,)

    def visit_Assign(self, node: cst.Assign) -> None:
        if fact := self.fact(MisspelledGradAttribute, node):
            changes: edits.Edits = ()
            targets = [target.target for target in node.targets]
            if not _calls(fact):
                for target in targets:
                    if isinstance(target, cst.Attribute) and target.attr.value == _attribute(fact.written):
                        changes += edits.rename(self.candidate, target.attr, fact.right)
            elif len(targets) == 1:
                changes = edits.as_call(self.candidate, targets[0], node.value, _method(fact))
            self._tell_with(fact, changes)

    def visit_Expr(self, node: cst.Expr) -> None:
        if fact := self.fact(MisspelledGradAttribute, node):
            changes: edits.Edits = ()
            match node.value:
                case cst.Comparison(left=left, comparisons=[cst.ComparisonTarget(operator=cst.Equal(), comparator=value)]):
                    if _calls(fact):
                        changes = edits.as_call(self.candidate, left, value, _method(fact))
                    elif not node.value.lpar and isinstance(left, cst.Attribute):
                        changes = edits.join(self.candidate, left, value, " = ")
                        if changes and left.attr.value != fact.right:
                            changes += edits.rename(self.candidate, left.attr, fact.right)
            self._tell_with(fact, changes)

    def tell(self, fact: MisspelledGradAttribute, fix: Fix | None = None) -> None:
        written = code(fact.written)
        match fact.form:
            case "comparison":
                message = f"{written} is compared, not assigned: the result is thrown away and nothing changes."
            case "method":
                message = f"{written} is a method: assigning to it replaces the method and changes no parameter."
            case _:
                message = f"PyTorch does not know {written}: assigning it makes a new attribute and changes nothing."
        right = code(f".{_method(fact)}(…)") if _calls(fact) else code(f".{fact.right} = …")
        self.report(
            fact.span,
            message,
            fact=fact,
            help=f"Write {right}.",
            claim=Claim("membership", "flag-without-effect", (), fact.span),
            fix=fix,
        )

    def _tell_with(self, fact: MisspelledGradAttribute, changes: edits.Edits) -> None:
        name = f".{_method(fact)}(…)" if _calls(fact) else f".{fact.right} = …"
        self.tell(fact, self.fix(f"Write {code(name)}", changes))


def _attribute(written: str) -> str:
    """The name of the attribute in what is written."""
    return written.split("=")[0].strip().rpartition(".")[2]


def _calls(fact: MisspelledGradAttribute) -> bool:
    """Whether a method call is meant: a module has no such attribute to assign."""
    return fact.on_module or fact.right.endswith("_")


def _method(fact: MisspelledGradAttribute) -> str:
    return f"{fact.right.removesuffix('_')}_"
