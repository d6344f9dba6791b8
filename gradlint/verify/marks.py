"""What is known of a value: which leaves it depends on, which of them gradient still reaches, and where it was cut.

Leaves and cuts are numbered; sets of them are bits of integers, so that following a value costs a few machine words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

MOST_TERMS = 64
"""A sum of more summands than this is followed as a whole."""


class Term(NamedTuple):
    """A summand. ``live``, ``depends``: leaves; ``cuts``: cuts passed; ``scalar``: it was a single number when it was made."""

    live: int
    depends: int
    cuts: int
    scalar: bool


class Mark(NamedTuple):
    """``live``: leaves that gradient reaches; ``depends``: all leaves behind the value; ``cuts``: cuts that it passed.

    ``terms``: the summands, when the value is a sum of several; empty when it is but one.
    """

    live: int
    depends: int
    cuts: int
    terms: frozenset[Term] = frozenset()

    def summands(self, scalar: bool = True) -> frozenset[Term]:
        """The summands; the value itself when it is but one, a scalar or not."""
        return self.terms or frozenset((Term(self.live, self.depends, self.cuts, scalar),))

    def severed(self, cuts: int) -> Mark:
        """The value beyond some cuts."""
        terms = frozenset(Term(0, term.depends, term.cuts | cuts, term.scalar) for term in self.terms)
        return Mark(0, self.depends, self.cuts | cuts, terms)


def merge(marks: Sequence[Mark], terms: bool = False, scalars: Sequence[bool] = ()) -> Mark | None:
    """The mark of a value made of others; None when they say nothing.

    ``terms``: the value is their sum, so that the summands stay apart.  ``scalars``: which of them are single numbers.
    """
    if not marks:
        return None
    if len(marks) == 1 and (terms or not marks[0].terms):
        return marks[0]
    live = depends = cuts = 0
    for mark in marks:
        live |= mark.live
        depends |= mark.depends
        cuts |= mark.cuts
    if not terms:
        return Mark(live, depends, cuts)
    kept = scalars or [True] * len(marks)
    summands = frozenset().union(*(mark.summands(scalar) for mark, scalar in zip(marks, kept, strict=True)))
    return Mark(live, depends, cuts, summands if 1 < len(summands) <= MOST_TERMS else frozenset())


def bits(number: int) -> Iterator[int]:
    """The positions of the bits that are set, from the lowest."""
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest
