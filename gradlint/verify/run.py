"""Verifies the findings of a report: chooses what to run for each, runs it, and keeps the best answer. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gradlint.core import Claim, Confidence, Finding, Severity, Span
from gradlint.core.verdict import Evidence, Outcome, Verdict
from gradlint.session.report import Report
from gradlint.survey.source import SourceFile, read
from gradlint.verify.client import Server, Unavailable
from gradlint.verify.plan import ModuleClass, Plan, drivers_for

__all__ = ["Settings", "Unavailable", "verify"]

_BY_CLASS = ("flow", "state", "autograd")
"""The probes whose claims a module alone can answer, without the program that trains it."""


CONTRACT, CONTRACT_RULE = "contract", ("GRD901", "contract-violated")
CONTRACT_HELP = "Change the code, or the contract in the settings."

LAUNCHED = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}
"""What a launcher of distributed training would set, for programs that ask for it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run code.

    ``device``: ``auto`` leaves the choice to the program, ``cpu`` hides all GPUs, ``cuda`` runs driven modules on one.
    ``seconds``: the time one program gets.  ``steps``: optimizer steps to see after the last line of interest was reached.
    ``memory``: bytes a program may take, 0 for what the machine suggests.  ``drivers``: the table of the settings file.
    ``contracts``: its tables about what trains and what does not.  ``arguments``: the command line of scripts.
    ``folder``: where programs run; by default the working folder where it holds the program, else the project's root.
    """

    device: str = "auto"
    seconds: float = 60.0
    steps: int = 12
    memory: int = 0
    drivers: Mapping[str, str] = field(default_factory=dict)
    contracts: Sequence[Mapping[str, Any]] = ()
    arguments: tuple[str, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing to run: a program, a configured factory or a class."""

    kind: str
    file: Path
    name: str
    factory: str = ""
    module: str = ""
    qualname: str = ""
    root: Path = Path()
    package: str = ""


def verify(
    report: Report,
    settings: Settings,
    files: Iterable[SourceFile] = (),
    progress: Callable[[str], None] = lambda _: None,
    server: Server | None = None,
) -> Mapping[Finding, Verdict]:
    """The verdict on every finding that claims something about the running program.

    Args:
        report: the findings, and the files that they are in.
        settings: how to run code.
        files: more files of the project, in which programs may be found.
        progress: told what is being run.
        server: the warm process to use, which stays open; one is started and ended without.

    Raises:
        Unavailable: no code can be run here at all.
    """
    verification = _Verification(report, settings, files, progress)
    if server is not None:
        return verification.run(server)
    with Server() as own:
        return verification.run(own)


