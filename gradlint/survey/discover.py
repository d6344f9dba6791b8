"""Which files a run looks at: the ones it reports on, and the rest of their project, read for what it says about them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

DEFAULT_EXCLUDE: tuple[str, ...] = (
    ".bzr",
    ".direnv",
    ".eggs",
    ".git",
    ".gradlint_cache",
    ".hg",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".nox",
    ".pants.d",
    ".pixi",
    ".pyenv",
    ".pytest_cache",
    ".pytype",
    ".ruff_cache",
    ".svn",
    ".tox",
    ".venv",
    ".vscode",
    "__pycache__",
    "__pypackages__",
    "_build",
    "build",
    "dist",
    "node_modules",
    "site-packages",
    "venv",
)
"""Folders that hold no source of the project's own, wherever they lie below a path that is walked."""

DEFAULT_INCLUDE: tuple[str, ...] = ("*.py", "*.ipynb")
"""The files that a walk picks up."""

CONFIG_NAMES: tuple[str, ...] = (".gradlint.toml", "gradlint.toml", "pyproject.toml")
"""Where settings may stand, the first of a folder wins; pyproject.toml only with a ``[tool.gradlint]`` table."""

_PLAIN = r"[\w.-]+"
_MARKERS: tuple[str, ...] = ("pyproject.toml", "setup.py", "setup.cfg", ".git", ".hg")


@dataclass(frozen=True, slots=True)
class Note:
    """Something about the run itself that is worth a line on stderr.

    ``level``: ``error`` (the run did not do what was asked), ``warning``, or ``info`` (said only when asked for detail).
    ``path``: the file or folder it is about, as shown to users, or empty.
    """

    level: str
    message: str
    path: str = ""


class MissingPath(Exception):
    """A path given by the user does not exist; the message is a line for the user, ``path`` the path as it was given."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: no such file or folder")
        self.path = path


@dataclass(frozen=True, slots=True)
class Filters:
    """What a walk takes and leaves; patterns are those of ``.gitignore``, relative to ``base``.

    ``exclude``: what to leave out. ``include``: the files to take. ``force``: leave out excluded files even if given by name.
    ``gitignore``: whether the ignore files of git are followed.
    """

    base: Path
    exclude: tuple[str, ...] = DEFAULT_EXCLUDE
    include: tuple[str, ...] = DEFAULT_INCLUDE
    force: bool = False
    gitignore: bool = True


@dataclass(frozen=True, slots=True)
class Selection:
    """The files of a run, absolute, sorted, each once.

    ``checked``: the files that are reported on. ``context``: the rest of their project. ``notes``: what was met on the way.
    """

    checked: tuple[Path, ...]
    context: tuple[Path, ...]
    notes: tuple[Note, ...]


def shown(path: Path, cwd: Path) -> str:
    """A path as users see it: relative to the working folder where it lies below it, with forward slashes."""
    try:
        return path.relative_to(cwd).as_posix()
    except ValueError:
        return path.as_posix()


def absolute(path: Path | str, cwd: Path) -> Path:
    """The path with ``.`` and ``..`` gone but its links kept: a name that the user would recognise."""
    return Path(os.path.normpath(cwd / path))


def is_folder(path: Path) -> bool:
    """Whether a folder is at a path; false when the path cannot be looked at, unlike ``Path.is_dir``."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether a regular file is at a path; false when the path cannot be looked at, unlike ``Path.is_file``."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


# The project ---------------------------------------------------------------------------------------------------------


def has_settings(path: Path) -> bool:
    """Whether a file of one of ``CONFIG_NAMES`` configures gradlint (a broken pyproject.toml that mentions it does)."""
    if path.name != "pyproject.toml":
        return is_file(path)
    try:
        text = path.read_bytes()
    except OSError:
        return False
    if b"gradlint" not in text:
        return False
    import tomllib

    try:
        return "gradlint" in tomllib.loads(text.decode("utf-8", "replace")).get("tool", {})
    except (tomllib.TOMLDecodeError, RecursionError):
        return b"[tool.gradlint" in text


