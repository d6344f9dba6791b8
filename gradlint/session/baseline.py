"""A file of known findings, so that a project can start clean today and only new ones are reported.

A finding is known by its fingerprint: path, rule, enclosing function or class, the text of its line, and which one of several
such it is. Line numbers are not part of it, so that code can move.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gradlint.core import Finding
from gradlint.session.config import ConfigError
from gradlint.session.files import write_text
from gradlint.survey.lexical import layout
from gradlint.survey.source import SourceFile

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One known finding as the baseline file holds it; all but the fingerprint is there for the reader."""

    fingerprint: str
    path: str
    code: str
    name: str
    symbol: str
    line: str

    def __str__(self) -> str:
        inside = f" in {self.symbol}" if self.symbol else ""
        return f"{self.path}: {self.code} {self.name}{inside}: {self.line}"


def entries(findings: Sequence[Finding], sources: Mapping[str, SourceFile], root: Path) -> dict[Finding, Entry]:
    """The baseline entry of each finding.

    Args:
        findings: in the order of their places.
        sources: the files by shown path, with their trees where a finding should be told by its function.
        root: the folder that paths are relative to.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    described: dict[str, _Described] = {}
    found: dict[Finding, Entry] = {}
    for finding in findings:
        source = sources.get(finding.span.file)
        path, symbol, line = finding.span.file, "", ""
        if source is not None:
            if source.path not in described:
                described[source.path] = _Described(source)
            path = relative(source.location, root)
            symbol, line = described[source.path].at(finding.span.line)
        key = (path, finding.code, symbol, line)
        seen[key] += 1
        text = "\0".join((*key, str(seen[key])))
        fingerprint = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
        found[finding] = Entry(fingerprint, path, finding.code, finding.name, symbol, line)
    return found


class _Described:
    """What tells the lines of a file: the functions and classes they are in, and their text without comment or spacing."""

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._lines = source.lines
        self._scopes = list(_scopes(source.tree.body)) if source.tree else []

    @cached_property
    def _comments(self) -> dict[int, int]:
        """The columns of the comments by line."""
        return {comment.line: comment.column for comment in layout(self._source.text).comments}

    def at(self, line: int) -> tuple[str, str]:
        """The qualified name around a line, and the line's text."""
        symbol = next((name for first, last, name in reversed(self._scopes) if first <= line <= last), "")
        text = self._lines[line - 1] if line <= len(self._lines) else ""
        code = text[: self._comments[line] - 1] if "#" in text and line in self._comments else text
        return symbol, " ".join((code.strip() or text).split())


def relative(location: Path, root: Path) -> str:
    """A file's path from the project's root, with forward slashes; as it is when it lies elsewhere."""
    return Path(os.path.relpath(location, root)).as_posix() if location.is_absolute() else location.as_posix()


def _scopes(body: Iterable[ast.stmt], prefix: str = "") -> Iterable[tuple[int, int, str]]:
    """First line, last line and qualified name of each function and class, the outer before the inner."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{node.name}"
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield first, node.end_lineno or node.lineno, name
            yield from _scopes(node.body, f"{name}.")
        else:
            for part in ("body", "orelse", "finalbody", "handlers"):
                inner = getattr(node, part, None)
                if isinstance(inner, list):
                    yield from _scopes((child for child in inner if isinstance(child, ast.stmt)), prefix)
                    for handler in inner:
                        if isinstance(handler, ast.ExceptHandler):
                            yield from _scopes(handler.body, prefix)


def read(path: Path) -> list[Entry]:
    """The entries of a baseline file.

    Raises:
        ConfigError: it cannot be read or is no baseline.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != _VERSION:
            raise ConfigError(f"{path}: this baseline is of version {document['version']}; this gradlint reads {_VERSION}")
        return [Entry(**entry) for entry in document["findings"]]
    except OSError as error:
        raise ConfigError(f"{path}: the baseline cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ConfigError(f"{path}: this is not a baseline of gradlint; write it anew") from None


def write(path: Path, known: Iterable[Entry]) -> None:
    """Write a baseline file, sorted so that changes to it read well.

    Raises:
        OSError: it cannot be written.
    """
    rows: list[dict[str, Any]] = [
        {"path": e.path, "code": e.code, "name": e.name, "symbol": e.symbol, "line": e.line, "fingerprint": e.fingerprint}
        for e in sorted(known, key=lambda e: (e.path, e.code, e.symbol, e.line, e.fingerprint))
    ]
    write_text(path, json.dumps({"version": _VERSION, "findings": rows}, indent=2, ensure_ascii=False) + "\n")


def stale(
    known: Iterable[Entry], matched: Iterable[str], checked: Iterable[str], ran: Iterable[str], root: Path
) -> list[Entry]:
    """The entries that no finding answers to any more.

    Args:
        known: the baseline.
        matched: the fingerprints of this run's findings.
        checked: the paths, relative to the root, of the files that this run checked.
        ran: the codes of the rules that ran.
        root: the folder that paths are relative to; an entry of a file that is gone is stale whatever was checked.
    """
    matched, checked, ran = set(matched), set(checked), set(ran)
    return [
        entry
        for entry in known
        if entry.fingerprint not in matched
        and ((entry.path in checked and entry.code in ran) or not os.path.lexists(root / entry.path))
    ]
