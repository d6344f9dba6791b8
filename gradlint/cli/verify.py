"""``gradlint verify``: check, run what was flagged, and show the verdict beside each finding."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from gradlint.cli.check import emit, tell
from gradlint.cli.parser import UsageError, nearest
from gradlint.cli.settings import STDIN, blame_options, config_of
from gradlint.cli.terminal import is_terminal, progress, say, style
from gradlint.core import Outcome
from gradlint.reporters import HUMAN
from gradlint.session import Config, ConfigError, MissingPath, Report, analyze, checked_files
from gradlint.survey.discover import shown
from gradlint.survey.source import SourceFile, read
from gradlint.verify.run import Settings, Unavailable, verify

OK, FINDINGS, FAILED = 0, 1, 2

GIB = 1 << 30


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit code.

    Raises:
        UsageError: what is asked for cannot be done.
    """
    if STDIN in options.paths or options.stdin_filename:
        raise UsageError("verify runs files, not standard input")
    wanted = _wanted(options.only)
    try:
        config = config_of(options, options.paths)
        with progress("gradlint reads the project"):
            report = analyze(options.paths, config, use_cache=not options.no_cache, jobs=options.jobs or os.cpu_count() or 1)
            others = _others(options, config, report)
    except MissingPath as error:
        raise UsageError(str(error)) from None
    except ConfigError as error:
        raise UsageError(str(blame_options(error, options) if "unknown rule" in str(error) else error)) from None
    tell(report.notes, options)
    try:
        with running(options) as told:
            verdicts = verify(report, settings(options, config), others, told)
    except Unavailable as error:
        raise UsageError(f"no code can be run here: {error}") from None
    report = _with_contracts(replace(report, verdicts=verdicts))
    if wanted:
        kept = tuple(f for f in report.findings if f in verdicts and verdicts[f].outcome in wanted)
        report = replace(report, findings=kept)
    config = replace(config, output_format=config.output_format or "full")
    options.statistics = False
    emit(options, config, report, sys.stdout)
    if not options.quiet and config.output_format in HUMAN:
        _summarise(report, options)
    if report.failed:
        return FAILED
    return FINDINGS if _counts(report, options.fail_on) else OK


def _with_contracts(report: Report) -> Report:
    """The report with the contracts that running has shown to be broken; of those that could not be run, a note."""
    known = set(report.findings)
    more = [finding for finding in report.verdicts if finding not in known]
    broken = [finding for finding in more if report.verdicts[finding].outcome is Outcome.CONFIRMED]
    for finding in more:
        verdict = report.verdicts[finding]
        if verdict.outcome is Outcome.INCONCLUSIVE and finding.claim is not None:
            module, promise = finding.claim.subjects
            say(f"The contract of {module}, {promise}, could not be checked by running it: {verdict.reason}")
    kept = {finding: verdict for finding, verdict in report.verdicts.items() if finding in known or finding in broken}
    findings = tuple(sorted((*report.findings, *broken), key=lambda finding: (finding.span, finding.code)))
    return replace(report, findings=findings, verdicts=kept)


def settings(options: argparse.Namespace, config: Config) -> Settings:
    """How to run code, from options and settings."""
    memory = int(options.memory * GIB) if options.memory else 0
    return Settings(options.device, float(options.timeout), int(options.steps), memory, config.drivers, config.contracts)


def _others(options: argparse.Namespace, config: Config, report: Report) -> list[SourceFile]:
    """The rest of the project: the program that runs a flagged file may lie outside the paths that were asked for."""
    if not (report.findings or config.contracts):
        return []
    from pathlib import Path

    cwd = Path.cwd()
    return [read(path, shown(path, cwd)) for path in checked_files(options.paths, config).context]


def _wanted(words: list[str] | None) -> frozenset[Outcome]:
    for word in words or ():
        if word not in list(Outcome):
            raise UsageError(f"--only takes confirmed, refuted and inconclusive, not {word}{nearest(word, list(Outcome))}")
    return frozenset(map(Outcome, words or ()))


def _counts(report: Report, fail_on: str) -> bool:
    """Whether a shown finding makes the exit code 1."""
    outcomes = [verdict.outcome if (verdict := report.verdicts.get(finding)) else None for finding in report.findings]
    match fail_on:
        case "never":
            return False
        case "any":
            return bool(outcomes)
        case "unrefuted":
            return any(outcome is not Outcome.REFUTED for outcome in outcomes)
        case _:
            return Outcome.CONFIRMED in outcomes


def _summarise(report: Report, options: argparse.Namespace) -> None:
    look = style(sys.stderr, options.color)
    tally = Counter(verdict.outcome for finding, verdict in report.verdicts.items() if finding in set(report.findings))
    said = [f"{tally[outcome]} {outcome.value}" for outcome in Outcome if tally[outcome]]
    rest = len(report.findings) - sum(tally.values())
    if rest:
        said.append(f"{rest} that running cannot decide")
    if said:
        say(f"{look.paint('Verdicts', 'bold')}: {', '.join(said)}.")


class _Running:
    """Says on stderr what is being run, on a terminal only."""

    def __init__(self, shows: bool) -> None:
        self.shows = shows
        self.shown = False

    def __call__(self, what: str) -> None:
        if self.shows:
            self.shown = True
            sys.stderr.write(f"\r\x1b[Krunning {what}")
            sys.stderr.flush()

    def wipe(self) -> None:
        """Take the line away."""
        if self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@contextmanager
def running(options: argparse.Namespace) -> Iterator[_Running]:
    shows = _Running(is_terminal(sys.stderr) and not options.quiet)
    shows("PyTorch's import")
    try:
        yield shows
    finally:
        shows.wipe()
