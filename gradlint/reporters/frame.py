"""The source frame: the flagged lines with a line of carets under them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradlint.core import Span
from gradlint.reporters.places import Places
from gradlint.reporters.style import Style, clip

CONTEXT = 1
"""Lines shown above and below the flagged ones."""

LONGEST = 6
"""Flagged lines shown before the middle of a longer range is left out."""


@dataclass(frozen=True, slots=True)
class Gutter:
    """The column of line numbers left of the source; ``digits`` is its width."""

    digits: int
    style: Style

    def numbered(self, number: int, text: str, sign: str = "") -> str:
        """A source line behind its number."""
        return self._row(self.style.paint(f"{number:>{self.digits}}", "blue"), sign or self.bar, text)

    def blank(self, text: str = "") -> str:
        """A line that has no number."""
        return self._row(" " * self.digits, self.bar, text)

    def skipped(self) -> str:
        """The place where lines were left out."""
        return self._row(self.style.paint(f"{self.style.ellipsis[: self.digits]:>{self.digits}}", "blue"), self.bar, "")

    @property
    def bar(self) -> str:
        """The line that parts numbers and source."""
        return self.style.paint(self.style.bar, "blue")

    @property
    def room(self) -> int:
        """Columns left for source text."""
        return max(self.style.width - self.digits - 5, 20)

    def _row(self, number: str, bar: str, text: str) -> str:
        return f"  {number} {bar} {text}" if text else f"  {number} {bar}"


def frame(span: Span, places: Places, gutter: Gutter, color: str) -> Iterator[str]:
    """The lines of ``span`` with some context and carets in ``color``; nothing where the source is not at hand."""
    lines = places.lines(span.file)
    if not 0 < span.line <= len(lines):
        return
    last = min(max(span.end_line, span.line), len(lines))
    left_out = _middle(span.line, last)
    for number in _shown(span.line, last, lines, span.file, places):
        row = places.of(Span(span.file, number, 1, number, 1)).line
        if number in left_out:
            if number == left_out.start:
                yield gutter.skipped()
        elif span.line <= number <= last:
            yield from _marked(span, number, row, lines[number - 1], gutter, color)
        else:
            text = clip(lines[number - 1], 0, 0, gutter.room, gutter.style.ellipsis).text.rstrip()
            yield gutter.numbered(row, gutter.style.paint(text, "dim"))


def _shown(first: int, last: int, lines: Sequence[str], file: str, places: Places) -> range:
    """The flagged lines and their context, which neither begins nor ends blank and stays within a notebook's cell."""

    def context(number: int) -> bool:
        if not (0 < number <= len(lines) and lines[number - 1].strip()):
            return False
        inside = first if number < first else last
        return places.of(Span(file, number, 1, number, 1)).cell == places.of(Span(file, inside, 1, inside, 1)).cell

    begin, end = first, last
    while first - begin < CONTEXT and context(begin - 1):
        begin -= 1
    while end - last < CONTEXT and context(end + 1):
        end += 1
    return range(begin, end + 1)


def _middle(first: int, last: int) -> range:
    """The lines left out of a long range: what is in it shows at its head, where it ends at its foot."""
    return range(first + LONGEST - 1, last) if last - first >= LONGEST else range(0)


def _marked(span: Span, number: int, row: int, line: str, gutter: Gutter, color: str) -> Iterator[str]:
    begin = span.column - 1 if number == span.line else len(line) - len(line.lstrip())
    end = span.end_column - 1 if number == span.end_line else len(line.rstrip())
    view = clip(line, begin, end, gutter.room, gutter.style.ellipsis)
    yield gutter.numbered(row, view.text)
    if line.strip() or span.line == span.end_line:
        yield gutter.blank(" " * view.start + gutter.style.paint("^" * max(view.width, 1), color, "bold"))
