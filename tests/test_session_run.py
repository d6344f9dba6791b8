"""A run from paths to a report, over an analysis of our own making that knows one thing: what a call of ``detach`` is."""

from __future__ import annotations

import ast
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

import gradlint.flow
import gradlint.rules
import gradlint.session.judge
import gradlint.session.repair
import gradlint.session.run
import gradlint.syntax.check
from gradlint.core import Claim, Confidence, Edit, Finding, Fix, Group, RuleSpec, Safety, Severity, Step
from gradlint.flow.facts import Fact, Severed
from gradlint.session import (
    Config,
    ConfigError,
    Fixing,
    MissingPath,
    Report,
    add_ignores,
    analyze,
    load_config,
    prune_baseline,
    write_baseline,
)
from gradlint.session import cache as cache_module
from gradlint.survey.source import Problem, SourceFile

DETACH = RuleSpec("GRD102", "detach-on-loss-path", Group.GRAPH, Severity.ERROR, Safety.UNSAFE)
DATA = RuleSpec("GRD104", "data-on-loss-path", Group.GRAPH, Severity.ERROR, Safety.SAFE)
OWN = (
    RuleSpec("GRD000", "internal-error", Group.OWN, Severity.WARNING),
    RuleSpec("GRD001", "syntax-error", Group.OWN, Severity.ERROR),
    RuleSpec("GRD002", "unused-suppression", Group.OWN, Severity.WARNING, Safety.SAFE),
    RuleSpec("GRD003", "invalid-suppression", Group.OWN, Severity.WARNING),
)


class DetachRule:
    spec = DETACH
    facts: ClassVar = (Severed,)


class DataRule:
    spec = DATA
    facts: ClassVar = (Severed,)


@dataclass
class Analysis:
    facts: tuple[Fact, ...]
    problems: tuple[Problem, ...] = ()


