"""Jupyter notebooks as Python source: code cells joined, magics blanked, and the way back."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CellMap:
    """Where the lines of a notebook's joined code come from.

    ``starts``: the first joined line (from 1) of each code cell. ``numbers``: the number of that cell in the notebook, counted
    from 1 over cells of every type, as editors count them.
    """

    starts: tuple[int, ...]
    numbers: tuple[int, ...]

    def place(self, line: int) -> tuple[int, int]:
        """The (cell number, line in that cell), both from 1, of a line of the joined code."""
        if not self.starts:
            return 1, line
        index = max(bisect_right(self.starts, line) - 1, 0)
        return self.numbers[index], line - self.starts[index] + 1
