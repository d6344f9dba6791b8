"""``sarif``: SARIF 2.1.0, with the parts that code scanning services read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gradlint import __version__
from gradlint.core import Confidence, Finding, Fix, Safety, Severity, Span, Step
from gradlint.reporters.pages import pages, readable, summary
from gradlint.reporters.places import Places
from gradlint.reporters.style import Style
from gradlint.session.report import Note, Report

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

LONGEST = 1024
"""Characters of a description that are read."""

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_PROBLEMS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "recommendation"}
_RANKS = {Confidence.HIGH: 90.0, Confidence.MEDIUM: 60.0, Confidence.LOW: 30.0}


def render(report: Report, style: Style) -> str:
    """One run.  Addresses are relative to the top of the repository, or to the project root outside of one."""
    places = Places(report)
    codes = sorted({finding.code for finding in report.findings})
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "gradlint",
                        "semanticVersion": __version__,
                        "informationUri": "https://gradlint.dev",
                        "rules": [_rule([f for f in report.findings if f.code == code]) for code in codes],
                    }
                },
                "automationDetails": {"id": "gradlint/"},
                "originalUriBaseIds": {"SRCROOT": {"uri": places.repository.as_uri().rstrip("/") + "/"}},
                "columnKind": "unicodeCodePoints",
                "invocations": [
                    {
                        "executionSuccessful": not report.failed,
                        "toolExecutionNotifications": [_notification(note, places) for note in report.notes],
                    }
                ],
                "results": [_result(finding, codes.index(finding.code), report, places) for finding in report.findings],
            }
        ],
    }
    return json.dumps(log, indent=2, ensure_ascii=not style.unicode) + "\n"


def _rule(findings: list[Finding]) -> dict[str, Any]:
    """The description of one rule; its precision is that of its least certain finding."""
    first = findings[0]
    severity = min((finding.severity for finding in findings), key=list(Severity).index)
    precision = min((finding.confidence for finding in findings), key=lambda confidence: confidence.rank)
    page = pages().get(first.code)
    markdown = readable(page.read()) if page else ""
    short = _shortened(summary(markdown) or first.name.replace("-", " "))
    return {
        "id": first.code,
        "name": first.name,
        "shortDescription": {"text": short},
        "fullDescription": {"text": short},
        "defaultConfiguration": {"level": _LEVELS[severity]},
        "helpUri": first.url,
        "help": {"text": f"{short} See {first.url}", **({"markdown": markdown} if markdown else {})},
        "properties": {
            "precision": precision.value,
            "problem.severity": _PROBLEMS[severity],
            "tags": ["correctness", "gradient", "pytorch"],
        },
    }


def _result(finding: Finding, rule: int, report: Report, places: Places) -> dict[str, Any]:
    fingerprint, verdict = report.fingerprints.get(finding), report.verdicts.get(finding)
    text = f"{finding.message}\n{finding.help}" if finding.help else finding.message
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        "rank": _RANKS[finding.confidence],
        "message": {"text": text},
        "locations": [_location(finding.span, places)],
        "properties": {"confidence": finding.confidence.value},
    }
    if fingerprint:
        result["partialFingerprints"] = {"primaryLocationLineHash": f"{fingerprint}:1"}
    if finding.path:
        result["codeFlows"] = [{"threadFlows": [{"locations": [{"location": _step(step, places)} for step in finding.path]}]}]
        result["relatedLocations"] = [{"id": number, **_step(step, places)} for number, step in enumerate(finding.path, 1)]
    if finding.claim:
        claim = finding.claim
        result["properties"]["claim"] = {"probe": claim.probe, "kind": claim.kind, "subjects": list(claim.subjects)}
    if verdict is not None:
        result["properties"] |= {
            "verdict": verdict.outcome.value,
            "verdictReason": verdict.reason,
            "evidence": [each.text for each in verdict.evidence],
            "driver": verdict.driver,
            "device": verdict.device,
        }
    if finding.fix and finding.fix.edits and finding.fix.safety is not Safety.NONE:
        result["fixes"] = [_fix(finding.fix, places)]
    return result


def _step(step: Step, places: Places) -> dict[str, Any]:
    return {**_location(step.span, places), "message": {"text": step.text}}


def _location(span: Span, places: Places) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": _artifact(span.file, places), "region": _region(span, places)}
    }
    cell = places.of(span).cell
    if cell is not None:
        location["logicalLocations"] = [{"name": f"cell {cell}", "kind": "module"}]
    return location


def _artifact(file: str, places: Places) -> dict[str, str]:
    inside = places.relative(file) is not None
    return {"uri": places.relative_uri(file), **({"uriBaseId": "SRCROOT"} if inside else {})}


def _region(span: Span, places: Places) -> dict[str, int]:
    place = places.of(span)
    return {
        "startLine": place.line,
        "startColumn": place.column,
        "endLine": place.end_line,
        "endColumn": place.end_column,
    }


def _fix(fix: Fix, places: Places) -> dict[str, Any]:
    def replacements(file: str) -> Iterable[dict[str, Any]]:
        for edit in fix.edits:
            if edit.span.file == file:
                yield {"deletedRegion": _region(edit.span, places), "insertedContent": {"text": edit.text}}

    files = dict.fromkeys(edit.span.file for edit in fix.edits)
    return {
        "description": {"text": fix.message},
        "artifactChanges": [
            {"artifactLocation": _artifact(file, places), "replacements": [*replacements(file)]} for file in files
        ],
    }


def _notification(note: Note, places: Places) -> dict[str, Any]:
    notification: dict[str, Any] = {
        "level": note.level if note.level in ("error", "warning") else "note",
        "message": {"text": note.message},
    }
    if note.path:
        notification["locations"] = [{"physicalLocation": {"artifactLocation": _artifact(note.path, places)}}]
    return notification


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"
