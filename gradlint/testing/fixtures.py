"""Fixtures: small projects whose marks say what gradlint finds in them.

They stand in ``fixtures/<topic>/<project>`` or ``fixtures/<project>``.
Every rule is on in every fixture.  A project is a folder, or in a topic also a single file; the projects of the topic
``clean`` are correct programs in which gradlint must find nothing.  A project may bring a ``gradlint.toml`` of its own.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from gradlint.survey.source import read
from gradlint.testing.linter import lint
from gradlint.testing.marks import Kind, Mark, Mismatch, compare, parse_marks, strip_marks

CLEAN = "clean"
_SUFFIXES = (".py", ".pyi", ".ipynb")


@dataclass(frozen=True, slots=True)
class Project:
    """One fixture: a folder or a file, and the topic it stands in."""

    path: Path
    topic: str

    @property
    def title(self) -> str:
        """``topic/name``, unique."""
        return f"{self.topic}/{self.path.name}"

    @property
    def files(self) -> tuple[Path, ...]:
        """Its Python files and notebooks, sorted."""
        if self.path.is_file():
            return (self.path,)
        return tuple(sorted(path for path in self.path.rglob("*") if path.suffix in _SUFFIXES and path.is_file()))

    @property
    def folder(self) -> Path:
        """What the names of its files are relative to."""
        return self.path.parent if self.path.is_file() else self.path


def find_projects(root: Path) -> tuple[Project, ...]:
    """All projects below the fixture folder ``root``, by topic and name.

    A folder with Python files directly in ``root`` is a project; one without them, and ``clean``, is a topic.
    """
    projects: list[Project] = []
    for folder in _entries(root):
        if folder.is_file():
            continue
        if folder.name != CLEAN and any(path.is_file() for path in _entries(folder)):
            projects.append(Project(folder, root.name))
        else:
            projects.extend(Project(path, folder.name) for path in _entries(folder))
    return tuple(projects)


def _entries(folder: Path) -> list[Path]:
    """The folders and the Python files in a folder, sorted."""
    return [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith((".", "__")) and (path.is_dir() or path.suffix in _SUFFIXES)
    ]


def read_marks(project: Project) -> tuple[Mark, ...]:
    """The marks in a project's files; in a notebook, lines count through the joined code cells, as in findings."""
    marks: list[Mark] = []
    for path in project.files:
        name = path.relative_to(project.folder).as_posix()
        marks.extend(parse_marks(read(path, name, parse=False).text, name))
    return tuple(marks)


def check_project(project: Project) -> tuple[Mismatch, ...]:
    """Where gradlint and the marks of a project disagree, and what is wrong with the marks themselves."""
    marks = read_marks(project)
    mismatches: list[Mismatch] = []
    if project.topic == CLEAN:
        mismatches.extend(
            Mismatch(mark.file, mark.line, "a clean fixture expects no finding")
            for mark in marks
            if mark.kind is not Kind.KNOWN_NOISE
        )
    elif not marks:
        first = project.files[0].relative_to(project.folder).as_posix() if project.files else project.path.name
        mismatches.append(Mismatch(first, 1, f"a fixture outside {CLEAN}/ says what is found in it"))
    with tempfile.TemporaryDirectory() as temporary:
        copied = Path(temporary).resolve() / "project"
        copy(project, copied)
        mismatches.extend(compare(lint(copied), marks))
    folder = project.folder
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    shown = [replace(mismatch, file=(folder / mismatch.file).as_posix()) for mismatch in mismatches]
    return tuple(sorted(shown, key=lambda mismatch: (mismatch.file, mismatch.line)))


def copy(project: Project, folder: Path) -> None:
    """Copy a project to ``folder`` without its marks: gradlint must not be able to read what it should find."""
    if project.path.is_file():
        folder.mkdir(parents=True)
        shutil.copy(project.path, folder)
    else:
        shutil.copytree(project.path, folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path in project.files:
        target = folder / path.relative_to(project.folder)
        if path.suffix == ".ipynb":
            _strip_notebook(target)
        else:
            # One character a byte, so that whatever the encoding is, all other bytes stay what they are.
            target.write_bytes(strip_marks(target.read_bytes().decode("latin-1")).encode("latin-1"))


def _strip_notebook(path: Path) -> None:
    try:
        notebook = json.loads(path.read_bytes())
        cells = notebook["cells"]
    except (ValueError, KeyError, TypeError):
        return  # a broken notebook is a fixture too
    for cell in cells:
        source = cell.get("source", [])
        text = source if isinstance(source, str) else "".join(source)
        stripped = strip_marks(text)
        cell["source"] = stripped if isinstance(source, str) else stripped.splitlines(keepends=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
