"""Expectation marks: what a program's author says gradlint must, cannot yet, or should not find on a line.

A mark is a comment at the end of a line::

    loss = criterion(features.detach(), y)  # expect: GRD102
    total = torch.tensor(losses).sum()      # known-miss: GRD105 "the list is filled in a callback"
    scores = model(x).argmax(1)             # known-noise: GRD106 "only ever used as an index"

Rules are written as codes or names, several separated by commas; naming a rule twice expects two findings.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gradlint.core import Finding


class Kind(StrEnum):
    """What a mark says: found here, should be found but is not, is found but should not be."""

    EXPECT = "expect"
    KNOWN_MISS = "known-miss"
    KNOWN_NOISE = "known-noise"


@dataclass(frozen=True, slots=True)
class Mark:
    """One rule named by one mark. ``line`` counts from 1; ``rule`` is a code or a name; ``why`` is empty for ``expect``."""

    kind: Kind
    file: str
    line: int
    rule: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Where what was found and what was marked disagree."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class MarkError(ValueError):
    """A comment that looks like a mark and is none."""


# As Python splits lines: not at form feeds, as str.splitlines would.
_LINE_END = re.compile(r"\r\n|\r|\n")
_START = re.compile(r"#\s*(?:expect|known-miss|known-noise)\b(?!-)")
_MARK = re.compile(
    r"#\s*(?P<kind>expect|known-miss|known-noise):\s*"
    r"(?P<rules>[A-Za-z][\w-]*(?:\s*,\s*[A-Za-z][\w-]*)*)"
    r"(?:\s+\"(?P<why>[^\"]+)\")?\s*(?=#|$)"
)


def parse_marks(text: str, file: str) -> tuple[Mark, ...]:
    """The marks of ``text``, in order.

    Works on lines, not tokens, so that files that do not parse can carry marks too.
    Raises ``MarkError``, naming the place, for a malformed mark or a ``known-`` mark that does not say why.
    """
    marks: list[Mark] = []
    for number, line in enumerate(_LINE_END.split(text), 1):
        for start in _START.finditer(line):
            match = _MARK.match(line, start.start())
            if match is None:
                raise MarkError(f"{file}:{number}: malformed mark: {line[start.start() :].strip()}")
            kind, why = Kind(match["kind"]), match["why"] or ""
            if (kind is Kind.EXPECT) == bool(why):
                reason = "says why although it is an expectation" if why else "does not say why"
                raise MarkError(f"{file}:{number}: the mark {reason}: {match[0].strip()}")
            marks.extend(Mark(kind, file, number, rule.strip(), why) for rule in match["rules"].split(","))
    return tuple(marks)


def strip_marks(text: str) -> str:
    """``text`` without its marks and the blanks before them; every other line and column stays where it was."""
    pieces = re.split(f"({_LINE_END.pattern})", text)
    for index in range(0, len(pieces), 2):
        start = _START.search(pieces[index])
        if start:
            code, comment = pieces[index][: start.start()], pieces[index][start.start() :]
            pieces[index] = (code + _MARK.sub("", comment)).rstrip()
    return "".join(pieces)


def compare(findings: Iterable[Finding], marks: Iterable[Mark]) -> tuple[Mismatch, ...]:
    """Every disagreement between findings and marks, ordered by place.

    A finding and a mark meet when file, first line and rule are the same; each mark answers for one finding.
    """
    marks = tuple(marks)
    found: Counter[tuple[str, int, str]] = Counter()
    messages: dict[tuple[str, int, str], Finding] = {}
    codes: dict[str, str] = {}
    for finding in findings:
        key = (finding.span.file, finding.span.line, finding.code)
        found[key] += 1
        messages[key] = finding
        codes[finding.name] = finding.code
    mismatches: list[Mismatch] = []
    for mark in marks:
        key = (mark.file, mark.line, codes.get(mark.rule, mark.rule))
        present = found[key] > 0
        if present:
            found[key] -= 1
        text = _disagreement(mark, present)
        if text:
            mismatches.append(Mismatch(mark.file, mark.line, text))
    for key, count in found.items():
        finding = messages[key]
        text = f"unexpected {finding.code} {finding.name}: {finding.message}"
        mismatches.extend([Mismatch(key[0], key[1], text)] * count)
    return tuple(sorted(mismatches, key=lambda mismatch: (mismatch.file, mismatch.line, mismatch.text)))


def _disagreement(mark: Mark, present: bool) -> str:
    match mark.kind, present:
        case Kind.EXPECT, False:
            return f"expected {mark.rule} is not reported"
        case Kind.KNOWN_MISS, True:
            return f"promote me: the known miss of {mark.rule} is found now; mark it `# expect: {mark.rule}`"
        case Kind.KNOWN_NOISE, False:
            return f"promote me: the known noise of {mark.rule} is gone; remove its mark"
        case _:
            return ""


def map_lines(mismatches: Iterable[Mismatch], places: Mapping[str, tuple[str, int]]) -> tuple[Mismatch, ...]:
    """Move mismatches from extracted files to the document they came from: file name -> (document, lines before the first)."""
    return tuple(Mismatch(places[m.file][0], m.line + places[m.file][1], m.text) if m.file in places else m for m in mismatches)
