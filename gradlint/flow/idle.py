"""Statements that do nothing because nobody has their result. Each file is read for itself, without being executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from gradlint.core import Confidence, Step
from gradlint.flow import expressions, facts
from gradlint.flow.facts import ResultDropped
from gradlint.flow.heap import LibRef
from gradlint.flow.run import Exhausted, Run

if TYPE_CHECKING:
    from gradlint.flow.program import Program
    from gradlint.survey.source import SourceFile

# Methods of tensors that return a new one; of a module, some of them work in place.
MOVES = frozenset("to cuda cpu float double half bfloat16 long int clone type contiguous requires_grad".split())
DROPPED = re.compile(rf"^\s*[\w.\[\]'\"]+\.(?:detach|{'|'.join(MOVES)})\(.*\)\s*(?:#.*)?$|\.requires_grad_\s*(?:#.*)?$", re.M)
UPDATED = re.compile(r"^\s*(\w+)\s*=\s*\1\s*[-+].*\b\1\.grad\b|=\s*\[\s*(\w+)\s*[-+].*\b\2\.grad\b.*\bfor\s+\2\b", re.M)
BUDGET = 2000

Function = ast.FunctionDef | ast.AsyncFunctionDef


def inspect(program: Program, file: SourceFile) -> list[facts.Fact]:
    """What a file says in vain."""
    if file.tree is None:
        return []
    found: list[facts.Fact] = []
    if DROPPED.search(file.text):
        with suppress(Exhausted):
            found += _Dropped(program, file).facts()
    if UPDATED.search(file.text):
        found += _updates(file)
    return found


class _Dropped:
    """Statements of one file that throw a new tensor away, where the text alone says that it is one."""

    def __init__(self, program: Program, file: SourceFile) -> None:
        self.program = program
        self.file = file
        self.run = Run(program, BUDGET)
        self.run.frame = program.file_frame(self.run, file)
        self.bindings = program.project.index(file).bindings

    def facts(self) -> Iterator[facts.Fact]:
        assert self.file.tree is not None
        for scope in ast.walk(self.file.tree):
            if not isinstance(scope, Function | ast.Module):
                continue
            made = _bindings(scope)
            for statement in _own(scope):
                if not isinstance(statement, ast.Expr):
                    continue
                call = statement.value
                if isinstance(call, ast.Attribute) and call.attr == "requires_grad_":
                    yield self._fact(call, "requires_grad_", "uncalled")
                elif isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                    target, method = call.func.value, call.func.attr
                    if method not in MOVES and method != "detach":
                        continue
                    if isinstance(target, ast.Name) and target.id in made and all(map(self._makes_tensor, made[target.id])):
                        yield self._fact(call, method, "detach" if method == "detach" else "move")

    def _fact(self, node: ast.expr, method: str, form: str) -> ResultDropped:
        return ResultDropped(self.file.span(node), Confidence.HIGH, (), method=method, form=form, each=False)

    def _makes_tensor(self, node: ast.expr | None) -> bool:
        """Whether an expression is a call of a library's function that makes a tensor."""
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Attribute) and node.func.attr in MOVES | {"detach"}:
            return self._makes_tensor(node.func.value)
        root = node.func
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name) or not any(b.kind in ("import", "from") for b in self.bindings.get(root.id, ())):
            return False
        for item in expressions.evaluate(self.run, node.func).refs:
            if isinstance(item, LibRef) and item.name.startswith("torch."):
                row = self.program.knowledge.get(item.name)
                return row is not None and row.effect == "leaf"
        return False


