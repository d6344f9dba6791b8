"""Reads the rows, a library's files only when a name of that library is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from gradlint.knowledge.document import document
from gradlint.knowledge.row import KnowledgeError, Row, check_row, nearest

HERE = Path(__file__).parent
TENSOR = "torch.Tensor"
SECTIONS = ("api", "alias", "framework")


@dataclass(slots=True)
class _Shelf:
    """The rows of one or more files, ready for look-up."""

    exact: dict[str, Row] = field(default_factory=dict)
    patterns: dict[str, dict[str, Row]] = field(default_factory=dict)  # by top-level package, then by the pattern
    frameworks: dict[str, Row] = field(default_factory=dict)
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)  # by top-level package

    def take(self, other: _Shelf) -> None:
        """Add another shelf's rows; on equal names the other's win."""
        self.exact.update(other.exact)
        for root, rows in other.patterns.items():
            self.patterns.setdefault(root, {}).update(rows)
        self.frameworks.update(other.frameworks)
        for root, aliases in other.aliases.items():
            self.aliases.setdefault(root, {}).update(aliases)


class Knowledge:
    """Rows by qualified name. Built-in rows load library by library on first use; the user's rows are read at once."""

    def __init__(self, extra: Sequence[Path] = ()) -> None:
        self._extra = tuple(Path(path) for path in extra)
        self._user = _Shelf()
        for path in self._extra:
            self._user.take(_read(path, built_in=False))
        self._shelf = _Shelf()
        self._shelf.take(self._user)
        self._read: set[str] = set()
        self._found: dict[str, Row | None] = {}
        self._members: dict[tuple[str, str], Row | None] = {}
        self._methods: dict[str, list[Row]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self._extra,)

    def get(self, qualified: str) -> Row | None:
        """The row of a qualified name: exact first, then by alias, then the pattern that spells out the most of it."""
        try:
            return self._found[qualified]
        except KeyError:
            row = self._found[qualified] = self._exact(qualified) or self._pattern(self.canonical(qualified))
            return row

    def member(self, class_name: str, member: str) -> Row | None:
        """The row of ``class_name.member``, looked up along the ``bases`` that the class rows give."""
        key = (class_name, member)
        if key not in self._members:
            lineage = tuple(self.lineage(class_name))
            exact = (self._exact(f"{name}.{member}") for name in lineage)
            suffixed = (self._pattern(f"{name}.{member}", tail=member) for name in lineage)
            self._members[key] = next((row for rows in (exact, suffixed) for row in rows if row is not None), None)
        return self._members[key]

    def by_method(self, name: str) -> tuple[Row, ...]:
        """The rows of tensor methods and attributes with this bare name."""
        if self._methods is None:
            self._open("torch")
            self._methods = {}
            for qualified, row in self._shelf.exact.items():
                owner, _, method = qualified.rpartition(".")
                if owner == TENSOR:
                    self._methods.setdefault(method, []).append(row)
        return tuple(self._methods.get(name, ()))

    def framework(self, class_name: str) -> Row | None:
        """The framework row of a class or of one of its bases: which of its methods return losses, and what it manages."""
        for name in self.lineage(class_name):
            if row := self._shelf.frameworks.get(name):
                return row
        return None

    def lineage(self, class_name: str) -> Iterator[str]:
        """The canonical names of a library class and its bases, nearest first, as far as the rows tell."""
        waiting, seen = [class_name], set[str]()
        while waiting:
            name = self.canonical(waiting.pop(0))
            if name not in seen:
                seen.add(name)
                yield name
                if row := self.get(name):
                    waiting.extend(row.bases)

    def canonical(self, qualified: str) -> str:
        """The name under which rows know this API: ``torch.nn.modules.linear.Linear`` is ``torch.nn.Linear``."""
        for _ in range(4):  # an alias may lead to another; a circle must end
            root = qualified.partition(".")[0]
            self._open(root)
            aliases = self._shelf.aliases.get(root)
            if aliases is None or qualified in self._shelf.exact:
                break
            renamed = _rename(qualified, aliases)
            if renamed == qualified:
                break
            qualified = renamed
        return qualified

    def rows(self) -> Iterator[Row]:
        """Every row there is, built-in and the user's."""
        for root in _index():
            self._open(root)
        yield from self._shelf.exact.values()
        for rows in self._shelf.patterns.values():
            yield from rows.values()
        yield from self._shelf.frameworks.values()

    def fingerprint(self) -> str:
        """A short hash of all rows' files, to key caches with."""
        import hashlib

        digest = hashlib.sha256(_built_in_fingerprint())
        for path in self._extra:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def _exact(self, qualified: str) -> Row | None:
        return self._shelf.exact.get(self.canonical(qualified))

    def _pattern(self, qualified: str, tail: str | None = None) -> Row | None:
        best, length = None, 0
        for pattern, row in self._shelf.patterns.get(qualified.partition(".")[0], {}).items():
            head, _, end = pattern.partition("*")
            if (
                len(pattern) > length
                and len(qualified) >= len(pattern)
                and qualified.startswith(head)
                and qualified.endswith(end)
                and (tail is None or end == f".{tail}")
            ):
                best, length = row, len(pattern)
        return best

    def _open(self, root: str) -> None:
        """Read the files that speak of a top-level package, once."""
        if root in self._read:
            return
        self._read.add(root)
        for stem in _index().get(root, ()):
            self._shelf.take(_built_in(stem))
        self._shelf.take(self._user)