class _Verification:
    def __init__(
        self, report: Report, settings: Settings, files: Iterable[SourceFile], progress: Callable[[str], None]
    ) -> None:
        self.report = report
        self.settings = settings
        self.progress = progress
        self.sources = {path: _parsed(source) for path, source in report.sources.items()}
        every = {source.location: source for source in (*self.sources.values(), *files)}
        self.root = Path(os.path.realpath(report.root))
        self.plan = Plan(list(every.values()))
        self.shown = {os.path.realpath(source.location): source.path for source in every.values()}
        self.places = {path: Path(os.path.realpath(source.location)) for path, source in self.sources.items()}
        self.texts = {
            os.path.realpath(source.location): source.text for source in every.values() if source.notebook is not None
        }
        self.verdicts: dict[Finding, Verdict] = {}

    def run(self, server: Server) -> Mapping[Finding, Verdict]:
        """Run one thing after another until every finding has an answer or nothing is left to try."""
        findings = [*self.report.findings, *self.promised()]
        open_ = {finding: self.attempts(finding) for finding in findings if finding.claim is not None}
        if not open_:
            return {}
        server.start()
        while True:
            attempt = next((attempts[0] for attempts in open_.values() if attempts), None)
            if attempt is None:
                break
            asked = [finding for finding, attempts in open_.items() if attempt in attempts]
            for finding, verdict in self.carry_out(server, attempt, asked).items():
                self.keep(finding, verdict)
                open_[finding].remove(attempt)
                if self.verdicts[finding].outcome is not Outcome.INCONCLUSIVE:
                    open_[finding].clear()
        for finding in open_:
            self.verdicts.setdefault(
                finding,
                Verdict(Outcome.INCONCLUSIVE, "No program of the project reaches this file, and no class could be driven."),
            )
        return self.verdicts

    def attempts(self, finding: Finding) -> list[Attempt]:
        """What to run for a finding, in order."""
        file = self.places[finding.span.file]
        classes = self.plan.classes(finding, self.sources[finding.span.file].location)
        found = [
            Attempt("config", file, f"{factory}()", factory=factory, root=classes[0].root if classes else self.root)
            for _, factory in drivers_for(self.settings.drivers, file, classes)
        ]
        for program in self.plan.for_finding(self.sources[finding.span.file].location):
            real = Path(os.path.realpath(program.file))
            package, root = self.plan.package_of(program.file)
            found.append(Attempt("script", real, self.shown.get(str(real), str(real)), root=root, package=package))
        assert finding.claim is not None
        if finding.claim.kind == CONTRACT and not classes:  # a factory
            factory = finding.claim.subjects[0]
            found.insert(0, Attempt("config", file, f"{factory}()", factory=factory, root=self.root))
        if finding.claim.probe in _BY_CLASS:
            found += [self.class_attempt(each) for each in classes[:1]]
        return found

    def promised(self) -> Iterator[Finding]:
        """What would be found if the contracts of the settings were broken, where the static analysis has not found it."""
        told = {finding.claim.subjects for finding in self.report.findings if finding.claim and finding.claim.kind == CONTRACT}
        for table in self.settings.contracts:
            place = self.plan.definition(table["module"])
            if place is None:
                continue
            source, span = place
            self.sources.setdefault(span.file, source)
            self.places.setdefault(span.file, Path(os.path.realpath(source.location)))
            for promise, message in promises(table):
                claim = Claim("flow", CONTRACT, (table["module"], promise), span)
                if claim.subjects not in told:
                    severity, confidence = Severity.ERROR, Confidence.HIGH
                    yield Finding(*CONTRACT_RULE, message, severity, confidence, span, help=CONTRACT_HELP, claim=claim)

    def class_attempt(self, each: ModuleClass) -> Attempt:
        """The attempt to drive a class alone."""
        file = Path(os.path.realpath(each.file))
        return Attempt("auto", file, each.qualname, module=each.module, qualname=each.qualname, root=each.root)

    def keep(self, finding: Finding, verdict: Verdict) -> None:
        """Keep the better of two answers: a decision over none, and of two without one the first that got to the line."""
        before = self.verdicts.get(finding)
        if (
            before is None
            or verdict.outcome is not Outcome.INCONCLUSIVE
            or (before.outcome is Outcome.INCONCLUSIVE and not before.evidence and verdict.evidence)
        ):
            self.verdicts[finding] = verdict

    def carry_out(self, server: Server, attempt: Attempt, findings: Sequence[Finding]) -> dict[Finding, Verdict]:
        """Run one thing and read the answers off it."""
        self.progress(attempt.name)
        claims = [self.absolute(finding.claim) for finding in findings if finding.claim is not None]
        job = job_row(attempt, claims, self.settings, self.root, self.shown, self.texts.get(str(attempt.file)))
        try:
            answer = server.carry_out(job)
            if answer["ending"]["kind"] == "error" and any(name in answer["ending"]["text"] for name in LAUNCHED):
                answer = server.carry_out({**job, "environment": LAUNCHED})
        except Unavailable as trouble:
            answer = {"verdicts": {}, "ending": {"kind": "killed", "text": str(trouble)}}
        return {finding: self.read(answer, number, attempt) for number, finding in enumerate(findings)}

    def absolute(self, claim: Claim) -> Claim:
        """A claim with the real path of its site."""
        return replace(claim, site=replace(claim.site, file=str(self.places[claim.site.file])))

    def read(self, answer: Mapping[str, Any], number: int, attempt: Attempt) -> Verdict:
        """The verdict on the claim of a number in an answer."""
        row = answer["verdicts"].get(str(number))
        if row is None:
            reason = f"Running `{attempt.name}` gave no answer: {answer['ending']['text']}."
            return Verdict(Outcome.INCONCLUSIVE, reason, driver=attempt.name)
        return verdict_from(row, self.shown, answer)


