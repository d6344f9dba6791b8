"""Rule pages as tests: Markdown in, small projects with a verdict out.

``rules/README.md`` explains the format to the people who write pages.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gradlint.testing.marks import Mark, parse_marks

UNNAMED = "main.py"
"""The file name of a block that has no name before it."""

SETTINGS = "gradlint.toml"
"""The name of a TOML block that belongs to the project of the blocks after it."""

SYMPTOMS = ("raises", "no_grad", "zero_grad", "unchanged", "trains", "moves", "drifts", "missing", "held", "training")
"""What ``gradlint.testing.harness`` can observe; each is written ``symptom=value`` in a block's info string."""

_FLAGS = ("fix", "no-run")
_FENCE = re.compile(r"(?P<ticks>`{3,})\s*(?P<info>[^`]*)$")
_HEADING = re.compile(r"(?P<level>#{1,6})\s+(?P<title>.+?)\s*#*$")
_NAME = re.compile(r"`(?P<name>[\w./-]+)`:$")


class PageError(ValueError):
    """A page that does not keep to the format. The message begins with ``file:line``."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """What a program shows when it runs. ``value`` is the text of the error for ``raises``, dotted names for the others."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced Python block. ``line`` is the page's line of the fence, so that the first code line is ``line + 1``."""

    name: str
    text: str
    line: int
    verdict: str
    flags: frozenset[str]
    symptoms: tuple[Symptom, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A project cut out of a page, and what the page promises about it.

    ``files`` maps names to blocks in order of first appearance.  ``symptoms`` are the block's own, or for a good case
    without any those of the bad case before it.  ``fixes`` is the project whose automatic fix must give this one.
    """

    page: Path
    section: str
    number: int
    line: int
    verdict: str
    files: Mapping[str, Block]
    symptoms: tuple[Symptom, ...]
    runs: bool
    fixes: Mapping[str, Block] | None

    @property
    def code(self) -> str:
        """The rule the page is about."""
        return self.page.stem.partition("-")[0]

    @property
    def entry(self) -> str:
        """The file to run: ``main.py`` where there is one, else the last."""
        return UNNAMED if UNNAMED in self.files else list(self.files)[-1]

    @property
    def title(self) -> str:
        """A readable, unique name within the page."""
        return f"{self.section} ({self.number}, {self.verdict})"

    @property
    def marks(self) -> tuple[Mark, ...]:
        """What gradlint must find: nothing in a good case, even where a file carried over from the bad one has marks."""
        if self.verdict == "good":
            return ()
        return tuple(mark for name, block in self.files.items() for mark in parse_marks(block.text, name))

    @property
    def places(self) -> dict[str, tuple[str, int]]:
        """Where the files' lines stand in the page, for ``gradlint.testing.marks.map_lines``."""
        return {name: (self.page.name, block.line) for name, block in self.files.items()}


@dataclass(frozen=True, slots=True)
class Page:
    """A parsed page: its code and name from the title, its summary (the first paragraph), headings and cases."""

    path: Path
    code: str
    name: str
    summary: str
    headings: tuple[str, ...]
    cases: tuple[Case, ...]


@dataclass(slots=True)
class _Section:
    title: str
    files: dict[str, Block] = field(default_factory=dict)
    bad: Case | None = None
    number: int = 0
    open: bool = False  # there are blocks that no verdict has closed


def load_page(path: Path) -> Page:
    """Read and parse the page at ``path``. Raises ``PageError`` where it does not keep to the format."""
    return parse_page(path, path.read_text(encoding="utf-8"))


def find_pages(folder: Path) -> tuple[Path, ...]:
    """The rule pages in ``folder``, ordered by code."""
    return tuple(sorted(folder.glob("GRD[0-9][0-9][0-9]-*.md")))


def parse_page(path: Path, text: str) -> Page:
    """Parse a page's text. Raises ``PageError`` where it does not keep to the format."""
    lines = text.splitlines()
    title = re.fullmatch(r"# (GRD\d{3}) ([a-z][a-z0-9-]*)", lines[0] if lines else "")
    if title is None:
        raise PageError(f"{path.name}:1: a page begins with a title like `# GRD102 detach-on-loss-path`")
    cases: list[Case] = []
    headings: list[tuple[int, str]] = []
    every_heading: list[str] = []
    section = _Section("")
    name = ""
    number = 1
    while number < len(lines):
        line = lines[number]
        number += 1
        if heading := _HEADING.match(line):
            level = len(heading["level"])
            headings = [(other, text) for other, text in headings if other < level] + [(level, heading["title"])]
            every_heading.append(heading["title"])
            _finish(path, section, number)
            section, name = _Section(" / ".join(text for _, text in headings)), ""
        elif named := _NAME.match(line.strip()):
            name = named["name"]
        elif fence := _FENCE.match(line):
            start = number
            while number < len(lines) and lines[number].rstrip() != fence["ticks"]:
                number += 1
            if number == len(lines):
                raise PageError(f"{path.name}:{start}: the block has no end")
            block = _block(path, start, name, fence["info"], "".join(f"{text}\n" for text in lines[start:number]))
            number += 1
            name = ""
            if block:
                section.files[block.name] = block
                section.open = not block.verdict
                if block.verdict:
                    cases.append(_case(path, section, block))
        elif line.strip():
            name = ""
    _finish(path, section, number)
    return Page(path, title[1], title[2], _summary(lines), tuple(every_heading), tuple(cases))


def _summary(lines: list[str]) -> str:
    paragraph: list[str] = []
    for line in lines[1:]:
        if line.strip():
            paragraph.append(line.strip())
        elif paragraph:
            break
    return " ".join(paragraph)


def _block(path: Path, line: int, name: str, info: str, text: str) -> Block | None:
    """The block, or None when it is neither Python nor the project's settings, and so only there to be read."""
    words = shlex.split(info)
    if words == ["toml"] and name == SETTINGS:
        return Block(name, text, line, "", frozenset(), ())
    if not words or words[0] != "python":
        return None
    verdicts = [word for word in words[1:] if word in ("bad", "good")]
    flags = frozenset(word for word in words[1:] if word in _FLAGS)
    symptoms: list[Symptom] = []
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if word in verdicts or word in flags:
            continue
        if not equals or not value or key not in SYMPTOMS:
            raise PageError(f"{path.name}:{line}: {word!r} is no verdict, flag or symptom")
        symptoms.append(Symptom(key, value))
    if len(verdicts) > 1 or ((flags or symptoms) and not verdicts):
        raise PageError(f"{path.name}:{line}: a block is bad or good, and only such a block has flags and symptoms")
    if "good" in verdicts and parse_marks(text, name or UNNAMED):
        raise PageError(f"{path.name}:{line}: a good block has no marks")
    return Block(name or UNNAMED, text, line, verdicts[0] if verdicts else "", flags, tuple(symptoms))


def _case(path: Path, section: _Section, block: Block) -> Case:
    section.number += 1
    fixes = None
    if "fix" in block.flags:
        if section.bad is None or block.verdict != "good":
            raise PageError(f"{path.name}:{block.line}: `good fix` follows a bad block in the same section")
        fixes = section.bad.files
    inherited = section.bad.symptoms if section.bad and block.verdict == "good" else ()
    case = Case(
        page=path,
        section=section.title,
        number=section.number,
        line=block.line,
        verdict=block.verdict,
        files=dict(section.files),
        symptoms=block.symptoms or inherited,
        runs="no-run" not in block.flags,
        fixes=fixes,
    )
    if block.verdict == "bad":
        section.bad = case
    return case


def _finish(path: Path, section: _Section, line: int) -> None:
    """A section's Python blocks must end in one with a verdict: a block nobody judges is a block nobody tests."""
    if section.open:
        raise PageError(f"{path.name}:{line}: the section {section.title!r} ends in a block that no verdict follows")