def _own(scope: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a function or file, not those of the functions and classes in it."""
    todo = list(getattr(scope, "body", []))
    while todo:
        statement = todo.pop(0)
        if isinstance(statement, Function | ast.ClassDef):
            continue
        yield statement
        for name in ("body", "orelse", "finalbody"):
            todo.extend(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            todo.extend(handler.body)


def _bindings(scope: ast.AST) -> dict[str, list[ast.expr | None]]:
    """What the variables of a scope are given; None for what is no plain assignment."""
    found: dict[str, list[ast.expr | None]] = {}
    if isinstance(scope, Function):
        spec = scope.args
        for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs):
            found[argument.arg] = [None]
    for statement in _own(scope):
        plain = statement.targets if isinstance(statement, ast.Assign) else []
        for target in plain:
            if isinstance(target, ast.Name) and isinstance(statement, ast.Assign):
                found.setdefault(target.id, []).append(statement.value)
        parts = [child for child in ast.iter_child_nodes(statement) if not isinstance(child, ast.stmt | ast.ExceptHandler)]
        for part in (inner for child in parts for inner in ast.walk(child)):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store) and not any(part is target for target in plain):
                found.setdefault(part.id, []).append(None)
    return found


# -- updates that nobody reads -------------------------------------------------------------------------------------------


def _updates(file: SourceFile) -> Iterator[facts.Fact]:
    """``p = p - lr * p.grad`` of a variable of a loop or an argument that nothing reads afterwards."""
    assert file.tree is not None
    for loop in ast.walk(file.tree):
        if isinstance(loop, ast.For | ast.While):
            yield from _listed(file, loop)
    for scope in ast.walk(file.tree):
        if isinstance(scope, ast.For):
            names = {part.id for part in ast.walk(scope.target) if isinstance(part, ast.Name)}
            body = scope.body
        elif isinstance(scope, Function):
            spec = scope.args
            names = {a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)}
            body = scope.body
        else:
            continue
        for statement in _statements(body, loops=isinstance(scope, ast.For)):
            name = _updated(statement)
            if name in names and not _read_after(body, statement, name):
                where = file.span(statement)
                path = (Step(where, f"nothing reads `{name}` after this"),)
                yield facts.LeafRebound(
                    where, Confidence.HIGH, path, name=name, form="lost", used="", use=where, off=False, cleared=True
                )


def _listed(file: SourceFile, loop: ast.For | ast.While) -> Iterator[facts.Fact]:
    """``weights = [w - lr * w.grad for w in weights]`` in a loop: no leaves, whose gradient is read in the next turn."""
    for statement in ast.walk(loop):
        if (
            not isinstance(statement, ast.Assign)
            or len(statement.targets) != 1
            or not isinstance(statement.value, ast.ListComp)
        ):
            continue
        made, (comprehension, *more) = statement.value.elt, statement.value.generators
        name, item = ast.unparse(statement.targets[0]), comprehension.target
        if more or not isinstance(item, ast.Name) or ast.unparse(comprehension.iter) != name:
            continue
        if _updates_itself(made, item.id) and "requires_grad" not in ast.unparse(loop):
            where = file.span(statement)
            path = (Step(where, f"in the next turn the tensors in `{name}` have no gradient"),)
            yield facts.LeafRebound(
                where, Confidence.HIGH, path, name=name, form="listed", used="grad", use=where, off=False, cleared=True
            )


def _statements(body: list[ast.stmt], *, loops: bool) -> Iterator[ast.Assign]:
    """The assignments of a block, not those of functions in it; those of loops in it only where ``loops`` says."""
    for statement in body:
        if isinstance(statement, ast.Assign):
            yield statement
        elif isinstance(statement, ast.With | ast.If) or (loops and isinstance(statement, ast.Try)):
            yield from _statements(statement.body, loops=loops)
            yield from _statements(getattr(statement, "orelse", []), loops=loops)


def _updated(statement: ast.Assign) -> str:
    """The variable that a statement computes from itself and its own gradient."""
    value = statement.value
    if len(statement.targets) != 1 or not isinstance(statement.targets[0], ast.Name) or not isinstance(value, ast.BinOp):
        return ""
    name = statement.targets[0].id
    return name if _updates_itself(value, name) else ""


def _updates_itself(value: ast.expr, name: str) -> bool:
    """``w - lr * w.grad``."""
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Add | ast.Sub):
        return False
    own = isinstance(value.left, ast.Name) and value.left.id == name
    return own and any(
        isinstance(part, ast.Attribute) and part.attr == "grad" and isinstance(part.value, ast.Name) and part.value.id == name
        for part in ast.walk(value.right)
    )


def _read_after(body: list[ast.stmt], statement: ast.Assign, name: str) -> bool:
    """Whether a variable is used after a statement, or may be by a function that sees it."""
    after = statement.end_lineno or statement.lineno
    for part in body:
        for node in ast.walk(part):
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load) and node.lineno > after:
                return True
            if isinstance(node, ast.Global | ast.Nonlocal) and name in node.names:
                return True
            if isinstance(node, Function | ast.Lambda) and any(
                isinstance(inner, ast.Name) and inner.id == name for inner in ast.walk(node)
            ):
                return True
    return False
