"""Rule pages: what is a case, which files it has, what it promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradlint.testing.docs import updated
from gradlint.testing.pages import PageError, Symptom, load_page, parse_page

PATH = Path("GRD102-detach-on-loss-path.md")
TITLE = "# GRD102 detach-on-loss-path\n\nWhat happens,\nin short.\n\n"


def fenced(text: str, info: str = "", name: str = "") -> str:
    return (f"`{name}`:\n" if name else "") + f"```python {info}\n{text}\n```\n\n"


def test_title_summary_and_headings() -> None:
    page = parse_page(PATH, TITLE + "## Examples\n\n### One\n")
    assert (page.code, page.name, page.summary) == ("GRD102", "detach-on-loss-path", "What happens, in short.")
    assert page.headings == ("Examples", "One")


def test_blocks_of_a_section_are_cases_named_by_the_headings() -> None:
    text = TITLE + "## Examples\n\n### One\n\n" + fenced("x  # expect: GRD102", "bad") + fenced("y", "good")
    first, second = parse_page(PATH, text).cases
    assert first.title == "Examples / One (1, bad)" and second.title == "Examples / One (2, good)"
    assert first.entry == "main.py" and list(first.files) == ["main.py"]
    assert [(mark.line, mark.rule) for mark in first.marks] == [(1, "GRD102")]
    assert second.marks == ()


def test_lines_lead_back_to_the_page() -> None:
    text = TITLE + "## Examples\n\n" + fenced("a\nb  # expect: GRD102", "bad")
    (case,) = parse_page(PATH, text).cases
    document, before = case.places["main.py"]
    assert document == PATH.name
    assert text.splitlines()[before + case.marks[0].line - 1] == "b  # expect: GRD102"


def test_named_blocks_make_a_project_and_later_ones_replace_earlier() -> None:
    text = (
        TITLE
        + "## Across\n\n"
        + fenced("a", name="losses.py")
        + fenced("b  # expect: GRD102", "bad", name="train.py")
        + "Words between.\n\n"
        + fenced("c", "good", name="losses.py")
    )
    bad, good = parse_page(PATH, text).cases
    assert {name: block.text for name, block in bad.files.items()} == {"losses.py": "a\n", "train.py": "b  # expect: GRD102\n"}
    assert {name: block.text for name, block in good.files.items()} == {"losses.py": "c\n", "train.py": "b  # expect: GRD102\n"}
    assert bad.entry == good.entry == "train.py"
    assert good.marks == (), "marks of a file carried over from the bad project do not bind the good one"


def test_main_is_run_wherever_it_stands() -> None:
    text = TITLE + "## Across\n\n" + fenced("a", name="main.py") + fenced("b", "good", name="losses.py")
    assert parse_page(PATH, text).cases[0].entry == "main.py"


def test_a_heading_ends_a_project() -> None:
    text = TITLE + "## A\n\n" + fenced("a", "good", name="x.py") + "## B\n\n" + fenced("b", "good")
    assert list(parse_page(PATH, text).cases[1].files) == ["main.py"]


def test_symptoms_flags_and_what_a_good_block_inherits() -> None:
    text = (
        TITLE
        + "## A\n\n"
        + fenced("a", 'bad raises="does not" no_grad=model.encoder,head')
        + fenced("b", "good fix")
        + fenced("c", "good no-run zero_grad=x")
    )
    bad, fixed, other = parse_page(PATH, text).cases
    assert bad.symptoms == (Symptom("raises", "does not"), Symptom("no_grad", "model.encoder,head"))
    assert fixed.symptoms == bad.symptoms and fixed.fixes == bad.files and fixed.runs
    assert other.symptoms == (Symptom("zero_grad", "x"),) and other.fixes is None and not other.runs


def test_other_languages_and_longer_fences_are_left_alone() -> None:
    text = TITLE + "## A\n\n```toml\nx = 1\n```\n\n````python good\n```\nb = '''\n```\n'''\n````\n"
    (case,) = parse_page(PATH, text).cases
    assert case.files["main.py"].text == "```\nb = '''\n```\n'''\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (fenced("a", "good bad"), "bad or good"),
        (fenced("a", "no_grad=x"), "bad or good"),
        (fenced("a", "bad nograd=x"), "'nograd=x' is no verdict, flag or symptom"),
        (fenced("a", "bad no_grad"), "'no_grad' is no verdict"),
        (fenced("a", "good fix"), "follows a bad block"),
        (fenced("a", "bad") + fenced("a", "bad fix"), "follows a bad block"),
        (fenced("a  # expect: GRD102", "good"), "no marks"),
        (fenced("a"), "no verdict follows"),
        (fenced("a", "good") + fenced("b", name="b.py"), "no verdict follows"),
        ("```python good\na\n", "has no end"),
    ],
)
def test_a_page_that_does_not_keep_to_the_format_is_an_error_with_its_place(body: str, message: str) -> None:
    with pytest.raises(PageError, match=rf"^{PATH.name}:\d+: .*{message}"):
        parse_page(PATH, TITLE + "## A\n\n" + body)


def test_a_page_needs_its_title() -> None:
    with pytest.raises(PageError, match=":1: a page begins"):
        parse_page(PATH, "# Detach\n")


def test_the_index_lists_the_pages(tmp_path: Path) -> None:
    (tmp_path / PATH).write_text(TITLE, encoding="utf-8")
    old = "before\n<!-- index -->\nold\n<!-- /index -->\nafter\n"
    new = updated(old, tmp_path)
    assert f"- [GRD102 detach-on-loss-path]({PATH.name}): What happens, in short." in new
    assert new.startswith("before\n") and new.endswith("after\n") and "old" not in new
    assert updated(new, tmp_path) == new
    with pytest.raises(ValueError, match="index"):
        updated("nothing here", tmp_path)
    assert load_page(tmp_path / PATH).cases == ()
