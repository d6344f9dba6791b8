"""The index of ``rules/README.md``, made from the pages: ``python -m gradlint.testing.docs [--check] [FOLDER]``."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from gradlint.testing.pages import find_pages, load_page

_SECTION = re.compile(r"(?<=<!-- index -->\n).*?(?=<!-- /index -->)", re.DOTALL)
_CHAPTERS = {
    "0": "gradlint's own",
    "1": "The severed graph",
    "2": "Who trains",
    "3": "Modes and buffers",
    "4": "The training step",
    "5": "Leaks",
    "6": "Autograd machinery",
    "7": "Platforms",
    "9": "Contracts",
}


def index(folder: Path) -> str:
    """A list of the pages in ``folder``, chapter by chapter."""
    lines: list[str] = []
    chapter = ""
    for path in find_pages(folder):
        page = load_page(path)
        if page.code[3] != chapter:
            chapter = page.code[3]
            lines += ["", f"**{_CHAPTERS[chapter]}**", ""]
        lines.append(f"- [{page.code} {page.name}]({path.name}): {page.summary}")
    return "\n".join([*lines, "", ""])


def updated(readme: str, folder: Path) -> str:
    """The text of ``README.md`` with its index brought up to date. Raises ``ValueError`` when it has no place for one."""
    if not _SECTION.search(readme):
        raise ValueError("there is no section between <!-- index --> and <!-- /index -->")
    return _SECTION.sub(lambda _: index(folder), readme, count=1)


def main() -> int:
    """Write the index, or with ``--check`` say whether it is up to date; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gradlint.testing.docs", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("rules"), help="the folder of the pages")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the index is out of date")
    options = parser.parse_args()
    readme: Path = options.folder / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = updated(old, options.folder)
    if new == old:
        return 0
    if options.check:
        print(f"{readme} is out of date; python -m gradlint.testing.docs writes it", file=sys.stderr)
        return 1
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
