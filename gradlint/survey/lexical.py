"""A forgiving scan of Python text: where statements start and where the comments are, also in text that does not parse."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

# One alternative a kind of token that matters for finding line ends that end a statement. An unterminated triple quote falls
# through to the plain-string alternative, so that the lines after it are still seen as code.
_TOKEN = re.compile(
    r'''
      (?P<string>
          """(?:[^"\\]|\\.|"(?!""))*"""
        | \'\'\'(?:[^'\\]|\\.|'(?!''))*\'\'\'
        | "(?:[^"\\\n]|\\.)*"?
        | '(?:[^'\\\n]|\\.)*'?
      )
    | (?P<comment>\#[^\n]*)
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<joined>\\\n)
    | (?P<newline>\n)
    ''',
    re.VERBOSE | re.DOTALL,
)
# No expression can hold such a line: an open bracket before it was never closed.
_SURE_START = re.compile(r"[ \t\f]*(?:def|class|async[ \t]+def)[ \t]+\w|import[ \t]+\w|@\w")


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment: its line and column (from 1, code points), its text with the ``#``, whether it has the line to itself."""

    line: int
    column: int
    text: str
    alone: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """The logical lines, blank and comment lines left out, and the comments.

    ``starts`` and ``ends``: the first and last physical line (from 1) of each logical line, in order.
    """

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    comments: tuple[Comment, ...]


_SIMPLE = (ast.Assign, ast.Expr, ast.Return, ast.AugAssign, ast.AnnAssign, ast.Assert, ast.Raise, ast.Import, ast.ImportFrom)


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Every statement of a body, in the order of the text, the outer before the inner; expressions are not looked into."""
    for node in body:
        yield node
        if isinstance(node, _SIMPLE):
            continue
        for part in ("body", "handlers", "orelse", "finalbody", "cases"):
            inner = getattr(node, part, None)
            if inner:
                if part in ("handlers", "cases"):
                    inner = [statement for clause in inner for statement in clause.body]
                yield from statements(inner)


def unix_newlines(text: str) -> str:
    """The text with every line end Python knows turned into ``\\n``."""
    if "\r" in text:
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return text


@lru_cache(maxsize=8)
def layout(text: str) -> Layout:
    """Scan ``text`` once; never raises, and on broken text errs towards more starts."""
    text = unix_newlines(text)
    starts: list[int] = []
    ends: list[int] = []
    comments: list[Comment] = []
    depth = 0
    line = 1
    begin = 0  # offset of the current physical line
    fresh = True  # the current physical line begins a logical line
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "newline":
            if fresh and (code := text[begin : match.start()].lstrip(" \t\f")) and not code.startswith("#"):
                starts.append(line)
            begin = match.end()
            if depth and _SURE_START.match(text, begin):
                depth = 0
            if depth == 0 and len(ends) < len(starts):
                ends.append(line)
            line += 1
            fresh = depth == 0
        elif kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(depth - 1, 0)
        elif kind == "comment":
            start = match.start()
            comments.append(Comment(line, start - begin + 1, match.group(), not text[begin:start].strip(" \t\f")))
        else:  # a string or a joined line may span lines; the line that it began on is the one that starts the statement
            newlines = text.count("\n", match.start(), match.end())
            if newlines:
                if fresh:
                    starts.append(line)
                line += newlines
                begin = text.rfind("\n", 0, match.end()) + 1
                fresh = False
    if fresh and (code := text[begin:].lstrip(" \t\f")) and not code.startswith("#"):
        starts.append(line)
    if len(ends) < len(starts):
        ends.append(line)
    return Layout(tuple(starts), tuple(ends), tuple(comments))
