"""Settings: what may stand in ``[tool.gradlint]`` or ``gradlint.toml``, how it is found, checked and explained.

Every setting is a field of ``Config`` whose metadata holds its JSON schema; reading, checking, ``gradlint config`` and the
published schema all come from there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gradlint.core import Confidence, RuleSpec, Severity
from gradlint.survey.discover import (
    DEFAULT_EXCLUDE,
    DEFAULT_INCLUDE,
    Filters,
    absolute,
    common_folder,
    is_file,
    nearest_settings,
    project_root,
    shown,
)


class ConfigError(Exception):
    """Settings that cannot be used; the message is a line for the user, with file, line and column if they stand in a file."""


OUTPUT_FORMATS: tuple[str, ...] = (
    "full",
    "concise",
    "grouped",
    "json",
    "json-lines",
    "sarif",
    "github",
    "gitlab",
    "junit",
    "rdjson",
    "azure",
    "lsp",
)

SILENCING_WORDS: tuple[str, ...] = ("gradlint:", "GRD")
"""A file without any of these has no comment that silences a finding."""

_STRINGS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}


def _schema(description: str, **schema: Any) -> dict[str, Any]:
    """The metadata of a field of ``Config`` that may be set in a file."""
    return {"schema": {"description": description, **schema}}


@dataclass(frozen=True, slots=True)
class PerFileIgnore:
    """Rules that are off in the files that match a pattern. ``base``: the folder that the pattern is relative to."""

    base: Path
    pattern: str
    selectors: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of a run, complete: defaults where nothing was said, paths absolute.

    ``root`` is the folder that patterns and fingerprints are relative to: the settings file's, or the project's without one.
    ``file`` is the settings file. ``isolated``: no settings file was read. The other fields are described by their metadata.
    """

    select: tuple[str, ...] = field(
        default=("ALL",),
        metadata=_schema("Rules to run: codes, names, prefixes of codes such as GRD1, or ALL.", **_STRINGS),
    )
    ignore: tuple[str, ...] = field(
        default=(), metadata=_schema("Rules not to run; the more specific of select and ignore wins.", **_STRINGS)
    )
    extend_select: tuple[str, ...] = field(default=(), metadata=_schema("Rules to run beside those of select.", **_STRINGS))
    extend_ignore: tuple[str, ...] = field(default=(), metadata=_schema("Rules not to run beside those of ignore.", **_STRINGS))
    per_file_ignores: tuple[PerFileIgnore, ...] = field(
        default=(),
        metadata=_schema(
            "Rules that are off in the files that match a pattern, as a table from pattern to rules.",
            type="object",
            additionalProperties=_STRINGS,
        ),
    )
    severity: Mapping[str, Severity] = field(
        default_factory=dict,
        metadata=_schema(
            "The severity of a rule, as a table from rule to error, warning or info.",
            type="object",
            additionalProperties={"type": "string", "enum": [severity.value for severity in Severity]},
        ),
    )
    min_confidence: Confidence = field(
        default=Confidence.MEDIUM,
        metadata=_schema(
            "Findings less sure than this are not shown.",
            type="string",
            enum=[confidence.value for confidence in Confidence],
        ),
    )
    preview: bool = field(default=False, metadata=_schema("Run the rules that are still being tried out.", type="boolean"))
    exclude: tuple[str, ...] = field(
        default=DEFAULT_EXCLUDE,
        metadata=_schema("Files and folders to leave out, as patterns of .gitignore; replaces the built-in list.", **_STRINGS),
    )
    extend_exclude: tuple[str, ...] = field(
        default=(), metadata=_schema("Files and folders to leave out beside those of exclude.", **_STRINGS)
    )
    include: tuple[str, ...] = field(
        default=DEFAULT_INCLUDE, metadata=_schema("The files that a folder is searched for.", **_STRINGS)
    )
    force_exclude: bool = field(
        default=False, metadata=_schema("Leave out excluded files even when they are named.", type="boolean")
    )
    respect_gitignore: bool = field(default=True, metadata=_schema("Leave out what git ignores.", type="boolean"))
    knowledge: tuple[Path, ...] = field(
        default=(),
        metadata=_schema("TOML files with rows that say what your own functions do to gradient.", **_STRINGS),
    )
    roots: tuple[str, ...] = field(
        default=(),
        metadata=_schema("Functions that training starts from beside those gradlint knows, as dotted names.", **_STRINGS),
    )
    baseline: Path | None = field(
        default=None, metadata=_schema("The file that holds the findings to be silent about.", type="string")
    )
    output_format: str | None = field(
        default=None,
        metadata=_schema(
            "The form of the output; without it, full on a terminal and concise elsewhere.",
            type="string",
            enum=list(OUTPUT_FORMATS),
        ),
    )
    cache_dir: Path | None = field(
        default=None,
        metadata=_schema("The folder for the cache; .gradlint_cache in the project by default.", type="string"),
    )
    contracts: tuple[Mapping[str, Any], ...] = field(
        default=(),
        metadata=_schema(
            "What the author means to train and to keep frozen, module by module.",
            type="array",
            items={
                "type": "object",
                "required": ["module"],
                "properties": {
                    "module": {"type": "string"},
                    "trains": _STRINGS,
                    "frozen": _STRINGS,
                    "isolated": {"type": "array", "items": _STRINGS},
                },
                "additionalProperties": False,
            },
        ),
    )
    drivers: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_schema(
            "How the verifier builds a module and its input, as a table from module to a function that makes them.",
            type="object",
            additionalProperties={"type": "string"},
        ),
    )
    root: Path = field(default_factory=Path.cwd)
    file: Path | None = None
    isolated: bool = False

    @property
    def filters(self) -> Filters:
        """What the file search takes and leaves."""
        return Filters(
            self.root, (*self.exclude, *self.extend_exclude), self.include, self.force_exclude, self.respect_gitignore
        )

    def enables(self, spec: RuleSpec) -> bool:
        """Whether a rule runs."""
        wanted = max((_weight(selector, spec) for selector in (*self.select, *self.extend_select)), default=-1)
        unwanted = max((_weight(selector, spec) for selector in (*self.ignore, *self.extend_ignore)), default=-1)
        if spec.preview and not self.preview and wanted < len(spec.code):
            return False
        return wanted > unwanted

    def ignored_in(self, path: Path) -> tuple[str, ...]:
        """The rules that per-file-ignores turn off in a file, as the selectors that were written."""
        off: list[str] = []
        for entry in self.per_file_ignores:
            if path.is_relative_to(entry.base) and _file_pattern(entry.pattern, path.relative_to(entry.base).as_posix()):
                off.extend(entry.selectors)
        return tuple(off)

    def severity_of(self, spec: RuleSpec) -> Severity | None:
        """The severity that the settings give a rule: that of the most specific selector, None without one."""
        found = [(weight, value) for selector, value in self.severity.items() if (weight := _weight(selector, spec)) >= 0]
        return max(found, key=lambda entry: entry[0])[1] if found else None

    def as_toml_values(self) -> dict[str, Any]:
        """The settings by the keys of a settings file, as plain values, for showing."""
        values: dict[str, Any] = {}
        for setting in settings():
            value = getattr(self, setting.name)
            values[key_of(setting.name)] = _plain(value)
        return values


