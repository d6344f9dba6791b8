"""``full``: a finding with its source, the path of the gradient, what to do, and the fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from gradlint.core import Confidence, Finding, Fix, Safety, Span, Step, Verdict
from gradlint.reporters.concise import COLORS, OUTCOMES
from gradlint.reporters.edits import changes
from gradlint.reporters.frame import Gutter, frame
from gradlint.reporters.places import Places
from gradlint.reporters.style import Style, clip, text_width, wrap
from gradlint.session.report import Report

MOST_CHANGES = 12
"""Lines of a fix that are shown; a longer one is for ``--diff``."""


def render(report: Report, style: Style) -> str:
    """Each finding as a block, parted by empty lines."""
    places = Places(report)
    return "\n".join(
        "\n".join(block(finding, places, style, report.verdicts.get(finding))) + "\n" for finding in report.findings
    )


def block(finding: Finding, places: Places, style: Style, verdict: Verdict | None = None) -> Iterator[str]:
    """The lines of one finding. ``verdict``: what running the code said of it."""
    color = COLORS[finding.severity]
    steps = finding.path
    gutter = Gutter(_digits(finding, places), style)
    yield _headline(finding, places, style)
    yield from (f"  {_prose(line, style)}" for line in wrap(finding.message, style.width - 2))
    picture = list(frame(finding.span, places, gutter, color))
    if picture:
        yield gutter.blank()
        yield from picture
        yield gutter.blank()
    else:
        yield ""
    if steps:
        yield f"  {style.paint(_heading(finding), 'bold')}"
        yield from _story(steps, places, style)
        if finding.help or finding.fix or verdict:
            yield ""
    if verdict:
        yield from _verdict(verdict, places, style)
    if finding.help:
        yield from _labelled("help", finding.help, style, "cyan")
    if finding.fix:
        yield from _fix(finding.fix, places, style, gutter)


def _verdict(verdict: Verdict, places: Places, style: Style) -> Iterator[str]:
    """The answer, what was observed, and what was run."""
    yield from _labelled(verdict.outcome.value, verdict.reason, style, OUTCOMES[verdict.outcome])
    for each in verdict.evidence:
        spot = places.of(each.span) if each.span else None
        where = f"{spot.file}:{f'cell {spot.cell}:' if spot.cell is not None else ''}{spot.line}: " if spot else ""
        lines = [_prose(line, style) for line in wrap(f"{where}{each.text}", style.width - 6)]
        yield f"    {style.paint('-', 'dim')} {lines[0]}"
        yield from (f"      {line}" for line in lines[1:])
    if verdict.driver:
        ran = f"ran {verdict.driver}{f' on {verdict.device}' if verdict.device else ''}, {verdict.seconds:.1f} s"
        yield from (f"      {style.paint(line, 'dim')}" for line in wrap(ran, style.width - 6))


def _heading(finding: Finding) -> str:
    if finding.claim and finding.claim.probe == "flow":
        return "the path of the gradient, from the loss to where it ends"
    return "how it comes about"


def _headline(finding: Finding, places: Places, style: Style) -> str:
    color = COLORS[finding.severity]
    kind = style.paint(f"{finding.severity.value} {finding.code}", color, "bold")
    sure = "" if finding.confidence is Confidence.HIGH else style.paint(f"  ({finding.confidence.value} confidence)", "dim")
    return f"{style.paint(str(places.of(finding.span)), 'bold')}  {kind} {style.paint(finding.name, color)}{sure}"


def _digits(finding: Finding, places: Places) -> int:
    place = places.of(finding.span)
    return max(len(str(place.end_line + 1)), 3)


def _story(steps: tuple[Step, ...], places: Places, style: Style) -> Iterator[str]:
    """Numbered steps: where, what happens there, and the source line; in columns unless the paths are too long for that."""
    spots = [places.of(step.span) for step in steps]
    labels = [f"{spot.file}:{f'cell {spot.cell}:' if spot.cell is not None else ''}{spot.line}" for spot in spots]
    digits = len(str(len(steps)))
    room = max(map(text_width, labels))
    stacked = room > style.width // 3
    indent = " " * (4 + digits + 2 + (0 if stacked else room + 2))
    space = style.width - len(indent)
    before = ""
    for number, (step, label) in enumerate(zip(steps, labels, strict=True), 1):
        head = f"    {style.paint(f'{number:>{digits}}', 'blue', 'bold')}  {style.paint(label, 'bold')}"
        said = [_prose(line, style) for line in wrap(step.text, space)]
        fits = not stacked or (len(said) == 1 and text_width(label) + 2 + text_width(step.text) <= space)
        gap = 2 if stacked else room - text_width(label) + 2
        yield f"{head}{' ' * gap}{said.pop(0)}".rstrip() if fits else head
        yield from (f"{indent}{line}" for line in said)
        source = places.line(step.span.file, step.span.line).strip()
        if source and label != before:
            yield f"{indent}{style.paint(clip(source, 0, 0, space, style.ellipsis).text, 'dim')}"
        before = label


def _prose(line: str, style: Style) -> str:
    """``line`` with the code in it brought out."""
    return re.sub(r"`[^`]+`", lambda code: style.paint(code[0], "cyan"), line) if style.color else line


def _labelled(label: str, text: str, style: Style, look: str) -> Iterator[str]:
    indent = " " * (len(label) + 4)
    lines = [_prose(line, style) for line in wrap(text, style.width - len(indent))]
    yield f"  {style.paint(f'{label}:', look, 'bold')} {lines[0]}"
    yield from (f"{indent}{line}" for line in lines[1:])


def _fix(fix: Fix, places: Places, style: Style, gutter: Gutter) -> Iterator[str]:
    how = {
        Safety.SAFE: "applied by --fix",
        Safety.UNSAFE: "changes training, applied by --fix --unsafe-fixes",
        Safety.NONE: "to be made by hand",
    }[fix.safety]
    yield from _labelled("fix", f"{fix.message} ({how})", style, "green")
    found = changes(fix, places)
    file = fix.edits[0].span.file if fix.edits else ""
    for change in islice(found, MOST_CHANGES):
        if change.file != file:
            file = change.file
            yield f"  {style.paint(file, 'bold')}"
        color = "red" if change.sign == "-" else "green"
        row = places.of(Span(change.file, change.line, 1, change.line, 1)).line
        text = clip(change.text, 0, 0, gutter.room, style.ellipsis).text.rstrip()
        yield gutter.numbered(row, style.paint(text, color), style.paint(change.sign, color))
    rest = sum(1 for _ in found)
    if rest:
        yield gutter.blank(f"{style.ellipsis} {rest} more changed lines, see --diff")
