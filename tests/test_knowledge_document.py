"""What a TOML file says is kept as Python keeps its compiled modules, and believed only as long as it is true."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path

import pytest

from gradlint.knowledge.document import document


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "kept"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "rows.toml"
    path.write_text('[api."torch.x"]\neffect = "cut"\nalso = ["torch.y"]\nwhen = true\n', encoding="utf-8")
    return path


def kept(folder: Path) -> list[Path]:
    return [path for path in (folder / "kept").rglob("*") if path.is_file()]


def test_the_second_reading_is_of_what_was_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = document(file)
    assert first == {"api": {"torch.x": {"effect": "cut", "also": ["torch.y"], "when": True}}}
    assert len(kept(file.parent)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(tomllib, "loads", None)  # nobody parses
        assert document(file) == first


def test_a_change_of_the_file_is_seen(file: Path) -> None:
    document(file)
    file.write_text("x = 1\n", encoding="utf-8")
    assert document(file) == {"x": 1}
    file.write_text("x = 2\n", encoding="utf-8")  # of the same size
    os.utime(file, ns=(1, 1))
    assert document(file) == {"x": 2}


@pytest.mark.parametrize("data", [b"", b"nonsense", b"i\x01\x00\x00\x00", b"\xe9"])
def test_what_is_broken_is_read_again(file: Path, data: bytes) -> None:
    first = document(file)
    (place,) = kept(file.parent)
    place.write_bytes(data)
    assert document(file) == first


def test_nothing_is_written_where_nothing_may_be(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert document(file)
    assert kept(file.parent) == []
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    (file.parent / "kept").write_text("a file where the folder should be")
    assert document(file)


def test_faults_are_told(file: Path) -> None:
    file.write_text("x = ", encoding="utf-8")
    with pytest.raises(tomllib.TOMLDecodeError):
        document(file)
    with pytest.raises(OSError):
        document(file.with_name("other.toml"))
