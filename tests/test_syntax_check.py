"""How rules are run over a file: faults are contained, and nothing that is known goes unsaid."""

from __future__ import annotations

import ast
import gc
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import libcst as cst
import pytest

from gradlint.core import Confidence, Edit, Finding, Fix, Group, RuleSpec, Safety, Severity, Span
from gradlint.flow.facts import (
    BackwardDisabled,
    DeviceRoundTrip,
    Fact,
    FrozenAfterOptimizer,
    FrozenNormTraining,
    MisspelledGradAttribute,
    ModuleFlagAssigned,
    Severed,
    UncalledMethod,
)
from gradlint.rules import all_rules
from gradlint.survey.source import SourceFile, from_text
from gradlint.syntax import candidate as candidate_module
from gradlint.syntax.check import check_file
from gradlint.syntax.rule import Rule

LOSS = Span("train.py", 8, 1, 8, 9)
ROOT = Path(__file__).resolve().parent.parent


def source(text: str, path: str = "m.py") -> SourceFile:
    return from_text(text, Path("/p") / path, path)


def cut(line: int, column: int, end: int, file: str = "m.py") -> Severed:
    return Severed(
        Span(file, line, column, line, end), Confidence.MEDIUM, (), "detach", "call", ".detach()", ("a",), "loss", LOSS
    )


class Plain(Rule[Severed]):
    """A rule for the tests."""

    spec = RuleSpec("GRD998", "plain", Group.OWN, Severity.ERROR, Safety.SAFE)
    facts = (Severed,)

    def visit_Call(self, node: cst.Call) -> None:
        if fact := self.fact(Severed, node):
            self.report(node, "met", fact=fact, replacement=cst.Name("y"))

    def tell(self, fact: Severed, fix: Fix | None = None) -> None:
        self.report(fact.span, "told", fact=fact)


class Broken(Plain):
    """One that breaks at its second call and cannot be told of others."""

    spec = replace(Plain.spec, code="GRD997", name="broken")
    met: ClassVar[list[str]] = []

    def visit_Call(self, node: cst.Call) -> None:
        self.met.append(self.candidate.code(node))
        if len(self.met) > 1:
            raise ValueError("lost\nhere")
        super().visit_Call(node)

    def tell(self, fact: Severed, fix: Fix | None = None) -> None:
        if fact.span.line == 3:
            raise KeyError("also")
        super().tell(fact)


class Quiet(Plain):
    """One that decides on the syntax to say nothing."""

    spec = replace(Plain.spec, code="GRD996", name="quiet")

    def visit_Call(self, node: cst.Call) -> None:
        self.fact(Severed, node)


TEXT = "a = x()\nb = y()\nc = z()\n"
FACTS = [cut(1, 5, 8), cut(2, 5, 8), cut(3, 5, 8)]


def test_findings_in_order_with_the_facts_confidence() -> None:
    findings = check_file(source(TEXT), [*reversed(FACTS), cut(1, 1, 2, "other.py")], [Plain])
    assert [(finding.span.line, finding.message, finding.confidence) for finding in findings] == [
        (line, "met", Confidence.MEDIUM) for line in (1, 2, 3)
    ]
    assert findings[0].fix == Fix("Write `y`", (Edit(FACTS[0].span, "y"),), Safety.SAFE)


def test_a_broken_rule_is_one_finding_and_the_others_go_on() -> None:
    Broken.met.clear()
    findings = check_file(source(TEXT), FACTS, [Broken, Plain])
    said = [(finding.code, finding.span.line, finding.message) for finding in findings]
    assert ("GRD997", 1, "met") in said
    assert ("GRD997", 2, "told") in said  # its node made the rule break, the fact alone did not
    assert [entry for entry in said if entry[0] == "GRD998"] == [("GRD998", line, "met") for line in (1, 2, 3)]
    internal = [finding for finding in findings if finding.code == "GRD000"]
    assert [finding.message for finding in internal] == [
        "GRD997 broke while it looked at this file, and may have missed something here (ValueError: lost here)."
    ]
    assert internal[0].name == "internal-error"
    assert "fault of gradlint" in internal[0].help


def test_a_rule_that_breaks_before_it_starts() -> None:
    class Early(Plain):
        @classmethod
        def concerns(cls, fact: Severed) -> bool:
            raise RuntimeError("early")

    findings = check_file(source(TEXT), FACTS, [Early])
    assert [finding.code for finding in findings] == ["GRD000"]
    assert "RuntimeError: early" in findings[0].message


def test_the_internal_error_of_the_check_is_the_rule_of_that_name() -> None:
    from gradlint.syntax.check import INTERNAL_ERROR

    spec = next(rule.spec for rule in all_rules() if rule.spec.code == "GRD000")
    assert (spec.code, spec.name) == INTERNAL_ERROR
    assert spec.severity is Severity.WARNING


