"""Reading one source file: bytes to text to syntax tree, whatever the bytes are."""

from __future__ import annotations

import ast
import codecs
import re
import sys
import warnings
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from pathlib import Path

from gradlint.core import Span
from gradlint.survey.lexical import layout, unix_newlines
from gradlint.survey.notebooks import CellMap, NotebookError, join_cells


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file, or a part of it, could not be read. ``span`` says where, ``message`` what happened, ``help`` what to do."""

    span: Span
    message: str
    help: str = ""


@dataclass(slots=True, eq=False)
class SourceFile:
    """One file as the analysis sees it.

    ``path``: as shown to users. ``location``: the absolute place on disk (or where an unsaved text claims to be).
    ``text``: the decoded text with its own line ends; for a notebook, the code cells joined.
    ``tree``: the syntax tree of all that parses; None when nothing does or when nobody asked for it.
    ``problems``: what could not be read. ``notebook``: how joined lines map to cells.
    ``encoding``: the codec that gives back the same bytes, or None when the text is a lossy reading of them.
    """

    path: str
    location: Path
    text: str
    tree: ast.Module | None
    problems: tuple[Problem, ...] = ()
    notebook: CellMap | None = None
    encoding: str | None = "utf-8"
    _lines: list[str] | None = field(default=None, repr=False)

    @property
    def lines(self) -> list[str]:
        """The text as lines without their ends, split as Python splits them (not at form feeds)."""
        if self._lines is None:
            self._lines = unix_newlines(self.text).split("\n")
        return self._lines

    def span(self, node: ast.AST) -> Span:
        """The place of a node that has one (a statement, an expression, a keyword, an argument, …), columns in code points."""
        line: int = node.lineno  # type: ignore[attr-defined]
        column: int = node.col_offset  # type: ignore[attr-defined]
        end_line: int = node.end_lineno  # type: ignore[attr-defined]
        end_column: int = node.end_col_offset  # type: ignore[attr-defined]
        if not self.text.isascii():
            column = self._points(line, column)
            end_column = self._points(end_line, end_column)
        return Span(self.path, line, column + 1, end_line, end_column + 1)

    def _points(self, line: int, offset: int) -> int:
        """How many code points the first ``offset`` UTF-8 bytes of a line are."""
        text = self.lines[line - 1]
        if text.isascii():
            return offset
        return len(text.encode("utf-8", "surrogatepass")[:offset].decode("utf-8", "replace"))


def read(location: Path, shown_path: str, *, parse: bool = True) -> SourceFile:
    """Read and parse the file at ``location``; never raises: what goes wrong is in the result's ``problems``.

    With ``parse`` false only the text is read, which is all that showing a finding takes.
    """
    try:
        data = location.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        problem = Problem(_start(shown_path), f"The file cannot be read: {reason}.", "Nothing of it is checked.")
        return SourceFile(shown_path, location, "", None, (problem,), None, None)
    return from_bytes(data, location, shown_path, parse=parse)


def from_bytes(data: bytes, location: Path, shown_path: str, *, parse: bool = True) -> SourceFile:
    """As ``read``, of bytes already at hand."""
    text, encoding, problem = _decode(data, shown_path)
    if problem is not None and encoding is None and not text:
        return SourceFile(shown_path, location, "", None, (problem,), None, None)
    source = from_text(text, location, shown_path, parse=parse)
    source.encoding = encoding
    if problem is not None:
        source.problems = (problem, *source.problems)[:1]
    return source


def from_text(text: str, location: Path, shown_path: str, *, parse: bool = True) -> SourceFile:
    """A source file of a text that need not be on disk: an editor's buffer or standard input.

    A ``location`` that ends in ``.ipynb`` means that the text is a notebook's JSON.
    """
    notebook = None
    text = text.removeprefix("\ufeff")
    if location.suffix == ".ipynb":
        try:
            joined = join_cells(text)
        except NotebookError as error:
            problem = Problem(_start(shown_path), f"The notebook cannot be read: {error}.", "Nothing of it is checked.")
            return SourceFile(shown_path, location, "", None, (problem,), CellMap((), ()))
        text, notebook = joined.text, joined.cells
    source = SourceFile(shown_path, location, text, None, (), notebook)
    if parse:
        try:
            source.tree = _parse(text)
        except _UNPARSED as error:
            _salvage(source, error)
    return source


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # doubtful escapes in the user's strings are not ours to report
        return ast.parse(text)


def _start(path: str) -> Span:
    return Span(path, 1, 1, 1, 1)


# Decoding ------------------------------------------------------------------------------------------------------------

_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_BLANK = re.compile(rb"^[ \t\f]*(?:#.*)?$")


def _decode(data: bytes, path: str) -> tuple[str, str | None, Problem | None]:
    """The text of a Python file, the codec that writes the same bytes again (None if there is none), and what is wrong."""
    if data.startswith(codecs.BOM_UTF8):
        declared, codec = None, "utf-8-sig"
    elif b"\0" in data[:65536] or b"\0" in data:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            what, help = "The file is UTF-16 text, which Python does not read.", "Save it as UTF-8."
        else:
            what, help = "The file is not Python text: it contains NUL bytes.", "Nothing of it is checked."
        return "", None, Problem(_start(path), what, help)
    else:
        declared = _declared_encoding(data)
        codec = declared or "utf-8"
    try:
        return data.decode(codec), codec, None
    except UnicodeDecodeError as error:
        text = data.decode(codec, "replace") if codec.startswith("utf-8") else data.decode("latin-1")
        line = data.count(b"\n", 0, error.start) + 1
        before = data[data.rfind(b"\n", 0, error.start) + 1 : error.start]
        column = len(before.decode(codec, "replace")) + 1
        name = "UTF-8" if codec.startswith("utf-8") else codec
        problem = Problem(
            Span(path, line, column, line, column + 1),
            f"The file is not valid {name}: byte 0x{data[error.start]:02x} on line {line}.",
            "Python will not run it. Save it as UTF-8, or declare its encoding on the first line; until then it is read "
            "with the bad bytes replaced.",
        )
        return text, None, problem
    except (LookupError, UnicodeError):
        try:
            text, kept = data.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            text, kept = data.decode("latin-1"), None
        line = 1 if declared and declared.encode() in data.split(b"\n", 1)[0] else 2
        problem = Problem(
            Span(path, line, 1, line, 1),
            f"The file declares an encoding that Python does not know: {declared}.",
            "Declare a known one, or none for UTF-8; until then it is read as UTF-8.",
        )
        return text, kept, problem


def _declared_encoding(data: bytes) -> str | None:
    """The encoding named on the first or second line (PEP 263), if any."""
    head = data[:400]
    if b"coding" not in head:
        return None
    for number, line in enumerate(head.splitlines()[:2]):
        if found := _COOKIE.match(line):
            return found.group(1).decode("ascii", "replace")
        if number == 0 and not _BLANK.match(line):
            return None
    return None


# Text that does not parse --------------------------------------------------------------------------------------------

_UNPARSED = (SyntaxError, ValueError, RecursionError, MemoryError)
_CONTINUES = re.compile(r"[ \t\f]*(?:else|elif|except|finally)\b")
_CLASS = re.compile(r"class[ \t]+\w")


@dataclass(slots=True)
class _Piece:
    """A statement that does not parse: its lines (inclusive, from 0) and why; ``shift`` makes the error's lines the file's."""

    first: int
    last: int
    error: BaseException
    shift: int


def _salvage(source: SourceFile, error: BaseException) -> None:
    """Keep the statements that parse: those that do not are blanked, so that every other line keeps its number."""
    if isinstance(error, UnicodeEncodeError):
        source.text, source.encoding, source._lines = source.text.encode("utf-8", "replace").decode(), None, None
    lines = list(source.lines)
    cells = [start - 1 for start in source.notebook.starts] if source.notebook else [0]
    bad: list[_Piece] = []
    for top, bottom in zip(cells, [*cells[1:], len(lines)], strict=True):
        # A notebook's cells are scanned one by one: a bracket left open in one says nothing about the next.
        starts = [top + start - 1 for start in layout("\n".join(lines[top:bottom])).starts]
        bad += _bad_pieces(lines, starts, top, bottom, "")
    for piece in bad:
        indent = re.match(r"[ \t\f]*", lines[piece.first])
        keep = indent.group() + "pass" if indent and indent.group().strip("\f") else ""
        lines[piece.first : piece.last + 1] = [keep] + [""] * (piece.last - piece.first)
    try:
        source.tree = _parse("\n".join(lines))
    except _UNPARSED:
        source.tree = None
    source.problems = (_explain(source, error, bad),)


def _bad_pieces(lines: list[str], starts: list[int], first: int, end: int, indent: str) -> list[_Piece]:
    """The statements at this indentation, between two lines, that do not parse: as little as is sure to be at fault."""
    bad: list[_Piece] = []
    for start, stop in _chunks(lines, starts, first, end, indent):
        failure = _failure(lines, start, stop, indent)
        if failure is None:
            continue
        inner = _bad_members(lines, starts, start, stop) if not indent and _CLASS.match(lines[start]) else None
        if inner is None:
            # A bracket or a string left open swallows what follows: try every line that looks like a statement's first.
            looks = [line for line in range(start, stop) if lines[line].lstrip()[:1] not in ("", "#", ")", "]", "}")]
            smaller = _chunks(lines, looks, start, stop, indent)
            inner = [f for low, high in smaller if (f := _failure(lines, low, high, indent))] if len(smaller) > 1 else []
        bad += inner or [failure]
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


def _bad_members(lines: list[str], starts: list[int], first: int, end: int) -> list[_Piece] | None:
    """The statements of a class body that do not parse, or None when the fault lies elsewhere (its header, say)."""
    inside = starts[bisect_right(starts, first) : bisect_left(starts, end)]
    indent = re.match(r"[ \t]+", lines[inside[0]]) if inside else None
    if indent is None or _failure([*lines[first : inside[0]], indent.group() + "pass"], 0, inside[0] - first + 1, ""):
        return None
    return _bad_pieces(lines, inside, inside[0], end, indent.group()) or None


def _failure(lines: list[str], first: int, end: int, indent: str) -> _Piece | None:
    """Why these lines, statements at this indentation, do not parse; None if they do."""
    text = "\n".join(lines[first:end])
    try:
        _parse("if 1:\n" + text if indent else text)
    except _UNPARSED as error:
        return _Piece(first, end - 1, error, first - bool(indent))
    return None


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
    texts = "\n".join("\n".join(lines[piece.first : piece.last + 1]) for piece in bad)
    if not bad and source.tree is not None:
        left_out = ""
    elif source.tree is None or not source.tree.body:
        left_out = "Nothing of the file is checked."
    else:
        left_out = f"{_ranges(bad)} left out; the rest of the file is checked."
    hint = _likely_cause(texts, reason)
    return Problem(Span(source.path, line, column, line, column), message, f"{left_out} {hint}".strip())


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
    re.MULTILINE,
)
_NEWER: tuple[tuple[tuple[int, int], str, re.Pattern[str]], ...] = (
    ((3, 13), "defaults of type parameters", re.compile(r"^[ \t]*(?:def|class|type)[ \t]+\w+\[[^\]\n=]*=", re.MULTILINE)),
    ((3, 12), "a `type` statement", re.compile(r"^[ \t]*type[ \t]+\w+[ \t]*(?:\[.*\])?[ \t]*=", re.MULTILINE)),
    ((3, 12), "type parameters", re.compile(r"^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+\w+[ \t]*\[", re.MULTILINE)),
    ((3, 14), "a template string", re.compile(r"(?<![\w\"'])(?:t|rt|tr)[\"']", re.IGNORECASE)),
    ((3, 14), "`except` without parentheses", re.compile(r"^[ \t]*except\*?[ \t]+[\w.]+[ \t]*,", re.MULTILINE)),
)


def _likely_cause(texts: str, reason: str) -> str:
    """What else would read the text: a newer Python, Python 2, or nothing until a merge is finished."""
    if re.search(r"^(?:<{7} |>{7} |={7}$)", texts, re.MULTILINE):
        return "The file holds the markers of an unfinished merge."
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if _OLD.search(texts) or "Missing parentheses in call to" in reason or "leading zeros" in reason:
        return "This looks like Python 2."
    needed = next((entry for entry in _NEWER if entry[0] > sys.version_info[:2] and entry[2].search(texts)), None)
    if needed is None and reason.startswith("f-string") and sys.version_info < (3, 12):
        needed = ((3, 12), "an f-string that reuses its quotes or spans lines", re.compile(""))
    if needed is None:
        return ""
    version = ".".join(map(str, needed[0]))
    return f"This looks like {needed[1]}, which Python {version} reads; gradlint runs on Python {running} here."
