"""One run, from paths to a report."""

from __future__ import annotations

import gc
import hashlib
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradlint.core import Confidence, Finding, RuleSpec
from gradlint.rules import specs
from gradlint.session import baseline, cache
from gradlint.session.config import Config, ConfigError, check_selectors, matches
from gradlint.session.connected import connected
from gradlint.session.fixes import (
    MAX_ROUNDS,
    Fixing,
    applicable,
    apply_edits,
    apply_to_notebook,
    fix_file,
    unified_diff,
    write_source,
)
from gradlint.session.report import Note, Report
from gradlint.session.suppression import complaints, ignore_edits, read_suppressions
from gradlint.survey.discover import Selection, absolute, select, shown
from gradlint.survey.source import Problem, SourceFile, from_bytes, from_text, read

if TYPE_CHECKING:
    from gradlint.flow.facts import Fact

INTERNAL, SYNTAX = "GRD000", "GRD001"
_OWN = "GRD00"  # the rules about the files and comments themselves: no facts bring a file to them


def analyze(
    paths: Sequence[str | Path],
    config: Config,
    overlay: Mapping[Path, str] | None = None,
    *,
    cwd: Path | None = None,
    use_cache: bool = True,
    fixing: Fixing | None = None,
    jobs: int = 1,  # noqa: ARG001 - part of the interface already
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
    run = _Run(config, cwd or Path.cwd(), overlay or {})
    selection = run.select(paths)
    if not _plain(config):
        check_selectors(config, specs())
    if fixing is not None:
        return _fixed(run, selection, fixing)
    return run.report(selection, use_cache=use_cache and not overlay)


def checked_files(paths: Sequence[str | Path], config: Config, *, cwd: Path | None = None) -> Selection:
    """The files that ``analyze`` would look at.

    Raises:
        MissingPath: a path is not there.
    """
    return _Run(config, cwd or Path.cwd(), {}).select(paths)


def write_baseline(paths: Sequence[str | Path], config: Config, path: Path, *, cwd: Path | None = None) -> int:
    """Accept all that is found now: write it to a baseline file. Returns how many findings that is.

    Raises:
        MissingPath, ConfigError: as ``analyze``.
        OSError: the file cannot be written.
    """
    known = _known(paths, replace(config, baseline=None), cwd)
    baseline.write(path, known)
    return len(known)


def prune_baseline(paths: Sequence[str | Path], config: Config, path: Path, *, cwd: Path | None = None) -> list[baseline.Entry]:
    """Drop the entries of a baseline file that no finding answers to any more, and return them.

    Raises:
        MissingPath, ConfigError: as ``analyze``.
        OSError: the file cannot be written.
    """
    run = _Run(replace(config, baseline=None), cwd or Path.cwd(), {})
    outcome = run.once(run.select(paths))
    known = baseline.read(path)
    stale = run.stale(outcome, known)
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
    run = _Run(config, cwd or Path.cwd(), {})
    report = run.report(run.select(paths), use_cache=False)
    silenced = 0
    notes = list(report.notes)
    for path, findings in _by_file(report.findings).items():
        source = report.sources[path]
        edits = ignore_edits(source, findings, reason)
        if not edits:
            continue
        if source.encoding is None:
            notes.append(Note("warning", "No comment was added: the file cannot be written back in its encoding.", path))
            continue
        content = run.content(source)
        new = apply_edits(content, edits) if source.notebook is None else apply_to_notebook(source, content, edits)
        if new is None:
            notes.append(Note("warning", "No comment was added: a line is not plain Python.", path))
            continue
        try:
            write_source(source.location, new, source.encoding)
        except (OSError, UnicodeEncodeError) as error:
            notes.append(Note("error", f"The file cannot be written: {_reason(error)}.", path))
            continue
        silenced += sum(not finding.code.startswith(_OWN) for finding in findings)
    return silenced, notes


def _known(paths: Sequence[str | Path], config: Config, cwd: Path | None) -> list[baseline.Entry]:
    run = _Run(config, cwd or Path.cwd(), {})
    outcome = run.once(run.select(paths))
    return list(outcome.entries.values())


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


@dataclass(slots=True)
class _Outcome:
    """What one pass over the project gave, before it is a report."""

    findings: tuple[Finding, ...]
    entries: dict[Finding, baseline.Entry]
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


@dataclass(slots=True)
class _Run:
    """The state of a run. ``overlay`` changes while fixes are tried out; files that it leaves alone are parsed once."""

    config: Config
    cwd: Path
    overlay: Mapping[Path, str]
    _parsed: dict[Path, SourceFile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.overlay = {absolute(path, self.cwd): text for path, text in self.overlay.items()}

    def select(self, paths: Sequence[str | Path]) -> Selection:
        config = self.config
        return select(paths, config.filters, cwd=self.cwd, isolated=config.isolated, unsaved=self.overlay)

    def report(self, selection: Selection, *, use_cache: bool) -> Report:
        """A report from the cache if it has one, else from a pass over the project."""
        contents: dict[Path, bytes] = {}
        name = ""
        if use_cache:
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

    def _from_cache(self, selection: Selection, kept: cache.Result) -> Report:
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

    def _against_baseline(self, outcome: _Outcome) -> tuple[tuple[Finding, ...], int, tuple[str, ...]]:
        """The findings that are not in the baseline, how many are, and the entries that are stale."""
        if self.config.baseline is None:
            return outcome.findings, 0, ()
        known = baseline.read(self.config.baseline)
        accepted = {entry.fingerprint for entry in known}
        fresh = tuple(finding for finding in outcome.findings if outcome.entries[finding].fingerprint not in accepted)
        return fresh, len(outcome.findings) - len(fresh), tuple(map(str, self.stale(outcome, known)))

    def stale(self, outcome: _Outcome, known: Sequence[baseline.Entry]) -> list[baseline.Entry]:
        """The entries of a baseline that this outcome shows to be out of date."""
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

    def once(self, selection: Selection, contents: Mapping[Path, bytes] | None = None) -> _Outcome:
        """Read, analyse and check everything once."""
        notes: list[Note] = []
        with _without_collector():
            sources = self._read(selection, contents or {})
            checked = {shown(path, self.cwd): sources[path] for path in selection.checked}
            facts, troubles = self._facts(list(sources.values()), notes)
            findings, suppressed, ran = self._check(checked, facts, troubles, notes)
            entries = baseline.entries(findings, checked, self.config.root)
        if not selection.checked:
            notes.append(Note("warning", "There are no Python files here to check."))
        return _Outcome(findings, entries, checked, notes, suppressed, ran)

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
        from gradlint.flow import analyze as analyze_flow
        from gradlint.knowledge import KnowledgeError
        from gradlint.knowledge import load as load_knowledge

        try:
            knowledge = load_knowledge(self.config.knowledge)
        except (KnowledgeError, OSError) as error:
            raise ConfigError(str(error)) from None
        facts: dict[str, list[Fact]] = defaultdict(list)
        troubles: dict[str, list[Problem]] = defaultdict(list)
        readable = [source for source in sources if source.tree is not None]
        options = {"roots": self.config.roots} if self.config.roots else {}
        try:
            analysis = analyze_flow(readable, knowledge, **options)
        except Exception as error:
            notes.append(_trouble("error", "the analysis of the whole project", "", error))
            return facts, troubles
        for problem in analysis.problems:
            troubles[problem.span.file].append(problem)
        for fact in analysis.facts:
            facts[fact.span.file].append(fact)
        return facts, troubles

    def _check(
        self,
        sources: Mapping[str, SourceFile],
        facts: Mapping[str, Sequence[Fact]],
        troubles: Mapping[str, Sequence[Problem]],
        notes: list[Note],
    ) -> tuple[tuple[Finding, ...], int, set[str]]:
        """The findings that are to be shown, how many comments silenced, and the codes of the rules that ran."""
        config = self.config
        comments = {path: read_suppressions(source) for path, source in sources.items()}
        busy = [
            path
            for path, source in sources.items()
            if path in facts or path in troubles or source.problems or comments[path].directives or comments[path].malformed
        ]
        if not busy and config.baseline is None:
            return (), 0, set()  # a clean project: not even the rules' descriptions are read
        known = specs()
        enabled = [spec for spec in known if config.enables(spec)]
        found: list[Finding] = []
        suppressed = 0
        for path in busy:
            source = sources[path]
            off = config.ignored_in(source.location)
            local = {spec.code: spec for spec in enabled if not any(matches(selector, spec) for selector in off)}
            own = [
                *_as_findings(local.get(SYNTAX), source.problems),
                *_as_findings(local.get(INTERNAL), troubles.get(path, ())),
                *_findings(source, facts.get(path, ()), local, notes),
            ]
            kept: dict[tuple[object, ...], Finding] = {}
            for finding in own:
                silent = comments[path].silences(finding)
                if finding.confidence.rank >= config.min_confidence.rank:
                    if silent:
                        suppressed += 1
                    else:
                        kept.setdefault((finding.code, finding.span), finding)
            complete = not source.problems and not any(finding.code == INTERNAL for finding in own)
            for finding in complaints(source, comments[path], known, local, complete=complete):
                if not comments[path].silences(finding):
                    kept[finding.code, finding.span, finding.message] = finding
            found.extend(self._adjusted(finding, local) for finding in kept.values())
        found.sort(key=lambda finding: (finding.span, finding.code))
        return tuple(found), suppressed, {spec.code for spec in enabled}

    def _adjusted(self, finding: Finding, known: Mapping[str, RuleSpec]) -> Finding:
        """The finding with the severity that the settings give its rule."""
        severity = self.config.severity_of(known[finding.code]) if self.config.severity and finding.code in known else None
        return replace(finding, severity=severity) if severity else finding


def _plain(config: Config) -> bool:
    """Whether the settings name no rule, so that there is nothing to look up."""
    return config.select == ("ALL",) and not (
        config.ignore or config.extend_select or config.extend_ignore or config.severity or config.per_file_ignores
    )


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
        notes.append(_trouble("warning", "the rules", source.path, error))
        return []


def _trouble(level: str, what: str, path: str, error: Exception) -> Note:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" at {Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    message = (
        f"gradlint failed in {what} ({reason}{where}). The rest is checked. Please report this line with the code it is about."
    )
    return Note(level, message, path)


def _reason(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)


def _by_file(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    grouped: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        grouped[finding.span.file].append(finding)
    return grouped


# Fixes ---------------------------------------------------------------------------------------------------------------


def _fixed(run: _Run, selection: Selection, fixing: Fixing) -> Report:
    """Fix, look again, until nothing is left to fix; then write, or make the diff."""
    first = report = run.report(selection, use_cache=False)
    saved = dict(run.overlay)
    original: dict[str, tuple[SourceFile, str]] = {}
    changed: dict[str, str] = {}
    counts: Counter[str] = Counter()
    notes: dict[str, Note] = {}
    given_up: set[tuple[str, str, str]] = set()
    for _ in range(MAX_ROUNDS):
        progress = False
        for path, findings in _by_file(report.findings).items():
            source = report.sources[path]
            open_ones = [finding for finding in findings if (path, finding.code, finding.message) not in given_up]
            if not any(applicable(finding, unsafe=fixing.unsafe) for finding in open_ones):
                continue
            if source.encoding is None or source.problems:
                notes[path] = Note("warning", "Nothing was fixed in this file, because not all of it could be read.", path)
                continue
            content = run.content(source)
            result = fix_file(source, content, open_ones, unsafe=fixing.unsafe)
            if result is None:
                continue
            for finding in result.broken:
                given_up.add((path, finding.code, finding.message))
                message = f"The fix of {finding.code} would leave code that does not parse; it was not applied."
                notes[str(finding.span)] = Note("warning", message, str(finding.span))
            if result.applied:
                original.setdefault(path, (source, content))
                changed[path] = result.content
                run.overlay = {**run.overlay, source.location: result.content}
                counts[path] += len(result.applied)
                progress = True
        if not progress:
            break
        report = run.report(selection, use_cache=False)
    else:
        notes[""] = Note("warning", f"The fixes did not come to rest after {MAX_ROUNDS} rounds; run again to see what is left.")
    changed = {path: text for path, text in sorted(changed.items()) if text != original[path][1]}
    diff = "".join(unified_diff(path, original[path][1], text) for path, text in changed.items())
    if fixing.write:
        for path, text in changed.items():
            source, before = original[path]
            if source.location not in saved and (failure := _write(source, before, text)):
                notes[f"{path} written"] = Note("error", failure, path)
    base = report if fixing.write else first
    return replace(base, notes=(*base.notes, *notes.values()), fixed=dict(counts), diff=diff, changed=changed)


def _write(source: SourceFile, before: str, after: str) -> str | None:
    """Write a fixed file; returns what went wrong."""
    encoding = source.encoding or "utf-8"
    try:
        if source.location.read_bytes().decode(encoding, "surrogateescape") != before:
            return "The file changed while it was being fixed; it was left alone."
        write_source(source.location, after, encoding)
    except (OSError, UnicodeError) as error:
        return f"The fixed file cannot be written: {_reason(error)}."
    return None
