"""Edits from concrete syntax: what is not meant keeps its text, its whitespace and its comments.

Each function returns the edits of one change, or an empty tuple where the change cannot be made without losing something.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import libcst as cst

from gradlint.core import Edit, Span
from gradlint.syntax.candidate import Candidate

Edits = tuple[Edit, ...]

_COMMENT = re.compile(r"#")
_GAP = re.compile(r"(?:\s|#[^\r\n]*|\\(?=[\r\n]))*")
_ATOMS = (
    cst.Name,
    cst.Attribute,
    cst.Call,
    cst.Subscript,
    cst.Integer,
    cst.Float,
    cst.Imaginary,
    cst.SimpleString,
    cst.FormattedString,
    cst.List,
    cst.Set,
    cst.Dict,
    cst.ListComp,
    cst.SetComp,
    cst.DictComp,
)
_Suite = cst.IndentedBlock | cst.SimpleStatementSuite | cst.Module


# Expressions ---------------------------------------------------------------------------------------------------------


def replace(candidate: Candidate, node: cst.CSTNode, new: cst.CSTNode | str) -> Edits:
    """Put ``new``, a node or text, where ``node`` stands; parentheses around ``node`` stay.

    Where ``new`` is the beginning of ``node``, only the rest goes, and a comment between the two stays.
    """
    span = candidate.span(node)
    old = candidate.text.slice(span)
    text = new if isinstance(new, str) else candidate.code(new)
    if old.startswith(text):
        kept = len(text)
        gap = _GAP.match(old, kept)
        if gap is not None and _COMMENT.search(gap.group()):
            kept = gap.end()
        return _clean(candidate, (Edit(_from(candidate, span, kept), ""),))
    if isinstance(new, cst.BaseExpression):
        text = _parenthesized(candidate, node, new, text)
    if _COMMENT.search(old) and not _COMMENT.search(text):
        return ()
    return (Edit(span, text),)


def rename(candidate: Candidate, name: cst.Name, new: str) -> Edits:
    """Exchange one name."""
    if name.value == new:
        return ()
    return (Edit(candidate.span(name), new),)


def append(candidate: Candidate, node: cst.BaseExpression, text: str) -> Edits:
    """Write ``text`` right behind an expression, within the parentheses around it."""
    span = candidate.span(node)
    return (Edit(Span(span.file, span.end_line, span.end_column, span.end_line, span.end_column), text),)


def append_at(span: Span, text: str) -> Edits:
    """Write ``text`` right behind a place."""
    return (Edit(Span(span.file, span.end_line, span.end_column, span.end_line, span.end_column), text),)


def prepend(candidate: Candidate, node: cst.BaseExpression, text: str) -> Edits:
    """Write ``text`` right before an expression."""
    span = candidate.outer_span(node)
    return (Edit(Span(span.file, span.line, span.column, span.line, span.column), text),)


def drop_argument(candidate: Candidate, call: cst.Call, index: int) -> Edits:
    """Take out an argument of a call that another one follows."""
    if index + 1 >= len(call.args):
        return ()
    here, following = candidate.span(call.args[index]), candidate.span(call.args[index + 1])
    return _clean(candidate, (Edit(Span(here.file, here.line, here.column, following.line, following.column), ""),))


def keep_first_argument(candidate: Candidate, call: cst.Call) -> Edits:
    """Drop all arguments of a call but the first."""
    if len(call.args) < 2:
        return ()
    first, last = candidate.outer_span(call.args[0].value), candidate.outer_span(call.args[-1].value)
    return _clean(candidate, (Edit(Span(first.file, first.end_line, first.end_column, last.end_line, last.end_column), ""),))


def drop_after(candidate: Candidate, before: cst.Arg, argument: cst.Arg) -> Edits:
    """Drop an argument of a call, given the one before it."""
    first, last = candidate.outer_span(before.value), candidate.outer_span(argument.value)
    return _clean(candidate, (Edit(Span(first.file, first.end_line, first.end_column, last.end_line, last.end_column), ""),))


def as_call(candidate: Candidate, left: cst.BaseExpression, right: cst.BaseExpression, method: str) -> Edits:
    """Turn ``x.name = value``, or ``x.name == value``, into ``x.method(value)``; ``left`` and ``right`` are the two sides."""
    if not isinstance(left, cst.Attribute) or isinstance(right, cst.Yield | cst.Tuple | cst.GeneratorExp):
        return ()
    value = candidate.outer_span(right)
    opening, closing = ("", "") if right.lpar else ("(", ")")
    after = Span(value.file, value.end_line, value.end_column, value.end_line, value.end_column)
    changes = (*rename(candidate, left.attr, method), *join(candidate, left, right, opening))
    return (*changes, Edit(after, closing)) if closing else changes


def join(candidate: Candidate, left: cst.BaseExpression, right: cst.BaseExpression, text: str) -> Edits:
    """Write ``text`` for all that stands between two expressions."""
    before, after = candidate.outer_span(left), candidate.outer_span(right)
    return _clean(candidate, (Edit(Span(before.file, before.end_line, before.end_column, after.line, after.column), text),))


# Statements ----------------------------------------------------------------------------------------------------------


def statement(candidate: Candidate, node: cst.CSTNode) -> cst.BaseSmallStatement | cst.BaseCompoundStatement | None:
    """The innermost statement that holds a node, or is it."""
    for found in (node, *candidate.ancestors(node)):
        if isinstance(found, cst.BaseSmallStatement | cst.BaseCompoundStatement):
            return found
    return None


def insert_after(candidate: Candidate, node: cst.BaseSmallStatement | cst.BaseCompoundStatement, text: str) -> Edits:
    """Write the statement ``text`` after a statement, on a line of its own unless the statement shares its line."""
    span = candidate.span(node)
    if isinstance(node, cst.BaseSmallStatement):
        if _shares_line(candidate, node):
            end = _small_end(candidate, node)
            return (Edit(Span(span.file, *end, *end), f"; {text}"),)
    end = span.end_line, len(candidate.text.line(span.end_line)) + 1
    return (Edit(Span(span.file, *end, *end), f"{candidate.text.newline}{_indent(candidate, span.line)}{text}"),)


def insert_before(candidate: Candidate, node: cst.BaseSmallStatement | cst.BaseCompoundStatement, text: str) -> Edits:
    """Write the statement ``text`` before a statement, on a line of its own unless the statement shares its line."""
    span = candidate.span(node)
    if isinstance(node, cst.BaseSmallStatement) and _shares_line(candidate, node):
        return (Edit(Span(span.file, span.line, span.column, span.line, span.column), f"{text}; "),)
    decorators = getattr(node, "decorators", ())
    line = min([span.line, *(candidate.span(decorator).line for decorator in decorators)])
    return (Edit(Span(span.file, line, 1, line, 1), f"{_indent(candidate, line)}{text}{candidate.text.newline}"),)


def remove_statement(candidate: Candidate, node: cst.BaseSmallStatement) -> Edits:
    """Take a statement out; where its block or its line would be left without one, ``pass`` takes its place."""
    parents = list(candidate.ancestors(node))
    line, block = parents[0], parents[1]
    alone = isinstance(block, cst.IndentedBlock) and len(block.body) == 1
    if _shares_line(candidate, node) or alone or not isinstance(line, cst.SimpleStatementLine):
        return (Edit(candidate.span(node), "pass"),)
    span = candidate.span(line)
    return (_without_lines(candidate, span.line, span.end_line),)


def put_under(candidate: Candidate, node: cst.BaseSmallStatement, header: str) -> Edits:
    """Put a statement that has its line to itself under a compound statement's ``header``."""
    line = next(candidate.ancestors(node), None)
    if not isinstance(line, cst.SimpleStatementLine) or _shares_line(candidate, node):
        return ()
    span = candidate.span(line)
    if span.line != span.end_line:
        return ()
    start = Span(span.file, span.line, span.column, span.line, span.column)
    return (Edit(start, f"{header}{candidate.text.newline}{_indent(candidate, span.line)}    "),)


