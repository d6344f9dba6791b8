"""Runs one script under the tracer and tells what trained, what did not, and which lines cut it off. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradlint.core import Finding, Span, Verdict
from gradlint.session.report import Report
from gradlint.survey.source import read
from gradlint.verify.client import Server
from gradlint.verify.plan import Plan
from gradlint.verify.run import Attempt, Settings, job_row, verdict_from

Group = tuple[str, int, int]
"""Parameters: a name, how many tensors, how many elements."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that cuts gradient off. ``findings``: what the static analysis said of it, empty when it saw nothing."""

    span: Span | None
    kind: str
    text: str
    parameters: tuple[Group, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """A summand of the loss at ``loss`` that trains nothing, what it depends on, and the lines that cut it off."""

    loss: Span | None
    summands: int
    parameters: tuple[Group, ...]
    cuts: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Traced:
    """What a traced run showed.

    ``states``: groups of parameters by what became of them; see ``gradlint.verify.summary``.  ``ending``: how the run ended, in
    words, empty when it ended by itself or enough was seen.  ``output``: the last that the program printed.
    """

    script: str
    steps: int
    backwards: int
    device: str
    seconds: float
    ending: str
    states: Mapping[str, tuple[Group, ...]]
    cuts: tuple[Line, ...]
    inert: tuple[Term, ...]
    verdicts: Mapping[Finding, Verdict]
    output: str
    compiled: bool

    @property
    def faulty(self) -> bool:
        """Whether something that should train does not."""
        return bool(self.states.get("starved") or self.cuts or self.inert or any(v.confirmed for v in self.verdicts.values()))


def trace(script: Path, report: Report, settings: Settings, server: Server | None = None) -> Traced:
    """Run ``script`` and say what it showed.

    Args:
        script: the program.
        report: what the static analysis found in its project.
        settings: how to run code; ``arguments`` are the script's.
        server: the warm process to use; one is started and ended without.

    Raises:
        Unavailable: no code can be run here.
    """
    if server is None:
        with Server() as own:
            return trace(script, report, settings, own)
    real = Path(os.path.realpath(script))
    sources = dict(report.sources)
    shown = {os.path.realpath(source.location): source.path for source in sources.values()}
    plan = Plan([source if source.tree is not None else read(source.location, source.path) for source in sources.values()])
    package, folder = plan.package_of(script.absolute())
    root = Path(os.path.realpath(report.root))
    program = next((each for each in plan.programs if os.path.realpath(each.file) == str(real)), None)
    files = {os.path.realpath(file) for file in program.files} if program else {str(real)}
    findings = [
        finding
        for finding in report.findings
        if finding.claim is not None and os.path.realpath(sources[finding.span.file].location) in files
    ]
    claims = []
    for finding in findings:
        assert finding.claim is not None
        site = finding.claim.site
        claims.append(replace(finding.claim, site=replace(site, file=os.path.realpath(sources[site.file].location))))
    attempt = Attempt("script", real, shown.get(str(real), str(script)), root=folder, package=package)
    text = next(
        (s.text for s in sources.values() if s.notebook is not None and os.path.realpath(s.location) == str(real)), None
    )
    answer = server.carry_out(job_row(attempt, claims, settings, root, shown, text, traced=True))
    verdicts = {
        finding: verdict_from(answer["verdicts"][str(number)], shown, answer)
        for number, finding in enumerate(findings)
        if str(number) in answer["verdicts"]
    }
    return _traced(attempt.name, answer, verdicts, shown, findings)


def _traced(
    name: str, answer: Mapping[str, Any], verdicts: Mapping[Finding, Verdict], shown: Mapping[str, str], findings: list[Finding]
) -> Traced:
    summary = answer.get("summary") or {}
    ending = answer["ending"]
    said = "" if ending["kind"] in ("end", "enough") else ending["text"] or ending["kind"]
    if ending["kind"] == "time":
        said = f"the time limit of {ending['text']} came first"
    states = {state: _groups(groups) for state, groups in summary.get("states", {}).items()}
    cuts = tuple(_line(row, shown, findings) for row in summary.get("cuts", ()))
    inert = tuple(
        Term(
            _span(row["loss"], shown),
            row["summands"],
            _groups(row["parameters"]),
            tuple(_line(cut, shown, findings) for cut in row["cuts"]),
        )
        for row in summary.get("inert", ())
    )
    return Traced(
        name,
        summary.get("steps", 0),
        summary.get("backwards", 0),
        summary.get("device", ""),
        summary.get("seconds", 0.0),
        said,
        states,
        cuts,
        inert,
        verdicts,
        answer.get("output", ""),
        bool(summary.get("compiled")),
    )


def _groups(rows: Any) -> tuple[Group, ...]:
    return tuple((str(name), int(count), int(size)) for name, count, size in rows)


def _span(row: Any, shown: Mapping[str, str]) -> Span | None:
    return Span(shown.get(row[0], row[0]), *row[1:]) if row else None


def _line(row: Mapping[str, Any], shown: Mapping[str, str], findings: list[Finding]) -> Line:
    span = _span(row["place"], shown)
    known = tuple(
        finding
        for finding in findings
        if span is not None
        and finding.span.file == span.file
        and span.line <= finding.span.end_line
        and finding.span.line <= span.end_line
    )
    return Line(span, row["kind"], row["text"], _groups(row.get("parameters", ())), known)
