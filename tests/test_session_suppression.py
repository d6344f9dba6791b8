"""Comments that silence: where they hold, which are unused, which mean nothing."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gradlint.core import Confidence, Finding, Group, RuleSpec, Safety, Severity, Span
from gradlint.session.fixes import apply_edits
from gradlint.session.suppression import complaints, ignore_edits, read_suppressions
from gradlint.survey.source import SourceFile, from_text

SPECS = (
    RuleSpec("GRD002", "unused-suppression", Group.OWN, Severity.WARNING, Safety.SAFE),
    RuleSpec("GRD003", "invalid-suppression", Group.OWN, Severity.WARNING),
    RuleSpec("GRD102", "detach-on-loss-path", Group.GRAPH, Severity.ERROR),
    RuleSpec("GRD104", "data-on-loss-path", Group.GRAPH, Severity.ERROR),
)
EVERY = [spec.code for spec in SPECS]


def source(text: str) -> SourceFile:
    return from_text(textwrap.dedent(text), Path("/a.py"), "a.py")


def finding(line: int, code: str = "GRD102") -> Finding:
    spec = next(spec for spec in SPECS if spec.code == code)
    return Finding(code, spec.name, "m", spec.severity, Confidence.HIGH, Span("a.py", line, 1, line, 2))


def silenced(text: str, code: str = "GRD102") -> list[int]:
    file = source(text)
    comments = read_suppressions(file)
    return [line for line in range(1, len(file.lines) + 1) if comments.silences(finding(line, code))]


def said(text: str, *used: Finding, ran: list[str] = EVERY, complete: bool = True) -> list[tuple[int, str, str]]:
    file = source(text)
    comments = read_suppressions(file)
    for entry in used:
        assert comments.silences(entry)
    return [(f.span.line, f.code, f.message) for f in complaints(file, comments, SPECS, ran, complete=complete)]


@pytest.mark.parametrize(
    "comment",
    [
        "# gradlint: ignore[GRD102]",
        "# gradlint: ignore[detach-on-loss-path]",
        "# gradlint: ignore[GRD104, GRD102] -- because",
        "# gradlint:ignore[GRD1]",
        "# gradlint: ignore [ GRD102 ]",
        "# gradlint: ignore[ALL]",
        "# type: ignore  # gradlint: ignore[GRD102]",
        "# noqa: GRD102",
        "# NOQA: E501, GRD102",
        "# noqa:E501,GRD102",
    ],
)
def test_comments_that_silence(comment: str) -> None:
    assert silenced(f"a = 1\nb = 2  {comment}\nc = 3\n") == [2]


@pytest.mark.parametrize(
    "comment",
    [
        "# gradlint: ignore",
        "# noqa",
        "# noqa: E501",
        "# gradlint: ignore[]",
        "# gradlint: ingore[GRD102]",
        "# gradlint",
        "# ignore[GRD102]",
    ],
)
def test_comments_that_do_not(comment: str) -> None:
    assert silenced(f"a = 1\nb = 2  {comment}\nc = 3\n") == []


@pytest.mark.parametrize(
    "text",
    [
        "b = '# gradlint: ignore[GRD102]'\n",
        'b = """\n# gradlint: ignore[GRD102]\n"""\nc = 1\n',
        "b = f'{x}# noqa: GRD102'\n",
    ],
)
def test_strings_are_no_comments(text: str) -> None:
    assert silenced(text) == []


def test_any_line_of_the_statement_and_the_line_above() -> None:
    call = "a = f(\n    b,\n    c,\n)\nd = 1\n"
    for line in range(4):
        lines = call.splitlines()
        lines[line] += "  # gradlint: ignore[GRD102]"
        assert silenced("\n".join(lines)) == [1, 2, 3, 4]
    assert silenced("# gradlint: ignore[GRD102]\n" + call) == [2, 3, 4, 5]
    assert silenced("x = 1\n\n# gradlint: ignore[GRD102]\n# more words\n" + call) == [5, 6, 7, 8]
    assert silenced("a = f(\n    # gradlint: ignore[GRD102]\n    b,\n)\nc = 1\n") == [1, 2, 3, 4]


def test_headers_are_statements_and_bodies_are_not_theirs() -> None:
    assert silenced("with torch.no_grad():  # gradlint: ignore[GRD102]\n    a = 1\n") == [1]
    assert silenced("@torch.no_grad()\n@other\ndef f(\n    a,\n):  # gradlint: ignore[GRD102]\n    b = 1\n") == [1, 2, 3, 4, 5]
    assert silenced("@torch.no_grad()  # gradlint: ignore[GRD102]\ndef f():\n    b = 1\n") == [1, 2]


