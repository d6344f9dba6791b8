"""Where the rules' pages are: inside an installed package, or at the top of the repository in a checkout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_STEM = re.compile(r"(GRD\d{3})-([a-z0-9-]+)")


@dataclass(frozen=True, slots=True)
class Page:
    """One rule's page, known by the ``code`` and ``name`` in its file name."""

    code: str
    name: str
    path: Path

    def read(self) -> str:
        """The page as Markdown."""
        return self.path.read_text(encoding="utf-8")


@cache
def pages() -> Mapping[str, Page]:
    """Every page by code, in order; empty when neither place has any."""
    import gradlint

    package = Path(gradlint.__file__).resolve().parent
    for folder in (package / "pages", package.parent / "rules"):
        found = [(_STEM.fullmatch(path.stem), path) for path in sorted(folder.glob("GRD*.md"))]
        if found:
            return {match[1]: Page(match[1], match[2], path) for match, path in found if match}
    return {}


def summary(page: str) -> str:
    """The first paragraph of prose on a page, its line breaks as blanks."""
    for paragraph in re.split(r"\n\s*\n", page):
        text = " ".join(paragraph.split())
        if text and not text.startswith(("#", "```", "|", "<!--", "- ", "---")):
            return text
    return ""


def readable(page: str) -> str:
    """``page`` for people: what its blocks promise to the tests is told in words."""
    return re.sub(r"^(`{3,})python +(.+)$", _fence, re.sub(r"# expect: ", "# reported here: ", page), flags=re.MULTILINE)


def _fence(match: re.Match[str]) -> str:
    words = match[2].split()
    label = "After the fix" if "fix" in words else {"bad": "Bad", "good": "Good"}.get(words[0], "")
    return f"{label}:\n{match[1]}python" if label else f"{match[1]}python"
