"""Reading one source file: bytes to text to syntax tree, whatever the bytes are."""

from __future__ import annotations

import ast
import codecs
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gradlint.core import Span

if TYPE_CHECKING:
    from gradlint.survey.notebooks import CellMap
    from gradlint.survey.reparse import Parser

UNPARSED = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What ``ast.parse`` raises for texts that it does not read."""


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
            self._lines = self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
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


def from_text(text: str, location: Path, shown_path: str, *, parse: bool = True, parser: Parser | None = None) -> SourceFile:
    """A source file of a text that need not be on disk: an editor's buffer or standard input.

    A ``location`` that ends in ``.ipynb`` means that the text is a notebook's JSON. ``parser``: what parsed the file's earlier
    texts, and makes use of that.
    """
    notebook = None
    text = text.removeprefix("\ufeff")
    if location.suffix == ".ipynb":
        from gradlint.survey.notebooks import CellMap, NotebookError, join_cells

        try:
            joined = join_cells(text)
        except NotebookError as error:
            problem = Problem(_start(shown_path), f"The notebook cannot be read: {error}.", "Nothing of it is checked.")
            return SourceFile(shown_path, location, "", None, (problem,), CellMap((), ()))
        text, notebook = joined.text, joined.cells
    source = SourceFile(shown_path, location, text, None, (), notebook)
    if parse:
        try:
            source.tree = parser.parse(text) if parser is not None else parse_text(text)
        except UNPARSED as error:
            from gradlint.survey.salvage import salvage

            salvage(source, error, parser)
    return source


def parse_text(text: str) -> ast.Module:
    """The syntax tree of a text; raises one of ``UNPARSED`` when it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # doubtful escapes in the user's strings are not ours to report
        return ast.parse(text)


def _start(path: str) -> Span:
    return Span(path, 1, 1, 1, 1)


# Decoding ------------------------------------------------------------------------------------------------------------


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
        if found := re.match(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", line):
            return found.group(1).decode("ascii", "replace")
        if number == 0 and not re.fullmatch(rb"[ \t\f]*(?:#.*)?", line):
            return None
    return None