def matches(selector: str, spec: RuleSpec) -> bool:
    """Whether a selector (ALL, a prefix of a code, a code or a name) means a rule."""
    return _weight(selector, spec) >= 0


def _weight(selector: str, spec: RuleSpec) -> int:
    """How specifically a selector means a rule: -1 not at all, 0 for ALL, else the length of the prefix or the code."""
    if selector == "ALL":
        return 0
    if selector == spec.name:
        return len(spec.code)
    return len(selector) if spec.code.startswith(selector) and selector.startswith("GRD") else -1


def _file_pattern(pattern: str, path: str) -> bool:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines([pattern]).match_file(path)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        if value and isinstance(value[0], PerFileIgnore):
            return {entry.pattern: list(entry.selectors) for entry in value}
        return [_plain(entry) for entry in value]
    return value


# The table of settings -----------------------------------------------------------------------------------------------


def settings() -> tuple[dataclasses.Field[Any], ...]:
    """The fields of ``Config`` that a settings file may hold."""
    return tuple(entry for entry in dataclasses.fields(Config) if "schema" in entry.metadata)


def key_of(name: str) -> str:
    """The key in a settings file of a field of ``Config``."""
    return name.replace("_", "-")


def schema() -> dict[str, Any]:
    """The JSON schema (draft 7) of a settings file, as editors and schema stores read it."""
    properties: dict[str, Any] = {
        "extend": {"description": "A settings file to start from; what stands here wins.", "type": "string"}
    }
    empty = Config(root=Path())
    for entry in settings():
        default = _plain(getattr(empty, entry.name))
        if entry.metadata["schema"]["type"] == "object" and not default:
            default = {}
        properties[key_of(entry.name)] = {**entry.metadata["schema"], **({} if default is None else {"default": default})}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://gradlint.dev/gradlint.schema.json",
        "title": "gradlint",
        "description": "Settings of gradlint: the table tool.gradlint of pyproject.toml, or a gradlint.toml.",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


