"""``junit``: JUnit XML, a suite a file and a failed case a finding."""

from __future__ import annotations

from itertools import groupby
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from gradlint.core import Finding
from gradlint.reporters.concise import one_line
from gradlint.reporters.places import Places
from gradlint.reporters.style import Style
from gradlint.session.report import Report


def render(report: Report, style: Style) -> str:
    """The findings as failures; a clean file counts as one passed case."""
    places = Places(report)
    found = {file: list(group) for file, group in groupby(report.findings, key=lambda finding: finding.span.file)}
    files = [*dict.fromkeys((*report.files, *found))]
    root = Element("testsuites", name="gradlint")
    totals = {"tests": 0, "failures": 0, "errors": 0}
    for file in files:
        findings = found.get(file, [])
        suite = SubElement(root, "testsuite", name=_clean(file))
        _count(suite, totals, tests=max(len(findings), 1), failures=len(findings), errors=0)
        for finding in findings:
            _case(suite, finding, places)
        if not findings:
            SubElement(suite, "testcase", name="gradlint", classname=_clean(file))
    errors = [note for note in report.notes if note.level == "error"]
    if errors:
        suite = SubElement(root, "testsuite", name="gradlint")
        _count(suite, totals, tests=len(errors), failures=0, errors=len(errors))
        for note in errors:
            case = SubElement(suite, "testcase", name="run", classname=_clean(note.path or "gradlint"))
            SubElement(case, "error", message=_clean(note.message))
    for key, value in totals.items():
        root.set(key, str(value))
    indent(root)
    text = tostring(root, encoding="unicode")
    if not style.unicode:
        text = text.encode("ascii", "xmlcharrefreplace").decode("ascii")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _count(suite: Element, totals: dict[str, int], **counts: int) -> None:
    for key, value in counts.items():
        suite.set(key, str(value))
        totals[key] += value


def _case(suite: Element, finding: Finding, places: Places) -> None:
    place = places.of(finding.span)
    case = SubElement(
        suite,
        "testcase",
        name=f"{finding.code} {finding.name} {place.position}",
        classname=_clean(place.file),
        file=_clean(place.file),
        line=str(place.line),
    )
    kind = f"{finding.severity.value}, {finding.confidence.value} confidence"
    failure = SubElement(case, "failure", message=_clean(one_line(finding.message)), type=kind)
    told = [
        f"{place}: {finding.message}",
        *(f"{places.of(step.span)}: {step.text}" for step in finding.path),
        finding.help,
        finding.url,
    ]
    failure.text = _clean("\n".join(filter(None, told)))


def _clean(text: str) -> str:
    """``text`` without the characters that XML forbids."""
    return "".join(
        char if char in "\t\n\r" or " " <= char <= "\ud7ff" or "\ue000" <= char <= "\ufffd" or char > "\uffff" else "\ufffd"
        for char in text
    )
