"""How text looks on the reader's screen: colour, the width of characters, clipping and wrapping."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_SEQUENCES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}

TAB = 4
"""How many columns a tab is drawn as."""


@dataclass(frozen=True, slots=True)
class Style:
    """What the place that receives the report can show.

    ``color``: ANSI sequences are understood.  ``unicode``: characters beyond ASCII can be written.  ``width``: columns of a
    line; longer source lines are clipped to it and prose is wrapped at it.
    """

    color: bool = False
    unicode: bool = True
    width: int = 100

    def paint(self, text: str, *looks: str) -> str:
        """``text`` in the given looks (``bold``, ``dim`` or a colour), or as it is where colour is off or ``text`` is empty."""
        if not self.color or not text:
            return text
        return f"\x1b[{';'.join(_SEQUENCES[look] for look in looks)}m{text}\x1b[0m"

    @property
    def bar(self) -> str:
        """The line between line numbers and source."""
        return "│" if self.unicode else "|"

    @property
    def ellipsis(self) -> str:
        """The mark of clipped text."""
        return "…" if self.unicode else "..."


def char_width(char: str) -> int:
    """The number of terminal columns that ``char`` takes: 0 for combining marks, 2 for wide characters, else 1."""
    if " " <= char <= "~":
        return 1
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def text_width(text: str) -> int:
    """The number of terminal columns that ``text`` takes."""
    return len(text) if text.isascii() else sum(map(char_width, text))


def printable(text: str) -> str:
    """``text`` with tabs as blanks and control characters made visible, so that a source line cannot disturb the terminal."""
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(char: str) -> str:
    if char == "\t":
        return " " * TAB
    # The joiner keeps composed emoji in one piece; other format characters could reorder the line.
    return char if char.isprintable() or char == "\u200d" else "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Clipped:
    """A part of a source line ready to be shown: ``text``, and where the marked range lies in it, in columns from 0."""

    text: str
    start: int
    width: int


def clip(line: str, begin: int, end: int, room: int, ellipsis: str = "…") -> Clipped:
    """Cut ``line`` to ``room`` columns around the characters ``begin`` to ``end`` (code points from 0, half open).

    The marked range is kept as far as it fits, its beginning always.  Text that was cut off is replaced by ``ellipsis``.
    """
    begin = max(0, min(begin, len(line)))
    end = max(begin, min(end, len(line)))
    before, marked, after = printable(line[:begin]), printable(line[begin:end]), printable(line[end:])
    start, width = text_width(before), text_width(marked)
    text = before + marked + after
    if text_width(text) <= room:
        return Clipped(text, start, width)
    mark = text_width(ellipsis)
    drop = 0
    if start + width + mark > room:
        drop = start - min(start, room // 3, max(0, room - width - 2 * mark))
    if drop > mark:
        lead, kept = _drop(text, drop)
        text, start = ellipsis + kept, start - lead + mark
    body = _take(text, room)
    if len(body) < len(text):
        text = _take(text, room - mark) + ellipsis
    return Clipped(text, start, max(0, min(width, text_width(text) - start)))


def _take(text: str, columns: int) -> str:
    """The longest beginning of ``text`` that fits into ``columns``."""
    used = 0
    for index, char in enumerate(text):
        used += char_width(char)
        if used > columns:
            return text[:index]
    return text


def _drop(text: str, columns: int) -> tuple[int, str]:
    """Remove at least ``columns`` columns from the beginning of ``text``; return how many went and the rest."""
    used = 0
    for index, char in enumerate(text):
        if used >= columns and char_width(char):
            return used, text[index:]
        used += char_width(char)
    return used, ""


def wrap(text: str, room: int) -> Iterator[str]:
    """Break prose at blanks into lines of at most ``room`` columns; a longer word stands alone.  Line breaks are kept."""
    for paragraph in text.splitlines() or [""]:
        yield from _fill(paragraph.split(), max(room, 20))


def _fill(words: Iterable[str], room: int) -> Iterator[str]:
    line, used = "", 0
    for word in words:
        width = text_width(word)
        if line and used + 1 + width > room:
            yield line
            line, used = word, width
        else:
            line, used = (f"{line} {word}", used + 1 + width) if line else (word, width)
    yield line
