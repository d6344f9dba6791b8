"""Expectation marks: read, taken out, compared."""

from __future__ import annotations

import pytest

from gradlint.core import Confidence, Finding, Severity, Span
from gradlint.testing.marks import Kind, Mark, MarkError, compare, parse_marks, strip_marks


def finding(line: int, code: str = "GRD102", name: str = "detach-on-loss-path", file: str = "a.py") -> Finding:
    return Finding(code, name, "the graph ends here", Severity.ERROR, Confidence.HIGH, Span(file, line, 5, line, 9))


def texts(findings: list[Finding], source: str) -> list[str]:
    return [str(mismatch) for mismatch in compare(findings, parse_marks(source, "a.py"))]


def test_marks_name_rules_by_code_or_name_several_on_a_line() -> None:
    source = 'x = 1\ny = f(x)  # expect: GRD102, data-on-loss-path  # known-noise: GRD106 "an index, only"\n'
    assert parse_marks(source, "a.py") == (
        Mark(Kind.EXPECT, "a.py", 2, "GRD102"),
        Mark(Kind.EXPECT, "a.py", 2, "data-on-loss-path"),
        Mark(Kind.KNOWN_NOISE, "a.py", 2, "GRD106", "an index, only"),
    )


@pytest.mark.parametrize(
    "line",
    [
        "x  # expect GRD102",
        "x  # expect:",
        "x  # expect: GRD102 because",
        'x  # expect: GRD102 "why"',
        "x  # known-miss: GRD102",
        "x  # expect: GRD102,",
        'x  # known-miss: "why"',
    ],
)
def test_what_looks_like_a_mark_and_is_none_is_an_error_with_its_place(line: str) -> None:
    with pytest.raises(MarkError, match=r"^a\.py:2: "):
        parse_marks(f"y\n{line}\n", "a.py")


@pytest.mark.parametrize("line", ["# what we expect: nothing", "# expected: GRD102", "# expectation", "# expect-or: GRD102"])
def test_other_comments_are_no_marks(line: str) -> None:
    assert parse_marks(line, "a.py") == ()
    assert strip_marks(line) == line


def test_stripping_keeps_every_line_and_every_other_comment() -> None:
    source = (
        "a  # expect: GRD102\r\n"
        "b  # gradlint: ignore[GRD102]  # expect: GRD002\n"
        'c = "# d"  # known-miss: GRD1 "why # not"  # e\n'
        "# expect: GRD001\n"
        "\fd  \n"
    )
    assert strip_marks(source) == 'a\r\nb  # gradlint: ignore[GRD102]\nc = "# d"  # e\n\n\fd  \n'


def test_lines_are_pythons() -> None:
    assert [mark.line for mark in parse_marks("a\f\n\x0bb\x85\u2028\nc  # expect: GRD102", "a.py")] == [3]


def test_met_expectations_are_silent() -> None:
    assert texts([finding(1)], "x  # expect: GRD102") == []
    assert texts([finding(1)], "x  # expect: detach-on-loss-path") == []


def test_unmet_and_unforeseen_both_fail_with_their_place() -> None:
    assert texts([finding(2)], "x  # expect: GRD102\ny") == [
        "a.py:1: expected GRD102 is not reported",
        "a.py:2: unexpected GRD102 detach-on-loss-path: the graph ends here",
    ]


def test_each_mark_answers_for_one_finding() -> None:
    assert len(texts([finding(1), finding(1)], "x  # expect: GRD102")) == 1
    assert texts([finding(1), finding(1)], "x  # expect: GRD102, GRD102") == []
    assert texts([finding(1)], "x  # expect: GRD102, GRD102") == ["a.py:1: expected GRD102 is not reported"]


def test_files_and_rules_are_told_apart() -> None:
    assert len(texts([finding(1, file="b.py")], "x  # expect: GRD102")) == 2
    assert len(texts([finding(1, code="GRD104", name="data-on-loss-path")], "x  # expect: GRD102")) == 2


def test_a_known_miss_is_silent_until_it_is_found() -> None:
    source = 'x  # known-miss: GRD102 "through a callback"'
    assert texts([], source) == []
    assert texts([finding(1)], source) == [
        "a.py:1: promote me: the known miss of GRD102 is found now; mark it `# expect: GRD102`"
    ]


def test_known_noise_is_silent_until_it_is_gone() -> None:
    source = 'x  # known-noise: GRD102 "a class of the same name"'
    assert texts([finding(1)], source) == []
    assert texts([], source) == ["a.py:1: promote me: the known noise of GRD102 is gone; remove its mark"]
