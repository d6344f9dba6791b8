"""``grouped``: the findings of each file under its name."""

from __future__ import annotations

from itertools import groupby

from gradlint.reporters.concise import COLORS, marks, one_line, verdict
from gradlint.reporters.places import Places
from gradlint.reporters.style import Style, text_width
from gradlint.session.report import Report


def render(report: Report, style: Style) -> str:
    """A heading a file, then its findings with positions, codes and messages in columns."""
    places = Places(report)
    out: list[str] = []
    for file, group in groupby(report.findings, key=lambda finding: finding.span.file):
        entries = [(places.of(finding.span).position, finding) for finding in group]
        room = max(text_width(position) for position, _ in entries)
        out += ["", style.paint(file, "bold")] if out else [style.paint(file, "bold")]
        for position, finding in entries:
            severity = style.paint(f"{finding.severity.value:7}", COLORS[finding.severity])
            padding = " " * (room - text_width(position))
            said = f"{one_line(finding.message)}{marks(finding, style)}"
            out.append(f"  {padding}{position}  {severity}  {verdict(finding, style)}  {said}")
    return "\n".join([*out, ""]) if out else ""
