"""The results of earlier runs, so that a run over unchanged files reads and hashes them and does no more.

A result is kept for a whole project, because a finding in one file may come from any other: the key covers the content of every
file, the settings, the knowledge, Python's version and gradlint itself. Entries are JSON, written in one step; a cache that is
broken or cannot be written is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradlint import __version__
from gradlint.core import Claim, Confidence, Edit, Finding, Fix, Safety, Severity, Span, Step
from gradlint.session.config import Config
from gradlint.session.files import write_text

_FORMAT = 1
_KEPT = 16  # results: a few branches and a few sets of paths
_NAME = ".gradlint_cache"


@dataclass(frozen=True, slots=True)
class Result:
    """What a run keeps: findings with their fingerprints, and the counts and words that go with them."""

    findings: tuple[Finding, ...]
    fingerprints: tuple[str, ...]
    suppressed: int
    baselined: int
    stale: tuple[str, ...]


def folder(config: Config) -> Path:
    """Where the cache of a project lies."""
    return config.cache_dir or config.root / _NAME


def clean(config: Config) -> list[Path]:
    """Remove the cache; returns the folders that were removed.

    Raises:
        OSError: it cannot be removed.
    """
    place = folder(config)
    if not (place / "CACHEDIR.TAG").is_file():  # not ours: a mistyped cache-dir must not cost anyone their files
        return []
    import shutil

    shutil.rmtree(place)
    return [place]


def key(config: Config, checked: Iterable[str], contents: Mapping[str, bytes], cwd: Path) -> str:
    """The name of a result: it changes with all that the result could depend on.

    Args:
        config: the settings.
        checked: the paths of the files that are reported on.
        contents: the digest of every file of the project by path.
        cwd: the working folder, which shown paths are relative to.
    """
    digest = hashlib.sha256()

    def add(*parts: object) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
            digest.update(len(data).to_bytes(8, "big"))
            digest.update(data)

    add(_FORMAT, __version__, sys.version, sys.implementation.cache_tag or "", _own_state())
    add(json.dumps(config.as_toml_values(), sort_keys=True, default=str), config.root, cwd)
    add(json.dumps([[str(entry.base), entry.pattern, entry.selectors] for entry in config.per_file_ignores]))
    for path in (*config.knowledge, *([config.baseline] if config.baseline else [])):
        with contextlib.suppress(OSError):
            add(path, path.read_bytes())
    add(*sorted(checked))
    for name in sorted(contents):
        add(name, contents[name])
    return digest.hexdigest()


def _own_state() -> str:
    """What tells one state of gradlint's own files from another: their sizes and times."""
    top = str(Path(__file__).parent.parent)
    found: list[str] = []
    for place, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            if name.endswith((".py", ".toml")):
                status = os.stat(f"{place}{os.sep}{name}")  # noqa: PTH116 - many files: no path objects
                found.append(f"{place}/{name}:{status.st_size}:{status.st_mtime_ns}")
    return "\n".join(sorted(found))


def load(config: Config, name: str) -> Result | None:
    """The result of that name, or None if there is none that can be read."""
    path = folder(config) / f"{name}.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        result = _result(document)
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # recently used: among the last to be dropped
    return result


def store(config: Config, name: str, result: Result) -> None:
    """Keep a result; silently does nothing where the cache cannot be written."""
    place = folder(config)
    try:
        if not place.is_dir():
            place.mkdir(parents=True)
            write_text(place / ".gitignore", "# Made by gradlint.\n*\n")
            write_text(
                place / "CACHEDIR.TAG",
                "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is gradlint's cache and can be deleted.\n",
            )
        write_text(place / f"{name}.json", json.dumps(_document(result)))
        results = sorted(place.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in results[:-_KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, ValueError):
        return


# JSON ----------------------------------------------------------------------------------------------------------------


def _document(result: Result) -> dict[str, Any]:
    return {
        "findings": [_finding_row(finding) for finding in result.findings],
        "fingerprints": list(result.fingerprints),
        "suppressed": result.suppressed,
        "baselined": result.baselined,
        "stale": list(result.stale),
    }


def _result(document: dict[str, Any]) -> Result:
    findings = tuple(_finding(row) for row in document["findings"])
    fingerprints = tuple(map(str, document["fingerprints"]))
    if len(findings) != len(fingerprints):
        raise ValueError("a cache entry cut short")
    stale = tuple(map(str, document["stale"]))
    return Result(findings, fingerprints, int(document["suppressed"]), int(document["baselined"]), stale)


def _span_row(span: Span) -> list[Any]:
    return [span.file, span.line, span.column, span.end_line, span.end_column]


def _finding_row(finding: Finding) -> dict[str, Any]:
    claim, fix = finding.claim, finding.fix
    return {
        "code": finding.code,
        "name": finding.name,
        "message": finding.message,
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "span": _span_row(finding.span),
        "path": [[_span_row(step.span), step.text] for step in finding.path],
        "help": finding.help,
        "claim": claim and [claim.probe, claim.kind, list(claim.subjects), _span_row(claim.site)],
        "fix": fix and [fix.message, [[_span_row(edit.span), edit.text] for edit in fix.edits], fix.safety.value],
    }


def _finding(row: dict[str, Any]) -> Finding:
    claim, fix = row["claim"], row["fix"]
    return Finding(
        row["code"],
        row["name"],
        row["message"],
        Severity(row["severity"]),
        Confidence(row["confidence"]),
        Span(*row["span"]),
        tuple(Step(Span(*span), text) for span, text in row["path"]),
        row["help"],
        claim and Claim(claim[0], claim[1], tuple(claim[2]), Span(*claim[3])),
        fix and Fix(fix[0], tuple(Edit(Span(*span), text) for span, text in fix[1]), Safety(fix[2])),
    )