def test_a_rule_may_stay_silent_on_syntax_but_not_for_want_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_file(source(TEXT), FACTS, [Quiet]) == []
    off = cut(1, 4, 8)
    assert [finding.message for finding in check_file(source(TEXT), [off], [Quiet])] == ["told"]

    def unreadable(text: str) -> cst.Module:
        raise cst.ParserSyntaxError("no", lines=[text], raw_line=1, raw_column=0)

    monkeypatch.setattr(candidate_module.cst, "parse_module", unreadable)
    findings = check_file(source(TEXT), FACTS, [Plain, Quiet])
    assert [(finding.code, finding.message, finding.fix) for finding in findings] == [
        (code, "told", None) for _ in range(3) for code in ("GRD996", "GRD998")
    ]


def test_no_facts_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate_module.cst, "parse_module", lambda _: pytest.fail("parsed"))
    assert check_file(source(TEXT), [], all_rules()) == []
    assert check_file(source(TEXT), [cut(1, 1, 2, "other.py")], all_rules()) == []


def test_only_flagged_pieces_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = cst.parse_module
    monkeypatch.setattr(candidate_module.cst, "parse_module", lambda text: parsed.append(text) or parse(text))
    text = (
        "def f():\n    return a()\n\n\nclass B:\n    def g(self):\n        return b()\n\n    def h(self):\n        return c()\n"
    )
    findings = check_file(source(text), [cut(7, 16, 19), cut(7, 16, 19)], [Plain])
    assert len(findings) == 1
    assert parsed == ["if 1:\n    def g(self):\n        return b()\n"]


def test_a_fix_that_would_break_the_syntax_is_dropped() -> None:
    class Breaking(Plain):
        def visit_Call(self, node: cst.Call) -> None:
            if fact := self.fact(Severed, node):
                self.report(node, "met", fact=fact, replacement="(")

    finding = check_file(source(TEXT), FACTS[:1], [Breaking])[0]
    assert (finding.message, finding.fix) == ("met", None)


def test_confidence_is_lowered_never_raised() -> None:
    class Sure(Plain):
        def visit_Call(self, node: cst.Call) -> None:
            if fact := self.fact(Severed, node):
                wish = Confidence.HIGH if fact.span.line == 1 else Confidence.LOW
                self.report(node, "met", fact=fact, confidence=wish, severity=Severity.INFO)

    findings = check_file(source(TEXT), FACTS[:2], [Sure])
    assert [(finding.confidence, finding.severity) for finding in findings] == [
        (Confidence.MEDIUM, Severity.INFO),
        (Confidence.LOW, Severity.INFO),
    ]


def test_no_syntax_outside_a_visit() -> None:
    with pytest.raises(RuntimeError, match="no syntax"):
        _ = Plain(source(TEXT), FACTS).candidate


# --- real code -------------------------------------------------------------------------------------------------------


def made_up(file: SourceFile, chance: random.Random) -> Iterator[Fact]:
    """Facts of every kind wherever their shape of syntax stands in a file, true or not."""
    assert file.tree is not None
    more: tuple[Any, ...] = (("model.a",), "module", LOSS)
    assigned: list[Span] = []
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call):
            span, api = file.span(node), ast.unparse(node.func).splitlines()[0]
            kind = chance.choice(("detach", "python", "nondifferentiable", "cpu", "freeze", "norm"))
            if kind == "cpu":
                yield DeviceRoundTrip(span, Confidence.HIGH, (), api, LOSS)
            elif kind == "norm":
                yield FrozenNormTraining(span, Confidence.HIGH, (), api.rpartition(".")[0] or "a", ("bn",), True)
            elif kind == "freeze":
                if assigned:
                    yield FrozenAfterOptimizer(span, Confidence.HIGH, (), assigned[-1], LOSS, ("a",), chance.random() < 0.5)
            else:
                renamed = "rsample" if kind == "nondifferentiable" else ""
                yield Severed(span, Confidence.HIGH, (), kind, "call", api, *more, renamed)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if chance.random() < 0.5:
                yield Severed(file.span(node), Confidence.HIGH, (), "data", "attribute", ".data", *more)
            else:
                yield UncalledMethod(file.span(node), Confidence.HIGH, (), "module", node.attr)
        elif isinstance(node, ast.Assign):
            span = file.span(node)
            assigned.append(span)
            target = node.targets[0]
            if isinstance(target, ast.Attribute):
                right = ("requires_grad", "requires_grad_")[chance.random() < 0.5]
                yield ModuleFlagAssigned(span, Confidence.HIGH, (), ast.unparse(target.value), None)
                yield MisspelledGradAttribute(span, Confidence.HIGH, (), target.attr, right, "attribute", chance.random() < 0.5)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Compare):
            yield MisspelledGradAttribute(file.span(node), Confidence.HIGH, (), "a", "requires_grad", "comparison", False)
        elif isinstance(node, ast.With | ast.AsyncWith):
            last = node.items[-1]
            begin, end = file.span(node), file.span(last.optional_vars or last.context_expr)
            item = ast.unparse(chance.choice(node.items).context_expr)
            span = replace(begin, end_line=end.end_line, end_column=end.end_column)
            yield Severed(span, Confidence.HIGH, (), "no-grad", "with", item, *more)
            yield BackwardDisabled(span, Confidence.HIGH, (), "with", item, LOSS)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                yield Severed(
                    file.span(decorator), Confidence.HIGH, (), "no-grad", "decorator", "@" + ast.unparse(decorator), *more
                )


