"""Edits made in texts, and what becomes of fixes that overlap."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlint.core import Confidence, Edit, Finding, Fix, Safety, Severity, Span
from gradlint.session.files import write_bytes, write_text
from gradlint.session.fixes import applicable, apply_edits, fix_file, unified_diff
from gradlint.survey.source import from_text


def edit(line: int, column: int, end_line: int, end_column: int, text: str) -> Edit:
    return Edit(Span("a.py", line, column, end_line, end_column), text)


def finding(*edits: Edit, safety: Safety = Safety.SAFE) -> Finding:
    span = edits[0].span
    return Finding("GRD102", "n", "m", Severity.ERROR, Confidence.HIGH, span, fix=Fix("", edits, safety))


def test_edits_may_come_in_any_order() -> None:
    text = "a = 1\nb = 2\nc = 3\n"
    edits = [edit(1, 5, 1, 6, "one"), edit(2, 1, 3, 1, ""), edit(3, 6, 3, 6, "0"), edit(4, 1, 4, 1, "d = 4\n")]
    for _ in range(5):
        random.shuffle(edits)
        assert apply_edits(text, edits) == "a = one\nc = 30\nd = 4\n"


def test_columns_are_code_points_and_new_lines_end_as_the_others() -> None:
    assert apply_edits("s = '😀é'; x.detach()\r\ny\r\n", [edit(1, 11, 1, 21, "x\nz")]) == "s = '😀é'; x\r\nz\r\ny\r\n"
    assert apply_edits("a\rb\r", [edit(2, 1, 2, 2, "c")]) == "a\rc\r"
    assert apply_edits("\x0ca\x1cb\nc\n", [edit(2, 1, 2, 2, "d")]) == "\x0ca\x1cb\nd\n"


@settings(derandomize=True)
@given(st.text(alphabet="ab\n\r\x0cé😀", max_size=30), st.integers(0, 30), st.integers(0, 30), st.sampled_from(["", "x", "\n"]))
def test_an_edit_changes_its_range_and_nothing_else(text: str, one: int, other: int, new: str) -> None:
    first, last = sorted((min(one, len(text)), min(other, len(text))))
    if text[max(first - 1, 0) : first + 1] == "\r\n" or text[max(last - 1, 0) : last + 1] == "\r\n":
        return  # no place has an offset between the two
    if new == "\n" and text[max(first - 1, 0) : first] == "\r":
        return  # behind a lone \r, one that stands alone and half of a \r\n read the same
    source = from_text(text, Path("/a.py"), "a.py", parse=False)

    def place(offset: int) -> tuple[int, int]:
        before = text[:offset].replace("\r\n", "\n").replace("\r", "\n")
        return before.count("\n") + 1, offset - max(text.rfind("\n", 0, offset), text.rfind("\r", 0, offset))

    changed = apply_edits(text, [edit(*place(first), *place(last), new)])
    assert changed.replace("\r\n", "\n") == (text[:first] + new + text[last:]).replace("\r\n", "\n")
    assert len(source.lines) == place(len(text))[0]


def test_overlapping_fixes_wait_for_the_next_round() -> None:
    text = "y = x.a().b()\n"
    source = from_text(text, Path("/a.py"), "a.py")
    outer, inner = finding(edit(1, 5, 1, 14, "x.a()")), finding(edit(1, 5, 1, 10, "x"))
    result = fix_file(source, text, [inner, outer], unsafe=False)
    assert result is not None
    assert (result.content, len(result.applied)) == ("y = x.b()\n", 1)


def test_a_fix_is_made_whole_or_not_at_all() -> None:
    text = "a = 1\nb = 2\nc = 3\n"
    source = from_text(text, Path("/a.py"), "a.py")
    first = finding(edit(1, 1, 1, 2, "A"), edit(3, 1, 3, 2, "C"))
    second = finding(edit(2, 1, 2, 2, "B"), edit(3, 1, 3, 6, "D = 4"))
    result = fix_file(source, text, [second, first], unsafe=False)
    assert result is not None
    assert result.content == "A = 1\nb = 2\nC = 3\n"


def test_two_insertions_at_one_place_are_not_made_together() -> None:
    text = "a = 1\n"
    source = from_text(text, Path("/a.py"), "a.py")
    result = fix_file(source, text, [finding(edit(1, 1, 1, 1, "b = 0\n")), finding(edit(1, 1, 1, 1, "c = 0\n"))], unsafe=False)
    assert result is not None
    assert len(result.applied) == 1


def test_only_the_fix_that_breaks_the_file_is_dropped() -> None:
    text = "a = 1\nb = 2\n"
    source = from_text(text, Path("/a.py"), "a.py")
    bad, good = finding(edit(1, 1, 1, 2, "(")), finding(edit(2, 5, 2, 6, "3"))
    result = fix_file(source, text, [bad, good], unsafe=False)
    assert result is not None
    assert (result.content, result.applied, result.broken) == ("a = 1\nb = 3\n", (good,), (bad,))


def test_safety() -> None:
    assert applicable(finding(edit(1, 1, 1, 2, "")), unsafe=False)
    assert not applicable(finding(edit(1, 1, 1, 2, ""), safety=Safety.UNSAFE), unsafe=False)
    assert applicable(finding(edit(1, 1, 1, 2, ""), safety=Safety.UNSAFE), unsafe=True)
    assert not applicable(finding(edit(1, 1, 1, 2, ""), safety=Safety.NONE), unsafe=True)


def test_diffs_tell_of_a_missing_last_line_end() -> None:
    assert unified_diff("a.py", "x\ny", "x\nz\n").endswith("-y\n\\ No newline at end of file\n+z\n")


def test_files_are_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.py"
    target.write_text("old")
    target.chmod(0o640)
    link = tmp_path / "link.py"
    link.symlink_to(target)
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", 0o640)
    write_text(tmp_path / "deep/b.txt", "é\r\n")
    assert (tmp_path / "deep/b.txt").read_bytes() == b"\xc3\xa9\r\n"

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(target, b"newer")
    assert target.read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.py", "deep", "link.py"]
