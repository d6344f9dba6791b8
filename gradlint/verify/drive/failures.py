"""What went wrong in an attempt, and which values the failing condition compared."""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gradlint.verify.drive.reading import path_to_line

__all__ = ["Clash", "Failure", "Frame"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a traceback. ``names``: the names and ``self`` attributes that the failing expression uses."""

    filename: str
    line: int
    function: str
    values: dict[str, Any] = field(repr=False)
    space: dict[str, Any] = field(repr=False)
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clash:
    """A comparison that came out wrong: ``have`` is on one side and ``want`` on the other, in either order.

    ``operator``: ``==``, ``in``, ``%``, ``<`` (left should be at least right), ``isinstance`` or ``none``.
    ``left``: the source of the left side, ``names`` the names in the comparison.
    """

    operator: str
    have: Any
    want: Any
    left: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception of an attempt. ``stage``: ``construct``, ``forward`` or ``backward``."""

    stage: str
    kind: str
    message: str
    frames: tuple[Frame, ...] = ()
    clashes: tuple[Clash, ...] = ()
    error: BaseException | None = field(default=None, repr=False)

    @property
    def signature(self) -> str:
        """What stays the same when the same thing fails again with the same numbers."""
        last = self.frames[-1] if self.frames else None
        return f"{self.stage}|{self.kind}|{self.message[:200]}|{last.line if last else ''}"

    @property
    def summary(self) -> str:
        """The first line of the message, with the kind."""
        text = self.message.strip().splitlines()[0] if self.message.strip() else ""
        return f"{self.kind}: {text}"[:240] if text else self.kind

    @property
    def numbers(self) -> list[int]:
        """The whole numbers in the message, in order."""
        return [int(text) for text in re.findall(r"(?<![\w.])\d+(?![\w.]*\w)|(?<=\[)\d+|(?<=x)\d+|\d+(?=x)", self.message)]


# Frames that say nothing: ours, and those through which torch hands its functions on
_OURS = re.compile(r"[\\/]gradlint[\\/]verify[\\/]|[\\/]torch[\\/](overrides|utils[\\/]_device)\.py$|^<drive>$")


def from_exception(stage: str, error: BaseException) -> Failure:
    """Read an exception with its traceback."""
    frames: list[Frame] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not _OURS.search(code.co_filename):
            frames.append(
                Frame(
                    code.co_filename,
                    trace.tb_lineno,
                    code.co_name,
                    trace.tb_frame.f_locals,
                    trace.tb_frame.f_globals,
                    tuple(_names_at(code, trace.tb_lasti)),
                )
            )
        trace = trace.tb_next
    try:
        message = str(error)
    except Exception:
        message = ""
    clashes: list[Clash] = []
    for frame in reversed(frames[-5:]):
        clashes.extend(_clashes(frame))
    return Failure(stage, type(error).__name__, message, tuple(frames), tuple(clashes), error)


def _names_at(code: types.CodeType, instruction: int) -> Iterator[str]:
    """The names in the expression that failed."""
    positions = list(code.co_positions())
    if instruction < 0 or instruction // 2 >= len(positions):
        return
    start, end, first, last = positions[instruction // 2]
    if start is None or end is None:
        return
    seen: set[str] = set()
    for statement in path_to_line(code.co_filename, start)[-1:]:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name | ast.Attribute) and start <= node.lineno <= end:
                if node.lineno == start and first is not None and node.col_offset < first and start == end:
                    continue
                name = node.id if isinstance(node, ast.Name) else node.attr
                if name not in seen:
                    seen.add(name)
                    yield name


def _clashes(frame: Frame) -> Iterator[Clash]:
    path = path_to_line(frame.filename, frame.line)
    if not path:
        return
    last = path[-1]
    if isinstance(last, ast.Assert):
        yield from _compared(last.test, True, frame)
    elif isinstance(last, ast.Raise):
        for statement in reversed(path[:-1]):
            if isinstance(statement, ast.If):
                inside = any(item is path[path.index(statement) + 1] for item in statement.body)
                yield from _compared(statement.test, not inside, frame)
                break
    else:
        for node in (
            ast.walk(last) if not isinstance(last, ast.FunctionDef | ast.ClassDef | ast.For | ast.While | ast.With) else ()
        ):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"_assert", "check_argument"}
                and node.args
            ):
                yield from _compared(node.args[0], True, frame)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"_assert"} and node.args:
                yield from _compared(node.args[0], True, frame)


def _compared(test: ast.expr, wanted: bool, frame: Frame) -> Iterator[Clash]:
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from _compared(operand, not wanted, frame)
        case ast.BoolOp(values=values):
            for value in values:
                if bool(_value(value, frame)) is not wanted:
                    yield from _compared(value, wanted, frame)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [left, *comparators]
            for index, operator in enumerate(ops):
                yield from _comparison(sides[index], operator, sides[index + 1], wanted, frame)
        case ast.Call(func=ast.Name(id="isinstance"), args=[subject, kind]) if wanted:
            yield Clash("isinstance", _value(subject, frame), _value(kind, frame), ast.unparse(subject), _names(subject))
        case ast.Call(func=ast.Name(id="all" | "any")):
            yield Clash("all", None, None, ast.unparse(test), _names(test))
        case ast.BinOp(op=ast.Mod(), left=left, right=right) if not wanted:
            yield Clash("%", _value(left, frame), _value(right, frame), ast.unparse(left), _names(test))
        case ast.Name() | ast.Attribute():
            yield Clash("truth", _value(test, frame), wanted, ast.unparse(test), _names(test))


def _comparison(left: ast.expr, operator: ast.cmpop, right: ast.expr, wanted: bool, frame: Frame) -> Iterator[Clash]:
    names = (*_names(left), *_names(right))
    match left:
        case ast.BinOp(op=ast.Mod(), left=number, right=divisor) if isinstance(operator, ast.Eq if wanted else ast.NotEq):
            yield Clash("%", _value(number, frame), _value(divisor, frame), ast.unparse(number), names)
            return
    have, want = _value(left, frame), _value(right, frame)
    text = ast.unparse(left)
    match operator:
        case ast.Eq() if wanted:
            yield Clash("==", have, want, text, names)
        case ast.NotEq() if not wanted:
            yield Clash("==", have, want, text, names)
        case ast.In() if wanted:
            yield Clash("in", have, want, text, names)
        case ast.NotIn() if not wanted:
            yield Clash("in", have, want, text, names)
        case ast.IsNot() if wanted and want is None:
            yield Clash("none", have, want, text, names)
        case ast.Is() if not wanted and want is None:
            yield Clash("none", have, want, text, names)
        case ast.Gt() | ast.GtE():
            yield Clash("<", have, want, text, names) if wanted else Clash(">", have, want, text, names)
        case ast.Lt() | ast.LtE():
            yield Clash(">", have, want, text, names) if wanted else Clash("<", have, want, text, names)
        case ast.Is() | ast.Eq() | ast.NotEq() | ast.IsNot():
            yield Clash("differ", have, want, text, names)


def _value(node: ast.expr, frame: Frame) -> Any:
    try:
        return eval(compile(ast.Expression(node), "<drive>", "eval"), frame.space, dict(frame.values))
    except Exception:
        return None


def _names(node: ast.AST) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            item.id if isinstance(item, ast.Name) else item.attr
            for item in ast.walk(node)
            if isinstance(item, ast.Name | ast.Attribute)
        )
    )
