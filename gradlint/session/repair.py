"""Changing files: fixes until nothing is left to fix, and comments that silence what is there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from gradlint.core import Finding
from gradlint.session.fixes import (
    MAX_ROUNDS,
    applicable,
    apply_edits,
    apply_to_notebook,
    fix_file,
    unified_diff,
    write_source,
)
from gradlint.session.report import Note, Report
from gradlint.session.run import Fixing, Run
from gradlint.session.suppression import ignore_edits
from gradlint.survey.discover import Selection
from gradlint.survey.source import SourceFile


def repaired(run: Run, selection: Selection, fixing: Fixing) -> Report:
    """The report of a run that fixes, looks again until nothing is left to fix, and then writes the files or makes the diff."""
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


def add_comments(run: Run, selection: Selection, reason: str) -> tuple[int, list[Note]]:
    """Write a suppressing comment for every finding; how many findings that silences, and what went wrong."""
    report = run.report(selection, use_cache=False)
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
        silenced += sum(not finding.code.startswith("GRD00") for finding in findings)
    return silenced, notes


def _reason(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)


def _by_file(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    grouped: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        grouped[finding.span.file].append(finding)
    return grouped