def remove_decorator(candidate: Candidate, node: cst.Decorator) -> Edits:
    """Take a decorator's lines out."""
    span = candidate.span(node)
    return (_without_lines(candidate, span.line, span.end_line),)


def move_above(candidate: Candidate, node: cst.CSTNode, anchor: Span) -> Edits:
    """Move the statement around ``node``, with the comment lines right above it, over an earlier statement of its block.

    Args:
        candidate: the piece.
        node: what is to come earlier. Where it is the only thing done by the loops and conditions around it, they come along.
        anchor: a place in the earlier statement.

    Nothing is moved over a statement that defines or mentions what the moved one needs, nor over one that may run anything but
    the making of values: a loop, a ``with``, a call for its effect.
    """
    found = _siblings(candidate, node, anchor)
    if found is None:
        return ()
    earlier, between, moved = found
    needed = _names(moved) - _called(moved)
    bound = _bound((earlier, *between))
    mentioned = set().union(*map(_names, between)) if between else set()
    if _names(moved) & bound or needed & mentioned or not all(map(_makes_values, between)):
        return ()
    text = candidate.text
    first, last = candidate.span(moved).line, candidate.span(moved).end_line
    target = _with_comments(candidate, candidate.span(earlier).line)
    first = _with_comments(candidate, first)
    if not text.same_cell(target, last):
        return ()
    lines = text.lines(first, last)
    if not lines.endswith(("\r", "\n")):
        lines += text.newline
    return (Edit(Span(candidate.file, target, 1, target, 1), lines), _without_lines(candidate, first, last))


