"""The project as a whole: which file a dotted name means, and what each file defines at its top level.

Nothing here looks into function bodies; a file's index is made the first time somebody asks for one of its names.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from gradlint.knowledge import libraries
from gradlint.survey.source import SourceFile


class Binding(NamedTuple):
    """One way a top-level name gets its meaning.

    ``kind``: ``def``, ``class``, ``import`` (a module), ``from`` (a name of a module) or ``assign``.
    ``target``: for imports the dotted module; for ``from`` the module and the name.
    """

    kind: str
    node: ast.stmt
    module: str = ""
    name: str = ""
    level: int = 0


class FileIndex:
    """The top-level names of one file, later definitions first, and its star imports."""

    __slots__ = ("bindings", "stars")

    def __init__(self, tree: ast.Module) -> None:
        self.bindings: dict[str, list[Binding]] = {}
        self.stars: list[Binding] = []
        self._read(tree.body)
        for found in self.bindings.values():
            found.reverse()

    def _add(self, name: str, binding: Binding) -> None:
        self.bindings.setdefault(name, []).append(binding)

    def _read(self, body: Iterable[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._add(node.name, Binding("def", node))
            elif isinstance(node, ast.ClassDef):
                self._add(node.name, Binding("class", node))
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for name, binding in import_bindings(node):
                    if name == "*":
                        self.stars.append(binding)
                    else:
                        self._add(name, binding)
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    for part in ast.walk(target) if not isinstance(target, ast.Name) else (target,):
                        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                            self._add(part.id, Binding("assign", node))
            elif isinstance(node, ast.If):
                if not is_main_guard(node.test):
                    self._read(node.orelse)
                    self._read(node.body)
            elif isinstance(node, ast.Try | ast.TryStar):
                for handler in node.handlers:
                    self._read(handler.body)
                self._read(node.orelse)
                self._read(node.body)
                self._read(node.finalbody)
            elif isinstance(node, ast.With | ast.AsyncWith):
                self._read(node.body)


def import_bindings(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Binding]]:
    """The names an import statement binds, and what they mean."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.asname:
                yield alias.asname, Binding("import", node, alias.name)
            else:
                head = alias.name.partition(".")[0]
                yield head, Binding("import", node, head)
    else:
        for alias in node.names:
            yield alias.asname or alias.name, Binding("from", node, node.module or "", alias.name, node.level)


def is_main_guard(test: ast.expr) -> bool:
    """Whether a condition is ``__name__ == "__main__"``."""
    return (
        isinstance(test, ast.Compare)
        and len(test.comparators) == 1
        and isinstance(test.ops[0], ast.Eq)
        and any(isinstance(side, ast.Name) and side.id == "__name__" for side in (test.left, test.comparators[0]))
    )


class Project:
    """All files of a project, by place and by dotted name.

    ``seen``: whether somebody has asked for all files at once since it was last set to false.
    """

    def __init__(
        self,
        files: Sequence[SourceFile],
        indexes: dict[SourceFile, FileIndex] | None = None,
        previous: Project | None = None,
    ) -> None:
        self._files = [file for file in files if file.tree is not None]
        self.seen = False
        self._by_location: dict[Path, SourceFile] = {file.location: file for file in self._files}
        self._indexes: dict[SourceFile, FileIndex] = {} if indexes is None else indexes
        self._resolved: dict[tuple[Path, str], SourceFile | Path | None] = {}
        self._folders: set[Path]
        self._tops: dict[str, list[Path]]
        if previous is not None and previous._by_location.keys() == self._by_location.keys():
            self._folders, self._tops = previous._folders, previous._tops
        else:
            self._find_folders()

    def _find_folders(self) -> None:
        self._folders = {file.location.parent for file in self._files}
        for folder in list(self._folders):
            self._folders.update(folder.parents)
        self._tops = {}
        for location in self._by_location:
            parent = location.parent
            if location.name == "__init__.py":
                if not self._is_package(parent.parent):
                    self._tops.setdefault(parent.name, []).append(parent.parent)
            elif not self._is_package(parent):
                self._tops.setdefault(location.stem, []).append(parent)

    def _is_package(self, folder: Path) -> bool:
        return folder / "__init__.py" in self._by_location

    @property
    def files(self) -> list[SourceFile]:
        """Every file that has a tree."""
        self.seen = True
        return self._files

    def index(self, file: SourceFile) -> FileIndex:
        """The top-level names of a file."""
        found = self._indexes.get(file)
        if found is None:
            assert file.tree is not None
            found = self._indexes[file] = FileIndex(file.tree)
        return found

    def resolve(self, importer: SourceFile, module: str, level: int = 0) -> SourceFile | Path | None:
        """The file (or namespace folder) that ``module`` means in ``importer``; None if it is not of this project.

        Absolute names are looked for beside the importing file and in each folder above it, then at every place where the
        project has a top-level package or module of that name.
        """
        folder = importer.location.parent
        if level:
            for _ in range(level - 1):
                folder = folder.parent
            return self._at(folder, module)
        key = (folder, module)
        if key in self._resolved:
            return self._resolved[key]
        found = self._search(folder, importer.location, module)
        self._resolved[key] = found
        return found

    def _search(self, folder: Path, importer: Path, module: str) -> SourceFile | Path | None:
        """Look in every folder upwards: first where imports start from, then, for scripts inside a package, beside them.

        A package may hold a part called like a library (``ours/torch``); in it, the bare name still means the library.
        """
        namespace: Path | None = None
        within: list[Path] = []
        here = folder
        while True:
            if self._is_package(here):
                within.append(here)
            else:
                found = self._at(here, module)
                if isinstance(found, SourceFile):
                    # a module does not import itself by its own bare name: `import torch` in torch.py means the library
                    if found.location != importer or "." in module:
                        return found
                elif found is not None and namespace is None:
                    namespace = found
            if here.parent == here or here.parent not in self._folders:
                break
            here = here.parent
        top = module.partition(".")[0]
        for base in self._tops.get(top, ()):
            found = self._at(base, module)
            if isinstance(found, SourceFile) and found.location != importer:
                return found
        if top not in libraries() and top not in sys.stdlib_module_names:
            for here in within:
                found = self._at(here, module)
                if isinstance(found, SourceFile) and (found.location != importer or "." in module):
                    return found
        return namespace

    def _at(self, folder: Path, module: str) -> SourceFile | Path | None:
        place = folder.joinpath(*module.split(".")) if module else folder
        found = self._by_location.get(place.with_name(place.name + ".py")) if module else None
        if found is None:
            found = self._by_location.get(place / "__init__.py")
        if found is None and module:
            found = self._by_location.get(place.with_name(place.name + ".ipynb"))
        if found is not None:
            return found
        return place if module and place in self._folders else None

    def submodule(self, package: SourceFile | Path, name: str) -> SourceFile | Path | None:
        """The module ``name`` inside a package or namespace folder."""
        if isinstance(package, SourceFile):
            if package.location.name != "__init__.py":
                return None
            package = package.location.parent
        return self._at(package, name)

    def dotted(self, file: SourceFile) -> str:
        """The dotted name of a file, from the outermost package that holds it."""
        parts = [] if file.location.name == "__init__.py" else [file.location.stem]
        folder: PurePath = file.location.parent
        while self._is_package(Path(folder)):
            parts.append(folder.name)
            folder = folder.parent
        return ".".join(reversed(parts))
