"""Texts as the protocol counts them: lines, and columns in the units that were agreed with the client."""

from __future__ import annotations

import re
from bisect import bisect_right

_END = re.compile(r"\r\n|\r|\n")

UTF8, UTF16, UTF32 = "utf-8", "utf-16", "utf-32"


def units(text: str, encoding: str) -> int:
    """How many units of an encoding a text takes: bytes for UTF-8, 16-bit words for UTF-16, characters for UTF-32."""
    if encoding == UTF32 or text.isascii():
        return len(text)
    if encoding == UTF8:
        return len(text.encode("utf-8", "surrogatepass"))
    return len(text) + sum(char > "\uffff" for char in text)


def characters(text: str, count: int, encoding: str) -> int:
    """How many characters the first ``count`` units of a text are, at most all of it; the inverse of ``units``."""
    if encoding == UTF32 or text.isascii():
        return min(count, len(text))
    taken = 0
    for number, char in enumerate(text):
        taken += units(char, encoding)
        if taken > count:
            return number
    return len(text)


class Lines:
    """A text cut into lines where the protocol cuts it: at ``\\n``, ``\\r\\n`` and ``\\r``, and nowhere else."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(match.end() for match in _END.finditer(text))]

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> str:
        """A line (from 0) without its end; empty where there is none."""
        if not 0 <= number < len(self._starts):
            return ""
        end = self._starts[number + 1] if number + 1 < len(self._starts) else len(self.text)
        return self.text[self._starts[number] : end].rstrip("\r\n")

    def offset(self, line: int, column: int, encoding: str) -> int:
        """Where in the text a position is; one beyond the end of its line or of the text is at that end."""
        if line >= len(self._starts):
            return len(self.text)
        return self._starts[line] + characters(self[line], column, encoding)

    def position(self, offset: int, encoding: str) -> tuple[int, int]:
        """The line (from 0) and the column, in units, of an offset."""
        line = bisect_right(self._starts, offset) - 1
        return line, units(self.text[self._starts[line] : offset], encoding)