def nearest_settings(folder: Path) -> Path | None:
    """The settings file that applies in a folder: the nearest one upwards."""
    for parent in (folder, *folder.parents):
        for name in CONFIG_NAMES:
            if has_settings(parent / name):
                return parent / name
    return None


def source_root(folder: Path) -> Path:
    """The folder that imports start from: the first one upwards that is not itself a package."""
    while is_file(folder / "__init__.py") and folder.parent != folder:
        folder = folder.parent
    return folder


def top_package(folder: Path) -> Path:
    """The outermost package that a folder belongs to; the folder itself where it is none or the outermost."""
    root = source_root(folder)
    return folder if root == folder else root / folder.relative_to(root).parts[0]


def project_root(paths: Sequence[Path], *, isolated: bool = False) -> Path:
    """The project's folder for paths given together.

    The nearest folder upwards with settings of gradlint, else with another sign of a project's top; the user's home folder and
    the top of the disk never count. Without any, the folder that imports start from.

    Args:
        paths: absolute files or folders, one at least.
        isolated: no settings are looked for.
    """
    top = common_folder(paths)
    home = Path.home()
    candidates = [parent for parent in (top, *top.parents) if parent not in (home, Path(parent.anchor))]
    if not isolated:
        for parent in candidates:
            if any(has_settings(parent / name) for name in CONFIG_NAMES):
                return parent
    for parent in candidates:
        if any((parent / marker).exists() for marker in _MARKERS):
            return parent
    return source_root(top)


def select(
    paths: Sequence[str | Path], filters: Filters, *, cwd: Path, isolated: bool = False, unsaved: Iterable[Path] = ()
) -> Selection:
    """Find the files to check and the files to read beside them.

    A folder is checked with all that lies in it; what is read beside it is the rest of the package that it belongs to. For
    a file, the rest of its project is read.

    Args:
        paths: what the user named, relative to ``cwd`` or absolute; none means ``cwd``.
        filters: what to leave out.
        cwd: the working folder, absolute.
        isolated: no settings file tells where the project's top is.
        unsaved: files that exist as texts in memory, absolute; they need not be on disk.

    Raises:
        MissingPath: a named path is neither on disk nor in memory.
    """
    in_memory = set(unsaved)
    named = [absolute(path, cwd) for path in paths] or [cwd]
    for path, given in zip(named, paths, strict=False):
        if path not in in_memory and not os.path.lexists(path):
            raise MissingPath(str(given))
    walk = _Walk(filters, cwd)
    checked: dict[Path, None] = {}
    for path in named:
        if is_folder(path):
            if not (filters.force and walk.excluded(path, True)):
                checked.update(dict.fromkeys(walk.files(path)))
        elif not (filters.force and walk.excluded(path, False)):
            checked[path] = None
    if not isolated:
        walk.note_unused_settings(nearest_settings(common_folder(named)))
    context: dict[Path, None] = {}
    folders = _context_folders(named, isolated)
    for folder in folders:
        if folder not in named:
            context.update(dict.fromkeys(walk.files(folder, deep=not _communal(folder))))
    context.update(dict.fromkeys(path for path in in_memory if any(path.is_relative_to(folder) for folder in folders)))
    rest = sorted(path for path in context if path not in checked)
    return Selection(tuple(sorted(checked)), tuple(rest), tuple(walk.notes.values()))


def is_excluded(path: Path, filters: Filters, *, cwd: Path) -> bool:
    """Whether the patterns leave out a file, whether or not it is on disk, or a folder above it."""
    return _Walk(filters, cwd).excluded(path, False)


def common_folder(paths: Sequence[Path]) -> Path:
    """The folder that holds all of the paths; a folder among them holds itself."""
    return Path(os.path.commonpath([path if is_folder(path) else path.parent for path in paths]))


