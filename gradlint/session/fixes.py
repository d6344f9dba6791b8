"""Applying fixes: which ones, to what text, and back to disk."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradlint.core import Edit, Finding, Safety, Span
from gradlint.session.files import write_bytes
from gradlint.survey.notebooks import NotebookError, cell_code, join_cells, replace_cells
from gradlint.survey.source import SourceFile

MAX_ROUNDS = 10
"""How often a file is fixed and looked at again before fixes that go round in circles are given up."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """One file after a round of fixes.

    ``content``: the file's new text (a notebook's JSON). ``applied``: the findings whose fixes are in it. ``broken``: those
    whose fix would have left code that does not parse.
    """

    content: str
    applied: tuple[Finding, ...]
    broken: tuple[Finding, ...]


def applicable(finding: Finding, *, unsafe: bool) -> bool:
    """Whether a finding has a fix of a safety that is asked for."""
    return finding.fix is not None and (finding.fix.safety is Safety.SAFE or (unsafe and finding.fix.safety is Safety.UNSAFE))


def fix_file(source: SourceFile, content: str, findings: Iterable[Finding], *, unsafe: bool) -> Fixed | None:
    """Apply the fixes of a file's findings, as many as do not overlap.

    Args:
        source: the file as it was analysed.
        content: its text; for a notebook, the JSON.
        findings: what was found in it.
        unsafe: whether fixes that change training are applied too.

    Returns:
        None when there is nothing to apply.
    """
    chosen = _disjoint([finding for finding in findings if applicable(finding, unsafe=unsafe)])
    if not chosen:
        return None
    before = _parses(source, content)
    result = _apply(source, content, chosen)
    broken: list[Finding] = []
    if result is None or (before and not _parses(source, result)):
        # Rare: find the ones to blame by applying them one at a time.
        kept: list[Finding] = []
        for finding in chosen:
            attempt = _apply(source, content, [*kept, finding])
            (kept if attempt is not None and _parses(source, attempt) else broken).append(finding)
        chosen = kept
        result = _apply(source, content, chosen)
    if result is None or result == content:
        return Fixed(content, (), tuple(broken)) if broken else None
    return Fixed(result, tuple(chosen), tuple(broken))


def _disjoint(findings: Sequence[Finding]) -> list[Finding]:
    """The findings whose fixes do not overlap an earlier one's; a fix is taken whole or not at all, the same fix only once."""
    taken: list[Edit] = []
    chosen: list[Finding] = []
    for finding in sorted(findings, key=lambda finding: finding.span):
        edits = finding.fix.edits if finding.fix else ()
        if edits and not any(_overlap(one, other) for one in edits for other in taken):
            taken.extend(edits)
            chosen.append(finding)
    return chosen


def _overlap(one: Edit, other: Edit) -> bool:
    a, b = one.span, other.span
    starts, ends = (a.line, a.column), (a.end_line, a.end_column)
    other_starts, other_ends = (b.line, b.column), (b.end_line, b.end_column)
    if starts == ends or other_starts == other_ends:  # insertions at one place clash too: their order would be a guess
        return starts <= other_ends and other_starts <= ends
    return starts < other_ends and other_starts < ends


def _apply(source: SourceFile, content: str, findings: Sequence[Finding]) -> str | None:
    edits = [edit for finding in findings if finding.fix for edit in finding.fix.edits]
    return apply_to_notebook(source, content, edits) if source.notebook is not None else apply_edits(content, edits)


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits made; they must not overlap. New lines end as the text's own lines do."""
    offsets = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", text))]
    newline = "\r\n" if "\r\n" in text and text.count("\r\n") * 2 > text.count("\n") else "\n"
    pieces: list[str] = []
    done = 0
    for edit in sorted(edits, key=lambda edit: (edit.span.line, edit.span.column)):
        start = _offset(offsets, edit.span.line, edit.span.column, len(text))
        end = _offset(offsets, edit.span.end_line, edit.span.end_column, len(text))
        new = edit.text if newline == "\n" else edit.text.replace("\r\n", "\n").replace("\n", newline)
        pieces += [text[done:start], new]
        done = end
    return "".join([*pieces, text[done:]])


def _offset(offsets: Sequence[int], line: int, column: int, length: int) -> int:
    return min(offsets[line - 1] + column - 1, length) if line <= len(offsets) else length


def apply_to_notebook(source: SourceFile, content: str, edits: Iterable[Edit]) -> str | None:
    """A notebook's JSON with edits in joined lines made in its cells.

    None when an edit spans cells or touches a line that Python does not read as it stands.
    """
    if source.notebook is None:
        return None
    try:
        cells = cell_code(content)
        blanked = join_cells(content).blanked
    except NotebookError:
        return None
    by_cell: dict[int, list[Edit]] = {}
    for edit in edits:
        span = edit.span
        number, line = source.notebook.place(span.line)
        end_number, end_line = source.notebook.place(span.end_line)
        if end_number != number and span.end_column == 1:  # up to the end of the cell
            end_number, before = source.notebook.place(span.end_line - 1)
            end_line = before + 1
        touched = range(span.line, span.end_line + (span.end_column > 1))
        if end_number != number or any(line in blanked for line in touched):
            return None
        by_cell.setdefault(number, []).append(Edit(Span(span.file, line, span.column, end_line, span.end_column), edit.text))
    changed = {number: apply_edits(cells[number], cell_edits) for number, cell_edits in by_cell.items()}
    return replace_cells(content, changed)


def _parses(source: SourceFile, content: str) -> bool:
    try:
        text = join_cells(content).text if source.notebook is not None else content
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def unified_diff(path: str, before: str, after: str) -> str:
    """The change of one file as a unified diff."""
    import difflib

    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    lines = []
    for line in difflib.unified_diff(old, new, path, path):
        lines.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(lines)


def write_source(location: Path, content: str, encoding: str) -> None:
    """Write a fixed file in its own encoding.

    Raises:
        OSError: it cannot be written.
        UnicodeEncodeError: the new text has characters that the file's encoding lacks.
    """
    write_bytes(location, content.encode(encoding))
