"""Rewrites the user's source as it is loaded: says when the line of a claim is reached, and keeps ``float(tensor)`` in sight.

Lines and columns stay what they are.  Only files of the user's are touched, and only in a worker process.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any, NamedTuple

from gradlint.core import Claim, Span

REACHED, FLAG, VALUE, NUMBER, LEGACY, ITERATED, PASSES = (
    "__gradlint_reached__",
    "__gradlint_flag__",
    "__gradlint_value__",
    "__gradlint_number__",
    "__gradlint_legacy__",
    "__gradlint_iterated__",
    "__gradlint_passes__",
)
_CONSTRUCTORS = frozenset(("Tensor", "FloatTensor", "DoubleTensor", "HalfTensor", "LongTensor", "IntTensor", "Variable"))


class Asked(NamedTuple):
    """A claim and its number."""

    number: int
    claim: Claim


class Hooks(NamedTuple):
    """What the rewritten source calls.

    ``reached(number)``: the statement of a claim runs.  ``flag(number, receiver, value)``: a gradient flag was assigned on
    ``receiver``; ``value`` is the literal, or None.  ``value(number, thing)``: the value of a bare expression statement.
    ``number(kind, arguments)``: ``float`` or ``int`` called.  ``legacy(constructor, arguments, options)``: an old constructor.
    ``iterated(number, thing)``: something is about to be gone over; what it returns is gone over instead.
    ``passes(number, value)``: a value is assigned or given to a call; what it returns is used instead.
    """

    reached: Callable[[int], None]
    flag: Callable[[int, Any, Any], None]
    value: Callable[[int, Any], Any]
    number: Callable[..., Any]
    legacy: Callable[..., Any]
    iterated: Callable[[int, Any], Any]
    passes: Callable[[int, Any], Any]


def compile_source(source: str | bytes, file: str, asked: Sequence[Asked]) -> CodeType:
    """The code of a file of the user's, rewritten for the claims about it.

    Raises:
        SyntaxError: the file does not parse.
    """
    tree = ast.parse(source, file)
    _Rewriter(asked).visit(tree)
    ast.fix_missing_locations(tree)
    return compile(tree, file, "exec", dont_inherit=True)


def install(hooks: Hooks, is_user: Callable[[str], bool], asked: Mapping[str, Sequence[Asked]]) -> None:
    """Rewrite whatever file of the user's is imported from now on; ``asked`` has the claims by absolute path."""
    for name, hook in zip((REACHED, FLAG, VALUE, NUMBER, LEGACY, ITERATED, PASSES), hooks, strict=True):
        setattr(builtins, name, hook)
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(loader: importlib.machinery.SourceFileLoader, fullname: str) -> CodeType | None:
        path = loader.get_filename(fullname)
        if not is_user(path):
            return original(loader, fullname)
        return compile_source(loader.get_data(path), path, asked.get(path, ()))

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]


_ASSIGNED = ("flag-without-effect", "not-registered")
"""The claims about an assignment, which want to know on what it was made."""


_ARGUMENTS = frozenset(("graph-outlives", "carried", "leaks-into", "late-bound", "hook-changes-dtype"))
"""The claims whose site may be a call, and which want to see what it is given."""
_RESULTS = frozenset(("let-through", "bypassed"))
"""The claims whose site may be an expression, and which want to see its value."""
_STATEMENTS = frozenset(
    ("graph-outlives", "carried", "let-through", "not-a-leaf", "not-saved", "too-few-gradients", "hook-changes-dtype")
)
"""The claims whose site may be a statement that assigns or returns, and which want to see what."""


