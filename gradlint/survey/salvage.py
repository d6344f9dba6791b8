"""What can be kept of a text that does not parse, and what to say about the rest."""

from __future__ import annotations

import re
import sys
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from gradlint.core import Span
from gradlint.survey.lexical import layout
from gradlint.survey.reparse import Parser
from gradlint.survey.source import UNPARSED, Problem, SourceFile

_CONTINUES = re.compile(r"[ \t\f]*(?:else|elif|except|finally)\b")
_CLASS = re.compile(r"class[ \t]+\w")


@dataclass(slots=True)
class _Piece:
    """A statement that does not parse: its lines (inclusive, from 0) and why; ``shift`` makes the error's lines the file's."""

    first: int
    last: int
    error: BaseException
    shift: int


def salvage(source: SourceFile, error: BaseException, parser: Parser | None = None) -> None:
    """Give a source file the tree of those of its statements that parse, and one problem that says what does not.

    Args:
        source: the file, without a tree; its lines keep their numbers, because what does not parse is blanked.
        error: what ``parse_text`` raised.
        parser: what parsed the file's earlier texts.
    """
    parser = parser or Parser()
    parser.begin()
    if isinstance(error, UnicodeEncodeError):
        source.text, source.encoding, source._lines = source.text.encode("utf-8", "replace").decode(), None, None
    lines = list(source.lines)
    cells = [start - 1 for start in source.notebook.starts] if source.notebook else [0]
    bad: list[_Piece] = []
    for top, bottom in zip(cells, [*cells[1:], len(lines)], strict=True):
        # A notebook's cells are scanned one by one: a bracket left open in one says nothing about the next.
        starts = [top + start - 1 for start in layout("\n".join(lines[top:bottom])).starts]
        bad += _bad_pieces(parser, lines, starts, top, bottom, "")
    for piece in bad:
        indent = re.match(r"[ \t\f]*", lines[piece.first])
        keep = indent.group() + "pass" if indent and indent.group().strip("\f") else ""
        lines[piece.first : piece.last + 1] = [keep] + [""] * (piece.last - piece.first)
    try:
        source.tree = parser.parse("\n".join(lines))
    except UNPARSED:
        source.tree = None
    source.problems = (_explain(source, error, bad),)


def _bad_pieces(parser: Parser, lines: list[str], starts: list[int], first: int, end: int, indent: str) -> list[_Piece]:
    """The statements at this indentation, between two lines, that do not parse: as little as is sure to be at fault."""
    bad: list[_Piece] = []
    for start, stop in _chunks(lines, starts, first, end, indent):
        failure = _failure(parser, lines, start, stop, indent)
        if failure is None:
            continue
        # A bracket or a string left open swallows what follows: try every line that looks like a statement's first, too.
        looks = [line for line in range(start, stop) if lines[line].lstrip()[:1] not in ("", "#", ")", "]", "}")]
        smaller: list[_Piece] = []
        for low, high in _chunks(lines, looks, start, stop, indent):
            if piece := _failure(parser, lines, low, high, indent):
                smaller += _bad_members(parser, lines, looks, low, high, indent) or [piece]
        readings = [smaller, _bad_members(parser, lines, starts, start, stop, indent), [failure]]
        bad += min((reading for reading in readings if reading), key=lambda pieces: sum(p.last - p.first + 1 for p in pieces))
    return bad


def _chunks(lines: list[str], starts: list[int], first: int, end: int, indent: str) -> list[tuple[int, int]]:
    """Split the lines from ``first`` to before ``end`` into statements at exactly this indentation, decorators and all."""
    heads = [first]
    decorated = False
    for start in starts[bisect_left(starts, first) : bisect_left(starts, end)]:
        line = lines[start].lstrip("\f")
        if not line.startswith(indent) or line[len(indent) : len(indent) + 1] in (" ", "\t"):
            continue
        if start != first and not decorated and not _CONTINUES.match(line):
            heads.append(start)
        decorated = line.startswith(indent + "@")
    return [(head, after) for head, after in zip(heads, [*heads[1:], end], strict=True) if any(lines[head:after])]


def _bad_members(parser: Parser, lines: list[str], starts: list[int], first: int, end: int, indent: str) -> list[_Piece]:
    """The statements of a top-level class that do not parse; none for all else, or when the fault lies elsewhere in it."""
    if indent:
        return []
    own = [line for line in starts[bisect_left(starts, first) : bisect_left(starts, end)] if not lines[line].startswith("@")]
    if len(own) < 2 or not _CLASS.match(lines[own[0]].lstrip("\f")):
        return []
    body = starts[bisect_right(starts, own[0])]  # which may be a decorator, unlike the second of ``own``
    inner = re.match(r"[ \t]+", lines[body])
    if inner is None or _failure(parser, [*lines[first:body], inner.group() + "pass"], 0, body - first + 1, ""):
        return []
    return _bad_pieces(parser, lines, starts, body, end, inner.group())


