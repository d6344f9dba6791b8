"""Where a span is, in the words and units of each kind of reader."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from gradlint.core import Span
from gradlint.session.report import Report
from gradlint.survey.source import SourceFile, read


@dataclass(frozen=True, slots=True)
class Place:
    """A span as it is shown: in a notebook lines count from the start of ``cell``, elsewhere ``cell`` is None."""

    file: str
    cell: int | None
    line: int
    column: int
    end_line: int
    end_column: int

    @property
    def position(self) -> str:
        """``12:5``, or ``cell 3:12:5`` in a notebook."""
        return f"{f'cell {self.cell}:' if self.cell is not None else ''}{self.line}:{self.column}"

    def __str__(self) -> str:
        return f"{self.file}:{self.position}"


class Places:
    """The places of one report: source lines, notebook cells, and the addresses of files.

    A path may lead through files that were read but not checked, which the report has no source for: they are read here.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._sources: dict[str, SourceFile] = {}

    def source(self, file: str) -> SourceFile:
        """The text of ``file`` and its notebook cells; an empty one where it cannot be read."""
        if file not in self._sources:
            known = self._report.sources.get(file)
            self._sources[file] = known or read(Path(file).absolute(), file, parse=False)
        return self._sources[file]

    def lines(self, file: str) -> Sequence[str]:
        """The lines of ``file`` without their ends; none where the text is not at hand."""
        source = self.source(file)
        return source.lines if source.text else ()

    def line(self, file: str, number: int) -> str:
        """Line ``number`` (from 1) of ``file``; empty where there is none."""
        lines = self.lines(file)
        return lines[number - 1] if 0 < number <= len(lines) else ""

    def of(self, span: Span) -> Place:
        """``span`` as it is shown."""
        notebook = self.source(span.file).notebook
        cell, line = notebook.place(span.line) if notebook else (None, span.line)
        return Place(span.file, cell, line, span.column, line + span.end_line - span.line, span.end_column)

    def location(self, file: str) -> Path:
        """The absolute place of ``file`` on disk."""
        return self.source(file).location

    def uri(self, file: str) -> str:
        """The ``file:`` address of ``file``."""
        return self.location(file).as_uri()

    @cached_property
    def repository(self) -> Path:
        """The folder that hosting services count paths from: the repository's top, or the project root outside of one."""
        root = self._report.root.absolute()
        return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)

    def relative(self, file: str) -> str | None:
        """``file`` from the top of the repository, with ``/`` between folders; None where it lies outside."""
        location = self.location(file)
        return location.relative_to(self.repository).as_posix() if location.is_relative_to(self.repository) else None

    def relative_uri(self, file: str) -> str:
        """``relative`` as a relative address, or the absolute one for a file outside the repository."""
        relative = self.relative(file)
        return quote(os.fsencode(relative)) if relative is not None else self.uri(file)

    def utf16(self, file: str, line: int, column: int) -> Mapping[str, int]:
        """A position as the language server protocol counts it: from 0, columns in UTF-16 units."""
        before = self.line(file, line)[: column - 1]
        # Columns beyond the text at hand still count, one unit each.
        return {"line": line - 1, "character": column - 1 + sum(char > "\uffff" for char in before)}

    def utf8(self, file: str, line: int, column: int) -> int:
        """A column from 1 in UTF-8 bytes."""
        before = self.line(file, line)[: column - 1]
        return column + len(before.encode("utf-8", "surrogatepass")) - len(before)
