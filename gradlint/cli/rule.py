"""``gradlint rule``: what a rule finds and why that matters."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable

from gradlint.cli import markdown
from gradlint.cli.parser import UsageError, nearest
from gradlint.cli.terminal import style
from gradlint.reporters.pages import Page, pages, readable, summary
from gradlint.reporters.style import Style, wrap
from gradlint.rules import specs


def run(options: argparse.Namespace) -> int:
    """Print one page, all of them, or the list of rules.

    Raises:
        UsageError: there is no such rule.
    """
    look = style(sys.stdout, options.color)
    if options.rule:
        chosen: Iterable[Page] = [_find(options.rule)]
    else:
        chosen = pages().values()
    if options.output_format == "json":
        entries = [_entry(page) for page in chosen]
        print(json.dumps(entries[0] if options.rule else entries, indent=2, ensure_ascii=not look.unicode))
    elif options.output_format == "markdown":
        print("\n".join(readable(page.read()).strip() + "\n" for page in chosen), end="")
    elif options.rule or options.all:
        print("\n".join(markdown.render(readable(page.read()), look) for page in chosen), end="")
    else:
        _list(chosen, look)
    return 0


def _find(word: str) -> Page:
    for page in pages().values():
        if word.upper() == page.code or word.lower() == page.name:
            return page
    known = [name for page in pages().values() for name in (page.code, page.name)]
    raise UsageError(f"there is no rule {word}{nearest(word, known) or nearest(word.upper(), known)}")


def _list(chosen: Iterable[Page], look: Style) -> None:
    for page in chosen:
        print(f"{look.paint(page.code, 'bold')}  {look.paint(page.name, 'cyan')}")
        for line in wrap(summary(page.read()), look.width - 8):
            print(f"        {line}")


def _entry(page: Page) -> dict[str, object]:
    text = page.read()
    entry: dict[str, object] = {"code": page.code, "name": page.name, "summary": summary(text)}
    spec = next((spec for spec in specs() if spec.code == page.code), None)
    if spec:
        entry |= {
            "group": spec.group.value,
            "severity": spec.severity.value,
            "fix": spec.fix.value,
            "probe": spec.probe,
            "preview": spec.preview,
        }
    return entry | {"explanation": readable(text)}