class _Rewriter(ast.NodeTransformer):
    def __init__(self, asked: Sequence[Asked]) -> None:
        self.asked = list(asked)

    # Statements ------------------------------------------------------------------------------------------------------

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                setattr(node, field, self._block(body))
        return node

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        new: list[ast.stmt] = []
        for statement in body:
            before: list[ast.stmt] = []
            after: list[ast.stmt] = []
            for asked in self.asked:
                self._mark(statement, asked, before, after)
            new += [*before, statement, *after]
        return new

    def _mark(self, statement: ast.stmt, asked: Asked, before: list[ast.stmt], after: list[ast.stmt]) -> None:
        site = asked.claim.site
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            if any(_around(decorator, site.line) for decorator in statement.decorator_list):
                position = 1 if ast.get_docstring(statement, clean=False) is not None else 0
                statement.body.insert(position, _call(REACHED, statement.body[0], asked.number))
            if asked.claim.kind == "late-bound" and statement.lineno <= site.line < statement.body[0].lineno:
                before.append(_call(REACHED, statement, asked.number))
                name = ast.copy_location(ast.Name(statement.name, ast.Load()), statement.body[0])
                passed = _expression(PASSES, name, ast.Constant(asked.number), name)
                target = ast.copy_location(ast.Name(statement.name, ast.Store()), statement.body[0])
                after.append(ast.copy_location(ast.Assign([target], passed), statement.body[0]))
            return
        if not _heads(statement, site.line, site.end_line):
            return
        before.append(_call(REACHED, statement, asked.number))
        if asked.claim.kind in _ASSIGNED:
            receiver, value = _flag(statement)
            if receiver is not None:
                after.append(_call(FLAG, statement, asked.number, receiver, value))
        if asked.claim.kind == "never-called" and isinstance(statement, ast.Expr):
            statement.value = _expression(VALUE, statement.value, ast.Constant(asked.number), statement.value)
        if asked.claim.kind == "discarded" and isinstance(statement, ast.Expr):
            match statement.value:
                case ast.Call(func=ast.Attribute() as method):
                    method.value = _expression(PASSES, method.value, ast.Constant(asked.number), method.value)
            statement.value = _expression(VALUE, statement.value, ast.Constant(asked.number), statement.value)
        if asked.claim.kind in _STATEMENTS and isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Return):
            if statement.value is not None:
                statement.value = _expression(PASSES, statement.value, ast.Constant(asked.number), statement.value)

    # Expressions -----------------------------------------------------------------------------------------------------

    def visit(self, node: ast.AST) -> Any:
        visited = super().visit(node)
        if isinstance(visited, ast.expr):
            for asked in self.asked:
                if asked.claim.kind == "exhausted" and _is_at(node, asked.claim.site):
                    return self._on_its_way(ITERATED, visited, asked.number)
                if asked.claim.kind in _ARGUMENTS and isinstance(visited, ast.Call | ast.Lambda):
                    if _is_at(node, asked.claim.site):
                        return self._on_its_way(PASSES, visited, asked.number)
                if asked.claim.kind in _RESULTS and _is_at(node, asked.claim.site) and _is_read(visited):
                    return _expression(PASSES, visited, ast.Constant(asked.number), visited)
        return visited

    def _on_its_way(self, hook: str, node: ast.expr, number: int) -> ast.expr:
        """An expression whose value passes a hook; of a call, the arguments do."""
        if not isinstance(node, ast.Call):
            return _expression(hook, node, ast.Constant(number), node)
        node.args = [
            argument if isinstance(argument, ast.Starred) else _expression(hook, argument, ast.Constant(number), argument)
            for argument in node.args
        ]
        for keyword in node.keywords:
            if keyword.arg is not None:
                keyword.value = _expression(hook, keyword.value, ast.Constant(number), keyword.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name("float" | "int"), args=[_], keywords=[]):
                return _expression(NUMBER, node, node.func, *node.args)
            case ast.Call(func=ast.Name("map"), args=[ast.Name("float" | "int" as kind) as name, *_]):
                node.args[0] = ast.copy_location(
                    ast.Lambda(
                        ast.arguments([], [ast.arg("x")], None, [], [], None, []),
                        _expression(NUMBER, name, ast.Name(kind, ast.Load()), ast.Name("x", ast.Load())),
                    ),
                    name,
                )
            case ast.Call(func=ast.Attribute(attr=word) | ast.Name(id=word), args=[_, *_]) if word in _CONSTRUCTORS:
                return ast.copy_location(ast.Call(_name(LEGACY, node), [node.func, *node.args], node.keywords), node)
        return node


def _heads(statement: ast.stmt, line: int, end_line: int) -> bool:
    """Whether lines belong to a statement itself, not to a statement within it."""
    inner = [child for field in ("body", "orelse", "finalbody", "handlers", "cases") for child in getattr(statement, field, ())]
    first: int | None = min((_first(child) for child in inner), default=None)
    if isinstance(statement, ast.ClassDef):
        return False
    last = (statement.end_lineno or statement.lineno) if first is None else max(statement.lineno, first - 1)
    return statement.lineno <= line <= last or (statement.lineno == line and first == line)


def _first(node: ast.AST) -> int:
    decorators = getattr(node, "decorator_list", ())
    pattern = getattr(node, "pattern", None)
    own: int = getattr(node, "lineno", getattr(pattern, "lineno", 1 << 30))
    return min([own, *(int(each.lineno) for each in decorators)])


def _around(node: ast.expr, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _is_at(node: ast.AST, site: Span) -> bool:
    """Whether an expression is the site; columns are compared where the line is ASCII, as most are."""
    if not isinstance(node, ast.expr):
        return False
    return (node.lineno, node.col_offset + 1, node.end_lineno, (node.end_col_offset or 0) + 1) == (
        site.line,
        site.column,
        site.end_line,
        site.end_column,
    )


def _is_read(node: ast.expr) -> bool:
    return isinstance(getattr(node, "ctx", ast.Load()), ast.Load) and not isinstance(node, ast.Starred)


def _flag(statement: ast.stmt) -> tuple[ast.expr | None, ast.expr]:
    """The thing whose flag a statement means to set, as an expression to evaluate again, and the literal value."""
    match statement:
        case ast.Assign(targets=[ast.Attribute(value=receiver), *_], value=value):
            pass
        case ast.Assign(targets=[ast.Tuple(elts=[ast.Attribute(value=receiver), *_]), *_], value=value):
            pass
        case ast.AnnAssign(target=ast.Attribute(value=receiver), value=ast.expr() as value):
            pass
        case ast.Expr(ast.Compare(left=ast.Attribute(value=receiver), comparators=[value])):
            pass
        case _:
            return None, ast.Constant(None)
    literal = value.value if isinstance(value, ast.Constant) and isinstance(value.value, bool) else None
    return receiver, ast.Constant(literal)


def _name(name: str, at: ast.AST) -> ast.Name:
    return ast.copy_location(ast.Name(name, ast.Load()), at)


def _expression(name: str, at: ast.expr, *arguments: ast.expr) -> ast.Call:
    return ast.copy_location(ast.Call(_name(name, at), list(arguments), []), at)


def _call(name: str, at: ast.stmt, number: int, *arguments: ast.expr) -> ast.Expr:
    import copy

    call = ast.Call(ast.Name(name, ast.Load()), [ast.Constant(number), *map(copy.deepcopy, arguments)], [])
    statement = ast.Expr(call)
    for node in ast.walk(statement):
        if isinstance(node, ast.expr | ast.stmt):
            node.lineno = node.end_lineno = at.lineno
            node.col_offset = node.end_col_offset = at.col_offset
    for argument in ast.walk(call):
        if isinstance(argument, ast.Attribute | ast.Name | ast.Subscript):
            argument.ctx = ast.Load()
    return statement
