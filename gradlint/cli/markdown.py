"""A rule's page on a terminal: Markdown with its marks turned into looks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradlint.reporters.style import Style, wrap

_FENCE = re.compile(r"(`{3,})(\w*)")
_HEADING = re.compile(r"(#{1,6})\s+(.+)")
_ITEM = re.compile(r"(\s*(?:[-*]|\d+\.)\s+)(.+)")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")


def render(text: str, style: Style) -> str:
    """``text`` wrapped to the width of the screen; code blocks are indented and stay as they are."""
    return "\n".join(_lines(text.strip().splitlines(), style))


def _lines(lines: list[str], style: Style) -> Iterator[str]:
    fence = ""
    prose: list[str] = []
    for line in [*lines, ""]:
        opening = _FENCE.match(line)
        marked = opening or not line.strip() or line.startswith(("#", "|")) or _ITEM.fullmatch(line)
        if not fence and not marked:
            prose.append(line)
            continue
        if prose:
            text = _LINK.sub(r"\1 (\2)", " ".join(prose))
            yield from (_inline(part, style) for part in wrap(text, style.width))
            prose.clear()
        if fence:
            if line.strip() == fence:
                fence = ""
            else:
                yield f"    {_code(line, style)}" if line.strip() else ""
        elif opening:
            fence = opening[1]
        elif heading := _HEADING.fullmatch(line):
            looks = ("bold", "cyan") if len(heading[1]) == 1 else ("bold",)
            yield style.paint(_CODE.sub(r"\1", heading[2]), *looks)
        elif item := _ITEM.fullmatch(line):
            first, *rest = wrap(_LINK.sub(r"\1: \2", item[2]), style.width - len(item[1]))
            yield item[1] + _inline(first, style)
            yield from (" " * len(item[1]) + _inline(part, style) for part in rest)
        else:
            yield _inline(line, style)


def _inline(line: str, style: Style) -> str:
    line = _CODE.sub(lambda match: style.paint(match[1], "cyan") if style.color else match[0], line)
    return _BOLD.sub(lambda match: style.paint(match[1], "bold"), line)


def _code(line: str, style: Style) -> str:
    code, mark, said = line.partition("# reported here: ")
    return f"{code}{style.paint(mark + said, 'red', 'bold')}" if mark else line
