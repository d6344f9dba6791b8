"""What one analysis of a project leaves for the next, so that after an edit only what the edit can change is followed again.

A piece of work is known by a key and by the files that it looked into. Files are compared by identity: the same ``SourceFile``
object means the same text. Everything else that a result depends on (which files there are, the knowledge, the settings) is
compared as a whole; when it changes, nothing is remembered. A question about the texts of all files counts by its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from gradlint.survey.project import FileIndex, Project
from gradlint.survey.source import SourceFile

SPARE = 300
"""So many useless results may lie about before they are swept out."""


class Question(NamedTuple):
    """Whether the text of any file has something: ``holds(text, *details)``."""

    holds: Callable[..., bool]
    details: tuple[Hashable, ...] = ()


class _Kept(NamedTuple):
    result: Any
    files: frozenset[SourceFile]
    answers: Mapping[Question, bool]


class Memory:
    """Results of earlier analyses of one project. ``indexes``: the top-level names of files; ``project``: the last one."""

    def __init__(self) -> None:
        self.project: Project | None = None
        self.indexes: dict[SourceFile, FileIndex] = {}
        self._kept: dict[Hashable, _Kept] = {}
        self._used: set[Hashable] = set()
        self._files: frozenset[SourceFile] = frozenset()
        self._conditions: object = None

    def begin(self, files: Iterable[SourceFile], conditions: object) -> None:
        """Start an analysis of these files; what was found under other conditions is forgotten."""
        before, self._files = self._files, frozenset(files)
        self._used = set()
        if conditions != self._conditions:
            self._kept.clear()
            self._conditions = conditions
        elif gone := before - self._files:  # what looked into a file that is no more is of no use
            self._kept = {key: kept for key, kept in self._kept.items() if gone.isdisjoint(kept.files)}
        for file in before - self._files:
            self.indexes.pop(file, None)

    def recall(self, key: Hashable, ask: Callable[[Question], bool]) -> Any:
        """The result of a piece of work, if none of the files that it looked into and no answer has changed; else None."""
        kept = self._kept.get(key)
        if kept is None or any(ask(question) != answer for question, answer in kept.answers.items()):
            return None
        self._used.add(key)
        return kept.result

    def keep(
        self, key: Hashable, result: Any, files: Iterable[SourceFile], answers: Mapping[Question, bool] | None = None
    ) -> None:
        """Remember the result of a piece of work, the files that it looked into, and the answers that it was given."""
        self._kept[key] = _Kept(result, frozenset(files), answers or {})
        self._used.add(key)

    def end(self) -> None:
        """Forget what the analysis had no use for. Not called when it was given up: what was found until then is kept."""
        if len(self._kept) < len(self._used) + SPARE:
            return
        self._kept = {key: kept for key, kept in self._kept.items() if key in self._used}
