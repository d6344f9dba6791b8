"""The result of a run: what was found, in which files, and what else the person should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gradlint.core import Finding, Severity, Verdict
from gradlint.survey.discover import Note
from gradlint.survey.source import SourceFile

__all__ = ["Note", "Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a reporter, the language server or the exit code needs to know about one run.

    ``findings``: what is reported, sorted by file, line, column and code; suppressed and baselined ones are not in it.
    ``files``: the files that were checked, as shown to users, sorted.
    ``notes``: what went wrong or is worth saying beside the findings; a note of level ``error`` makes the exit code 2.
    ``suppressed``: how many findings a comment silenced; ``baselined``: how many the baseline did.
    ``sources``: the checked files by shown path, for source frames. Their ``tree`` may be None when the result came from the
    cache: read ``text``, ``lines`` and ``notebook`` only.
    ``fingerprints``: a stable name for each finding that survives moving lines.
    ``fixed``: how many fixes were applied, by file; ``diff``: the unified diff of those fixes; ``changed``: the new text of
    each fixed file (a notebook's JSON). After fixes were written, ``findings`` is what is left; after a mere diff, what was.
    ``stale``: baseline entries that match nothing any more, in words.
    ``root``: the project root, absolute. ``cached``: the result came from the cache.
    ``verdicts``: what running the code said of the findings' claims; empty unless it was run.
    """

    findings: tuple[Finding, ...]
    files: tuple[str, ...]
    root: Path
    notes: tuple[Note, ...] = ()
    suppressed: int = 0
    baselined: int = 0
    sources: Mapping[str, SourceFile] = field(default_factory=dict)
    fingerprints: Mapping[Finding, str] = field(default_factory=dict)
    fixed: Mapping[str, int] = field(default_factory=dict)
    diff: str = ""
    changed: Mapping[str, str] = field(default_factory=dict)
    stale: tuple[str, ...] = ()
    cached: bool = False
    verdicts: Mapping[Finding, Verdict] = field(default_factory=dict)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each rule fired, by code, the most frequent first."""
        return dict(sorted(Counter(finding.code for finding in self.findings).items(), key=lambda item: (-item[1], item[0])))

    @property
    def severities(self) -> Mapping[Severity, int]:
        """How many findings of each severity there are."""
        return Counter(finding.severity for finding in self.findings)

    @property
    def failed(self) -> bool:
        """Whether something kept the run from doing what was asked (exit code 2)."""
        return any(note.level == "error" for note in self.notes)

    @property
    def exit_code(self) -> int:
        """0 for a clean run, 1 with findings, 2 when the run itself failed."""
        if self.failed:
            return 2
        return 1 if self.findings else 0
