"""What the source of a constructor or a forward tells about its parameters, before anything runs."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

__all__ = [
    "Shape",
    "choices",
    "documented",
    "first_use",
    "mentions",
    "parsed",
    "parts_of",
    "path_to_line",
    "shapes",
    "spelled",
    "tree_of",
]


@functools.lru_cache(maxsize=512)
def _tree(code: Any) -> ast.FunctionDef | None:
    try:
        text = textwrap.dedent(inspect.getsource(code))
        tree = ast.parse(text)
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            return node
    return None


def tree_of(function: Any) -> ast.FunctionDef | None:
    """The syntax tree of a function, ``None`` where its source is not to be had."""
    try:
        function = inspect.unwrap(function)
    except ValueError:
        return None
    code = getattr(function, "__code__", None)
    return _tree(code) if code is not None else None


@functools.lru_cache(maxsize=256)
def parsed(filename: str) -> ast.Module | None:
    """The tree of a whole file that Python has read."""
    try:
        return ast.parse("".join(linecache.getlines(filename)))
    except (SyntaxError, ValueError):
        return None


def path_to_line(filename: str, line: int) -> list[ast.stmt]:
    """The statements that hold a line, the outermost first."""
    tree = parsed(filename)
    path: list[ast.stmt] = []
    body: list[ast.AST] = list(tree.body) if tree else []
    while body:
        for node in body:
            if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
                path.append(node)
                body = list(ast.iter_child_nodes(node))
                break
            if isinstance(node, ast.ExceptHandler | ast.match_case):
                inner = [item for item in node.body if item.lineno <= line <= (item.end_lineno or item.lineno)]
                if inner:
                    path.extend(inner[:1])
                    body = list(ast.iter_child_nodes(inner[0]))
                    break
        else:
            break
    return path


@dataclass(frozen=True, slots=True)
class Shape:
    """The names that a parameter's dimensions have in the source; empty strings where they have none."""

    names: tuple[str, ...]


def shapes(function: Callable[..., Any], parameter: str) -> Iterator[Shape]:
    """How the source takes a tensor's shape apart: unpacked sizes, permutations, patterns of einops, the most telling first."""
    tree = tree_of(function)
    if tree is None:
        return
    weaker: list[Shape] = []
    aliases = {parameter}
    for node in _in_order(tree):
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=elements)], value=value) if _is_shape_of(value, aliases):
                if not any(isinstance(element, ast.Starred) for element in elements):
                    yield Shape(tuple(element.id if isinstance(element, ast.Name) else "" for element in elements))
                else:
                    after = [element.id for element in elements if isinstance(element, ast.Name)]
                    if isinstance(elements[0], ast.Starred):
                        weaker.append(Shape(("b", "n", *after)))
            case ast.Assign(targets=[ast.Name(id=target)], value=ast.Name(id=source)) if source in aliases:
                aliases.add(target)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="permute"), args=args) if name in aliases and args:
                order = args[0].elts if isinstance(args[0], ast.Tuple | ast.List) else args
                weaker.append(_permuted([item.value for item in order if isinstance(item, ast.Constant)]))
            case ast.Call(func=function_node, args=[ast.Name(id=name), ast.Constant(value=str(pattern)), *_]) if (
                name in aliases and _last_name(function_node) in {"rearrange", "reduce", "repeat"}
            ):
                left = pattern.split("->")[0]
                weaker.append(
                    Shape(tuple("" if part.startswith("(") else part for part in re.findall(r"\([^)]*\)|[\w.]+", left)))
                )
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Tuple(elts=elements)) if name in aliases:
                if not any(isinstance(item, ast.Constant) and item.value in {None, Ellipsis} for item in elements):
                    weaker.append(Shape(("",) * len(elements)))
            case ast.Subscript(value=value, slice=ast.Constant(value=int(index))) if (
                _is_shape_of(value, aliases) and index >= 2
            ):
                weaker.append(Shape(("",) * (index + 1)))
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[ast.Constant(value=int(rank))]) if _is_rank_of(
                left, aliases
            ):
                weaker.append(Shape(("",) * rank))
    yield from weaker


