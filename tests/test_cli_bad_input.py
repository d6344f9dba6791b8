"""Whatever lies in a project: a clear line for it, the rest still checked, and the right exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradlint.cli import main

BUG = "from torch import nn\n\nmodel = nn.Linear(4, 2)\nmodel.eval\n"
"""A program with exactly one finding, GRD208 on line 4."""

Check = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run ``gradlint check`` in a project that holds ``bug.py``: exit code, JSON rows, stderr."""
    monkeypatch.chdir(tmp_path)
    Path("bug.py").write_text(BUG)

    def call(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        code = main(["check", "--isolated", "--no-cache", "--output-format", "json", *arguments])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else [], captured.err

    return call


def places(rows: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(row["filename"], row["location"]["row"], row["code"]) for row in rows]


THE_BUG = ("bug.py", 4, "GRD208")


def test_the_program_itself(check: Check) -> None:
    code, rows, err = check()
    assert (code, places(rows), err) == (1, [THE_BUG], "")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("binary.py", bytes(range(256)) * 20, "NUL bytes"),
        ("image.py", b"\x89PNG\r\n\x1a\n\xff\xfe", "not valid UTF-8"),
        ("latin.py", b"x = 1\ny = '\xe9'\n", "byte 0xe9 on line 2"),
        ("unknown.py", b"# coding: klingon\nx = 1\n", "klingon"),
        ("utf16.py", "x = 1\n".encode("utf-16"), "UTF-16"),
        ("broken.py", b"def f(:\n    pass\n", "does not parse"),
        ("open.py", b"x = (\n", "never closed"),
        ("old.py", b"print 'hello'\n", "does not parse"),
        ("merge.py", b"<<<<<<< ours\nx = 1\n=======\nx = 2\n>>>>>>> theirs\n", "does not parse"),
        ("deep.py", b"x = " + b"(" * 5000 + b")" * 5000 + b"\n", ""),
        ("deeper.py", b"x = " + b"-" * 100_000 + b"1\n", ""),
        ("nested.py", b"".join(b" " * n + b"if x:\n" for n in range(300)), ""),
        ("broken.ipynb", b'{"cells": [', "notebook"),
        ("list.ipynb", b"[]", "notebook"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_finding(name: str, data: bytes, said: str, check: Check) -> None:
    Path(name).write_bytes(data)
    code, rows, _ = check()
    assert code == 1
    assert THE_BUG in places(rows)
    (row,) = [row for row in rows if row["filename"] == name]
    assert row["code"] == "GRD001"
    assert said in f"{row['message']} {row['help']}"
    assert row["location"]["row"] >= 1


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.py", b""),
        ("blank.py", b"\n\n\n"),
        ("bom.py", b"\xef\xbb\xbfx = 1\n"),
        ("crlf.py", b"x = 1\r\ny = 2\r\n"),
        ("cr.py", b"x = 1\ry = 2\r"),
        ("no_newline.py", b"x = 1"),
        ("feed.py", b"x = 1\n\x0c\ny = 2\n"),
        ("escape.py", b"x = '\\d'\n"),
        ("is_literal.py", b"x = 1 is 1\n"),
        ("cookie.py", "# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1")),
        ("empty.ipynb", b""),
        ("no_cells.ipynb", b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'),
        (
            "prose.ipynb",
            b'{"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# hello"]}], "metadata": {},'
            b' "nbformat": 4, "nbformat_minor": 5}',
        ),
    ],
)
def test_an_odd_file_is_no_news(name: str, data: bytes, check: Check) -> None:
    Path(name).write_bytes(data)
    code, rows, err = check()
    assert (code, places(rows), err) == (1, [THE_BUG], "")


def test_the_rest_of_a_file_that_does_not_parse_is_checked(check: Check) -> None:
    Path("half.py").write_text(BUG + "\n\ndef broken(:\n    pass\n\n\nmodel.train\n")
    _, rows, _ = check()
    assert set(places(rows)) == {
        THE_BUG,
        ("half.py", 4, "GRD208"),
        ("half.py", 7, "GRD001"),
        ("half.py", 11, "GRD208"),
    }


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python reads it")
def test_newer_syntax_names_the_python_that_reads_it(check: Check) -> None:
    Path("newer.py").write_text("type Pair = tuple[int, int]\n")
    _, rows, _ = check()
    (row,) = [row for row in rows if row["filename"] == "newer.py"]
    assert row["code"] == "GRD001"
    assert "Python 3.12" in f"{row['message']} {row['help']}"