def load(extra: Sequence[Path] = ()) -> Knowledge:
    """The built-in rows and those of the user's files ``extra``, whose rows win over ours of the same name.

    Raises ``KnowledgeError`` where a user's file cannot be read or does not keep the schema.
    """
    return _load(tuple((Path(path), _state(Path(path))) for path in extra))


@lru_cache(maxsize=8)
def _load(extra: tuple[tuple[Path, object], ...]) -> Knowledge:
    return Knowledge([path for path, _ in extra])


def _state(path: Path) -> object:
    """What changes when a file does."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@cache
def libraries() -> frozenset[str]:
    """The top-level packages that the built-in rows speak of."""
    return frozenset(_index())


@cache
def _index() -> Mapping[str, tuple[str, ...]]:
    """Top-level package to the stems of the files that hold its rows."""
    roots: dict[str, list[str]] = document(HERE / "index.toml")["roots"]
    return {root: tuple(stems) for root, stems in roots.items()}


@cache
def _built_in(stem: str) -> _Shelf:
    return _read(HERE / f"{stem}.toml", built_in=True)


@cache
def _built_in_fingerprint() -> bytes:
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(HERE.glob("*.toml")):
        digest.update(path.read_bytes())
    return digest.digest()


def _read(path: Path, *, built_in: bool) -> _Shelf:
    """The rows of one file. Our own files are held to the schema by the tests, the user's here and now."""
    content = document(path) if built_in else _checked(path)
    shelf = _Shelf()
    for name, table in content.get("api", {}).items():
        _place(shelf, name, table, path.stem)
    for name, table in content.get("framework", {}).items():
        for one in (name, *table.get("also", ())):
            shelf.frameworks[one] = Row(one, "framework", _options(table), path.stem)
    for name, target in content.get("alias", {}).items():
        shelf.aliases.setdefault(name.partition(".")[0], {})[name] = target
    return shelf


def _checked(path: Path) -> Mapping[str, Any]:
    """What a user's file says; raises ``KnowledgeError`` where it does not keep the schema."""
    import tomllib

    file = str(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise KnowledgeError(
            file, "", f"the file cannot be read ({reason})", "Check the path in the setting knowledge"
        ) from error
    except UnicodeDecodeError as error:
        raise KnowledgeError(file, "", "the file is not UTF-8 text", "Save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise KnowledgeError(file, "", f"this is not TOML ({error})", "Correct the place it names") from error
    check(file, content)
    return content


def check(file: str, content: Mapping[str, Any]) -> None:
    """Raise ``KnowledgeError`` for the first thing in a file's content that does not keep the schema."""
    for section, tables in content.items():
        if section not in SECTIONS:
            raise KnowledgeError(file, section, f"unknown section {section!r}", nearest(section, list(SECTIONS)))
        if not isinstance(tables, dict):
            raise KnowledgeError(file, section, "this section must be a table", f'Write rows as [{section}."package.name"]')
        for name, table in tables.items():
            key = f'{section}."{name}"'
            if section == "alias":
                if not isinstance(table, str):
                    raise KnowledgeError(file, key, "an alias must be a text", "Give the name that the rows use")
                continue
            check_row(file, key, table, framework=section == "framework")
            for one in (name, *table.get("also", ())):
                _check_name(file, key, one)


def _check_name(file: str, key: str, name: str) -> None:
    parts = name.replace("*", "x").split(".")
    if name.count("*") > 1 or "*" in name.partition(".")[0] or not all(part.isidentifier() for part in parts):
        remedy = "Write the dotted name as Python resolves it, with at most one * after the first part"
        raise KnowledgeError(file, key, f"{name!r} is not a qualified name", remedy)
    if len(parts) < 2:
        raise KnowledgeError(
            file, key, f"{name!r} lacks its module", f'Write "package.{name}" with the module it is defined in'
        )


def _place(shelf: _Shelf, name: str, table: Mapping[str, Any], library: str) -> None:
    options = _options(table)
    for one in (name, *table.get("also", ())):
        row = Row(one, table["effect"], options, library)
        if "*" in one:
            shelf.patterns.setdefault(one.partition(".")[0], {})[one] = row
        else:
            shelf.exact[one] = row


def _options(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items() if key not in ("effect", "also")
    }


def _rename(qualified: str, aliases: Mapping[str, str]) -> str:
    """Replace the longest prefix that has an alias. ``*`` in an alias stands for one module, so for a lower-case name."""
    end = len(qualified)
    while end > 0:
        prefix = qualified[:end]
        target = aliases.get(prefix)
        if target is None:
            parent, _, last = prefix.rpartition(".")
            if end < len(qualified) and last.islower():
                target = aliases.get(f"{parent}.*")
        if target is not None:
            return target + qualified[end:]
        end = qualified.rfind(".", 0, end)
    return qualified