def _context_folders(named: Sequence[Path], isolated: bool) -> list[Path]:
    """The folders that hold the projects of the named files and folders, none within another."""
    found = {top_package(path) for path in named if is_folder(path)}
    for folder in {path.parent for path in named if not is_folder(path)}:
        found.add(project_root([folder], isolated=isolated))
    return [folder for folder in sorted(found) if not any(other in folder.parents for other in found)]


# Where temporary files lie; the module that knows exactly takes its time to import.
_TEMPORARY = [Path(place) for place in (*map(os.environ.get, ("TMPDIR", "TEMP", "TMP")), "/tmp", "/var/tmp") if place]


def _communal(folder: Path) -> bool:
    """Whether unrelated things lie side by side in a folder, so that its subfolders say nothing about a file in it."""
    return folder in (Path.home(), Path(folder.anchor), *_TEMPORARY)


# The walk ------------------------------------------------------------------------------------------------------------


class _Rules(NamedTuple):
    """Ignore patterns and the folder that they are relative to (with a slash at its end)."""

    base: str
    spec: GitIgnoreSpec

    def verdict(self, path: str, folder: bool) -> bool | None:
        """True: ignored; False: taken back by a ``!`` pattern; None: no pattern matches."""
        return self.spec.check_file(path[len(self.base) :] + ("/" if folder else "")).include


def _rules(base: Path, lines: Iterable[str]) -> _Rules | None:
    kept = [line for line in lines if line.strip() and not line.startswith("#")]
    if not kept:
        return None
    from pathspec import GitIgnoreSpec  # costs more than walking a small project does: only when there is a pattern

    try:
        spec = GitIgnoreSpec.from_lines(kept)
    except ValueError:  # one bad pattern must not undo the others
        spec = GitIgnoreSpec.from_lines([line for line in kept if _valid(line)])
    return _Rules(f"{base}{os.sep}" if base.name else str(base), spec)