# Reading -------------------------------------------------------------------------------------------------------------


def load(
    paths: Sequence[str | Path] = (),
    *,
    cwd: Path | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    isolated: bool = False,
) -> Config:
    """The settings for a run over some paths.

    Args:
        paths: what is going to be checked; the settings file nearest to all of it counts.
        cwd: the working folder, by default the process's.
        file: a settings file to take instead of looking for one.
        overrides: ``KEY=VALUE`` texts that win over the file; the value is TOML, or a bare string.
        isolated: read no settings file.

    Raises:
        ConfigError: a file is missing or broken, or holds a key or a value that means nothing.
    """
    cwd = cwd or Path.cwd()
    named = [absolute(path, cwd) for path in paths] or [cwd]
    if file is not None:
        file = absolute(file, cwd)
    elif not isolated:
        file = nearest_settings(common_folder(named))
    values: dict[str, Any] = {}
    root = project_root(named, isolated=isolated)
    if file is not None:
        values = _read_file(file, cwd, ())
        root = file.parent
    for override in overrides:
        values = _merged(values, _read_override(override, cwd))
    return Config(**values, root=root, file=file, isolated=isolated)


class _Place(NamedTuple):
    """Where settings were written, to say so in errors. ``text``: the file's; ``table``: the keys of the settings' table."""

    name: str
    text: str
    table: tuple[str, ...]

    def error(self, message: str, *keys: str) -> ConfigError:
        """An error about the value at these keys below the table."""
        line, column = _position(self.text, (*self.table, *keys))
        where = f"{self.name}:{line}:{column}" if self.text else self.name
        return ConfigError(f"{where}: {message}")


