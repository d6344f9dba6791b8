"""What a fix would change, as a few removed and added lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

from gradlint.core import Edit, Fix
from gradlint.reporters.places import Places


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
    lines = places.lines(file)
    first = edits[0].span.line
    last = max(edit.span.end_line for edit in edits)
    old = [*lines[first - 1 : last]]
    starts = [0]
    for line in old:
        starts.append(starts[-1] + len(line) + 1)
    text = "\n".join(old)

    def offset(line: int, column: int) -> int:
        return min(starts[min(line - first, len(old))] + column - 1, len(text))

    parts, done = [], 0
    for edit in edits:
        begin, end = offset(edit.span.line, edit.span.column), offset(edit.span.end_line, edit.span.end_column)
        parts += [text[done:begin], edit.text]
        done = max(end, done)
    new = "".join([*parts, text[done:]]).split("\n")
    for tag, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield from (Change(file, "-", first + n, old[n]) for n in range(i, j))
            yield from (Change(file, "+", first + n, new[n]) for n in range(k, m))
