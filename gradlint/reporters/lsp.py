"""``lsp``: the findings as an editor's server would publish them."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from gradlint.core import Finding, Severity, Span, Verdict
from gradlint.reporters.places import Places
from gradlint.reporters.rows import claim_row, fix_row, verdict_row
from gradlint.reporters.style import Style
from gradlint.session.report import Report

_SEVERITIES = {Severity.ERROR: 1, Severity.WARNING: 2, Severity.INFO: 3}


def render(report: Report, style: Style) -> str:
    """An array of ``publishDiagnostics`` parameters, one a file with findings."""
    places = Places(report)
    published = [
        {
            "uri": places.uri(file),
            "diagnostics": [
                diagnostic(finding, places, report.fingerprints.get(finding), report.verdicts.get(finding)) for finding in group
            ],
        }
        for file, group in groupby(report.findings, key=lambda finding: finding.span.file)
    ]
    return json.dumps(published, indent=2, ensure_ascii=not style.unicode) + "\n"


def diagnostic(
    finding: Finding, places: Places, fingerprint: str | None = None, verdict: Verdict | None = None
) -> dict[str, Any]:
    """One diagnostic.  In a notebook lines count through the joined code cells; ``data`` says which cell it is."""
    message = f"{finding.message}\n{finding.help}" if finding.help else finding.message
    return {
        "range": text_range(finding.span, places),
        "severity": _SEVERITIES[finding.severity],
        "code": finding.code,
        "codeDescription": {"href": finding.url},
        "source": "gradlint",
        "message": message,
        "relatedInformation": [
            {"location": {"uri": places.uri(step.span.file), "range": text_range(step.span, places)}, "message": step.text}
            for step in finding.path
        ],
        "data": {
            "name": finding.name,
            "confidence": finding.confidence.value,
            "cell": places.of(finding.span).cell,
            "claim": claim_row(finding.claim, places),
            "fix": fix_row(finding.fix, places),
            "fingerprint": fingerprint,
            **verdict_row(verdict, places),
        },
    }


def text_range(span: Span, places: Places) -> dict[str, Any]:
    """``span`` from 0, in UTF-16 units, its end exclusive."""
    return {
        "start": places.utf16(span.file, span.line, span.column),
        "end": places.utf16(span.file, span.end_line, span.end_column),
    }