@dataclass
class Engine:
    """Stands in for the layers below: every ``x.detach()`` and ``x.data`` is a cut; calls are counted."""

    seen: list[list[str]] = field(default_factory=list)
    confidence: Confidence = Confidence.HIGH
    fail_in: str = ""
    problems: tuple[Problem, ...] = ()
    break_fix: bool = False

    def flow(self, files: Sequence[SourceFile], knowledge: Any, **_: Any) -> Analysis:
        self.seen.append([file.path for file in files])
        if self.fail_in == "flow":
            raise RuntimeError("lost the thread")
        facts: list[Fact] = []
        for file in files:
            assert file.tree is not None
            for node in ast.walk(file.tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "detach":
                    span = file.span(node)
                    facts.append(
                        Severed(
                            span, self.confidence, (Step(span, "cut"),), "detach", "call", ".detach()", ("m",), "loss", span
                        )
                    )
                elif isinstance(node, ast.Attribute) and node.attr == "data":
                    span = file.span(node)
                    facts.append(Severed(span, self.confidence, (), "data", "attribute", ".data", ("m",), "loss", span))
        return Analysis(tuple(facts), self.problems)

    def check(self, source: SourceFile, facts: Sequence[Fact], rules: Sequence[Any]) -> list[Finding]:
        found: list[Finding] = []
        for rule in rules:
            if self.fail_in == rule.spec.code:
                raise ValueError("no such node")
            for fact in facts:
                assert isinstance(fact, Severed)
                if fact.cut != {"GRD102": "detach", "GRD104": "data"}[rule.spec.code]:
                    continue
                line = source.lines[fact.span.line - 1]
                kept = line[fact.span.column - 1 : fact.span.end_column - 1].removesuffix(".detach()").removesuffix(".data")
                fix = Fix("Remove", (Edit(fact.span, "((" if self.break_fix else kept),), rule.spec.fix)
                claim = Claim("flow", "starved", ("m",), fact.span)
                found.append(
                    Finding(
                        rule.spec.code,
                        rule.spec.name,
                        "cut",
                        rule.spec.severity,
                        fact.confidence,
                        fact.span,
                        fact.path,
                        "",
                        claim,
                        fix,
                    )
                )
        return found


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(gradlint.flow, "analyze", engine.flow, raising=False)
    monkeypatch.setattr(gradlint.syntax.check, "check_file", engine.check)
    monkeypatch.setattr(gradlint.rules, "all_rules", lambda: (DetachRule, DataRule))
    for module in (gradlint.session.run, gradlint.session.judge):
        monkeypatch.setattr(module, "specs", lambda: (*OWN, DETACH, DATA))
    return engine


Check = Callable[..., Report]


@pytest.fixture
def project(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'p'\n")
    return tmp_path


def write(project: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = project / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def check(*paths: str, settings: Sequence[str] = (), **options: Any) -> Report:
    config = load_config(paths, overrides=settings)
    return analyze(paths, config, **{"use_cache": False, **options})


def places(report: Report) -> list[tuple[str, int, str]]:
    return [(finding.span.file, finding.span.line, finding.code) for finding in report.findings]


def test_findings_are_sorted_and_told_by_shown_path(project: Path) -> None:
    write(project, b="y = x.detach()\nz = x.data\n", a="x = 1\ny = x.detach() + x.detach()\n")
    report = check()
    assert places(report) == [("a.py", 2, "GRD102"), ("a.py", 2, "GRD102"), ("b.py", 1, "GRD102"), ("b.py", 2, "GRD104")]
    assert report.files == ("a.py", "b.py")
    assert report.exit_code == 1
    assert dict(report.counts) == {"GRD102": 3, "GRD104": 1}
    assert len(set(report.fingerprints.values())) == 4
    assert report.sources["a.py"].lines[0] == "x = 1"
    assert report.root == project


def test_a_clean_project(project: Path) -> None:
    write(project, a="x = 1\n")
    report = check()
    assert (report.findings, report.exit_code, report.notes) == ((), 0, ())


def test_nothing_to_check_is_a_warning(project: Path) -> None:
    report = check()
    assert report.exit_code == 0
    assert [note.level for note in report.notes] == ["warning"]


def test_a_missing_path(project: Path) -> None:
    with pytest.raises(MissingPath):
        check("nowhere.py")


def test_only_what_was_passed_is_reported_with_the_rest_read(project: Path, engine: Engine) -> None:
    write(project, model="y = x.detach()\n", train="import model\nz = x.detach()\n", unrelated="import os\nw = x.detach()\n")
    report = check("train.py")
    assert places(report) == [("train.py", 2, "GRD102")]
    assert engine.seen == [["model.py", "train.py"]], "what no import joins to it is not parsed"
    assert report.files == ("train.py",)


def test_syntax_errors_and_the_rest_still_checked(project: Path) -> None:
    write(project, bad="x = (\ny = 1\n", good="y = x.detach()\n")
    (project / "bin.py").write_bytes(b"\0\1")
    report = check()
    assert places(report) == [("bad.py", 1, "GRD001"), ("bin.py", 1, "GRD001"), ("good.py", 1, "GRD102")]
    assert "never closed" in report.findings[0].message


def test_selection_of_rules(project: Path) -> None:
    write(project, a="y = x.detach()\nz = x.data\n")
    assert [code for *_, code in places(check(settings=['select=["GRD104"]']))] == ["GRD104"]
    assert [code for *_, code in places(check(settings=['ignore=["detach-on-loss-path"]']))] == ["GRD104"]
    assert [code for *_, code in places(check(settings=['ignore=["GRD1"]', 'extend-select=["GRD102"]']))] == ["GRD102"]
    with pytest.raises(ConfigError, match=r"unknown rule GRD14 in select; did you mean GRD104\?"):
        check(settings=['select=["GRD14"]'])


def test_severity_and_confidence(project: Path, engine: Engine) -> None:
    write(project, a="y = x.detach()\n")
    (finding,) = check(settings=['severity={GRD1 = "info"}']).findings
    assert finding.severity is Severity.INFO
    engine.confidence = Confidence.LOW
    assert check().findings == ()
    assert len(check(settings=["min-confidence=low"]).findings) == 1


def test_per_file_ignores(project: Path) -> None:
    write(project, tests__a="y = x.detach()\nz = x.data\n", src__b="y = x.detach()\n")
    report = check(settings=['per-file-ignores={"tests/**" = ["GRD102"]}'])
    assert places(report) == [("src/b.py", 1, "GRD102"), ("tests/a.py", 2, "GRD104")]


def test_overlays_win_over_the_disk(project: Path) -> None:
    write(project, a="y = x.detach()\n")
    assert check(overlay={project / "a.py": "y = x\n"}).findings == ()
    report = check("new.py", overlay={project / "new.py": "y = x.detach()\n"})
    assert places(report) == [("new.py", 1, "GRD102")]


def test_suppressions(project: Path) -> None:
    write(
        project,
        a="y = x.detach()  # gradlint: ignore[GRD102] -- on purpose\nz = x.data  # gradlint: ignore[GRD102]\nw = x.detach()\n",
    )
    report = check()
    assert places(report) == [("a.py", 2, "GRD104"), ("a.py", 2, "GRD002"), ("a.py", 3, "GRD102")]
    assert report.suppressed == 1


def test_a_suppression_of_a_rule_that_did_not_run_is_not_unused(project: Path) -> None:
    write(project, a="z = x  # gradlint: ignore[GRD102]\n")
    assert [code for *_, code in places(check())] == ["GRD002"]
    assert check(settings=['select=["GRD104", "GRD002"]']).findings == ()
    assert check(settings=['per-file-ignores={"a.py" = ["GRD102"]}']).findings == ()


def test_a_suppression_in_a_file_that_was_read_in_part_is_not_unused(project: Path) -> None:
    write(project, a="z = x  # gradlint: ignore[GRD102]\nw = (\n")
    assert [code for *_, code in places(check())] == ["GRD001"]


# When something breaks


def test_an_analysis_that_fails_is_told_and_ends_in_2(project: Path, engine: Engine) -> None:
    write(project, a="y = x.detach()\n", bad="x = (\n")
    engine.fail_in = "flow"
    report = check()
    assert places(report) == [("bad.py", 1, "GRD001")]
    (note,) = report.notes
    assert note.level == "error"
    assert "RuntimeError: lost the thread" in note.message
    assert report.exit_code == 2


def test_rules_that_fail_cost_one_file(project: Path, engine: Engine) -> None:
    write(project, a="y = x.data\n", b="y = x.detach()\n")
    engine.fail_in = "GRD102"
    report = check(settings=['select=["GRD102"]'])
    assert [note.path for note in report.notes] == ["a.py", "b.py"]
    assert "ValueError: no such node" in report.notes[0].message


def test_trouble_in_one_file_is_a_finding(project: Path, engine: Engine) -> None:
    write(project, a="y = 1\n")
    source = SourceFile("a.py", project / "a.py", "y = 1\n", None)
    span = source.span(ast.parse("y = 1").body[0])
    engine.problems = (Problem(span, "This was too much.", "Report it."),)
    report = check()
    assert places(report) == [("a.py", 1, "GRD000")]
    assert report.findings[0].help == "Report it."


# The cache


def test_an_unchanged_project_is_not_analysed_again(project: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, a="import b\ny = x.detach()  # gradlint: ignore[GRD102]\nz = x.data\n", b="w = x.detach()\n")
    first = check(use_cache=True)
    assert not first.cached
    monkeypatch.setattr(ast, "parse", lambda *_: pytest.fail("parsed"))
    second = check(use_cache=True)
    assert second.cached
    assert len(engine.seen) == 1
    assert second.findings == first.findings
    assert second.fingerprints == first.fingerprints
    assert (second.suppressed, second.files) == (1, first.files)
    assert second.sources["b.py"].lines[0] == "w = x.detach()"
    assert (project / ".gradlint_cache/.gitignore").read_text().endswith("*\n")
    assert (project / ".gradlint_cache/CACHEDIR.TAG").is_file()


@pytest.mark.parametrize(
    "change", ["content", "context", "settings", "overlay", "knowledge", "new file", "version", "selection"]
)
def test_whatever_could_matter_makes_a_new_result(
    project: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    write(project, a="import b\ny = x.detach()\n", b="w = 1\n")
    (project / "rows.toml").write_text("")
    settings = ['knowledge=["rows.toml"]']
    check("a.py", use_cache=True, settings=settings)
    assert check("a.py", use_cache=True, settings=settings).cached
    paths, options = ["a.py"], {}
    if change == "content":
        write(project, a="import b\ny = x\n")
    elif change == "context":
        write(project, b="w = 2\n")
    elif change == "settings":
        settings.append("min-confidence=low")
    elif change == "overlay":
        options = {"overlay": {project / "b.py": "w = 3\n"}}
    elif change == "knowledge":
        (project / "rows.toml").write_text("# more\n")
    elif change == "new file":
        write(project, c="import a\n")
    elif change == "version":
        monkeypatch.setattr(cache_module, "__version__", "99")
    else:
        paths.append("b.py")
    assert not check(*paths, use_cache=True, settings=settings, **options).cached


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"findings": 3}', "null", "\0"])
def test_a_broken_cache_is_no_cache(project: Path, damage: str) -> None:
    write(project, a="y = x.detach()\n")
    check(use_cache=True)
    for entry in (project / ".gradlint_cache").glob("*.json"):
        entry.write_text(damage)
    report = check(use_cache=True)
    assert not report.cached
    assert len(report.findings) == 1


def test_a_cache_that_cannot_be_written(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, a="y = x.detach()\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache_module, "write_text", refuse)
    assert len(check(use_cache=True).findings) == 1
    (project / "file").write_text("")
    assert len(check(use_cache=True, settings=["cache-dir=file"]).findings) == 1


def test_results_with_trouble_are_not_kept(project: Path, engine: Engine) -> None:
    write(project, a="y = x.detach()\n")
    engine.fail_in = "flow"
    check(use_cache=True)
    engine.fail_in = ""
    assert len(check(use_cache=True).findings) == 1


def test_cleaning(project: Path) -> None:
    write(project, a="y = 1\n")
    config = load_config(["."])
    check(use_cache=True)
    assert cache_module.clean(config) == [project / ".gradlint_cache"]
    assert not (project / ".gradlint_cache").exists()
    assert cache_module.clean(config) == []
    precious = project / "precious"
    precious.mkdir()
    assert cache_module.clean(load_config(["."], overrides=[f"cache-dir={precious}"])) == []
    assert precious.is_dir(), "only a folder that gradlint made is removed"


def test_only_a_few_results_are_kept(project: Path) -> None:
    for number in range(20):
        write(project, a=f"y = {number}\n")
        check(use_cache=True)
    assert len(list((project / ".gradlint_cache").glob("*.json"))) <= 16


# Fixes


def test_safe_fixes_are_applied(project: Path) -> None:
    write(project, a="y = x.detach()\nz = x.data + w.data\n")
    report = check(fixing=Fixing())
    assert (project / "a.py").read_text() == "y = x.detach()\nz = x + w\n"
    assert places(report) == [("a.py", 1, "GRD102")]
    assert report.fixed == {"a.py": 2}


def test_unsafe_fixes_only_on_request_and_nested_ones_in_rounds(project: Path) -> None:
    write(project, a="y = x.detach().data.detach()\n")
    report = check(fixing=Fixing(unsafe=True))
    assert (project / "a.py").read_text() == "y = x\n"
    assert report.findings == ()
    assert report.fixed == {"a.py": 3}


def test_a_diff_changes_nothing(project: Path) -> None:
    write(project, a="z = x.data\n")
    report = check(fixing=Fixing(write=False))
    assert (project / "a.py").read_text() == "z = x.data\n"
    assert "-z = x.data\n+z = x\n" in report.diff
    assert len(report.findings) == 1
    assert report.changed == {"a.py": "z = x\n"}


def test_fixes_keep_newlines_encoding_and_permissions(project: Path) -> None:
    data = "# coding: latin-1\r\ns = 'é'\r\nz = x.data\r\n".encode("latin-1")
    (project / "a.py").write_bytes(data)
    (project / "b.py").write_bytes(b"\xef\xbb\xbfz = x.data\n")
    (project / "a.py").chmod(0o755)
    check(fixing=Fixing())
    assert (project / "a.py").read_bytes() == data.replace(b".data", b"")
    assert (project / "a.py").stat().st_mode & 0o777 == 0o755
    assert (project / "b.py").read_bytes() == b"\xef\xbb\xbfz = x\n"
    assert not [path for path in project.iterdir() if path.name.startswith(".a")]


def test_fixes_honour_suppressions_and_the_baseline(project: Path) -> None:
    text = "z = x.data  # gradlint: ignore[GRD104]\n"
    write(project, a=text, b="z = x.data\n")
    write_baseline(["b.py"], load_config(["."]), project / "base.json")
    check(fixing=Fixing(), settings=["baseline=base.json"])
    assert (project / "a.py").read_text() == text
    assert (project / "b.py").read_text() == "z = x.data\n"


def test_unused_suppressions_are_removed(project: Path) -> None:
    write(
        project,
        a="# gradlint: ignore[GRD104]\nz = x  # gradlint: ignore[GRD102, GRD104] -- why\n"
        "y = x.detach()  # gradlint: ignore[GRD102, GRD104]\n",
    )
    check(fixing=Fixing())
    assert (project / "a.py").read_text() == "z = x\ny = x.detach()  # gradlint: ignore[GRD102]\n"


def test_a_fix_that_breaks_the_file_is_dropped_and_said(project: Path, engine: Engine) -> None:
    write(project, a="z = x.data\n")
    engine.break_fix = True
    report = check(fixing=Fixing())
    assert (project / "a.py").read_text() == "z = x.data\n"
    assert [note.path for note in report.notes] == ["a.py:1:5"]
    assert len(report.findings) == 1


def test_files_that_were_not_read_whole_are_not_fixed(project: Path) -> None:
    write(project, a="z = x.data\nw = (\n")
    report = check(fixing=Fixing())
    assert (project / "a.py").read_text() == "z = x.data\nw = (\n"
    assert [note.path for note in report.notes] == ["a.py"]


def test_fixes_that_go_round_in_circles_end(project: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, a="z = x.data\n")

    def swap(source: SourceFile, facts: Sequence[Fact], rules: Sequence[Any]) -> list[Finding]:
        found = engine.check(source, facts, rules)
        flip = "(x).data" if "(x)" not in source.text else "x.data"
        return [
            Finding(
                f.code, f.name, f.message, f.severity, f.confidence, f.span, fix=Fix("", (Edit(f.span, flip),), Safety.SAFE)
            )
            for f in found
        ]

    monkeypatch.setattr(gradlint.syntax.check, "check_file", swap)
    report = check(fixing=Fixing())
    assert [note.message for note in report.notes if "did not come to rest" in note.message]


def test_an_overlay_is_fixed_in_the_report_only(project: Path) -> None:
    write(project, a="x = 1\n")
    report = check("a.py", overlay={project / "a.py": "z = x.data\n"}, fixing=Fixing())
    assert report.changed == {"a.py": "z = x\n"}
    assert (project / "a.py").read_text() == "x = 1\n"


def test_notebooks_are_fixed_in_their_cells(project: Path) -> None:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# x.data"]},
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": ["%magic\n", "z = x.data\n", "w = 1"],
        },
    ]
    text = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}, indent=2)
    (project / "n.ipynb").write_text(text)
    report = check("n.ipynb", fixing=Fixing())
    assert report.fixed == {"n.ipynb": 1}
    assert (project / "n.ipynb").read_text() == text.replace("z = x.data\\n", "z = x\\n")


