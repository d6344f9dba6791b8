"""One run, from paths to a report."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradlint.core import Finding
from gradlint.rules import specs
from gradlint.session.config import SILENCING_WORDS, Config, ConfigError, check_selectors
from gradlint.session.report import Note, Report
from gradlint.survey.discover import Selection, absolute, select, shown
from gradlint.survey.source import Problem, SourceFile, from_bytes, from_text, read

if TYPE_CHECKING:
    from gradlint.flow.facts import Fact
    from gradlint.flow.program import Analysis
    from gradlint.knowledge import Knowledge
    from gradlint.session.baseline import Entry
    from gradlint.session.cache import Result
    from gradlint.session.judge import Judgement

# A clean run needs little of what is here: what costs time to import is imported where it is used.

INTERNAL = "GRD000"


@dataclass(frozen=True, slots=True)
class Fixing:
    """What to do with fixes. ``unsafe``: also those that change training. ``write``: change files, else only make the diff."""

    unsafe: bool = False
    write: bool = True


def analyze(
    paths: Sequence[str | Path],
    config: Config,
    overlay: Mapping[Path, str] | None = None,
    *,
    cwd: Path | None = None,
    use_cache: bool = True,
    fixing: Fixing | None = None,
    jobs: int = 1,
) -> Report:
    """Check files and folders.

    Args:
        paths: what to check; nothing means the working folder.
        config: the settings.
        overlay: texts that count instead of what is on disk, by path: an editor's buffers, standard input.
        cwd: the working folder that paths are relative to and shown from, by default the process's.
        use_cache: whether earlier results may be used and this one kept.
        fixing: what to do with fixes; nothing by default.
        jobs: how many processes may work at a time; one is all that is used so far.

    Raises:
        MissingPath: a path is not there.
        ConfigError: the settings name rules, knowledge or a baseline that cannot be used.
    """
    run = Run(config, cwd or Path.cwd(), overlay or {})
    selection = run.select(paths)
    if not _plain(config):
        check_selectors(config, specs())
    if fixing is not None:
        from gradlint.session.repair import repaired

        return repaired(run, selection, fixing)
    return run.report(selection, use_cache=use_cache and not overlay)


def checked_files(paths: Sequence[str | Path], config: Config, *, cwd: Path | None = None) -> Selection:
    """The files that ``analyze`` would look at.

    Raises:
        MissingPath: a path is not there.
    """
    return Run(config, cwd or Path.cwd(), {}).select(paths)


def write_baseline(paths: Sequence[str | Path], config: Config, path: Path, *, cwd: Path | None = None) -> int:
    """Accept all that is found now: write it to a baseline file. Returns how many findings that is.

    Raises:
        MissingPath, ConfigError: as ``analyze``.
        OSError: the file cannot be written.
    """
    from gradlint.session import baseline

    run = Run(replace(config, baseline=None), cwd or Path.cwd(), {})
    entries = run.once(run.select(paths)).entries
    baseline.write(path, entries.values())
    return len(entries)


def prune_baseline(paths: Sequence[str | Path], config: Config, path: Path, *, cwd: Path | None = None) -> list[Entry]:
    """Drop the entries of a baseline file that no finding answers to any more, and return them.

    Raises:
        MissingPath, ConfigError: as ``analyze``.
        OSError: the file cannot be written.
    """
    from gradlint.session import baseline

    run = Run(replace(config, baseline=None), cwd or Path.cwd(), {})
    known = baseline.read(path)
    stale = run.stale(run.once(run.select(paths)), known)
    if stale:
        gone = {entry.fingerprint for entry in stale}
        baseline.write(path, [entry for entry in known if entry.fingerprint not in gone])
    return stale


def add_ignores(
    paths: Sequence[str | Path], config: Config, *, reason: str = "", cwd: Path | None = None
) -> tuple[int, list[Note]]:
    """Write a suppressing comment for every finding. Returns how many findings that silences, and what went wrong.

    Raises:
        MissingPath, ConfigError: as ``analyze``.
    """
    from gradlint.session.repair import add_comments

    run = Run(config, cwd or Path.cwd(), {})
    return add_comments(run, run.select(paths), reason)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Syntax trees have no cycles: looking for some while millions of nodes are made costs two thirds of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()  # what survives is kept anyway: never walk it again
            gc.enable()


class Outcome(NamedTuple):
    """What one pass over the project gave, before it is a report."""

    findings: tuple[Finding, ...]
    entries: dict[Finding, Entry]
    sources: dict[str, SourceFile]
    notes: list[Note]
    suppressed: int
    ran: set[str]


class _Texts(Mapping[str, SourceFile]):
    """The checked files of a result from the cache, read when they are first shown."""

    def __init__(self, locations: Mapping[str, Path]) -> None:
        self._locations = locations
        self._read: dict[str, SourceFile] = {}

    def __getitem__(self, path: str) -> SourceFile:
        if path not in self._read:
            self._read[path] = read(self._locations[path], path, parse=False)
        return self._read[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._locations)

    def __len__(self) -> int:
        return len(self._locations)


class Run:
    """The state of a run. ``overlay`` changes while fixes are tried out; files that it leaves alone are parsed once."""

    def __init__(self, config: Config, cwd: Path, overlay: Mapping[Path, str]) -> None:
        self.config = config
        self.cwd = cwd
        self.overlay: Mapping[Path, str] = {absolute(path, cwd): text for path, text in overlay.items()}
        self._parsed: dict[Path, SourceFile] = {}

    def select(self, paths: Sequence[str | Path]) -> Selection:
        config = self.config
        return select(paths, config.filters, cwd=self.cwd, isolated=config.isolated, unsaved=self.overlay)

    def report(self, selection: Selection, *, use_cache: bool) -> Report:
        """A report from the cache if it has one, else from a pass over the project."""
        contents: dict[Path, bytes] = {}
        name = ""
        if use_cache:
            import hashlib

            from gradlint.session import cache

            digests: dict[str, bytes] = {}
            for path in (*selection.checked, *selection.context):
                try:
                    contents[path] = path.read_bytes()
                except OSError as error:
                    digests[str(path)] = str(error).encode()
                else:
                    digests[str(path)] = hashlib.blake2b(contents[path], digest_size=20).digest()
            name = cache.key(self.config, map(str, selection.checked), digests, self.cwd)
            kept = cache.load(self.config, name)
            if kept is not None:
                return self._from_cache(selection, kept)
        outcome = self.once(selection, contents)
        notes = (*selection.notes, *outcome.notes)
        findings, baselined, stale = self._against_baseline(outcome)
        fingerprints = {finding: outcome.entries[finding].fingerprint for finding in findings}
        report = Report(
            findings,
            tuple(shown(path, self.cwd) for path in selection.checked),
            self.config.root,
            notes,
            outcome.suppressed,
            baselined,
            {shown(path, self.cwd): outcome.sources[shown(path, self.cwd)] for path in selection.checked},
            fingerprints,
            stale=stale,
        )
        whole = not outcome.notes and not any(finding.code == INTERNAL for finding in findings)
        if use_cache and whole:  # a pass with internal trouble is not worth keeping
            kept = cache.Result(findings, tuple(fingerprints[f] for f in findings), report.suppressed, baselined, stale)
            cache.store(self.config, name, kept)
        return report

    def _from_cache(self, selection: Selection, kept: Result) -> Report:
        locations = {shown(path, self.cwd): path for path in selection.checked}
        return Report(
            kept.findings,
            tuple(locations),
            self.config.root,
            selection.notes,
            kept.suppressed,
            kept.baselined,
            _Texts(locations),
            dict(zip(kept.findings, kept.fingerprints, strict=True)),
            stale=kept.stale,
            cached=True,
        )

    def _against_baseline(self, outcome: Outcome) -> tuple[tuple[Finding, ...], int, tuple[str, ...]]:
        """The findings that are not in the baseline, how many are, and the entries that are stale."""
        if self.config.baseline is None:
            return outcome.findings, 0, ()
        from gradlint.session import baseline

        known = baseline.read(self.config.baseline)
        accepted = {entry.fingerprint for entry in known}
        fresh = tuple(finding for finding in outcome.findings if outcome.entries[finding].fingerprint not in accepted)
        return fresh, len(outcome.findings) - len(fresh), tuple(map(str, self.stale(outcome, known)))

    def stale(self, outcome: Outcome, known: Sequence[Entry]) -> list[Entry]:
        """The entries of a baseline that this outcome shows to be out of date."""
        from gradlint.session import baseline

        matched = (entry.fingerprint for entry in outcome.entries.values())
        checked = (baseline.relative(source.location, self.config.root) for source in outcome.sources.values())
        return baseline.stale(known, matched, checked, outcome.ran, self.config.root)

    def content(self, source: SourceFile) -> str:
        """What fixes are applied to: the text without a byte order mark, or a notebook's JSON."""
        if source.notebook is None:
            return source.text
        if source.location in self.overlay:
            return self.overlay[source.location]
        return source.location.read_bytes().decode("utf-8", "surrogateescape")

    # One pass --------------------------------------------------------------------------------------------------------

    def once(self, selection: Selection, contents: Mapping[Path, bytes] | None = None) -> Outcome:
        """Read, analyse and check everything once."""
        notes: list[Note] = []
        with _without_collector():
            sources = self._read(selection, contents or {})
            checked = {shown(path, self.cwd): sources[path] for path in selection.checked}
            facts, troubles = self._facts(list(sources.values()), notes)
            busy = [path for path, source in checked.items() if path in facts or path in troubles or _speaks(source)]
            if busy or self.config.baseline is not None:
                outcome = self._judged(checked, busy, facts, troubles, notes)
            else:  # a clean project: not even the rules' descriptions are read
                outcome = Outcome((), {}, checked, notes, 0, set())
        if not selection.checked:
            notes.append(Note("warning", "There are no Python files here to check."))
        return outcome

    def _judged(
        self,
        checked: dict[str, SourceFile],
        busy: Sequence[str],
        facts: Mapping[str, Sequence[Fact]],
        troubles: Mapping[str, Sequence[Problem]],
        notes: list[Note],
    ) -> Outcome:
        from gradlint.session.baseline import entries

        found: list[Finding] = []
        suppressed = 0
        ran = {spec.code for spec in specs() if self.config.enables(spec)}
        for path in busy:
            judgement = self._judge(checked[path], facts.get(path, ()), troubles.get(path, ()))
            found += judgement.findings
            notes += judgement.notes
            suppressed += judgement.suppressed
        findings = tuple(sorted(found, key=lambda finding: (finding.span, finding.code)))
        return Outcome(findings, entries(findings, checked, self.config.root), checked, notes, suppressed, ran)

    def _judge(self, source: SourceFile, facts: Sequence[Fact], troubles: Sequence[Problem]) -> Judgement:
        from gradlint.session.judge import judge

        return judge(source, facts, troubles, self.config)

    def _read(self, selection: Selection, contents: Mapping[Path, bytes]) -> dict[Path, SourceFile]:
        """The files that matter, parsed, by location, in the order of their paths."""
        contents = dict(contents)
        wanted: set[Path] = set(selection.checked)
        if selection.context:
            for path in (*selection.checked, *selection.context):
                if path in self.overlay:
                    contents[path] = self.overlay[path].encode("utf-8", "replace")
                elif path not in contents:
                    try:
                        contents[path] = path.read_bytes()
                    except OSError:
                        contents[path] = b""
            from gradlint.session.connected import connected

            wanted = connected(contents, selection.checked)
        sources: dict[Path, SourceFile] = {}
        for path in sorted(wanted):
            name = shown(path, self.cwd)
            if path in self.overlay:
                sources[path] = from_text(self.overlay[path], path, name)
            elif path in self._parsed:
                sources[path] = self._parsed[path]
            else:
                data = contents.pop(path, b"")
                sources[path] = self._parsed[path] = from_bytes(data, path, name) if data else read(path, name)
        return sources

    def _facts(
        self, sources: Sequence[SourceFile], notes: list[Note]
    ) -> tuple[dict[str, list[Fact]], dict[str, list[Problem]]]:
        """What the flow analysis says, and where it failed, by shown path."""
        from gradlint.knowledge import KnowledgeError

        facts: dict[str, list[Fact]] = defaultdict(list)
        troubles: dict[str, list[Problem]] = defaultdict(list)
        try:
            knowledge = self._knowledge()
        except (KnowledgeError, OSError) as error:
            raise ConfigError(str(error)) from None
        try:
            analysis = self._follow([source for source in sources if source.tree is not None], knowledge)
        except Exception as error:
            from gradlint.session.judge import trouble

            notes.append(trouble("error", "the analysis of the whole project", "", error))
            return facts, troubles
        for problem in analysis.problems:
            troubles[problem.span.file].append(problem)
        for fact in analysis.facts:
            facts[fact.span.file].append(fact)
        return facts, troubles

    def _knowledge(self) -> Knowledge:
        from gradlint.knowledge import load as load_knowledge

        return load_knowledge(self.config.knowledge)

    def _follow(self, readable: Sequence[SourceFile], knowledge: Knowledge) -> Analysis:
        from gradlint.flow import analyze as analyze_flow

        return analyze_flow(readable, knowledge, roots=self.config.roots, contracts=self.config.contracts)


def _plain(config: Config) -> bool:
    """Whether the settings name no rule, so that there is nothing to look up."""
    return config.select == ("ALL",) and not (
        config.ignore or config.extend_select or config.extend_ignore or config.severity or config.per_file_ignores
    )


def _speaks(source: SourceFile) -> bool:
    """Whether a file has something to be judged beside facts: problems, or comments that may silence or be wrong."""
    return bool(source.problems) or any(word in source.text for word in SILENCING_WORDS)
