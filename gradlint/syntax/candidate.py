"""Concrete syntax of the few pieces of a file that facts point into, with positions in the file's own lines and columns.

LibCST's positions cost many times what its parser does, so that no more is parsed than the function (else the class, else the
top-level statements) that holds a place of interest.  A piece keeps its indentation: it is parsed under a header line, because
taking indentation away would change strings that run over several lines.
"""

from __future__ import annotations

import ast
import gc
import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property

import libcst as cst
from libcst.metadata import (
    CodeRange,
    MetadataWrapper,
    PositionProvider,
    WhitespaceInclusivePositionProvider,
)

from gradlint.core import Edit, Span
from gradlint.survey.lexical import layout
from gradlint.survey.source import SourceFile

DEEPEST = 200
"""How deeply a piece may be nested: LibCST's parser recurses on the machine's stack, and nothing catches its end."""

_NEWLINE = re.compile(r"\r\n|\r|\n")


@contextmanager
def paused_collector() -> Iterator[None]:
    """Keep the garbage collector away while trees are built: it makes LibCST three times slower and finds nothing."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


class Text:
    """A file's text by line and column, both from 1, columns in code points."""

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.text = source.text
        self._starts = [0, *(match.end() for match in _NEWLINE.finditer(self.text))]

    @property
    def count(self) -> int:
        """How many lines there are; a line end at the end of the text begins no line of its own."""
        return len(self._starts) - (self._starts[-1] == len(self.text) and len(self._starts) > 1)

    @cached_property
    def newline(self) -> str:
        """The line end that the file uses, by its first line."""
        match = _NEWLINE.search(self.text)
        return match.group() if match else "\n"

    @cached_property
    def comment_lines(self) -> frozenset[int]:
        """The lines that hold a comment and nothing else."""
        return frozenset(comment.line for comment in layout(self.text).comments if comment.alone)

    def offset(self, line: int, column: int) -> int:
        """Where a place is in the text; places beyond a line's or the text's end are moved back to it."""
        if line > len(self._starts):
            return len(self.text)
        return min(self._starts[line - 1] + column - 1, len(self.text))

    def place(self, offset: int) -> tuple[int, int]:
        """The line and column of an offset."""
        index = bisect_right(self._starts, offset) - 1
        return index + 1, offset - self._starts[index] + 1

    def line(self, number: int) -> str:
        """A line without its end."""
        return self.lines(number, number).rstrip("\r\n")

    def lines(self, first: int, last: int) -> str:
        """Several lines with their ends."""
        return self.text[self._starts[first - 1] : self.offset(last + 1, 1)]

    def slice(self, span: Span) -> str:
        """The text of a place."""
        return self.text[self.offset(span.line, span.column) : self.offset(span.end_line, span.end_column)]

    def same_cell(self, line: int, other: int) -> bool:
        """Whether two lines can be joined or exchanged: always, unless they are of different cells of a notebook."""
        notebook = self.source.notebook
        return notebook is None or notebook.place(line)[0] == notebook.place(other)[0]