def test_noqa_is_for_its_own_line() -> None:
    assert 2 not in silenced("# noqa: GRD102\na = 1\n")


def test_files_and_ranges() -> None:
    assert silenced("a = 1\nb = 2\n# gradlint: ignore-file[GRD102]\nc = 3\n") == [1, 2, 3, 4, 5]
    assert silenced("a = 1\n# gradlint: disable[GRD102]\nb = 2\n# gradlint: enable[GRD102]\nc = 3\n") == [2, 3, 4]
    assert silenced("a = 1\n# gradlint: disable[GRD102]\nb = 2\n# gradlint: enable[GRD104]\nc = 3\n") == [2, 3, 4, 5, 6]
    text = "# gradlint: disable[GRD102, GRD104]\na = 1\n# gradlint: enable[GRD104]\nb = 2\n"
    assert silenced(text, "GRD104") == [1, 2, 3]
    assert silenced(text, "GRD102") == [1, 2, 3, 4, 5]


def test_unused_comments() -> None:
    text = "a = 1  # gradlint: ignore[GRD102, GRD104]\n"
    assert said(text, finding(1), finding(1, "GRD104")) == []
    assert said(text, finding(1)) == [(1, "GRD002", "This comment silences nothing: GRD104 reports nothing here.")]
    assert said(text) == [(1, "GRD002", "This comment silences nothing: GRD102, GRD104 report nothing here.")]
    assert said(text, ran=["GRD002", "GRD104"]) == [
        (1, "GRD002", "This comment silences nothing: GRD104 reports nothing here.")
    ]
    assert said(text, complete=False) == []
    assert said(text, ran=["GRD102", "GRD104"]) == []
    assert said("a = 1  # noqa: GRD102\n") == []
    assert [code for _, code, _ in said("# gradlint: enable[GRD102]\n")] == ["GRD002"]


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("ignore", "This comment names no rule and silences nothing; write ignore[GRD102] with the rules that you mean."),
        ("ignore[ ]", "This comment names no rule and silences nothing; write ignore[GRD102] with the rules that you mean."),
        ("ignore[GRD12]", "There is no rule GRD12; did you mean GRD102?"),
        ("ignore[GRD102, detach-on-los-path]", "There is no rule detach-on-los-path; did you mean detach-on-loss-path?"),
        ("disable[E501]", "There is no rule E501."),
    ],
)
def test_invalid_comments(comment: str, message: str) -> None:
    assert (1, "GRD003", message) in said(f"a = 1  # gradlint: {comment}\n")


def test_misspelled_verbs() -> None:
    ((_, code, message),) = said("a = 1  # gradlint: ingore[GRD102]\n")
    assert code == "GRD003"
    assert "'ingore'; did you mean ignore?" in message


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = 1  # gradlint: ignore[GRD102]\nb = 2\n", "a = 1\nb = 2\n"),
        ("a = 1  # why  # gradlint: ignore[GRD102] -- x\n", "a = 1  # why\n"),
        ("if a:\n    # gradlint: ignore[GRD102]\n    b = 2\n", "if a:\n    b = 2\n"),
        ("a = 1\n# gradlint: ignore[GRD102]", "a = 1\n"),
        ("a = 'é'  # gradlint: ignore[GRD102]\r\nb = 2\r\n", "a = 'é'\r\nb = 2\r\n"),
    ],
)
def test_removing_unused_comments(before: str, after: str) -> None:
    file = from_text(before, Path("/a.py"), "a.py")
    (unused,) = complaints(file, read_suppressions(file), SPECS, EVERY, complete=True)
    assert unused.fix is not None
    assert unused.fix.safety is Safety.SAFE
    assert apply_edits(before, unused.fix.edits) == after


def test_adding_comments_where_they_are_allowed() -> None:
    text = 'a = f(b, """\nx\n""").detach()\nc = d \\\n    .detach()\ne = 1  # note\n'
    file = source(text)
    edits = ignore_edits(file, [finding(1), finding(4), finding(5, "GRD104"), finding(6), finding(6, "GRD002")], "later")
    after = apply_edits(text, edits)
    assert after == (
        'a = f(b, """\nx\n""").detach()  # gradlint: ignore[GRD102] -- later\n'
        "c = d \\\n    .detach()  # gradlint: ignore[GRD102, GRD104] -- later\n"
        "e = 1  # note  # gradlint: ignore[GRD102] -- later\n"
    )
    comments = read_suppressions(source(after))
    assert all(comments.silences(finding(line)) for line in (1, 4, 6))


def test_files_without_the_words_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradlint.session.suppression.layout", lambda _: pytest.fail("scanned"))
    assert read_suppressions(source("a = 1  # fine  # noqa: E501\n")).directives == ()