def _read_file(file: Path, cwd: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    import tomllib

    name = shown(file, cwd)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{name}: the settings cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: the settings are not UTF-8 text") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        spot = f":{where.group(1)}:{where.group(2)}" if where else ""
        reason = str(error)[: where.start()] if where else str(error).removesuffix(" (at end of document)")
        raise ConfigError(f"{name}{spot}: this is not TOML: {reason}") from None
    except RecursionError:
        raise ConfigError(f"{name}: this is not TOML: it is nested too deeply") from None
    table: tuple[str, ...] = ()
    if file.name == "pyproject.toml":
        table = ("tool", "gradlint")
        document = document.get("tool", {}).get("gradlint", {})
    place = _Place(name, text, table)
    if not isinstance(document, dict):
        raise place.error("tool.gradlint must be a table")
    base = document.pop("extend", None)
    values = _checked(document, place, file.parent)
    if base is None:
        return values
    if not isinstance(base, str):
        raise place.error("extend must be a string, the path of a settings file", "extend")
    parent = absolute(Path(base).expanduser(), file.parent)
    if parent == file or parent in above:
        raise place.error(f"extend leads back to {shown(parent, cwd)}", "extend")
    if not is_file(parent):
        raise place.error(f"extend names a file that does not exist: {shown(parent, cwd)}", "extend")
    return _merged(_read_file(parent, cwd, (*above, file)), values)


def _read_override(override: str, cwd: Path) -> dict[str, Any]:
    import tomllib

    key, equals, value = override.partition("=")
    place = _Place(f"--config {override}", "", ())
    if not equals:
        raise place.error("this is neither KEY=VALUE nor the path of a settings file")
    try:
        document = tomllib.loads(f"{key.strip()} = {value.strip()}")
    except tomllib.TOMLDecodeError:
        try:
            document = tomllib.loads(f"{key.strip()} = {_quoted(value.strip())}")
        except tomllib.TOMLDecodeError:
            raise place.error("this is not KEY=VALUE with a TOML value") from None
    return _checked(document, place, cwd)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``base`` with those of ``over`` on top: tables and ``extend-`` lists are joined, all else is replaced."""
    merged = dict(base)
    for name, value in over.items():
        if name.startswith("extend_") or name == "per_file_ignores":
            merged[name] = (*merged.get(name, ()), *value)
        elif isinstance(value, Mapping):
            merged[name] = {**merged.get(name, {}), **value}
        else:
            merged[name] = value
    return merged


def _checked(document: Mapping[str, Any], place: _Place, base: Path) -> dict[str, Any]:
    """The settings in a table by field name, checked and turned into what ``Config`` holds; paths are relative to ``base``."""
    known = {key_of(entry.name): entry for entry in settings()}
    values: dict[str, Any] = {}
    for key, value in document.items():
        entry = known.get(key)
        if entry is None:
            raise place.error(f"unknown key {key}{suggestion(key, [*known, 'extend'])}", key)
        for keys, message in _faults(value, entry.metadata["schema"], (key,)):
            raise place.error(message, *keys)
        values[entry.name] = _converted(entry.name, value, base)
    return values


def suggestion(word: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` for a word that is close to a known one, else nothing."""
    import difflib  # only when something is wrong

    close = difflib.get_close_matches(word.replace("_", "-"), list(known), 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


_NAMES = {"string": "a string", "array": "a list", "object": "a table", "boolean": "true or false"}
_TYPES: dict[str, type] = {"string": str, "array": list, "object": dict, "boolean": bool}


def _faults(value: Any, schema: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with a value: the keys that lead to it and a message."""
    name = ".".join(keys)
    wanted: str = schema["type"]
    fits: bool = isinstance(value, _TYPES[wanted])
    if not fits:
        yield keys, f"{name} must be {_NAMES[wanted]}{_of(schema)}"
    elif "enum" in schema and value not in schema["enum"]:
        yield keys, f"{name} must be one of {', '.join(schema['enum'])}{suggestion(value, schema['enum'])}"
    elif wanted == "array":
        for entry in value:
            for inner, message in _faults(entry, schema["items"], keys):
                yield (inner, message) if schema["items"]["type"] == "object" else (keys, f"{name} must be a list{_of(schema)}")
    elif wanted == "object":
        named: Mapping[str, Any] = schema.get("properties", {})
        for missing in set(schema.get("required", ())) - set(value):
            yield keys, f"{name} lacks the key {missing}"
        for key, entry in value.items():
            expected: Any = named.get(key, schema.get("additionalProperties", False))
            if expected is False:
                yield (*keys, key), f"unknown key {key} in {name}{suggestion(key, named)}"
            else:
                yield from _faults(entry, expected, (*keys, key))


def _of(schema: Mapping[str, Any]) -> str:
    if schema["type"] == "array":
        return f" of {_NAMES[schema['items']['type']].split()[-1]}s"
    return ""


def _converted(name: str, value: Any, base: Path) -> Any:
    if name == "per_file_ignores":
        return tuple(PerFileIgnore(base, pattern, tuple(selectors)) for pattern, selectors in value.items())
    if name == "severity":
        return {selector: Severity(severity) for selector, severity in value.items()}
    if name == "min_confidence":
        return Confidence(value)
    if name in ("baseline", "cache_dir"):
        return absolute(Path(value).expanduser(), base)
    if name == "knowledge":
        return tuple(absolute(Path(path).expanduser(), base) for path in value)
    return tuple(value) if isinstance(value, list) else value


_HEADER = r"[ \t]*\[\[?([^\[\]]+)\]\]?[ \t]*(?:#.*)?$"
_PART = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_KEY = rf"[ \t]*({_PART}(?:[ \t]*\.[ \t]*{_PART})*)[ \t]*="


def _position(text: str, keys: tuple[str, ...]) -> tuple[int, int]:
    """The line and column (from 1) where a TOML text sets these keys, or the table that is nearest to doing so."""
    best, place = -1, (1, 1)
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(_HEADER, line):
            table = path = _parts(header.group(1))
            column = line.index("[") + 1
        elif key := re.match(_KEY, line):
            path = (*table, *_parts(key.group(1)))
            column = key.start(1) + 1
        else:
            continue
        common = next((i for i, (a, b) in enumerate(zip(path, keys, strict=False)) if a != b), min(len(path), len(keys)))
        if common == min(len(path), len(keys)) and common > best:
            best, place = common, (number, column)
    return place


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))


def check_selectors(config: Config, specs: Sequence[RuleSpec]) -> None:
    """Make sure that every selector in the settings means a rule.

    Raises:
        ConfigError: one means none.
    """
    per_file = [selector for entry in config.per_file_ignores for selector in entry.selectors]
    for key, selectors in (
        ("select", config.select),
        ("ignore", config.ignore),
        ("extend-select", config.extend_select),
        ("extend-ignore", config.extend_ignore),
        ("per-file-ignores", per_file),
        ("severity", config.severity),
    ):
        for selector in selectors:
            if not any(matches(selector, spec) for spec in specs):
                names = [name for spec in specs for name in (spec.code, spec.name)]
                where = f"{config.file.name}: " if config.file else ""
                raise ConfigError(f"{where}unknown rule {selector} in {key}{suggestion(selector, names)}")