class Candidate:
    """A parsed piece of a file: lines ``first`` to ``last``."""

    def __init__(self, text: Text, first: int, last: int) -> None:
        """Parse lines ``first`` to ``last``, which must be whole statements of one block.

        Raises:
            cst.ParserSyntaxError: LibCST does not know the syntax.
            RecursionError: the piece is nested too deeply.
        """
        self.text = text
        self.first = first
        self.last = last
        piece = text.lines(first, last)
        self._header = f"if 1:{text.newline}" if piece[:1].isspace() else ""
        self._wrapper = MetadataWrapper(cst.parse_module(self._header + piece), unsafe_skip_copy=True)
        self.positions: Mapping[cst.CSTNode, CodeRange] = self._wrapper.resolve(PositionProvider)

    @property
    def module(self) -> cst.Module:
        """The tree to visit."""
        return self._wrapper.module

    @property
    def file(self) -> str:
        """The path of the file, as in spans."""
        return self.text.source.path

    def holds(self, span: Span) -> bool:
        """Whether a place of this file lies in the piece."""
        return span.file == self.file and self.first <= span.line and span.end_line <= self.last

    def span(self, node: cst.CSTNode) -> Span:
        """The place of a node in the file, without the parentheses and the whitespace around it."""
        return self._span(self.positions[node])

    def outer_span(self, node: cst.CSTNode) -> Span:
        """The place of a node in the file with all that it owns: an expression with the parentheses around it."""
        return self._span(self._inclusive[node])

    def code(self, node: cst.CSTNode) -> str:
        """The text of a node as the file has it, parentheses included; of a node made anew, as LibCST writes it."""
        if node in self._inclusive:
            return self.text.slice(self.outer_span(node))
        return self.module.code_for_node(node)

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The parent of a node, its parent, and so on up to the module."""
        while (parent := self._parents.get(node)) is not None:
            yield parent
            node = parent

    def survives(self, edits: Iterable[Edit]) -> bool:
        """Whether the piece is still Python after the edits, which may take in comments and line ends around it."""
        text = self.text
        places = sorted(
            (
                text.offset(edit.span.line, edit.span.column),
                text.offset(edit.span.end_line, edit.span.end_column),
                edit.text,
            )
            for edit in edits
        )
        done = min([text.offset(self.first, 1), *(begin for begin, _, _ in places)])
        last = max([text.offset(self.last + 1, 1), *(end for _, end, _ in places)])
        parts = [self._header]
        for begin, end, new in places:
            if begin < done:
                return False  # they overlap
            parts += [text.text[done:begin], new]
            done = end
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse("".join([*parts, text.text[done:last]]))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
        return True

    @cached_property
    def _inclusive(self) -> Mapping[cst.CSTNode, CodeRange]:
        return self._wrapper.resolve(WhitespaceInclusivePositionProvider)

    @cached_property
    def _parents(self) -> dict[cst.CSTNode, cst.CSTNode]:
        parents: dict[cst.CSTNode, cst.CSTNode] = {}
        todo: list[cst.CSTNode] = [self.module]
        while todo:
            node = todo.pop()
            for child in node.children:
                parents[child] = node
                todo.append(child)
        return parents

    def _span(self, place: CodeRange) -> Span:
        shift = self.first - (2 if self._header else 1)
        return Span(
            self.file,
            place.start.line + shift,
            place.start.column + 1,
            place.end.line + shift,
            place.end.column + 1,
        )


def candidates(text: Text, wanted: Sequence[Sequence[Span]]) -> Iterator[Candidate]:
    """Parse the pieces that hold the wanted places, from top to bottom, each line at most once.

    Args:
        text: the file.
        wanted: groups of places of this file. The first of a group must be in a piece; the others, which a fix may need to
            see, are in the same piece where that can be parsed.

    Pieces that LibCST cannot read are left out.
    """
    if text.source.tree is None:
        return
    outline = _Outline(text.source.tree)
    for first, last in _merged(outline.pieces(wanted)):
        candidate = _parsed(text, outline, first, last)
        if candidate is not None:
            yield candidate
            continue
        smaller = _merged(outline.pieces(group[:1] for group in wanted if first <= group[0].line <= last))
        if smaller != [(first, last)]:
            yield from (found for piece in smaller if (found := _parsed(text, outline, *piece)) is not None)


def _parsed(text: Text, outline: _Outline, first: int, last: int) -> Candidate | None:
    if outline.depth(first, last) > DEEPEST:
        return None
    while first > 1 and text.line(first - 1).endswith("\\"):  # a decorator's `@` may stand on a line of its own
        first -= 1
    try:
        return Candidate(text, first, last)
    except (cst.ParserSyntaxError, cst.CSTValidationError, RecursionError, ValueError):
        return None


def _merged(pieces: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(pieces):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


class _Outline:
    """Which lines the statements of a file take up."""

    def __init__(self, tree: ast.Module) -> None:
        self._body = tree.body
        self._firsts = [_first(node) for node in tree.body]
        self._lasts = [_last(node) for node in tree.body]

    def pieces(self, groups: Iterable[Sequence[Span]]) -> Iterator[tuple[int, int]]:
        """For each group the lines of the smallest function, else class, else run of top-level statements that holds it all."""
        for group in groups:
            first, last = min(span.line for span in group), max(span.end_line for span in group)
            low, high = self._between(first, last)
            if low > high:
                continue
            inside = self._body[low : high + 1]
            while low > 0 and self._lasts[low - 1] == self._firsts[low]:
                low -= 1  # a statement before this one on the same line
            while high + 1 < len(self._body) and self._firsts[high + 1] == self._lasts[high]:
                high += 1
            yield _smallest(inside, first, last) or (self._firsts[low], self._lasts[high])

    def depth(self, first: int, last: int) -> int:
        """How deeply the statements within some lines are nested, counting no further than one beyond ``DEEPEST``."""
        low, high = self._between(first, last)
        level: list[ast.AST] = [*self._body[low : high + 1]]
        depth = 0
        while level and depth <= DEEPEST:
            depth += 1
            level = [
                child
                for node in level
                for child in ast.iter_child_nodes(node)
                if not isinstance(child, ast.stmt) or (_first(child) <= last and first <= _last(child))
            ]
        return depth

    def _between(self, first: int, last: int) -> tuple[int, int]:
        """The numbers of the first and the last top-level statement on some lines."""
        return bisect_left(self._lasts, first), bisect_right(self._firsts, last) - 1


def _smallest(inside: Sequence[ast.stmt], first: int, last: int) -> tuple[int, int] | None:
    found = None
    in_function = False
    body = inside if len(inside) == 1 else ()
    while (node := next((node for node in body if _first(node) <= first and last <= _last(node)), None)) is not None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found, in_function = (_first(node), _last(node)), True
        elif isinstance(node, ast.ClassDef) and not in_function:
            found = _first(node), _last(node)
        body = list(_statements(node))
    return found


def _first(node: ast.stmt) -> int:
    decorators: Sequence[ast.expr] = getattr(node, "decorator_list", ())
    return min(node.lineno, decorators[0].lineno) if decorators else node.lineno


def _last(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _statements(node: ast.stmt) -> Iterator[ast.stmt]:
    """The statements right inside one."""
    for name in ("body", "orelse", "finalbody"):
        yield from getattr(node, name, ())
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield from part.body
