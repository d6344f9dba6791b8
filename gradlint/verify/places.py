"""Where in the user's code something happens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

from gradlint.core import Span

_OWN = str(Path(__file__).parent.parent) + os.sep
_FOREIGN = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class Place(NamedTuple):
    """What a frame executes: the file's absolute path, lines and columns from 1 (columns in UTF-8 bytes), the function."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    function: str

    def span(self) -> Span:
        """The place as a span."""
        return Span(self.file, self.line, self.column, self.end_line, self.end_column)


class Places:
    """Tells the user's frames from those of libraries.

    ``roots`` are the folders whose files are the user's; what is installed below them (``site-packages``) is not.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        self.roots = tuple(os.path.realpath(root).rstrip(os.sep) + os.sep for root in roots)
        self._user: dict[str, bool] = {}
        self._places: dict[tuple[CodeType, int], Place] = {}

    def is_user(self, file: str) -> bool:
        """Whether a file, by the name that its code objects carry, is the user's."""
        known = self._user.get(file)
        if known is None:
            known = file.startswith(self.roots) and not file.startswith(_OWN) and not any(part in file for part in _FOREIGN)
            self._user[file] = known
        return known

    def stack(self, frame: FrameType | None = None) -> Iterator[Place]:
        """The user's frames, the innermost first, from ``frame`` (the caller's without) outwards."""
        current = frame or sys._getframe(1)
        while current is not None:
            if self.is_user(current.f_code.co_filename):
                yield self.place(current.f_code, current.f_lasti)
            outer = current.f_back
            if outer is None:
                return
            current = outer

    def here(self, frame: FrameType | None = None) -> Place | None:
        """The innermost of the user's frames."""
        return next(self.stack(frame or sys._getframe(1)), None)

    def place(self, code: CodeType, instruction: int) -> Place:
        """What an instruction of a code object stands for in the source."""
        key = (code, instruction)
        found = self._places.get(key)
        if found is None:
            line, end_line, column, end_column = next(
                islice(code.co_positions(), max(instruction, 0) // 2, None), (None, None, None, None)
            )
            line = line or code.co_firstlineno
            found = Place(code.co_filename, line, (column or 0) + 1, end_line or line, (end_column or 0) + 1, code.co_qualname)
            self._places[key] = found
        return found


def overlap(place: Place, site: Span) -> int:
    """How well what a frame executes fits a site: 3 the same, 2 within each other, 1 the same lines, 0 elsewhere.

    Columns of the two agree on lines that are all ASCII before them; elsewhere the lines decide.
    """
    if place.end_line < site.line or site.end_line < place.line or place.file != site.file:
        return 0
    mine = ((place.line, place.column), (place.end_line, place.end_column))
    theirs = ((site.line, site.column), (site.end_line, site.end_column))
    if mine == theirs:
        return 3
    if (mine[0] <= theirs[0] and theirs[1] <= mine[1]) or (theirs[0] <= mine[0] and mine[1] <= theirs[1]):
        return 2
    return 1