_SPELLED = re.compile(
    r"(?<![\w.])([A-Z]\d?(?:\s?x\s?(?:[A-Z]\d?|\d+)){1,5})(?![\w.])"  # BxCxHxW
    r"|[\[(]((?:\*|[A-Za-z]\w*|[1-9]\d*)(?:\s*,\s*(?:\*|[A-Za-z][^,()\[\]]{0,14}|[1-9]\d*)){1,5})[\])]"  # (B, C, H, W)
)


_SIZE = re.compile(
    r"\*|\d+|[A-Z](_?[a-z]\w{0,4}|_?\d|[A-Z]{0,2})|[bnchwdtlskvp]|batch(_size)?|channels?|height|width|depth|length|frames?|dim|hidden(_size|_dim)?|"
    r"features?|num_\w+|seq(uence)?(_len(gth)?)?|tokens|\w+_(len(gth)?|dim|size|channels|features)",
)


def spelled(text: str) -> Iterator[Shape]:
    """Shapes that a text spells out: ``BxCxHxW``, ``(B, C, H, W)``."""
    for found in _SPELLED.finditer(text):
        names = re.split(r"\s?x\s?", found[1]) if found[1] else [part.strip() for part in found[2].split(",")]
        if all(name.isdigit() for name in names) or not all(_SIZE.fullmatch(name) for name in names):
            continue
        yield Shape(tuple("" if name == "*" else name for name in names))


def documented(owner: Any, parameter: str, *, first: bool) -> Iterator[Shape]:
    """Shapes that docstrings give for a parameter of forward: beside its name, or as the input under ``Shape``."""
    for text in (inspect.getdoc(getattr(owner, "forward", None)) or "", inspect.getdoc(owner) or ""):
        lines = text.splitlines()
        for index, line in enumerate(lines):
            if re.match(rf"\s*[-*]?\s*(:param\s+)?`*{re.escape(parameter)}`*\s*(\(|:)", line) or (
                first and re.match(r"\s*[-*]?\s*Inputs?\s*(\w+)?:", line)
            ):
                block = " ".join(
                    [
                        re.sub(r"^\s*[-*]?\s*(:param\s+)?`*\w+`*\s*(\([^)]*[Tt]ensor[^)]*\))?", "", line),
                        *lines[index + 1 : index + 3],
                    ]
                )
                found = list(spelled(block.replace("\\text", "").replace("{", "").replace("}", "")))
                yield from sorted(found, key=lambda shape: -len(shape.names))  # the batched one, where both are given
                if found:
                    return


def _permuted(order: list[Any]) -> Shape:
    if order == [0, 3, 1, 2]:
        return Shape(("b", "h", "w", "c"))
    if order == [0, 2, 3, 1]:
        return Shape(("b", "c", "h", "w"))
    return Shape(("",) * len(order))


def _in_order(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        yield child
        yield from _in_order(child)


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _is_shape_of(node: ast.AST, names: set[str]) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id=name), attr="shape"):
            return name in names
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="size"), args=[]):
            return name in names
        case _:
            return False


def _is_rank_of(node: ast.AST, names: set[str]) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="dim" | "ndimension")):
            return name in names
        case ast.Attribute(value=ast.Name(id=name), attr="ndim"):
            return name in names
        case ast.Call(func=ast.Name(id="len"), args=[inner]):
            return _is_shape_of(inner, names)
        case _:
            return False


@dataclass(frozen=True, slots=True)
class Use:
    """A parameter handed on to something of ``self``.

    ``path``: the attribute, ``encoder.conv1``.  ``position``: which positional argument, or ``keyword``.  ``function``: the
    function that takes both (``linear``, ``conv2d``, ``matmul``), empty where ``path`` itself is called.
    """

    path: str
    position: int = 0
    keyword: str = ""
    function: str = ""