def applied(file: SourceFile, edits: Sequence[Edit]) -> str:
    starts = [0]
    for index, char in enumerate(file.text):
        if char == "\n" or (char == "\r" and file.text[index + 1 : index + 2] != "\n"):
            starts.append(index + 1)
    starts.append(len(file.text))

    def offset(line: int, column: int) -> int:
        return min(starts[min(line, len(starts)) - 1] + column - 1, len(file.text))

    text = file.text
    for edit in sorted(edits, key=lambda edit: edit.span, reverse=True):
        begin, end = offset(edit.span.line, edit.span.column), offset(edit.span.end_line, edit.span.end_column)
        text = text[:begin] + edit.text + text[end:]
    return text


def strings(text: str) -> set[str]:
    """The strings of several lines in a text, which must parse."""
    values = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
    return {value for value in values if isinstance(value, str) and "\n" in value}


def lifted(file: SourceFile, finding: Finding) -> str:
    """What the tree should be after a region's fix: its decorator gone, its item gone, its block in place of the statement."""
    assert finding.fix is not None

    class Lift(ast.NodeTransformer):
        def generic_visit(self, node: ast.AST) -> ast.AST | list[ast.stmt]:  # type: ignore[override]
            super().generic_visit(node)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                node.decorator_list = [entry for entry in node.decorator_list if file.span(entry) != finding.span]
            if isinstance(node, ast.With | ast.AsyncWith):
                here = file.span(node)
                if (here.line, here.column) == (finding.span.line, finding.span.column):
                    kept = [item for item in node.items if f"`{ast.unparse(item.context_expr)}`" not in finding.message]
                    if len(node.items) == 1 or not kept:
                        return node.body
                    node.items = kept
            return node

    return ast.dump(Lift().visit(ast.parse(file.text)))


def misused(file: SourceFile, seed: int) -> list[Finding]:
    """Every rule over made-up facts; each finding stands at its fact and each fix leaves Python, with its strings, behind."""
    facts = list(made_up(file, random.Random(seed)))
    findings = check_file(file, facts, all_rules())
    places = {fact.span for fact in facts}
    assert {finding.span for finding in findings} <= places
    assert not [finding.message for finding in findings if finding.code == "GRD000"]
    met = {(finding.code, finding.span) for finding in findings}
    assert len(met) == len(findings)
    before = strings(file.text)
    regions = [finding for finding in findings if finding.code in ("GRD101", "GRD109")]
    for finding in [*regions, *random.Random(seed).sample(findings, min(len(findings), 60))]:
        if finding.fix is not None:
            after = applied(file, finding.fix.edits)
            assert after != file.text
            kept = strings(after)  # raises when the fix broke the syntax
            if finding in regions:
                assert kept >= before, finding
                assert ast.dump(ast.parse(after)) == lifted(file, finding), finding
    return findings


STANDARD = Path(ast.__file__).parent
REAL = (
    "asyncio/streams",
    "asyncio/taskgroups",
    "contextlib",
    "dataclasses",
    "threading",
    "tempfile",
    "unittest/case",
    "zipfile",
)
"""Modules of the standard library to try the rules on: decorators, regions, generators, long strings, all of Python's age."""


def standard(name: str) -> str:
    """The first few hundred lines of a module, to the end of a statement."""
    path = STANDARD / f"{name}.py"
    text = (path if path.exists() else STANDARD / name / "__init__.py").read_text(encoding="utf-8")
    ends = [node.end_lineno or 0 for node in ast.parse(text).body]
    return "".join(text.splitlines(keepends=True)[: max([end for end in ends if end <= 300], default=ends[0])])


@pytest.mark.parametrize("name", REAL)
def test_made_up_facts_over_real_code(name: str) -> None:
    assert misused(source(standard(name)), 1)
    assert gc.isenabled()


@pytest.mark.parametrize("seed", range(6))
def test_made_up_facts_over_damaged_code(seed: int) -> None:
    """As above, after lines were taken out, doubled, moved in or joined: what still parses is odd, and must not matter."""
    chance = random.Random(seed)
    lines = standard(chance.choice(REAL)).split("\n")
    for _ in range(150):
        attempt = list(lines)
        at = chance.randrange(len(attempt))
        match chance.randrange(6):
            case 0:
                del attempt[at]
            case 1:
                attempt.insert(at, attempt[chance.randrange(len(attempt))])
            case 2:
                attempt[at] += "  # 🙂 noted"
            case 3:
                attempt[at] = attempt[at].replace("    ", "\t")
            case 4:
                attempt[at] = attempt[at].replace(" = ", " = \\\n      ", 1)
            case 5:
                attempt[at : at + 2] = ["; ".join(line.strip() for line in attempt[at : at + 2])]
        try:
            ast.parse("\n".join(attempt))
        except SyntaxError:
            continue
        lines = attempt
    misused(source(chance.choice(("\n", "\r\n", "\r")).join(lines)), seed)