def promises(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The promises of a contract, in the words of claims, each with a message that says what breaking it means."""
    name = table["module"]
    for part in table.get("trains", ()):
        yield f"trains {part}", f"`{part}` of `{name}` is to train by the contract in the settings, and does not."
    for part in table.get("frozen", ()):
        yield f"frozen {part}", f"`{part}` of `{name}` is to be frozen by the contract in the settings, and is not."
    for pair in table.get("isolated", ()):
        if len(pair) == 2:
            said = f"`{pair[0]}` of `{name}` is to give no gradient to `{pair[1]}` by the contract in the settings, and does."
            yield f"isolated {pair[0]} {pair[1]}", said


def verdict_from(row: Mapping[str, Any], shown: Mapping[str, str], answer: Mapping[str, Any]) -> Verdict:
    """A verdict from plain data, its paths as users see them, with what kept the program from going on."""
    evidence = [Evidence(each["text"], _span(each["span"], shown)) for each in row["evidence"]]
    outcome = Outcome(row["outcome"])
    if outcome is Outcome.INCONCLUSIVE:
        if answer.get("asked"):
            evidence.append(Evidence(f"the program asked for the network ({answer['asked'][0]}), which it does not get"))
        if answer.get("denied"):
            evidence.append(Evidence(f"the program tried to write {answer['denied'][0]}, which it must not"))
    return Verdict(outcome, row["reason"], tuple(evidence), row["driver"], row["device"], row["seconds"])


def _span(row: Sequence[Any] | None, shown: Mapping[str, str]) -> Span | None:
    return Span(shown.get(row[0], row[0]), *row[1:]) if row else None


def job_row(
    attempt: Attempt,
    claims: Sequence[Claim],
    settings: Settings,
    root: Path,
    shown: Mapping[str, str],
    text: str | None = None,
    traced: bool = False,
) -> dict[str, Any]:
    """A job for the server as plain data.

    ``text``: a notebook's code.  ``traced``: stop after the steps, reached or not, and tell what the run shows by itself.
    """
    from gradlint.verify.confine import default_memory

    roots = dict.fromkeys((str(root), str(attempt.file.parent)))
    layers = [folder for folder in roots if not any(folder != other and folder.startswith(other + os.sep) for other in roots)]
    working = Path(os.path.realpath(settings.folder or Path.cwd()))
    if settings.folder is None and not (working == root or root in working.parents):
        working = root if root in attempt.file.parents else attempt.file.parent
    if not any(str(working) == layer or str(working).startswith(layer + os.sep) for layer in layers):
        layers.append(str(working))
    return {
        "kind": attempt.kind,
        "file": str(attempt.file),
        "factory": attempt.factory,
        "module": attempt.module,
        "qualname": attempt.qualname,
        "package": attempt.package,
        "text": text,
        "roots": list(roots),
        "traced": traced,
        "environment": {},
        "claims": [_claim_row(claim) for claim in claims],
        "arguments": list(settings.arguments),
        "shown": dict(shown),
        "steps": settings.steps,
        "seconds": settings.seconds,
        "seed": 0,
        "folder": str(working),
        "layers": layers,
        "path": list(_importable(attempt, root)),
        "memory": settings.memory or default_memory(),
        "device": settings.device,
    }


def _importable(attempt: Attempt, root: Path) -> Iterator[str]:
    """The folders that a program is likely to be started with on its path."""
    if attempt.kind == "script":
        yield str(attempt.file.parent)
    if attempt.root != Path():
        yield str(attempt.root)
    yield str(root)
    if (root / "src").is_dir():
        yield str(root / "src")


def _claim_row(claim: Claim) -> dict[str, Any]:
    site = claim.site
    return {
        "probe": claim.probe,
        "kind": claim.kind,
        "subjects": list(claim.subjects),
        "site": [site.file, site.line, site.column, site.end_line, site.end_column],
    }


def _parsed(source: SourceFile) -> SourceFile:
    """A source file with its tree, which a report from the cache lacks."""
    return source if source.tree is not None else read(source.location, source.path)
