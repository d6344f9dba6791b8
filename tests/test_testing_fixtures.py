"""Fixtures: where projects are, how they are copied, what is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradlint.core import Confidence, Finding, Severity, Span
from gradlint.testing import fixtures
from gradlint.testing.fixtures import Project, check_project, copy, find_projects, read_marks


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def notebook(*sources: str | list[str]) -> str:
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": s} for s in sources]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def pretend(monkeypatch: pytest.MonkeyPatch, *places: tuple[str, int, str]) -> None:
    """Let the linter report rules at lines of files."""
    found = tuple(
        Finding(code, "name", "why", Severity.ERROR, Confidence.HIGH, Span(file, line, 1, line, 2))
        for file, line, code in places
    )
    monkeypatch.setattr(fixtures, "lint", lambda _: found)


def test_projects_are_folders_and_files_of_topics_and_folders_with_files(tmp_path: Path) -> None:
    write(tmp_path / "README.md", "")
    write(tmp_path / "graph/one/pkg/__init__.py", "")
    write(tmp_path / "graph/two/train.py", "")
    write(tmp_path / "whole/train.py", "")
    write(tmp_path / "whole/model/net.py", "")
    write(tmp_path / "clean/alone.py", "")
    write(tmp_path / "clean/__pycache__/alone.pyc", "")
    titles = [project.title for project in find_projects(tmp_path)]
    assert titles == ["clean/alone.py", "graph/one", "graph/two", f"{tmp_path.name}/whole"]
    whole = find_projects(tmp_path)[-1]
    assert [path.relative_to(whole.folder).as_posix() for path in whole.files] == ["model/net.py", "train.py"]


def test_marks_are_not_copied_and_other_bytes_are(tmp_path: Path) -> None:
    source = tmp_path / "graph/one"
    write(source / "a.py", "x = 1  # expect: GRD102\n")
    (source / "b.py").write_bytes(b"# -*- coding: latin-1 -*-\r\ny = '\xe9'  # expect: GRD104\r\n\xff")
    write(source / "data.txt", "kept  # expect: GRD102")
    write(source / "c.ipynb", notebook(["import torch\n", "x.data  # expect: GRD104"], "y"))
    write(source / "broken.ipynb", "{")
    copy(Project(source, "graph"), tmp_path / "copy")
    assert (tmp_path / "copy/a.py").read_text(encoding="utf-8") == "x = 1\n"
    assert (tmp_path / "copy/b.py").read_bytes() == b"# -*- coding: latin-1 -*-\r\ny = '\xe9'\r\n\xff"
    assert (tmp_path / "copy/data.txt").read_text(encoding="utf-8") == "kept  # expect: GRD102"
    cells = json.loads((tmp_path / "copy/c.ipynb").read_text(encoding="utf-8"))["cells"]
    assert [cell["source"] for cell in cells] == [["import torch\n", "x.data"], "y"]
    assert (tmp_path / "copy/broken.ipynb").read_text(encoding="utf-8") == "{"


def test_marks_of_a_notebook_count_through_its_cells(tmp_path: Path) -> None:
    path = write(tmp_path / "graph/one/c.ipynb", notebook("import torch\n", ["x = 1\n", "x.data  # expect: GRD104\n"]))
    (mark,) = read_marks(Project(path.parent, "graph"))
    assert (mark.file, mark.rule) == ("c.ipynb", "GRD104")
    assert mark.line == 3


def test_met_marks_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "graph/one/a.py", "x\ny  # expect: GRD102\n")
    pretend(monkeypatch, ("a.py", 2, "GRD102"))
    assert check_project(Project(tmp_path / "graph/one", "graph")) == ()


def test_mismatches_name_the_fixture_and_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "graph/one/a.py", "x\ny  # expect: GRD102\n")
    pretend(monkeypatch, ("a.py", 1, "GRD104"))
    shown = [str(mismatch) for mismatch in check_project(Project(tmp_path / "graph/one", "graph"))]
    place = (tmp_path / "graph/one/a.py").as_posix()
    assert shown == [f"{place}:1: unexpected GRD104 name: why", f"{place}:2: expected GRD102 is not reported"]


def test_a_fixture_without_marks_fails_outside_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "graph/one/a.py", "x\n")
    pretend(monkeypatch)
    (mismatch,) = check_project(Project(tmp_path / "graph/one", "graph"))
    assert "says what is found" in mismatch.text
    assert check_project(Project(tmp_path / "graph/one", "clean")) == ()


def test_a_clean_fixture_expects_nothing_but_may_own_up_to_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project(write(tmp_path / "clean/a.py", "x  # expect: GRD102\n"), "clean")
    pretend(monkeypatch, ("a.py", 1, "GRD102"))
    (mismatch,) = check_project(project)
    assert mismatch.text == "a clean fixture expects no finding"
    write(tmp_path / "clean/a.py", 'x  # known-noise: GRD102 "for now"\n')
    assert check_project(project) == ()
    write(tmp_path / "clean/a.py", "x\n")
    (mismatch,) = check_project(project)
    assert mismatch.text.startswith("unexpected GRD102")
