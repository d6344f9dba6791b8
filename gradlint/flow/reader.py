"""One file that is read for itself: names looked up as the program would, without anything being executed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from gradlint.core import Confidence, Span
from gradlint.flow import expressions
from gradlint.flow.heap import ClassRef, LibRef
from gradlint.flow.lattice import UNKNOWN_VALUE, Value
from gradlint.flow.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlint.flow.classes import ClassInfo
    from gradlint.flow.facts import Fact
    from gradlint.flow.program import Program
    from gradlint.knowledge import Row
    from gradlint.survey.source import SourceFile

BUDGET = 4000

Function = ast.FunctionDef | ast.AsyncFunctionDef
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class Reader:
    """A file, what its nodes stand in, and what was found in it."""

    def __init__(self, program: Program, file: SourceFile) -> None:
        assert file.tree is not None
        self.program = program
        self.file = file
        self.tree = file.tree
        self.found: list[Fact] = []
        self.run = Run(program, BUDGET)
        self.run.frame = program.file_frame(self.run, file)
        self.bindings = program.project.index(file).bindings
        self._around: dict[ast.AST, ast.AST] | None = None

    def value(self, node: ast.expr) -> Value:
        """What a dotted name of the top level is; unknown for everything else."""
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name) or root.id not in self.bindings:
            return UNKNOWN_VALUE
        return expressions.evaluate(self.run, node)

    def row(self, node: ast.expr) -> Row | None:
        """What is known of the library function or class that a dotted name is."""
        for item in self.value(node).refs:
            if isinstance(item, LibRef) and item.receiver is None:
                return self.program.knowledge.get(item.name)
        return None

    def project_class(self, node: ast.expr) -> ClassInfo | None:
        """The class of the project that a dotted name is."""
        refs = self.value(node).refs
        item = refs[0] if len(refs) == 1 else None
        return item.info if isinstance(item, ClassRef) else None

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """What a node stands in, from the inside out."""
        if self._around is None:
            self._around = {part: whole for whole in ast.walk(self.tree) for part in ast.iter_child_nodes(whole)}
        here = self._around.get(node)
        while here is not None:
            yield here
            here = self._around.get(here)

    def name_span(self, node: Function) -> Span:
        """The place of a function's name in its definition."""
        line = self.file.lines[node.lineno - 1]
        column = line.index(node.name, line.index("def ") + 4) + 1
        return Span(self.file.path, node.lineno, column, node.lineno, column + len(node.name))

    def fact(self, kind: type[Fact], place: ast.AST | Span, confidence: Confidence, **fields: object) -> None:
        """Note something about a node or a place."""
        span = place if isinstance(place, Span) else self.file.span(place)
        self.found.append(kind(span, confidence, (), **fields))


def own(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function or class without those of the functions and classes in it, which are yielded themselves."""
    todo = list(ast.iter_child_nodes(node))
    while todo:
        part = todo.pop(0)
        yield part
        if not isinstance(part, SCOPES):
            todo[:0] = ast.iter_child_nodes(part)


def bound(target: ast.AST) -> Iterator[str]:
    """The variables that an assignment target binds."""
    for part in ast.walk(target):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id


def is_test(file: SourceFile) -> bool:
    """Whether a file holds tests."""
    parts = file.path.split("/")
    return (
        any(part in ("test", "tests") for part in parts[:-1]) or parts[-1].startswith("test_") or parts[-1].endswith("_test.py")
    )
