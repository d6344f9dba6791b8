"""A finding as plain data: the row that the JSON formats write and that scripts read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradlint.core import Claim, Finding, Fix, Safety, Span, Verdict
from gradlint.reporters.places import Places
from gradlint.session.report import Report

SCHEMA_VERSION = 1
"""Grows when a field of a row changes its meaning or goes away; new fields leave it alone."""

APPLICABILITY = {Safety.SAFE: "safe", Safety.UNSAFE: "unsafe", Safety.NONE: "display"}


def rows(report: Report) -> Iterator[dict[str, Any]]:
    """One row a finding, in the report's order."""
    places = Places(report)
    for finding in report.findings:
        yield row(finding, places, report.fingerprints.get(finding), report.verdicts.get(finding))


def row(finding: Finding, places: Places, fingerprint: str | None = None, verdict: Verdict | None = None) -> dict[str, Any]:
    """The row of one finding.

    Rows and columns count from 1, columns in characters; ``end_location`` is the place after the last character.  In a notebook
    rows count within ``cell``.  ``noqa_row`` is where a suppression comment belongs.  ``verdict``, ``evidence`` and
    ``verification`` stay null until the program has been run to confirm or refute the claim.
    """
    place = places.of(finding.span)
    return {
        "schema_version": SCHEMA_VERSION,
        "code": finding.code,
        "name": finding.name,
        "message": finding.message,
        "help": finding.help,
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        **_where(finding.span, places),
        "noqa_row": place.line,
        "path": [{**_where(step.span, places), "text": step.text} for step in finding.path],
        "claim": claim_row(finding.claim, places),
        "fix": fix_row(finding.fix, places),
        "url": finding.url,
        "fingerprint": fingerprint,
        **verdict_row(verdict, places),
    }


def verdict_row(verdict: Verdict | None, places: Places) -> dict[str, Any]:
    """What running the code said: ``verdict`` is ``confirmed``, ``refuted`` or ``inconclusive``, or null where nothing ran."""
    if verdict is None:
        return {"verdict": None, "evidence": None, "verification": None}
    return {
        "verdict": verdict.outcome.value,
        "evidence": [{"text": each.text, **(_where(each.span, places) if each.span else {})} for each in verdict.evidence],
        "verification": {
            "reason": verdict.reason,
            "driver": verdict.driver,
            "device": verdict.device,
            "seconds": verdict.seconds,
        },
    }


def claim_row(claim: Claim | None, places: Places) -> dict[str, Any] | None:
    """What the finding asserts about the running program."""
    if claim is None:
        return None
    return {
        "probe": claim.probe,
        "kind": claim.kind,
        "subjects": list(claim.subjects),
        "site": _where(claim.site, places),
    }


def fix_row(fix: Fix | None, places: Places) -> dict[str, Any] | None:
    """The edits that would fix the finding; ``applicability`` is ``safe``, ``unsafe`` or ``display``."""
    if fix is None:
        return None
    return {
        "message": fix.message,
        "applicability": APPLICABILITY[fix.safety],
        "edits": [{**_where(edit.span, places), "content": edit.text} for edit in fix.edits],
    }


def _where(span: Span, places: Places) -> dict[str, Any]:
    place = places.of(span)
    return {
        "filename": place.file,
        "cell": place.cell,
        "location": {"row": place.line, "column": place.column},
        "end_location": {"row": place.end_line, "column": place.end_column},
    }
