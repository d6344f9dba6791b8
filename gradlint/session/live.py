"""A project that is checked again and again while its texts change: what an editor asks for.

Everything that one check can tell the next is kept: what lies on disk, parsed files, and what was said of a file whose facts
are the same as before. Findings are those of a run over the whole project, for the files that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gradlint.rules import specs
from gradlint.session.config import Config, check_selectors
from gradlint.session.connected import imported_words, reached
from gradlint.session.report import Report
from gradlint.session.run import Run
from gradlint.survey.discover import MissingPath, Selection, is_excluded, select, shown
from gradlint.survey.reparse import Parser
from gradlint.survey.source import Problem, SourceFile, from_text, read

if TYPE_CHECKING:
    from gradlint.flow.facts import Fact
    from gradlint.flow.memory import Memory
    from gradlint.flow.program import Analysis
    from gradlint.knowledge import Knowledge
    from gradlint.session.judge import Judgement

_Stamp = tuple[int, int, int]  # time of the last change in ns, size, inode


class Live(Run):
    """One project, held in memory.

    ``root``: its folder; paths are shown from there. ``config``: its settings; excluded files are left out even when named.
    ``whole``: whether the rest of the project is looked for on disk; else the unsaved texts are all there is.
    ``sources``: by shown path, every file that the last check read.
    """

    def __init__(self, root: Path, config: Config, *, whole: bool = True) -> None:
        super().__init__(replace(config, force_exclude=True), root, {})
        self.whole = whole
        self.sources: Mapping[str, SourceFile] = {}
        self._unsaved: dict[Path, str] = {}
        self.overlay = self._unsaved
        self._fresh = False  # whether what is known of the disk may be believed
        self._files: tuple[Path, ...] = ()
        self._stamps: dict[Path, _Stamp] = {}
        self._read_unsaved: dict[Path, tuple[str, SourceFile]] = {}
        self._parsers: dict[Path, Parser] = {}
        self._words: dict[Path, set[bytes]] = {}
        self._reached: tuple[frozenset[Path], list[Path]] | None = None  # what imports join to which files; None: find out anew
        self._known: Knowledge | None = None
        self._memory: Memory | None = None
        self._said: dict[str, tuple[SourceFile, Sequence[Fact], Sequence[Problem], Judgement]] = {}

    def inherit(self, other: Live) -> None:
        """Take over the texts and the parsed files of the same project under other settings."""
        self._unsaved.update(other._unsaved)
        self._parsed.update(other._parsed)
        self._stamps.update(other._stamps)
        self._read_unsaved.update(other._read_unsaved)
        self._words.update(other._words)

    def put(self, path: Path, text: str | None) -> None:
        """Let a text count instead of what is on disk; None gives the disk its say again."""
        if self._unsaved.get(path) == text:
            return
        before = self._words.pop(path, None)
        if text is None:
            self._unsaved.pop(path, None)
            self._read_unsaved.pop(path, None)
            self._parsers.pop(path, None)
            self._fresh = False
        else:
            if path not in self._unsaved and path not in self._stamps:
                self._reached = None
            self._unsaved[path] = text
        if before is None or self._words_of(path) != before:
            self._reached = None

    def refresh(self) -> None:
        """Look at the disk again before the next check."""
        self._fresh = False

    def check(self, paths: Iterable[Path], *, everything: bool = False) -> Report:
        """Check some files of the project, or all of it; files that are excluded or gone are left out.

        Raises:
            ConfigError: the settings name rules, knowledge or a baseline that cannot be used.
        """
        check_selectors(self.config, specs())
        if not self._fresh:
            self._look()
            self._fresh = True
        wanted = {*paths, *(path for path in self._files if everything and path.is_relative_to(self.cwd))}
        checked = [path for path in sorted(wanted) if self._is_here(path) and not self.excludes(path)]
        return self.report(Selection(tuple(checked), (*self._files, *self._unsaved), ()), use_cache=False)

    def excludes(self, path: Path) -> bool:
        """Whether the settings leave a file out."""
        return is_excluded(path, self.config.filters, cwd=self.cwd)

    def _is_here(self, path: Path) -> bool:
        return path in self._unsaved or path in self._stamps or (self.whole and path.is_file())

    # The disk --------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """See which files there are and forget what was known of those that changed."""
        files: tuple[Path, ...] = ()
        if self.whole:
            try:
                selection = select([self.cwd], self.config.filters, cwd=self.cwd, isolated=self.config.isolated)
            except MissingPath:  # the folder itself is gone
                selection = Selection((), (), ())
            files = (*selection.checked, *selection.context)
        stamps = {path: stamp for path in files if (stamp := _stamp(path)) is not None}
        changed = [path for path, stamp in self._stamps.items() if stamps.get(path) != stamp]
        for path in changed:
            self._parsed.pop(path, None)
            if path not in self._unsaved:
                self._words.pop(path, None)
        if changed or stamps.keys() != self._stamps.keys():
            self._reached = None
        self._stamps = stamps
        self._files = tuple(stamps)

    def _words_of(self, path: Path) -> set[bytes]:
        """The parts of the names that a file imports."""
        found = self._words.get(path)
        if found is None:
            if path in self._unsaved:
                data = self._unsaved[path].encode("utf-8", "replace")
            else:
                try:
                    data = path.read_bytes()
                except OSError:
                    data = b""
            found = self._words[path] = imported_words(path, data)
        return found

    # The steps of a run ----------------------------------------------------------------------------------------------

    def _read(self, selection: Selection, contents: Mapping[Path, bytes]) -> dict[Path, SourceFile]:
        wanted = frozenset(selection.checked)
        if self._reached is None or self._reached[0] != wanted:
            words = {path: self._words_of(path) for path in (*selection.checked, *selection.context)}
            self._reached = wanted, sorted(reached(words, wanted))
        sources = {path: self._source(path) for path in self._reached[1]}
        self.sources = {source.path: source for source in sources.values()}
        return sources

    def _source(self, path: Path) -> SourceFile:
        """A file as it counts now, parsed; the same object as long as its text is the same."""
        text = self._unsaved.get(path)
        if text is None:
            if path not in self._parsed:
                self._parsed[path] = read(path, shown(path, self.cwd))
            return self._parsed[path]
        kept = self._read_unsaved.get(path)
        if kept is not None and kept[0] == text:
            return kept[1]
        source = self._parsed.get(path)  # an editor opens a file with the text that is on disk
        if source is None or source.notebook is not None or source.problems or source.text != text.removeprefix("\ufeff"):
            parser = self._parsers.setdefault(path, Parser())
            source = from_text(text, path, shown(path, self.cwd), parser=parser)
        self._read_unsaved[path] = text, source
        return source

    def _knowledge(self) -> Knowledge:
        if self._known is None:
            self._known = super()._knowledge()
        return self._known

    def _follow(self, readable: Sequence[SourceFile], knowledge: Knowledge) -> Analysis:
        from gradlint.flow import analyze
        from gradlint.flow.memory import Memory

        if self._memory is None:
            self._memory = Memory()
        return analyze(readable, knowledge, roots=self.config.roots, memory=self._memory, contracts=self.config.contracts)

    def _judge(self, source: SourceFile, facts: Sequence[Fact], troubles: Sequence[Problem]) -> Judgement:
        kept = self._said.get(source.path)
        if kept is not None and kept[0] is source and kept[1] == facts and kept[2] == troubles:
            return kept[3]
        judgement = super()._judge(source, facts, troubles)
        self._said[source.path] = (source, facts, troubles, judgement)
        return judgement


def _stamp(path: Path) -> _Stamp | None:
    """What changes when a file does; None for one that cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
