"""Finding files: ignore files, excluded folders, links, explicit paths, and how far a project reaches."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gradlint.survey import discover
from gradlint.survey.discover import DEFAULT_EXCLUDE, Filters, MissingPath, nearest_settings, project_root, select, source_root


def tree(root: Path, *paths: str, **contents: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(contents.get(path, ""))
    return root


def checked(root: Path, *paths: str, filters: Filters | None = None, cwd: Path | None = None) -> list[str]:
    found = select([root / path for path in paths] or [root], filters or Filters(root), cwd=cwd or root)
    return [path.relative_to(root).as_posix() for path in found.checked]


def test_python_files_and_notebooks_sorted(tmp_path: Path) -> None:
    tree(tmp_path, "b.py", "a/x.py", "a/y.ipynb", "a/z.pyi", "a/data.txt", "README.md")
    assert checked(tmp_path) == ["a/x.py", "a/y.ipynb", "b.py"]


@pytest.mark.parametrize("folder", [".venv", "venv", "node_modules", "build", "dist", "__pycache__", "site-packages", ".git"])
def test_folders_that_hold_no_source_are_pruned(tmp_path: Path, folder: str) -> None:
    tree(tmp_path, f"{folder}/x.py", f"src/{folder}/y.py", "src/z.py")
    assert checked(tmp_path) == ["src/z.py"]
    assert checked(tmp_path, folder) == [f"{folder}/x.py"], "named, it is checked"
    assert checked(tmp_path, f"{folder}/x.py") == [f"{folder}/x.py"]


def test_pruned_folders_are_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "node_modules/deep/x.py", "a/y.py")
    entered: list[str] = []
    real = os.scandir
    monkeypatch.setattr(discover.os, "scandir", lambda path: entered.append(str(path)) or real(path))
    checked(tmp_path)
    assert not [path for path in entered if "node_modules" in path]


def test_gitignore_nested_and_negated(tmp_path: Path) -> None:
    (tmp_path / ".git/info").mkdir(parents=True)
    (tmp_path / ".git/info/exclude").write_text("private.py\n")
    tree(
        tmp_path,
        "keep.py",
        "private.py",
        "gen/a.py",
        "gen/keep.py",
        "sub/a_tmp.py",
        "sub/b_tmp.py",
        "sub/deep/only.py",
        "top.py",
    )
    (tmp_path / ".gitignore").write_text("/gen/*\n!/gen/keep.py\n*_tmp.py\n/top.py\n")
    (tmp_path / "sub/.gitignore").write_text("!a_tmp.py\n/only.py\n")
    assert checked(tmp_path) == ["gen/keep.py", "keep.py", "sub/a_tmp.py", "sub/deep/only.py"]
    assert checked(tmp_path, "sub", cwd=tmp_path) == ["sub/a_tmp.py", "sub/deep/only.py"], "ignore files above count too"
    assert checked(tmp_path, "private.py") == ["private.py"]
    everything = Filters(tmp_path, gitignore=False)
    assert len(checked(tmp_path, filters=everything)) == 8


def test_the_walk_agrees_with_git(tmp_path: Path) -> None:
    tree(
        tmp_path, "a.py", "out/b.py", "src/out/c.py", "src/d.py", "src/logs/e.py", "src/logs/keep/f.py", "x/y/z/g.py", "x/h.py"
    )
    (tmp_path / ".gitignore").write_text("out/\n**/logs/*\n!**/logs/keep/\nx/**/z\n# comment\n\n\\#odd\n")
    (tmp_path / "x/.gitignore").write_text("h.*\n")
    git = ["git", "-c", "init.defaultBranch=main", "-c", "safe.directory=*"]
    subprocess.run([*git, "init", "-q", str(tmp_path)], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard", "*.py"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert checked(tmp_path) == sorted(listed.stdout.split())


def test_a_named_folder_that_git_ignores_is_checked(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("scratch/\n")
    tree(tmp_path, "scratch/a.py", "b.py")
    assert checked(tmp_path) == ["b.py"]
    assert checked(tmp_path, "scratch") == ["scratch/a.py"]
    assert checked(tmp_path, "scratch", filters=Filters(tmp_path, force=True)) == []


def test_exclude_and_include_patterns(tmp_path: Path) -> None:
    tree(tmp_path, "a.py", "b_pb2.py", "gen/c.py", "src/gen/d.py", "tool.pyx", "run")
    assert checked(tmp_path, filters=Filters(tmp_path, exclude=(*DEFAULT_EXCLUDE, "*_pb2.py", "/gen"))) == [
        "a.py",
        "src/gen/d.py",
    ]
    assert checked(tmp_path, filters=Filters(tmp_path, include=("*.pyx", "run"))) == ["run", "tool.pyx"]


def test_force_exclude_holds_for_named_files(tmp_path: Path) -> None:
    tree(tmp_path, "venv/lib/a.py", "b.py")
    force = Filters(tmp_path, force=True)
    assert checked(tmp_path, "venv/lib/a.py", "b.py", filters=force) == ["b.py"]
    assert checked(tmp_path, "venv", filters=force) == []


def test_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(MissingPath, match=r"nope\.py: no such file"):
        select(["nope.py"], Filters(tmp_path), cwd=tmp_path)
    unsaved = tmp_path / "unsaved.py"
    assert select(["unsaved.py"], Filters(tmp_path), cwd=tmp_path, unsaved=[unsaved]).checked == (unsaved,)


def test_links_that_loop_and_links_that_lead_nowhere(tmp_path: Path) -> None:
    tree(tmp_path, "pkg/a.py")
    (tmp_path / "pkg/again").symlink_to(tmp_path / "pkg", target_is_directory=True)
    (tmp_path / "self.py").symlink_to(tmp_path / "self.py")
    (tmp_path / "dead.py").symlink_to(tmp_path / "nothing.py")
    (tmp_path / ".#lock.py").symlink_to("user@host")
    found = select([tmp_path], Filters(tmp_path), cwd=tmp_path)
    assert [path.name for path in found.checked] == ["a.py"]
    notes = {note.path: note.message for note in found.notes if note.level == "warning"}
    assert "leads back" in notes["pkg/again"]
    assert set(notes) == {"pkg/again", "self.py", "dead.py"}


def test_links_to_files_are_checked(tmp_path: Path) -> None:
    tree(tmp_path, "real/a.py")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").symlink_to(tmp_path / "real/a.py")
    assert checked(tmp_path, "src") == ["src/a.py"]


def test_folders_that_cannot_be_read_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "secret/a.py", "b.py")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(discover.os, "scandir", scandir)
    found = select([tmp_path], Filters(tmp_path), cwd=tmp_path)
    assert [path.name for path in found.checked] == ["b.py"]
    (note,) = found.notes
    assert (note.level, note.path) == ("warning", "secret")
    assert "Permission denied" in note.message


def test_special_files_are_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    tree(tmp_path, "a.py")
    assert checked(tmp_path) == ["a.py"]


# How far a project reaches


def context(root: Path, *paths: str) -> list[str]:
    found = select([root / path for path in paths], Filters(root), cwd=root)
    return [path.relative_to(root).as_posix() for path in found.context]


def test_a_folder_is_its_own_project(tmp_path: Path) -> None:
    tree(tmp_path, "pyproject.toml", "case/a.py", "other/b.py")
    assert context(tmp_path, "case") == []


def test_a_folder_in_a_package_brings_the_package(tmp_path: Path) -> None:
    tree(tmp_path, "src/pkg/__init__.py", "src/pkg/sub/__init__.py", "src/pkg/sub/a.py", "src/pkg/b.py", "src/other.py", "c.py")
    assert context(tmp_path, "src/pkg/sub") == ["src/pkg/__init__.py", "src/pkg/b.py"]


def test_a_file_brings_its_project(tmp_path: Path) -> None:
    tree(tmp_path, "pyproject.toml", "src/pkg/__init__.py", "src/pkg/a.py", "scripts/train.py", "venv/x.py")
    assert context(tmp_path, "src/pkg/a.py") == ["scripts/train.py", "src/pkg/__init__.py"]


def test_a_file_without_any_project_brings_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "work/a.py", "work/b.py", "work/sub/c.py", "elsewhere/d.py")
    assert context(tmp_path, "work/a.py") == ["work/b.py", "work/sub/c.py"]
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "work")
    assert context(tmp_path, "work/a.py") == ["work/b.py"], "a home folder holds many things that are none of its business"


def test_files_of_two_projects_bring_both_and_not_what_lies_between(tmp_path: Path) -> None:
    tree(tmp_path, "one/setup.py", "one/a.py", "one/b.py", "two/setup.py", "two/c.py", "two/d.py", "three/e.py")
    assert context(tmp_path, "one/a.py", "two/c.py") == ["one/b.py", "one/setup.py", "two/d.py", "two/setup.py"]


def test_settings_further_down_are_said_to_be_unused(tmp_path: Path) -> None:
    tree(tmp_path, "gradlint.toml", "sub/gradlint.toml", "other/pyproject.toml", "a.py")
    found = select([tmp_path], Filters(tmp_path), cwd=tmp_path)
    assert [note.path for note in found.notes] == ["sub/gradlint.toml"]
    assert select([tmp_path / "sub"], Filters(tmp_path), cwd=tmp_path).notes == ()
    assert select([tmp_path], Filters(tmp_path), cwd=tmp_path, isolated=True).notes == ()


def test_markers_of_the_home_folder_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "home/.git/config", "home/pyproject.toml", "home/work/a.py")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert project_root([tmp_path / "home/work/a.py"]) == tmp_path / "home/work"


def test_project_roots(tmp_path: Path) -> None:
    tree(tmp_path, "repo/.git/config", "repo/pkg/__init__.py", "repo/pkg/a.py", "repo/sub/gradlint.toml", "repo/sub/deep/b.py")
    repo = tmp_path / "repo"
    assert project_root([repo / "pkg/a.py"]) == repo
    assert project_root([repo / "sub/deep/b.py"]) == repo / "sub"
    assert project_root([repo / "sub/deep/b.py"], isolated=True) == repo
    assert source_root(repo / "pkg") == repo


def test_settings_files(tmp_path: Path) -> None:
    tree(tmp_path, "gradlint.toml", "a/pyproject.toml", "a/b/pyproject.toml", "a/b/c/x.py")
    (tmp_path / "a/pyproject.toml").write_text("[tool.gradlint]\n")
    (tmp_path / "a/b/pyproject.toml").write_text("[tool.ruff]\n# gradlint is not set up here\n")
    assert nearest_settings(tmp_path / "a/b/c") == tmp_path / "a/pyproject.toml"
    assert nearest_settings(tmp_path) == tmp_path / "gradlint.toml"
    (tmp_path / "a/b/.gradlint.toml").write_text("")
    assert nearest_settings(tmp_path / "a/b/c") == tmp_path / "a/b/.gradlint.toml"
