"""``github``: annotations that GitHub Actions shows at the lines of a pull request."""

from __future__ import annotations

from gradlint.core import Finding, Severity
from gradlint.reporters import concise
from gradlint.reporters.places import Places
from gradlint.reporters.style import Style
from gradlint.session.report import Report

LIMIT = 10
"""How many annotations of a level GitHub shows for one step."""

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render(report: Report, style: Style) -> str:
    """The weightiest ten findings of each level as annotations; the others as lines of the log, and a notice that says so."""
    places = Places(report)
    ordered = sorted(report.findings, key=weight)
    shown: list[str] = []
    others: list[Finding] = []
    used = dict.fromkeys(_COMMANDS, 0)
    # One notice may be needed to tell of what is not shown.
    room = {Severity.ERROR: LIMIT, Severity.WARNING: LIMIT, Severity.INFO: LIMIT - 1}
    for finding in ordered:
        if used[finding.severity] < room[finding.severity]:
            used[finding.severity] += 1
            shown.append(_annotation(finding, places))
        else:
            others.append(finding)
    if others:
        plain = Style(color=False, unicode=style.unicode, width=style.width)
        shown.append(f"::notice title=gradlint::{len(others)} more findings are in the log of this step")
        shown += [concise.line(finding, places.of(finding.span), plain) for finding in others]
    return "".join(f"{line}\n" for line in shown)


def weight(finding: Finding) -> tuple[int, int]:
    """Sorts the worst and surest findings first."""
    return list(Severity).index(finding.severity), -finding.confidence.rank


def _annotation(finding: Finding, places: Places) -> str:
    place = places.of(finding.span)
    relative = places.relative(place.file)
    title = f"{finding.code} {finding.name}"
    properties = {"title": title, "file": relative if relative is not None else place.file, "line": str(place.line)}
    properties["endLine"] = str(place.end_line)
    if place.line == place.end_line:
        properties |= {"col": str(place.column), "endColumn": str(place.end_column)}
    where = f"cell {place.cell}: " if place.cell is not None else ""
    text = where + finding.message + (f"\n{finding.help}" if finding.help else "")
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{_COMMANDS[finding.severity]} {listed}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
