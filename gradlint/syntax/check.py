"""Rules at work on one file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gradlint.core import Confidence, Finding, Severity, Span
from gradlint.flow.facts import Fact
from gradlint.survey.source import SourceFile
from gradlint.syntax.candidate import Text, candidates, paused_collector
from gradlint.syntax.rule import Rule

INTERNAL_ERROR = ("GRD000", "internal-error")
"""The code and name of the finding that says that a rule broke; the rule that goes by them has the rest."""


def check_file(source: SourceFile, facts: Sequence[Fact], rules: Sequence[type[Rule[Any]]]) -> list[Finding]:
    """What the rules find in a file.

    Args:
        source: the file, with its tree.
        facts: what the flow analysis knows; facts about other files are ignored.
        rules: the rules to run.

    Returns:
        The findings from top to bottom. A rule that breaks gives one GRD000 that says so; what it found until then, and the
        others, stay.
    """
    here = [fact for fact in facts if fact.span.file == source.path]
    broken: list[Finding] = []
    running: list[Rule[Any]] = []
    wanted: list[list[Span]] = []
    for kind in rules:
        try:
            mine = _united(fact for fact in here if isinstance(fact, kind.facts) and kind.concerns(fact))
            if mine:
                running.append(kind(source, mine))
                wanted += ([fact.span, *(span for span in kind.context(fact) if span.file == source.path)] for fact in mine)
        except Exception as error:
            broken.append(_broken(kind, source, error))
    if not running and not broken:
        return []
    failed: dict[Rule[Any], Exception] = {}
    with paused_collector():
        for candidate in candidates(Text(source), wanted):
            for rule in running:
                try:
                    rule.examine(candidate)
                except Exception as error:
                    failed.setdefault(rule, error)
    for rule in running:
        for fact in list(rule.pending):  # facts whose nodes were not met
            try:
                rule.tell(fact)
            except Exception as error:
                failed.setdefault(rule, error)
    broken += [_broken(type(rule), source, error) for rule, error in failed.items()]
    found = [finding for rule in running for finding in rule.findings] + broken
    return sorted(found, key=lambda finding: (finding.span, finding.code))


def _united(facts: Iterable[Fact]) -> list[Fact]:
    """The facts with those of the same kind at the same place made one: the surest, with what all of them name."""
    groups: dict[tuple[type[Fact], Span], list[Fact]] = {}
    for fact in facts:
        groups.setdefault((type(fact), fact.span), []).append(fact)
    return [_one(group) for group in groups.values()]


def _one(group: list[Fact]) -> Fact:
    best = max(group, key=lambda fact: fact.confidence.rank)
    others = [fact for fact in group if fact is not best]
    if not others:
        return best
    changes: dict[str, Any] = {}
    for field, value in zip(best.fields, best.values(), strict=True):
        if field != "path" and isinstance(value, tuple):
            changes[field] = tuple(dict.fromkeys([*value, *(name for fact in others for name in getattr(fact, field))]))
    return best.replaced(**changes)


def _broken(kind: type[Rule[Any]], source: SourceFile, error: Exception) -> Finding:
    code, name = INTERNAL_ERROR
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    message = f"{kind.spec.code} broke while it looked at this file, and may have missed something here ({reason})."
    help = "This is a fault of gradlint, not of the file: please report it. The other rules were not affected."
    return Finding(code, name, message, Severity.WARNING, Confidence.HIGH, Span(source.path, 1, 1, 1, 1), help=help)