def test_a_file_that_cannot_be_written_is_an_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, a="z = x.data\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(gradlint.session.repair, "write_source", refuse)
    report = check(fixing=Fixing())
    assert report.exit_code == 2
    assert "Permission denied" in report.notes[0].message


# Baseline and added comments


def test_a_baseline_silences_what_was_there_though_lines_move(project: Path) -> None:
    write(project, a="def f(x):\n    y = x.detach()\n    return y\n")
    config = load_config(["."])
    assert write_baseline(["."], config, project / "base.json") == 1
    write(
        project,
        a="import os\n\n\ndef f(x):\n    y  =  x.detach()  # gone over\n    y = x.detach()\n    return y\n\n\n"
        "def g(x):\n    y = x.detach()\n",
    )
    report = check(settings=["baseline=base.json"])
    assert places(report) == [("a.py", 6, "GRD102"), ("a.py", 11, "GRD102")], "a second one is new, and one in another function"
    assert report.baselined == 1


def test_stale_entries_are_said_and_pruned(project: Path) -> None:
    write(project, a="y = x.detach()\n", b="y = x.detach()\n", c="y = x.detach()\n")
    config = load_config(["."])
    base = project / "base.json"
    assert write_baseline(["."], config, base) == 3
    write(project, a="y = x\n")
    (project / "c.py").unlink()
    report = check(settings=["baseline=base.json"])
    assert report.findings == ()
    assert report.stale == (
        "a.py: GRD102 detach-on-loss-path: y = x.detach()",
        "c.py: GRD102 detach-on-loss-path: y = x.detach()",
    )
    assert check("b.py", settings=["baseline=base.json"]).stale == report.stale[1:], (
        "of files that were not checked, nothing is known"
    )
    assert [entry.path for entry in prune_baseline(["."], config, base)] == ["a.py", "c.py"]
    assert check(settings=["baseline=base.json"]).stale == ()
    assert [row["path"] for row in json.loads(base.read_text())["findings"]] == ["b.py"]


