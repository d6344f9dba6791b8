"""What is wrong wherever it stands, whatever the program does with it: dropout that no mode reaches, regions never entered.

Each file is read for itself, without being executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradlint.core import Confidence
from gradlint.flow import closures, expressions, facts, functions
from gradlint.flow.heap import LibRef
from gradlint.flow.run import Run
from gradlint.survey.lexical import statements

if TYPE_CHECKING:
    from gradlint.flow.program import Program
    from gradlint.knowledge import Row
    from gradlint.survey.source import SourceFile

RANDOM = re.compile(r"dropout|rrelu|scaled_dot_product", re.I)
REGION = re.compile(r"no_grad|inference_mode|enable_grad")
# Names and docstrings that say that dropout is to act in evaluation too.
ALWAYS_RANDOM = re.compile(
    r"(?:\b|_)mc(?:\b|_)|mcd|mc_?drop|monte|bayes|uncertain|stochastic|ensembl|prenet|always|augment"
    r"|even (?:in|at|during) (?:eval|test|inference)",
    re.I,
)
MODE = re.compile(r"(?:^|_)train(?:ing)?(?:$|_)|^mode$|deterministic|inference|(?:^|_)eval", re.I)
BUDGET = 2000

Function = ast.FunctionDef | ast.AsyncFunctionDef


def inspect(program: Program, file: SourceFile) -> list[facts.Fact]:
    """What a file says that is wrong in any program."""
    found = [*functions.inspect(program, file), *closures.inspect(program, file)]
    random, region = RANDOM.search(file.text), REGION.search(file.text)
    if file.tree is None or not (random or region):
        return found
    reader = _File(program, file)
    if region:
        reader.regions()
    if random:
        reader.dropouts()
    return [*found, *reader.found]


class _File:
    """One file that is read."""

    def __init__(self, program: Program, file: SourceFile) -> None:
        self.program = program
        self.file = file
        self.found: list[facts.Fact] = []
        self.run = Run(program, BUDGET)
        self.run.frame = program.file_frame(self.run, file)
        self.bindings = program.project.index(file).bindings

    def row(self, node: ast.expr) -> Row | None:
        """What is known of a library's function or class that is named by an import."""
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name) or not any(b.kind in ("import", "from") for b in self.bindings.get(root.id, ())):
            return None
        for item in expressions.evaluate(self.run, node).refs:
            if isinstance(item, LibRef):
                return self.program.knowledge.get(item.name)
        return None

    def fact(self, kind: type, node: ast.AST, confidence: Confidence, **fields: object) -> None:
        self.found.append(kind(self.file.span(node), confidence, (), **fields))

    # -- regions -------------------------------------------------------------------------------------------------------

    def regions(self) -> None:
        """Regions without gradient that are named, or made, and never entered."""
        assert self.file.tree is not None
        for node in statements(self.file.tree.body):
            if isinstance(node, ast.Expr):
                call = node.value if isinstance(node.value, ast.Call) else None
                if self._is_region(call.func if call is not None else node.value):
                    self.fact(
                        facts.NoGradWithoutEffect, node.value, Confidence.HIGH, form="dropped" if call is not None else "named"
                    )
            elif isinstance(node, ast.With | ast.AsyncWith):
                for item in node.items:
                    if self._is_region(item.context_expr):
                        self.fact(facts.NoGradWithoutEffect, item.context_expr, Confidence.HIGH, form="uncalled")

    def _is_region(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Attribute | ast.Name):
            return False
        row = self.row(node)
        return row is not None and row.effect == "scope" and not row.get("statement")

    # -- dropout -------------------------------------------------------------------------------------------------------

    def dropouts(self) -> None:
        """Dropout in the methods of modules that the mode of the module does not reach."""
        assert self.file.tree is not None
        random = self._random_names()
        for node in statements(self.file.tree.body):
            if not isinstance(node, ast.ClassDef):
                continue
            text = self._text(node)
            if not RANDOM.search(text) or not self.program.is_module_class(self.run, self.program.class_info(node, self.file)):
                continue
            if ALWAYS_RANDOM.search(node.name) or ALWAYS_RANDOM.search(ast.get_docstring(node) or ""):
                continue
            for function in node.body:
                if isinstance(function, Function) and function.name != "__init__" and random.search(self._text(function)):
                    self._method(function)

    def _text(self, node: ast.stmt) -> str:
        return "\n".join(self.file.lines[node.lineno - 1 : node.end_lineno])

    def _random_names(self) -> re.Pattern[str]:
        """What the text of a method has that calls something random, the file's own names for it included."""
        own = [
            re.escape(name)
            for name, found in self.bindings.items()
            if any(b.kind in ("import", "from") and RANDOM.search(f"{b.module}.{b.name}") for b in found)
        ]
        return re.compile("|".join([RANDOM.pattern, *own]), RANDOM.flags)

    def _method(self, function: Function) -> None:
        if ALWAYS_RANDOM.search(function.name) or ALWAYS_RANDOM.search(ast.get_docstring(function) or ""):
            return
        if MODE.search(function.name):  # a step of training, or of evaluation: it is run in one mode only
            return
        knows = any(_speaks_of_mode(part) for part in ast.walk(function))
        made = dict(_made(function))
        for call in ast.walk(function):
            if not isinstance(call, ast.Call):
                continue
            if isinstance(call.func, ast.Call):
                layer: ast.Call | None = call.func
            elif isinstance(call.func, ast.Name):
                layer = made.get(call.func.id)
            else:
                layer = None
            if layer is not None:
                self._layer(layer, knows)
            row = self.row(call.func) if isinstance(call.func, ast.Name | ast.Attribute) else None
            if row is not None and row.effect == "flow" and row.get("dropout"):
                self._function(call, row, knows, function)

    def _layer(self, made: ast.Call, knows: bool) -> None:
        """A layer made where it is used."""
        row = self.row(made.func)
        if row is None or row.effect != "module" or row.get("dropout") is not True or row.get("parameters") or knows:
            return
        rate = _given(made, ("p",)).get("p")
        if not _zero(rate) and not any(fact.span == self.file.span(made) for fact in self.found):
            self.fact(facts.DropoutIgnoresMode, made, Confidence.HIGH, form="layer", switch="")

    def _function(self, call: ast.Call, row: Row, knows: bool, inside: Function) -> None:
        """A function that drops, or may."""
        if any(keyword.arg is None for keyword in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args):
            return
        given = _given(call, row.get("positional", ()))
        rate, switch = given.get(str(row.get("rate"))), row.get("switch")
        if _zero(rate) or _is_argument(rate, inside):
            return
        if switch is None:
            if rate is not None and not knows:
                self.fact(facts.DropoutIgnoresMode, call, Confidence.HIGH, form="rate", switch="")
            return
        flag = given.get(switch)
        if flag is None and row.get("acts"):
            if not knows:
                self.fact(facts.DropoutIgnoresMode, call, Confidence.HIGH, form="function", switch=switch)
        elif isinstance(flag, ast.Constant) and flag.value is True and not knows:
            self.fact(facts.DropoutIgnoresMode, call, Confidence.MEDIUM, form="always", switch=switch)


def _speaks_of_mode(node: ast.AST) -> bool:
    """Whether a name says whether the module trains."""
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return bool(MODE.search(name))


def _given(call: ast.Call, names: tuple[str, ...]) -> dict[str, ast.expr]:
    """The arguments of a call by name."""
    given = dict(zip(names, call.args, strict=False))
    given.update({keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None})
    return given


def _is_argument(node: ast.expr | None, function: Function) -> bool:
    """Whether the callers of a function choose a value."""
    spec = function.args
    return isinstance(node, ast.Name) and node.id in {a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)}


def _zero(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and not node.value


def _made(function: Function) -> Iterator[tuple[str, ast.Call]]:
    """The local variables of a function that hold what a call made, and are given nothing else."""
    names: dict[str, list[ast.expr | None]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    names.setdefault(target.id, []).append(node.value)
                else:
                    stored = [inner.id for inner in ast.walk(node.value) if isinstance(inner, ast.Name)]
                    for name in stored:
                        names.setdefault(name, []).append(None)
    for name, values in names.items():
        if len(values) == 1 and isinstance(values[0], ast.Call):
            yield name, values[0]
