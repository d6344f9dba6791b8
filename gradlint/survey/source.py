"""Reading one source file: bytes to text to syntax tree, whatever the bytes are."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from gradlint.core import Span
from gradlint.survey.notebooks import CellMap


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
    ``encoding``: the codec that gives back the same bytes, or None when the text is a lossy reading.
    """

    path: str
    location: Path
    text: str
    tree: ast.Module | None
    problems: tuple[Problem, ...] = ()
    notebook: CellMap | None = None
    encoding: str | None = "utf-8"

    @property
    def lines(self) -> list[str]:
        """The text as lines without their ends, split as Python splits them (not at form feeds)."""
        return self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