def first_use(function: Callable[..., Any], parameter: str) -> Use | None:
    """Where a parameter first meets a submodule or a weight of ``self``."""
    tree = tree_of(function)
    if tree is None:
        return None
    aliases = {parameter}
    weaker: Use | None = None

    def known(node: ast.AST) -> bool:
        return isinstance(node, ast.Name | ast.Subscript | ast.Attribute | ast.Call) and ast.unparse(node) in aliases

    for node in _evaluated(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if known(value):
                aliases.add(target)
            case ast.Call(func=func, args=args, keywords=keywords):
                path = _self_path(func)
                if path:
                    for position, given in enumerate(args):
                        if known(given):
                            return Use(path, position)
                    for keyword in keywords:
                        if known(keyword.value) and keyword.arg:
                            return Use(path, 0, keyword.arg)
                elif len(args) >= 2 and known(args[0]) and weaker is None:
                    weight = _self_path(args[1])
                    if weight:
                        weaker = Use(weight, 0, "", _last_name(func))
            case ast.BinOp(left=left, op=ast.MatMult(), right=right) if weaker is None and known(left):
                weight = _self_path(right)
                if weight:
                    weaker = Use(weight, 0, "", "matmul")
            case ast.For(target=ast.Name(id=each), iter=over, body=body) if weaker is None and _self_path(over):
                calls = [inner for statement in body for inner in ast.walk(statement) if isinstance(inner, ast.Call)]
                if any(_last_name(inner.func) == each and any(known(given) for given in inner.args) for inner in calls):
                    return Use(f"{_self_path(over)}.0")
    return weaker


def parts_of(function: Callable[..., Any], parameter: str) -> tuple[str, tuple[str, ...]]:
    """Whether the source takes a parameter for a ``dict`` or an ``object``, and the keys or attributes it asks for.

    Empty strings and tuples where it does neither. Attributes that a tensor has do not count.
    """
    tree = tree_of(function)
    keys: dict[str, None] = {}
    attributes: dict[str, None] = {}
    for node in ast.walk(tree) if tree is not None else ():
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))) if name == parameter:
                keys.setdefault(key)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="get" | "pop"), args=[ast.Constant(value=str(key)), *_]
            ) if name == parameter:
                keys.setdefault(key)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name == parameter and attribute not in _PLAIN:
                attributes.setdefault(attribute)
    if keys:
        return "dict", tuple(keys)
    return ("object", tuple(attributes)) if attributes else ("", ())


_PLAIN = set(dir(torch.Tensor)) | set(dir(list)) | set(dir(dict)) | set(dir(str)) | set(dir(tuple))


def _evaluated(tree: ast.FunctionDef) -> Iterator[ast.AST]:
    """Nodes in the order of evaluation, roughly: arguments before calls, statements in their order."""

    def visit(node: ast.AST) -> Iterator[ast.AST]:
        if isinstance(node, ast.For):
            yield node
        for child in ast.iter_child_nodes(node):
            yield from visit(child)
        if not isinstance(node, ast.For):
            yield node

    for statement in tree.body:
        yield from visit(statement)


def _self_path(node: ast.AST) -> str:
    parts: list[str] = []
    while True:
        match node:
            case ast.Attribute(value=inner, attr=attribute):
                parts.append(attribute)
                node = inner
            case ast.Subscript(value=inner, slice=ast.Constant(value=int() | str() as key)):
                parts.append(str(key))
                node = inner
            case ast.Subscript(value=inner):
                parts.append("0")
                node = inner
            case ast.Name(id="self"):
                return ".".join(reversed(parts))
            case _:
                return ""


def choices(function: Callable[..., Any], parameter: str) -> list[str]:
    """The strings that a parameter is compared with, or that key the dict it is looked up in."""
    tree = tree_of(function)
    found: dict[str, None] = {}
    if tree is None:
        return []
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq() | ast.In() | ast.NotIn()], comparators=[right]):
                for one, other in ((left, right), (right, left)):
                    if _stem(one) == parameter:
                        for item in other.elts if isinstance(other, ast.Tuple | ast.List | ast.Set) else [other]:
                            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                                found.setdefault(item.value)
            case ast.Subscript(value=ast.Dict(keys=keys), slice=index) if _stem(index) == parameter:
                found.update((key.value, None) for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
            case ast.Match(subject=subject, cases=cases) if _stem(subject) == parameter:
                for case in cases:
                    for inner in ast.walk(case.pattern):
                        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                            found.setdefault(inner.value)
    return list(found)


def _stem(node: ast.AST) -> str:
    """``mode`` for ``mode``, ``self.mode`` and ``mode.lower()``."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Call(func=ast.Attribute(value=inner, attr="lower" | "upper" | "strip"), args=[]):
            return _stem(inner)
        case ast.Attribute(attr=name):  # self.mode, config.mode
            return name
        case _:
            return ""


def mentions(function: Any, name: str) -> bool:
    """Whether the source of a function or class uses a name."""
    try:
        text = inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError, ValueError):
        return False
    return re.search(rf"\b{re.escape(name)}\b", text) is not None
