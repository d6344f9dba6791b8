"""``azure``: logging commands that Azure Pipelines shows as issues."""

from __future__ import annotations

from gradlint.core import Finding, Severity
from gradlint.reporters.concise import one_line
from gradlint.reporters.places import Places
from gradlint.reporters.style import Style
from gradlint.session.report import Report


def render(report: Report, _style: Style) -> str:
    """A logging command a finding.  There are two levels: whatever is no error is a warning."""
    places = Places(report)
    return "".join(f"{_command(finding, places)}\n" for finding in report.findings)


def _command(finding: Finding, places: Places) -> str:
    place = places.of(finding.span)
    properties = {
        "type": "error" if finding.severity is Severity.ERROR else "warning",
        "sourcepath": place.file,
        "linenumber": str(place.line),
        "columnnumber": str(place.column),
        "code": finding.code,
    }
    listed = "".join(f"{key}={_escaped(value, property=True)};" for key, value in properties.items())
    return f"##vso[task.logissue {listed}]{_escaped(one_line(finding.message))}"


def _escaped(text: str, *, property: bool = False) -> str:
    text = text.replace("%", "%AZP25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(";", "%3B").replace("]", "%5D") if property else text
