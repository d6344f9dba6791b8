"""Places in source text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of one file.

    Lines and columns count from 1, columns in code points (not bytes), and ``end_column`` is the column after the last
    character.  ``file`` is the path as the user would write it: relative to the working directory where that is possible.
    For a notebook, lines count through the code cells joined in order; ``gradlint.survey.notebooks`` maps them back.
    """

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"
