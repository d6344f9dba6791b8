"""``gitlab``: a Code Quality report."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from gradlint.core import Confidence, Finding, Severity
from gradlint.reporters.concise import one_line
from gradlint.reporters.places import Places
from gradlint.reporters.style import Style
from gradlint.session.report import Report

_SEVERITIES = {
    (Severity.ERROR, Confidence.HIGH): "critical",
    (Severity.ERROR, Confidence.MEDIUM): "major",
    (Severity.WARNING, Confidence.HIGH): "major",
    (Severity.INFO, Confidence.HIGH): "info",
    (Severity.INFO, Confidence.MEDIUM): "info",
    (Severity.INFO, Confidence.LOW): "info",
}


def render(report: Report, style: Style) -> str:
    """An array with an entry a finding; paths count from the top of the repository."""
    places = Places(report)
    seen: set[str] = set()
    entries = [_entry(finding, report.fingerprints.get(finding), places, seen) for finding in report.findings]
    return json.dumps(entries, indent=2, ensure_ascii=not style.unicode) + "\n"


def _entry(finding: Finding, fingerprint: str | None, places: Places, seen: set[str]) -> dict[str, Any]:
    place = places.of(finding.span)
    relative = places.relative(place.file)
    path = relative if relative is not None else place.file
    return {
        "description": one_line(f"{finding.code} {finding.message}"),
        "check_name": finding.name,
        "fingerprint": _unique(fingerprint or _digest(finding, path, places), seen),
        "severity": _SEVERITIES.get((finding.severity, finding.confidence), "minor"),
        "location": {"path": path, "lines": {"begin": place.line, "end": place.end_line}},
    }


def _digest(finding: Finding, path: str, places: Places) -> str:
    line = places.line(finding.span.file, finding.span.line).strip()
    return hashlib.sha256("\0".join((finding.code, path, line)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _unique(fingerprint: str, seen: set[str]) -> str:
    """GitLab drops a second entry of one fingerprint, so equal ones are numbered."""
    name, count = fingerprint, 1
    while name in seen:
        count += 1
        name = f"{fingerprint}-{count}"
    seen.add(name)
    return name
