"""``rdjson``: reviewdog's diagnostic format."""

from __future__ import annotations

import json
from typing import Any

from gradlint.core import Finding, Safety, Severity, Span
from gradlint.reporters.places import Places
from gradlint.reporters.style import Style
from gradlint.session.report import Report

_SEVERITIES = {Severity.ERROR: "ERROR", Severity.WARNING: "WARNING", Severity.INFO: "INFO"}


def render(report: Report, style: Style) -> str:
    """One object with a diagnostic a finding; columns count bytes."""
    places = Places(report)
    result = {
        "source": {"name": "gradlint", "url": "https://gradlint.dev"},
        "diagnostics": [_diagnostic(finding, places) for finding in report.findings],
    }
    return json.dumps(result, indent=2, ensure_ascii=not style.unicode) + "\n"


def _diagnostic(finding: Finding, places: Places) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "message": finding.message,
        "location": {"path": finding.span.file, "range": _range(finding.span, places)},
        "severity": _SEVERITIES[finding.severity],
        "code": {"value": finding.code, "url": finding.url},
        "related_locations": [
            {"message": step.text, "location": {"path": step.span.file, "range": _range(step.span, places)}}
            for step in finding.path
        ],
    }
    fix = finding.fix
    # A suggestion belongs to the file of its diagnostic.
    if fix and fix.safety is not Safety.NONE and all(edit.span.file == finding.span.file for edit in fix.edits):
        entry["suggestions"] = [{"range": _range(edit.span, places), "text": edit.text} for edit in fix.edits]
    return entry


def _range(span: Span, places: Places) -> dict[str, Any]:
    place = places.of(span)
    return {
        "start": {"line": place.line, "column": places.utf8(span.file, span.line, span.column)},
        "end": {"line": place.end_line, "column": places.utf8(span.file, span.end_line, span.end_column)},
    }