def move_beside(candidate: Candidate, node: cst.CSTNode, anchor: Span, *, after: bool) -> Edits:
    """Move the statement around ``node`` right before or after another statement of its block.

    Args:
        candidate: the piece.
        node: what is to move. Where it is the only thing done by the conditions around it, they come along.
        anchor: a place in the other statement, which may hold blocks of its own.
        after: behind the other statement instead of before it.

    Nothing is moved past a statement that defines what it needs, or out of its notebook cell.
    """
    chain = [node, *candidate.ancestors(node)]
    for moved, block in pairwise(chain):
        if isinstance(block, cst.SimpleStatementLine) and len(block.body) > 1:
            return ()
        if isinstance(block, cst.If) and (block.orelse is not None or not _only(block, node)):
            return ()
        if isinstance(block, cst.FunctionDef | cst.ClassDef | cst.For | cst.While | cst.With | cst.Try | cst.TryStar):
            return ()
        if not isinstance(block, cst.IndentedBlock | cst.Module):
            continue
        body = list(block.body)
        spans = [candidate.span(part) for part in body]
        here = body.index(moved)  # type: ignore[arg-type]
        other = next((i for i, span in enumerate(spans) if span.line <= anchor.line <= span.end_line), None)
        if other is None and isinstance(block, cst.IndentedBlock) and len(body) == 1:
            continue
        if other is None or other == here or spans[here].column != spans[other].column:
            return ()
        passed = body[other:here] if other < here else body[here + 1 : other + after]
        if _names(moved) & _bound(passed) or _bound((moved,)) & set().union(*map(_names, passed), set()):
            return ()
        text = candidate.text
        first, last = _with_comments(candidate, spans[here].line), spans[here].end_line
        target = spans[other].end_line + 1 if after else _with_comments(candidate, spans[other].line)
        if not text.same_cell(spans[other].line, last) or (target > text.count and not text.text.endswith(text.newline)):
            return ()
        lines = text.lines(first, last)
        if not lines.endswith(("\r", "\n")):
            lines += text.newline
        return (Edit(Span(candidate.file, target, 1, target, 1), lines), _without_lines(candidate, first, last))
    return ()


# Regions -------------------------------------------------------------------------------------------------------------


def lift_item(candidate: Candidate, node: cst.With, item: str) -> Edits:
    """Take one context manager out of a ``with`` statement; if it was the only one, the block is dedented.

    Args:
        candidate: the piece.
        node: the statement.
        item: the context manager as the source spells it, such as ``torch.no_grad()``; spaces do not count.
    """
    index = _guilty(candidate, node, item)
    if index is None or node.items[index].asname is not None:
        return ()
    if len(node.items) == 1:
        return _dedented(candidate, node)
    here = candidate.span(node.items[index])
    if index + 1 < len(node.items):
        after = candidate.span(node.items[index + 1])
        gone = Span(here.file, here.line, here.column, after.line, after.column)
    else:
        before = candidate.span(node.items[index - 1])
        gone = Span(here.file, before.end_line, before.end_column, here.end_line, here.end_column)
    return _clean(candidate, (Edit(gone, ""),))


