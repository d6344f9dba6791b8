"""Rules are found by lying in their package, and their metadata is read without importing them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import typing
from collections import Counter
from pathlib import Path

import pytest

import gradlint.rules
from gradlint.core import Group, Safety, Severity
from gradlint.flow.facts import FACTS
from gradlint.rules import all_rules, specs

GROUPS = {
    "0": Group.OWN,
    "1": Group.GRAPH,
    "2": Group.MEMBERSHIP,
    "3": Group.STATE,
    "4": Group.STEP,
    "5": Group.LEAK,
    "6": Group.AUTOGRAD,
    "7": Group.PLATFORM,
    "9": Group.CONTRACT,
}


def test_the_two_readings_of_the_metadata_agree() -> None:
    assert tuple(rule.spec for rule in all_rules()) == specs()
    assert [spec.code for spec in specs()] == sorted(spec.code for spec in specs())


def test_codes_and_names_are_unique() -> None:
    for field in ("code", "name"):
        counts = Counter(getattr(spec, field) for spec in specs())
        assert max(counts.values()) == 1, counts


def test_modules_are_named_after_their_rules() -> None:
    for rule in all_rules():
        spec = rule.spec
        assert re.fullmatch(r"GRD\d{3}", spec.code)
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", spec.name)
        assert rule.__module__ == f"gradlint.rules.{spec.code.lower()}_{spec.name.replace('-', '_')}"
        assert f"Page: rules/{spec.code}-{spec.name}.md" in (inspect.getdoc(sys.modules[rule.__module__]) or "")
        assert spec.group is GROUPS[spec.code[3]]
        assert isinstance(spec.severity, Severity) and isinstance(spec.fix, Safety)


def test_every_kind_of_fact_has_a_rule_and_every_rule_of_facts_tells_them() -> None:
    told = {fact for rule in all_rules() for fact in rule.facts}
    assert told == set(FACTS)
    for rule in all_rules():
        assert bool(rule.facts) == ("tell" in vars(rule)), rule
        if rule.facts:
            (base,) = (base for base in rule.__orig_bases__ if typing.get_origin(base))  # type: ignore[attr-defined]
            assert typing.get_args(base) == rule.facts


def test_the_catalogue() -> None:
    expected = """GRD000 GRD001 GRD002 GRD003 GRD101 GRD102 GRD103 GRD104 GRD105 GRD106 GRD107 GRD109 GRD201 GRD202 GRD203
    GRD206 GRD207 GRD208 GRD301 GRD302"""
    assert {spec.code for spec in specs()} >= set(expected.split())
    safety = {spec.code: spec.fix for spec in specs()}
    assert {code for code, fix in safety.items() if fix is Safety.SAFE} >= {"GRD002", "GRD206", "GRD207", "GRD208"}
    assert {"GRD107", "GRD202", "GRD203", "GRD302"} <= {code for code, fix in safety.items() if fix is Safety.NONE}


def test_specs_import_no_libcst() -> None:
    script = "import sys, gradlint.rules; assert gradlint.rules.specs(); print('libcst' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("spec = make()", "assigns no literal"),
        ("spec = RuleSpec('GRD999', name, Group.OWN, Severity.INFO)", "must be written with literals"),
    ],
)
def test_metadata_that_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, reason: str) -> None:
    (tmp_path / "grd999_x_y.py").write_text(body)
    monkeypatch.setattr(gradlint.rules, "__path__", [str(tmp_path)])
    with pytest.raises(LookupError, match=reason):
        gradlint.rules._spec("gradlint.rules.grd999_x_y")


def test_no_message_shouts() -> None:
    for rule in all_rules():
        assert "!" not in inspect.getsource(sys.modules[rule.__module__]).replace("!=", "")