def _failure(parser: Parser, lines: list[str], first: int, end: int, indent: str) -> _Piece | None:
    """Why these lines, statements at this indentation, do not parse; None if they do."""
    text = "\n".join(lines[first:end])
    error = parser.failure("if 1:\n" + text if indent else text)
    return _Piece(first, end - 1, error, first - bool(indent)) if error is not None else None


def _explain(source: SourceFile, error: BaseException, bad: list[_Piece]) -> Problem:
    """One problem for the file: the first place that does not parse, why, and what is left out because of it."""
    lines = source.lines
    for piece in bad:  # say where a piece's text ends, not where the next statement starts
        while piece.last > piece.first and (not lines[piece.last].strip() or lines[piece.last].lstrip().startswith("#")):
            piece.last -= 1
    shift, line, column, reason = 0, 1, 1, ""
    if bad:  # the statement's own error: the whole file's may lie far behind an open bracket
        error, shift, line = bad[0].error, bad[0].shift, bad[0].first + 1
    if isinstance(error, SyntaxError):
        reason = re.sub(r" \(detected at line \d+\)|\. (?:Did|Perhaps|Maybe).*", "", error.msg)
        reason = re.sub(r"(?<=on line )\d+", lambda number: str(int(number.group()) + shift), reason)
        line = min(max((error.lineno or 1) + shift, line), len(lines))
        column = min(max(error.offset or 1, 1), len(lines[line - 1]) + 1)
        message = f"This does not parse: {reason}."
    elif isinstance(error, UnicodeEncodeError):
        message = "The text holds characters that no file can hold (lone surrogates); they are read as question marks."
    elif isinstance(error, RecursionError | MemoryError):
        message = "This is nested too deeply for Python's parser."
    else:
        message = f"This does not parse: {error}."
    if not bad and source.tree is not None:
        left_out = ""
    elif source.tree is None or not source.tree.body:
        left_out = "Nothing of the file is checked."
    else:
        left_out = f"{_ranges(bad)} left out; the rest of the file is checked."
    message = f"{message} {_likely_cause(lines[line - 1], reason)}".strip()
    return Problem(Span(source.path, line, column, line, column), message, left_out)


def _ranges(bad: list[_Piece]) -> str:
    shown = [str(p.first + 1) if p.first == p.last else f"{p.first + 1}-{p.last + 1}" for p in bad[:3]]
    if len(bad) > 3:
        shown.append(f"{len(bad) - 3} more places")
    if len(bad) == 1 and bad[0].first == bad[0].last:
        return f"Line {shown[0]} is"
    return f"Lines {', '.join(shown[:-1])} and {shown[-1]} are" if len(shown) > 1 else f"Lines {shown[0]} are"


_OLD = re.compile(
    r"^[ \t]*(?:print[ \t]+[\"'\w]|print[ \t]*>>|exec[ \t]+[\"'\w]|raise[ \t]+\w+[ \t]*,"
    r"|except[ \t]+[\w.()]+[ \t]*,[ \t]*[a-z_]\w*[ \t]*:)|<>|`\w+`",
)
_NEWER: tuple[tuple[tuple[int, int], str, re.Pattern[str]], ...] = (
    ((3, 13), "defaults of type parameters", re.compile(r"^[ \t]*(?:def|class|type)[ \t]+\w+\[[^\]\n=]*=")),
    ((3, 12), "a `type` statement", re.compile(r"^[ \t]*type[ \t]+\w+[ \t]*(?:\[.*\])?[ \t]*=")),
    ((3, 12), "type parameters", re.compile(r"^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+\w+[ \t]*\[")),
    ((3, 14), "a template string", re.compile(r"(?<![\w\"'])(?:t|rt|tr)[\"']", re.IGNORECASE)),
    ((3, 14), "`except` without parentheses", re.compile(r"^[ \t]*except\*?[ \t]+[\w.]+[ \t]*,")),
)


def _likely_cause(text: str, reason: str) -> str:
    """What else would read the line that does not parse: a newer Python, Python 2, or nothing until a merge is finished."""
    if re.search(r"^(?:<{7} |>{7} |={7}$)", text):
        return "The file holds the markers of an unfinished merge."
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if _OLD.search(text) or "Missing parentheses in call to" in reason or "leading zeros" in reason:
        return "It looks like Python 2."
    needed = next((entry for entry in _NEWER if entry[0] > sys.version_info[:2] and entry[2].search(text)), None)
    if needed is None and reason.startswith("f-string") and sys.version_info < (3, 12):
        needed = ((3, 12), "an f-string that reuses its quotes or spans lines", re.compile(""))
    if needed is None:
        return ""
    version = ".".join(map(str, needed[0]))
    return f"It looks like {needed[1]}, which Python {version} reads; gradlint runs on Python {running} here."