def _valid(pattern: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([pattern])
    except ValueError:
        return False
    return True


class _Walk:
    """Walks over folders with the same filters; ``notes`` are about what was met on the way, by path."""

    def __init__(self, filters: Filters, cwd: Path) -> None:
        self.notes: dict[str, Note] = {}
        self._settings: list[Path] = []
        self._filters = filters
        self._cwd = cwd
        # Plain names and plain endings, which is what most patterns are, need no pattern matcher.
        exclude, include, base = filters.exclude, filters.include, filters.base
        self._names = frozenset(pattern for pattern in exclude if re.fullmatch(_PLAIN, pattern))
        self._own = _rules(base, (pattern for pattern in exclude if pattern not in self._names))
        plain = (pattern for pattern in include if pattern.startswith("*.") and re.fullmatch(_PLAIN, pattern[2:]))
        self._suffixes = tuple(pattern[1:] for pattern in plain)
        self._include = _rules(base, (pattern for pattern in include if pattern[1:] not in self._suffixes))

    def files(self, top: Path, *, deep: bool = True) -> Iterator[Path]:
        """The files below a folder, in no particular order; with ``deep`` false, only those that lie in it."""
        inherited = self._git_rules(top)
        if self._ignored(str(top), True, inherited):
            inherited = []  # the folder was asked for by name: what ignores all of it is not asked
        yield from self._folder(str(top), inherited, {self._identity(str(top))}, deep)

    def excluded(self, path: Path, folder: bool) -> bool:
        """Whether the patterns leave out this path or a folder above it, up to their base."""
        chain = [path, *path.parents]
        below = [part for part in chain if part != self._filters.base and part.is_relative_to(self._filters.base)] or [path]
        git = self._git_rules(path)
        for part in below:
            is_folder = folder or part != path
            if part.name in self._names or self._by_own(str(part), is_folder) or self._ignored(str(part), is_folder, git):
                return True
        return False

    def note_unused_settings(self, used: Path | None) -> None:
        """Say which settings files were met that do not apply, because one run has one of them."""
        for path in self._settings:
            if path != used and has_settings(path):
                self._note("warning", "These settings are not used here; run gradlint on this folder to use them.", str(path))

    def _folder(self, folder: str, rules: list[_Rules], above: set[tuple[int, int]], deep: bool) -> Iterator[Path]:
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError as error:
            self._note("warning", f"This folder cannot be read and is left out: {error.strerror or error}.", folder)
            return
        if self._filters.gitignore and any(entry.name == ".gitignore" for entry in found):
            own = _rules(Path(folder), _lines(f"{folder}{os.sep}.gitignore"))
            rules = [*rules, own] if own else rules
        for entry in found:
            name, path = entry.name, entry.path
            if name in self._names:
                continue
            if name in CONFIG_NAMES:
                self._settings.append(Path(path))
            try:
                link = entry.is_symlink()
                is_folder = entry.is_dir()
                wanted = not is_folder and self._wanted(name, path)
                if link and (is_folder or wanted) and not self._follow(path, is_folder, above):
                    continue
                if wanted and not entry.is_file():
                    if not link:
                        self._note("info", "This is no regular file and is left out.", path)
                    elif not name.startswith(".#"):  # an editor's lock, broken by design
                        self._note("warning", "This link leads nowhere and is left out.", path)
                    continue
            except OSError as error:
                self._note("warning", f"This cannot be read and is left out: {error.strerror or error}.", path)
                continue
            if not (is_folder or wanted) or self._by_own(path, is_folder) or self._ignored(path, is_folder, rules):
                continue
            if not is_folder:
                yield Path(path)
            elif deep:
                yield from self._folder(path, rules, above | {self._identity(path)}, deep)

    def _follow(self, path: str, is_folder: bool, above: set[tuple[int, int]]) -> bool:
        """Links to folders are not followed: what lies in the project is met under its own name. Links to files are."""
        if not is_folder:
            return True
        if self._identity(path) in above:
            self._note("warning", "This link leads back to a folder that holds it and is not followed.", path)
        else:
            self._note("info", "This link to a folder is not followed; name it to have it checked.", path)
        return False

    def _identity(self, path: str) -> tuple[int, int]:
        try:
            status = Path(path).stat()
        except OSError:
            return (0, 0)
        return (status.st_dev, status.st_ino)

    def _wanted(self, name: str, path: str) -> bool:
        return name.endswith(self._suffixes) or (self._include is not None and self._include.verdict(path, False) is True)

    def _by_own(self, path: str, folder: bool) -> bool:
        own = self._own
        return own is not None and path.startswith(own.base) and own.verdict(path, folder) is True

    def _ignored(self, path: str, folder: bool, rules: list[_Rules]) -> bool:
        for rule in reversed(rules):  # the nearest ignore file decides
            if path.startswith(rule.base) and (verdict := rule.verdict(path, folder)) is not None:
                return verdict
        return False

    def _git_rules(self, top: Path) -> list[_Rules]:
        """The ignore patterns that hold in a folder because of the folders above it in the same repository."""
        if not self._filters.gitignore:
            return []
        repository = next((parent for parent in (top, *top.parents) if (parent / ".git").exists()), None)
        if repository is None:
            return []
        rules = [_rules(repository, _lines(f"{_git_folder(repository)}/info/exclude"))]
        between = [parent for parent in reversed(top.parents) if parent.is_relative_to(repository)]
        rules += [_rules(parent, _lines(str(parent / ".gitignore"))) for parent in between]
        return [rule for rule in rules if rule is not None]

    def _note(self, level: str, message: str, path: str) -> None:
        self.notes[path] = Note(level, message, shown(Path(path), self._cwd))


def _git_folder(repository: Path) -> Path:
    """Where git keeps a work tree's data, also for linked work trees."""
    git = repository / ".git"
    try:
        if stat.S_ISREG(git.stat().st_mode):
            git = repository / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
            common = git / "commondir"
            return git / common.read_text(encoding="utf-8").strip() if is_file(common) else git
    except (OSError, UnicodeDecodeError):
        pass
    return git


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
