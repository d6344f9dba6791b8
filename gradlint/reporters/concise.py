"""``concise``: a line a finding, for narrow views and for tools that read ``file:line:column``."""

from __future__ import annotations

from gradlint.core import Confidence, Finding, Outcome, Safety, Severity, Verdict
from gradlint.reporters.places import Place, Places
from gradlint.reporters.style import Style
from gradlint.session.report import Report

COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}


def render(report: Report, style: Style) -> str:
    """``train.py:12:5: GRD102 what happens``, a line each."""
    places = Places(report)
    return "".join(
        f"{line(finding, places.of(finding.span), style)}{outcome(report.verdicts.get(finding), style)}\n"
        for finding in report.findings
    )


OUTCOMES = {Outcome.CONFIRMED: "red", Outcome.REFUTED: "green", Outcome.INCONCLUSIVE: "yellow"}


def outcome(verdict: Verdict | None, style: Style) -> str:
    """What running the code said, at the end of a line; nothing where it was not run."""
    return f" {style.paint(f'[{verdict.outcome.value}]', OUTCOMES[verdict.outcome], 'bold')}" if verdict else ""


def line(finding: Finding, place: Place, style: Style) -> str:
    """The whole finding on one line."""
    colon = style.paint(":", "cyan")
    where = f"{style.paint(place.file, 'bold')}{colon}{place.position}{colon}"
    return f"{where} {verdict(finding, style)} {one_line(finding.message)}{marks(finding, style)}"


def verdict(finding: Finding, style: Style) -> str:
    """The code in the colour of its severity."""
    return style.paint(finding.code, COLORS[finding.severity], "bold")


def marks(finding: Finding, style: Style) -> str:
    """What a reader wants to know in passing: a confidence that is not high, and whether a fix exists."""
    notes = []
    if finding.confidence is not Confidence.HIGH:
        notes.append(f"{finding.confidence.value} confidence")
    if finding.fix and finding.fix.safety is not Safety.NONE:
        notes.append("fix" if finding.fix.safety is Safety.SAFE else "unsafe fix")
    return style.paint(f" ({', '.join(notes)})", "dim") if notes else ""


def one_line(message: str) -> str:
    """``message`` with its line breaks as blanks."""
    return " ".join(message.split())
