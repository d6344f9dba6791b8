"""Findings as they travel from the process that analyses to the one that talks to the editor.

Places are in the client's units and count from 0; in a notebook they count from the start of a cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradlint.core import Edit, Finding, Safety, Severity, Span
from gradlint.server.text import units
from gradlint.survey.source import SourceFile

Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """A range of a file, or of one cell (from 1) of a notebook."""

    path: Path
    cell: int | None
    start: Position
    end: Position


@dataclass(frozen=True, slots=True)
class Change:
    """A fix: edits that belong together. ``safe``: it restores what the text plainly says."""

    title: str
    safe: bool
    edits: tuple[tuple[Place, str], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One finding. ``claims``: running the code can confirm or refute it."""

    code: str
    name: str
    severity: Severity
    confidence: str
    message: str
    help: str
    url: str
    place: Place
    path: tuple[tuple[Place, str], ...]
    fix: Change | None
    claims: bool
    fingerprint: str


def rows(
    findings: Iterable[Finding], sources: Mapping[str, SourceFile], fingerprints: Mapping[Finding, str], encoding: str
) -> list[Row]:
    """Findings in the client's terms.

    Args:
        findings: of files that are among the sources.
        sources: every file that was read, by shown path.
        fingerprints: the lasting names of findings.
        encoding: the units to count columns in.
    """
    places = _Places(sources, encoding)
    return [
        Row(
            finding.code,
            finding.name,
            finding.severity,
            finding.confidence.value,
            finding.message,
            finding.help,
            finding.url,
            place,
            tuple((where, step.text) for step in finding.path if (where := places.of(step.span)) is not None),
            places.change(finding),
            finding.claim is not None and bool(finding.claim.probe),
            fingerprints.get(finding, ""),
        )
        for finding in findings
        if (place := places.of(finding.span)) is not None
    ]


class _Places:
    def __init__(self, sources: Mapping[str, SourceFile], encoding: str) -> None:
        self._sources = sources
        self._encoding = encoding

    def of(self, span: Span) -> Place | None:
        """Where a span is; None for one in a file that was not read."""
        source = self._sources.get(span.file)
        if source is None:
            return None
        start, end = self._position(source, span.line, span.column), self._position(source, span.end_line, span.end_column)
        if source.notebook is None:
            return Place(source.location, None, start, end)
        cell, line = source.notebook.place(span.line)
        end_cell, end_line = source.notebook.place(span.end_line)
        if end_cell != cell:  # the rest of the cell, whose last line is one above the first of the next cell
            last = span.line
            while source.notebook.place(last + 1)[0] == cell and last + 1 < span.end_line:
                last += 1
            end_line, end = source.notebook.place(last)[1] + 1, (0, 0)
        return Place(source.location, cell, (line - 1, start[1]), (end_line - 1, end[1]))

    def change(self, finding: Finding) -> Change | None:
        """The finding's fix, if it has one that can be applied."""
        if finding.fix is None or finding.fix.safety is Safety.NONE:
            return None
        edits = self._edits(finding.fix.edits)
        return Change(finding.fix.message, finding.fix.safety is Safety.SAFE, edits) if edits else None

    def _edits(self, edits: Sequence[Edit]) -> tuple[tuple[Place, str], ...]:
        placed = [(self.of(edit.span), edit.text) for edit in edits]
        return tuple((place, text) for place, text in placed if place is not None) if all(p for p, _ in placed) else ()

    def _position(self, source: SourceFile, line: int, column: int) -> Position:
        text = source.lines[line - 1] if line <= len(source.lines) else ""
        before = text[: column - 1]
        return line - 1, units(before, self._encoding) + max(0, column - 1 - len(text))