def test_a_very_long_file(check: Check) -> None:
    Path("long.py").write_text("from torch import nn\nmodel = nn.Linear(4, 2)\n" + "x = 1\n" * 50_000 + "model.eval\n")
    code, rows, err = check()
    assert (code, err) == (1, "")
    assert places(rows) == [THE_BUG, ("long.py", 50_003, "GRD208")]


def test_a_very_long_line(check: Check) -> None:
    Path("wide.py").write_text("x = [" + "1, " * 200_000 + "]\n")
    assert places(check()[1]) == [THE_BUG]


def test_links_that_go_round_in_circles(check: Check) -> None:
    Path("a/b").mkdir(parents=True)
    Path("a/ok.py").write_text("x = 1\n")
    Path("a/b/loop").symlink_to(Path("..").resolve() / "a", target_is_directory=True)
    Path("self.py").symlink_to("self.py")
    Path("gone.py").symlink_to("nowhere.py")
    code, rows, err = check()
    assert (code, places(rows)) == (1, [THE_BUG])
    assert "gone.py" in err
    assert "self.py" in err


def test_what_must_not_be_read(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions mean nothing to the superuser, so the refusal is staged."""
    Path("locked").mkdir()
    Path("locked/x.py").write_text(BUG)
    Path("secret.py").write_text(BUG)
    scandir, read_bytes = os.scandir, Path.read_bytes

    def guarded_scandir(path: Any = ".") -> Any:
        if Path(os.fsdecode(path)).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    def guarded_read(path: Path) -> bytes:
        if path.name == "secret.py":
            raise PermissionError(13, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(os, "scandir", guarded_scandir)
    monkeypatch.setattr(Path, "read_bytes", guarded_read)
    code, rows, err = check()
    assert code == 1
    assert places(rows) == [THE_BUG, ("secret.py", 1, "GRD001")]
    assert "Permission denied" in rows[1]["message"]
    assert "warning: locked: " in err
    assert "Permission denied" in err


def test_no_python_files_is_a_warning_not_a_failure(check: Check) -> None:
    Path("empty").mkdir()
    code, rows, err = check("empty")
    assert (code, rows) == (0, [])
    assert err.startswith("warning: ")
    assert err.count("\n") == 1


def test_a_missing_path_is_one_line(check: Check) -> None:
    code, rows, err = check("bug.py", "missing.py")
    assert (code, rows) == (2, [])
    assert err == "gradlint: missing.py: no such file or folder\n"


def test_a_file_that_is_no_python_but_was_named(check: Check) -> None:
    Path("script").write_text(BUG)
    assert places(check("script")[1]) == [("script", 4, "GRD208")]


def test_names_with_odd_characters(check: Check) -> None:
    for name in ("a b.py", "ünï-日本.py", "new\nline.py"):
        Path(name).write_text(BUG)
    code, rows, _ = check()
    assert code == 1
    assert {row["filename"] for row in rows} == {"a b.py", "bug.py", "new\nline.py", "ünï-日本.py"}


@pytest.mark.skipif(sys.platform != "linux", reason="only here can a name be any bytes")
def test_a_name_that_is_no_text(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    try:
        Path(name).write_text(BUG)
    except OSError:
        pytest.skip("this file system refuses the name")
    code, rows, _ = check()
    assert code == 1
    assert name in {row["filename"] for row in rows}
    for style in ("full", "concise", "grouped", "sarif", "github", "gitlab", "junit", "lsp", "rdjson", "azure"):
        assert main(["--isolated", "--no-cache", "--output-format", style]) == 1, capsys.readouterr().err


@pytest.mark.parametrize("settings", ["[tool.gradlint]\nselct = []\n", "[tool.gradlint]\nselect = 1\n", "[tool.gradlint\n"])
def test_broken_settings_are_one_line_with_a_place(settings: str, check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pyproject.toml").write_text(settings)
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gradlint: pyproject.toml:")
    assert captured.err.count("\n") == 1
    assert check()[0] == 1, "--isolated reads no settings file"