@pytest.mark.parametrize("text", ["", "{}", '{"version": 9, "findings": []}', '{"version": 1, "findings": [3]}'])
def test_a_broken_baseline_is_a_mistake_in_the_settings(project: Path, text: str) -> None:
    write(project, a="y = 1\n")
    (project / "base.json").write_text(text)
    with pytest.raises(ConfigError, match=r"base\.json"):
        check(settings=["baseline=base.json"])
    with pytest.raises(ConfigError, match="cannot be read"):
        check(settings=["baseline=none.json"])


def test_ignores_are_added(project: Path) -> None:
    write(project, a="y = f(\n    x.detach(),\n    x.data,\n)\nz = x.detach()  # gradlint: ignore[GRD104]\n")
    silenced, notes = add_ignores(["."], load_config(["."]), reason="later")
    assert (silenced, notes) == (3, [])
    assert (project / "a.py").read_text() == (
        "y = f(\n    x.detach(),\n    x.data,\n)  # gradlint: ignore[GRD102, GRD104] -- later\n"
        "z = x.detach()  # gradlint: ignore[GRD104, GRD102]\n"
    )
    assert [code for *_, code in places(check())] == ["GRD002"]


# Manners


def test_the_collector_is_as_it_was(project: Path) -> None:
    write(project, a="y = 1\n")
    check()
    assert gc.isenabled()


def test_no_libcst_for_a_clean_project(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    code = (
        "import sys, types, gradlint.flow\n"
        "gradlint.flow.analyze = lambda files, knowledge: types.SimpleNamespace(facts=(), problems=())\n"
        "from gradlint.session import analyze, load_config\n"
        "report = analyze(['.'], load_config(['.']), use_cache=False)\n"
        "assert report.files == ('a.py',) and not report.findings, report\n"
        "for name in ('libcst', 'pathspec', 'torch'):\n"
        "    assert name not in sys.modules, name\n"
    )
    root = Path(gradlint.flow.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_defaults_need_no_settings_file(project: Path) -> None:
    write(project, a="y = x.detach()\n")
    assert len(analyze(["a.py"], Config(root=project), use_cache=False).findings) == 1