def _guilty(candidate: Candidate, node: cst.With, item: str) -> int | None:
    if len(node.items) == 1:
        return 0
    wanted = _spelling(item)
    texts = [_spelling(candidate.code(entry.item)) for entry in node.items]
    keys: tuple[Callable[[str], str], ...] = (str, _called_name, lambda text: _called_name(text).rpartition(".")[2])
    for key in keys:
        found = [index for index, text in enumerate(texts) if key(text) == key(wanted)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _called_name(text: str) -> str:
    return text.split("(")[0]


def _spelling(text: str) -> str:
    return re.sub(r"\s+", "", re.sub(r"^\s*(?:async\s+)?with\s+|^\s*@", "", text)).removesuffix(":")


def _dedented(candidate: Candidate, node: cst.With) -> Edits:
    text, begin, colon = candidate.text, candidate.span(node), candidate.outer_span(node.body)
    header = text.slice(Span(begin.file, begin.line, begin.column, colon.line, colon.column))
    if isinstance(node.body, cst.SimpleStatementSuite):
        first = candidate.span(node.body.body[0])
        return _clean(candidate, (Edit(Span(begin.file, begin.line, begin.column, first.line, first.column), ""),))
    if _COMMENT.search(header) or not isinstance(node.body, cst.IndentedBlock):
        return ()
    outer = text.line(begin.line)[: begin.column - 1]
    inner = text.line(start := candidate.span(node.body.body[0]).line)
    inner = inner[: len(inner) - len(inner.lstrip())]
    if not inner.startswith(outer) or inner == outer:
        return ()
    note = _COMMENT.search(text.line(colon.line), colon.column - 1)
    edits = [
        _without_lines(candidate, begin.line, colon.line)
        if note is None
        else Edit(Span(begin.file, begin.line, begin.column, colon.line, note.start() + 1), "")
    ]
    last = begin.end_line
    while last < text.count and text.line(last + 1).startswith(inner) and text.line(last + 1).lstrip().startswith("#"):
        last += 1  # comments that close the block
    fixed = set(_inside_strings(candidate, start, last))
    for number in range(colon.line + 1, last + 1):
        if number not in fixed and text.line(number).startswith(inner):
            edits.append(Edit(Span(begin.file, number, len(outer) + 1, number, len(inner) + 1), ""))
    return tuple(edits)


def _inside_strings(candidate: Candidate, first: int, last: int) -> Iterator[int]:
    """The lines that begin within a string."""
    for node in candidate.positions:
        if isinstance(node, cst.SimpleString | cst.FormattedString | cst.TemplatedString):
            span = candidate.span(node)
            if span.line != span.end_line and first <= span.line <= last:
                yield from range(span.line + 1, span.end_line + 1)


# What the functions above share --------------------------------------------------------------------------------------


def _clean(candidate: Candidate, edits: Edits) -> Edits:
    """The edits, unless they would take a comment away."""
    return () if any(_COMMENT.search(candidate.text.slice(edit.span)) for edit in edits) else edits


def _from(candidate: Candidate, span: Span, skipped: int) -> Span:
    """What is left of a place without its first characters."""
    line, column = candidate.text.place(candidate.text.offset(span.line, span.column) + skipped)
    return Span(span.file, line, column, span.end_line, span.end_column)


def _parenthesized(candidate: Candidate, old: cst.CSTNode, new: cst.BaseExpression, text: str) -> str:
    if new.lpar:
        return text
    around = next(candidate.ancestors(old), None)
    bracketed = bool(getattr(old, "lpar", ()))
    bare = isinstance(around, cst.Arg | cst.Assign | cst.AnnAssign | cst.AugAssign | cst.Return | cst.Expr | cst.Element)
    if isinstance(new, _ATOMS) or bracketed or (bare and not isinstance(new, cst.NamedExpr | cst.GeneratorExp | cst.Tuple)):
        try:
            ast.parse(text, mode="eval")
            return text
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            if bracketed:
                return text
    return f"({text})"


def _without_lines(candidate: Candidate, first: int, last: int) -> Edit:
    """Delete whole lines: with the line end behind them, or the one before them where none is behind them."""
    text = candidate.text
    if last < text.count and text.same_cell(last, last + 1):
        return Edit(Span(candidate.file, first, 1, last + 1, 1), "")
    end = len(text.line(last)) + 1
    if first > 1 and text.same_cell(first - 1, first):
        return Edit(Span(candidate.file, first - 1, len(text.line(first - 1)) + 1, last, end), "")
    return Edit(Span(candidate.file, first, 1, last, end), "")


def _shares_line(candidate: Candidate, node: cst.BaseSmallStatement) -> bool:
    around = next(candidate.ancestors(node), None)
    return isinstance(around, cst.SimpleStatementSuite) or (
        isinstance(around, cst.SimpleStatementLine) and len(around.body) > 1
    )


def _small_end(candidate: Candidate, node: cst.BaseSmallStatement) -> tuple[int, int]:
    """Where a small statement ends, not counting its semicolon."""
    span = candidate.span(node)
    kept = candidate.text.slice(span).rstrip().removesuffix(";").rstrip()
    return candidate.text.place(candidate.text.offset(span.line, span.column) + len(kept))


def _indent(candidate: Candidate, line: int) -> str:
    text = candidate.text.line(line)
    return text[: len(text) - len(text.lstrip())]


def _with_comments(candidate: Candidate, line: int) -> int:
    """The first of the comment lines right above a line that belong to it."""
    text, indent = candidate.text, _indent(candidate, line)
    while line - 1 in text.comment_lines and _indent(candidate, line - 1) == indent and text.same_cell(line - 1, line):
        line -= 1
    return line


def _siblings(
    candidate: Candidate, node: cst.CSTNode, anchor: Span
) -> tuple[cst.CSTNode, Sequence[cst.CSTNode], cst.CSTNode] | None:
    """The statement at ``anchor``, those between, and the one that holds ``node``, where these are whole lines of one block."""
    chain = [node, *candidate.ancestors(node)]
    for moved, block in pairwise(chain):
        if isinstance(block, cst.FunctionDef | cst.ClassDef | cst.While | cst.With | cst.Try | cst.TryStar):
            return None
        if isinstance(moved, cst.For | cst.If) and not _only(moved, node):
            return None
        if isinstance(block, cst.If) and (block.orelse is not None or block.body is not moved):
            return None
        if isinstance(block, cst.SimpleStatementLine) and len(block.body) > 1:
            return None
        if isinstance(block, cst.IndentedBlock | cst.Module):
            body = list(block.body)
            here = body.index(moved)  # type: ignore[arg-type]
            for index, earlier in enumerate(body[:here]):
                span = candidate.span(earlier)
                if isinstance(earlier, cst.SimpleStatementLine) and span.line <= anchor.line <= span.end_line:
                    return earlier, body[index + 1 : here], moved
    return None


def _only(statement: cst.For | cst.If, node: cst.CSTNode) -> bool:
    """Whether a loop or condition does nothing but what ``node`` does."""
    todo: list[cst.CSTNode] = [statement]
    while todo:
        found = todo.pop()
        if isinstance(found, cst.For | cst.If):
            todo += found.body.body
            if found.orelse is not None:
                return False
        elif isinstance(found, cst.SimpleStatementLine):
            todo += found.body
        elif (
            found is not node and not (isinstance(found, cst.Expr) and found.value is node) and not isinstance(found, cst.Pass)
        ):
            return False
    return True


def _makes_values(node: cst.CSTNode) -> bool:
    """Whether a statement only makes and names values."""
    if isinstance(node, cst.FunctionDef | cst.ClassDef):
        return not node.decorators
    if not isinstance(node, cst.SimpleStatementLine):
        return False
    harmless = cst.Assign | cst.AnnAssign | cst.Import | cst.ImportFrom | cst.Pass | cst.Assert | cst.Global
    text = cst.SimpleString | cst.ConcatenatedString
    return all(
        isinstance(part, harmless) or (isinstance(part, cst.Expr) and isinstance(part.value, text)) for part in node.body
    )


def _walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    todo = [node]
    while todo:
        found = todo.pop()
        yield found
        todo += found.children


def _names(node: cst.CSTNode) -> set[str]:
    """The variables that a statement reads or writes, not counting attributes and keywords."""
    names: set[str] = set()
    skipped: set[cst.CSTNode] = set()
    for found in _walk(node):
        if isinstance(found, cst.Attribute):
            skipped.add(found.attr)
        elif isinstance(found, cst.Arg) and found.keyword is not None:
            skipped.add(found.keyword)
        elif isinstance(found, cst.Name) and found not in skipped:
            names.add(found.value)
    own = {
        target.value
        for loop in _walk(node)
        if isinstance(loop, cst.For)
        for target in _walk(loop.target)
        if isinstance(target, cst.Name)
    }
    return names - own


def _called(node: cst.CSTNode) -> set[str]:
    return {found.func.value for found in _walk(node) if isinstance(found, cst.Call) and isinstance(found.func, cst.Name)}


def _bound(nodes: Iterable[cst.CSTNode]) -> set[str]:
    """The variables that statements define or change, an attribute's or element's owner included."""
    bound: set[str] = set()
    for node in nodes:
        for found in _walk(node):
            if isinstance(found, cst.FunctionDef | cst.ClassDef):
                bound.add(found.name.value)
            elif isinstance(found, cst.ImportAlias):
                alias = found.asname.name if found.asname is not None else found.name
                bound |= {name.value for name in _walk(alias) if isinstance(name, cst.Name)}
            elif isinstance(found, cst.AssignTarget | cst.AnnAssign | cst.NamedExpr):
                bound |= {name.value for name in _walk(found.target) if isinstance(name, cst.Name)}
    return bound
