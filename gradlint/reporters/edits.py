"""What a fix would change, as a few removed and added lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby

from gradlint.core import Edit, Fix
from gradlint.reporters.places import Places
from gradlint.session.fixes import apply_edits


@dataclass(frozen=True, slots=True)
class Change:
    """A line of a file that goes (``sign`` ``-``) or comes (``+``); ``line`` counts in the file before or after the fix."""

    file: str
    sign: str
    line: int
    text: str


def changes(fix: Fix, places: Places) -> Iterator[Change]:
    """The lines that ``fix`` removes and adds, file by file from top to bottom; nothing where the source is not at hand."""
    ordered = sorted(fix.edits, key=lambda edit: edit.span)
    for file, edits in groupby(ordered, key=lambda edit: edit.span.file):
        if places.lines(file):
            yield from _file_changes(file, list(edits), places)


def _file_changes(file: str, edits: list[Edit], places: Places) -> Iterator[Change]:
    """Only the lines that the edits touch are compared, so that a fix in a long file costs nothing."""
    first = edits[0].span.line
    last = max(edit.span.end_line for edit in edits)
    old = [*places.lines(file)[first - 1 : last]]
    above = first - 1
    moved = [
        Edit(replace(edit.span, line=edit.span.line - above, end_line=edit.span.end_line - above), edit.text) for edit in edits
    ]
    new = apply_edits("\n".join(old), moved).split("\n")
    for tag, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield from (Change(file, "-", first + n, old[n]) for n in range(i, j))
            yield from (Change(file, "+", first + n, new[n]) for n in range(k, m))
