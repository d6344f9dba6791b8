"""From what is known about one file to what is said about it: rules, comments that silence, settings that turn rules off."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradlint.core import Confidence, Finding, RuleSpec
from gradlint.rules import specs
from gradlint.session.config import Config, matches
from gradlint.session.report import Note
from gradlint.session.suppression import complaints, read_suppressions
from gradlint.survey.source import Problem, SourceFile

if TYPE_CHECKING:
    from gradlint.flow.facts import Fact

INTERNAL, SYNTAX = "GRD000", "GRD001"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said about one file. ``suppressed``: how many findings comments silenced."""

    findings: tuple[Finding, ...]
    suppressed: int
    notes: tuple[Note, ...]


def judge(source: SourceFile, facts: Sequence[Fact], troubles: Sequence[Problem], config: Config) -> Judgement:
    """Judge one file.

    Args:
        source: the file.
        facts: what the flow analysis knows about it.
        troubles: where the flow analysis failed in it.
        config: the settings.
    """
    notes: list[Note] = []
    known = specs()
    off = config.ignored_in(source.location)
    enabled = {
        spec.code: spec for spec in known if config.enables(spec) and not any(matches(selector, spec) for selector in off)
    }
    own = [
        *_as_findings(enabled.get(SYNTAX), source.problems),
        *_as_findings(enabled.get(INTERNAL), troubles),
        *_findings(source, facts, enabled, notes),
    ]
    comments = read_suppressions(source)
    kept: dict[tuple[object, ...], Finding] = {}
    suppressed = 0
    for finding in own:
        silent = comments.silences(finding)
        if finding.confidence.rank >= config.min_confidence.rank:
            if silent:
                suppressed += 1
            else:
                kept.setdefault((finding.code, finding.span), finding)
    complete = not (source.problems or troubles or notes or any(finding.code == INTERNAL for finding in own))
    for finding in complaints(source, comments, known, enabled, complete=complete):
        if not comments.silences(finding):
            kept[finding.code, finding.span, finding.message] = finding
    findings = tuple(_adjusted(finding, enabled, config) for finding in kept.values())
    return Judgement(findings, suppressed, tuple(notes))


def _adjusted(finding: Finding, known: Mapping[str, RuleSpec], config: Config) -> Finding:
    """The finding with the severity that the settings give its rule."""
    severity = config.severity_of(known[finding.code]) if config.severity and finding.code in known else None
    return replace(finding, severity=severity) if severity else finding


def _as_findings(spec: RuleSpec | None, problems: Iterable[Problem]) -> list[Finding]:
    """Problems as findings of a rule; none when it is off."""
    if spec is None:
        return []
    return [
        Finding(spec.code, spec.name, problem.message, spec.severity, Confidence.HIGH, problem.span, help=problem.help)
        for problem in problems
    ]


def _findings(source: SourceFile, facts: Sequence[Fact], enabled: Container[str], notes: list[Note]) -> list[Finding]:
    """What the rules make of a file's facts."""
    if not facts:
        return []
    from gradlint.rules import all_rules  # and with it LibCST: only for files that something is known about
    from gradlint.syntax.check import check_file

    candidates = [rule for rule in all_rules() if rule.spec.code in enabled and any(isinstance(f, rule.facts) for f in facts)]
    try:
        return check_file(source, facts, candidates) if candidates else []
    except Exception as error:
        notes.append(trouble("warning", "the rules", source.path, error))
        return []


def trouble(level: str, what: str, path: str, error: Exception) -> Note:
    """A note that says that a part of gradlint failed, with what a report of it needs."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" at {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    message = (
        f"gradlint failed in {what} ({reason}{where}). The rest is checked. Please report this line with the code it is about."
    )
    return Note(level, message, path)
