"""Which programs to run for which findings: the parent's reading of the project, without torch."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradlint.core import Finding, Span
from gradlint.survey.project import Project, is_main_guard
from gradlint.survey.source import SourceFile

MOST_PROGRAMS = 4
"""Programs that are tried for one finding."""

_HINTS = ("train", "main", "run", "finetune", "fine_tune", "pretrain", "fit", "experiment")
_TRAINING = frozenset(("backward", "step", "fit", "train", "manual_backward", "main", "run"))
_SETUP = frozenset(
    ("getLogger", "basicConfig", "filterwarnings", "manual_seed", "insert", "append", "print", "register", "seed")
)
"""What modules that are no programs call at their top level too."""


@dataclass(frozen=True, slots=True)
class Program:
    """A file that can be run. ``files``: the project's files that it imports, itself among them, absolute."""

    file: Path
    guarded: bool
    files: frozenset[Path]
    rank: int


@dataclass(frozen=True, slots=True)
class ModuleClass:
    """An ``nn.Module`` class around a finding. ``root``: the folder to import ``module`` from."""

    file: Path
    module: str
    qualname: str
    root: Path


class Plan:
    """The programs of a project and the classes in it."""

    def __init__(self, files: Sequence[SourceFile]) -> None:
        self.project = Project(files)
        self._by_location = {file.location: file for file in self.project.files}
        self._imports: dict[Path, frozenset[Path]] = {}
        self.programs = sorted(self._programs(), key=lambda program: (program.rank, len(str(program.file)), program.file))

    def for_finding(self, file: Path) -> list[Program]:
        """The programs that reach a file, the most promising first: the file itself, then those that import it."""
        found = [program for program in self.programs if file in program.files]
        return sorted(found, key=lambda program: program.file != file)[:MOST_PROGRAMS]

    def classes(self, finding: Finding, file: Path) -> list[ModuleClass]:
        """The classes that hold a finding's line, the innermost first."""
        source = self._by_location.get(file)
        if source is None or source.tree is None:
            return []
        module = self.project.dotted(source)
        root = source.location.parents[module.count(".") + (1 if source.location.name == "__init__.py" else 0)]
        found = [
            ModuleClass(file, module, name, root)
            for name, node in _class_definitions(source.tree.body, "")
            if node.lineno <= finding.span.line <= (node.end_lineno or node.lineno)
        ]
        return found[::-1]

    def definition(self, name: str) -> tuple[SourceFile, Span] | None:
        """Where a class or a function is defined, by ``package.module:name``: the file and the statement's first line."""
        module, _, qualname = name.rpartition(":")
        for source in self.project.files:
            dotted = self.project.dotted(source)
            if source.tree is None or not (module == dotted or module.endswith(f".{dotted}")):
                continue
            for found, node in _definitions(source.tree.body, ""):
                if found == qualname:
                    width = len(source.text.splitlines()[node.lineno - 1]) + 1
                    return source, Span(source.path, node.lineno, node.col_offset + 1, node.lineno, width)
        return None

    def package_of(self, file: Path) -> tuple[str, Path]:
        """The package that a file belongs to (empty for none), and the folder that has to be importable for it."""
        source = self._by_location.get(file)
        dotted = self.project.dotted(source) if source is not None else file.stem
        package, _, _ = dotted.rpartition(".")
        return package, file.parents[package.count(".") + 1 if package else 0]

    # Programs --------------------------------------------------------------------------------------------------------

    def _programs(self) -> Iterator[Program]:
        imported = {found for file in self._by_location for found in self._imported(file) if found != file}
        for source in self.project.files:
            assert source.tree is not None
            guarded = any(isinstance(node, ast.If) and is_main_guard(node.test) for node in source.tree.body)
            if not guarded and not _acts(source.tree, alone=source.location not in imported):
                continue
            name = source.location.stem.lower()
            rank = 2 * (not any(hint in name for hint in _HINTS)) + (not guarded)
            if "test" in name or source.location.suffix == ".ipynb":
                rank += 4
            yield Program(source.location, guarded, self._closure(source.location), rank)

    def _closure(self, start: Path) -> frozenset[Path]:
        reached = {start}
        pending = [start]
        while pending:
            for following in self._imported(pending.pop()):
                if following not in reached:
                    reached.add(following)
                    pending.append(following)
        return frozenset(reached)

    def _imported(self, file: Path) -> frozenset[Path]:
        """The project's files that a file imports, the packages above them among them."""
        known = self._imports.get(file)
        if known is None:
            known = self._imports[file] = frozenset(self._read_imports(file))
        return known

    def _read_imports(self, file: Path) -> Iterator[Path]:
        source = self._by_location.get(file)
        if source is None or source.tree is None:
            return
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    parts = alias.name.split(".")
                    for end in range(1, len(parts) + 1):
                        yield from _files([self.project.resolve(source, ".".join(parts[:end]))])
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                parts = module.split(".") if module else []
                for end in range(1, len(parts) + 1):
                    yield from _files([self.project.resolve(source, ".".join(parts[:end]), node.level)])
                base = self.project.resolve(source, module, node.level)
                yield from _files([base])
                if base is not None:
                    yield from _files(self.project.submodule(base, alias.name) for alias in node.names)


def _files(found: Iterable[SourceFile | Path | None]) -> Iterator[Path]:
    for each in found:
        if isinstance(each, SourceFile):
            yield each.location


def _acts(tree: ast.Module, *, alone: bool) -> bool:
    """Whether a module trains at its top level, or calls something that may: what the project itself defines.

    Of one that no other file imports (``alone``) any call that is not mere setup counts.
    """
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            own |= {alias.asname or alias.name for alias in node.names if not (alias.asname or alias.name)[:1].isupper()}
    for node in tree.body:
        if isinstance(node, ast.For | ast.While | ast.With | ast.If | ast.Try | ast.Expr | ast.Assign):
            for inner in _at_top(node):
                if isinstance(inner, ast.Call):
                    name = inner.func.attr if isinstance(inner.func, ast.Attribute) else getattr(inner.func, "id", "")
                    if name in _TRAINING:
                        return True
                    if name not in _SETUP and (name in own or alone) and not isinstance(node, ast.Assign):
                        return True
    return False


def _at_top(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _at_top(child)


def _class_definitions(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            name = f"{prefix}{node.name}"
            yield name, node
            yield from _class_definitions(node.body, f"{name}.")
        elif isinstance(node, ast.If | ast.Try):
            yield from _class_definitions(node.body, prefix)


def _definitions(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.stmt]]:
    yield from _class_definitions(body, prefix)
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield f"{prefix}{node.name}", node


def drivers_for(drivers: Mapping[str, str], finding_file: Path, classes: Sequence[ModuleClass]) -> Iterator[tuple[str, str]]:
    """The configured factories that fit a finding: by its class (``app.model:Net``), its module or its file."""
    names = [f"{each.module}:{each.qualname}" for each in classes] + [f"{each.module}" for each in classes[:1]]
    for key, factory in drivers.items():
        if key in names or finding_file.as_posix().endswith(f"/{key}"):
            yield key, factory
