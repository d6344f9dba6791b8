"""The rules keep what their pages promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradlint.rules import all_rules, specs
from gradlint.testing.cases import check_findings, check_fix, check_symptoms, show
from gradlint.testing.docs import updated
from gradlint.testing.pages import Case, Page, find_pages
from gradlint.testing.symptoms import Runtime

RULES = Path(__file__).resolve().parent.parent / "rules"
SECTIONS = [
    "What it does",
    "Why is this bad",
    "Examples",
    "When it stays silent",
    "How it is confirmed at run time",
    "References",
]


def test_gradlint_finds_what_the_page_says(page_case: Case) -> None:
    mismatches = check_findings(page_case)
    if mismatches:
        pytest.fail(show(mismatches), pytrace=False)


def test_the_fix_gives_the_good_block(page_fix: Case) -> None:
    difference = check_fix(page_fix)
    if difference:
        pytest.fail(difference, pytrace=False)


def test_the_program_shows_what_the_page_says(page_program: Case, page_runtime: Runtime) -> None:
    troubles = check_symptoms(page_program, page_runtime)
    if troubles:
        place = f"{page_program.page.name}:{page_program.line}: "
        pytest.fail("\n".join(place + trouble for trouble in troubles), pytrace=False)


def test_page_keeps_to_the_form(rule_page: Page) -> None:
    assert rule_page.path.stem == f"{rule_page.code}-{rule_page.name}"
    text = rule_page.path.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert rule_page.summary.endswith(".") and len(rule_page.summary) <= 200
    assert "https://docs.p" in text[text.index("## References") :]


def test_page_shows_a_fault_in_one_file_and_in_several_and_what_tempts(rule_page: Page) -> None:
    if rule_page.code == "GRD000":
        pytest.skip("no program is known to make gradlint fail")
    bad = [case for case in rule_page.cases if case.verdict == "bad"]
    modules = [sum(name.endswith(".py") for name in case.files) for case in bad]
    assert 1 in modules and max(modules) > 1
    assert any(case.section.startswith("When it stays silent") and case.verdict == "good" for case in rule_page.cases)
    sections = {case.section for case in bad if case.section.startswith("Examples")}
    good = {case.section for case in rule_page.cases if case.verdict == "good"}
    if rule_page.code != "GRD001":
        assert sections <= good, "every example shows how it is done right"


def test_page_and_module_agree(rule_page: Page) -> None:
    (spec,) = [spec for spec in specs() if spec.code == rule_page.code]
    assert spec.name == rule_page.name
    shows_fix = any(case.fixes is not None for case in rule_page.cases)
    assert shows_fix == (spec.fix != "none"), f"the fix is {spec.fix} in the module"


def test_every_rule_has_its_page() -> None:
    assert {path.stem for path in find_pages(RULES)} == {f"{spec.code}-{spec.name}" for spec in specs()}


def test_module_is_named_like_its_page() -> None:
    for rule in all_rules():
        stem = f"{rule.spec.code.lower()}_{rule.spec.name.replace('-', '_')}"
        assert rule.__module__ == f"gradlint.rules.{stem}"


def test_index_is_up_to_date() -> None:
    readme = (RULES / "README.md").read_text(encoding="utf-8")
    assert updated(readme, RULES) == readme, "python -m gradlint.testing.docs writes it"
