"""Every output format, read back the way its readers read it."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gradlint.core import Claim, Confidence, Edit, Finding, Fix, Safety, Severity, Span, Step
from gradlint.reporters import FORMATS, HUMAN, render
from gradlint.reporters.style import Style, text_width
from gradlint.session.report import Note, Report
from gradlint.survey.notebooks import CellMap
from gradlint.survey.source import SourceFile

PLAIN = Style(color=False, unicode=True, width=100)
ANSI = re.compile(r"\x1b\[[\d;]*m")

TRAIN = """\
import torch
from net import Net

model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for images, labels in loader:
    loss = criterion(model(images), labels)
    loss.backward()
    optimizer.step()
"""

NET = """\
from torch import nn


class Net(nn.Module):
    def forward(self, x):
        names = {"🙂": "日本", "key": self.encoder(x).detach()}
        return self.head(names["key"])
"""

CUT = NET.splitlines()[5]
BEGIN, END = CUT.index("self.encoder") + 1, CUT.index(".detach()") + len(".detach()") + 1


def severed(file: str = "src/net.py", **changes: Any) -> Finding:
    span = Span(file, 6, BEGIN, 6, END)
    finding = Finding(
        "GRD102",
        "detach-on-loss-path",
        "`.detach()` cuts the only way from the loss to `Net.encoder`, which therefore never learns.",
        Severity.ERROR,
        Confidence.HIGH,
        span,
        path=(
            Step(Span("train.py", 8, 5, 8, 20), "the loss is back-propagated"),
            Step(Span("train.py", 7, 22, 7, 35), "the loss is computed from `model(images)`"),
            Step(span, "the gradient stops here"),
        ),
        help="Drop `.detach()` if the encoder should train.",
        claim=Claim("flow", "starved", ("Net.encoder",), span),
        fix=Fix("Drop `.detach()`", (Edit(Span(file, 6, END - 9, 6, END), ""),), Safety.UNSAFE),
    )
    return replace(finding, **changes)


def uncalled(cell: bool = False) -> Finding:
    file, line = ("notes.ipynb", 5) if cell else ("train.py", 9)
    return Finding(
        "GRD208",
        "uncalled-method",
        "`model.eval` is named, not called.",
        Severity.WARNING,
        Confidence.MEDIUM,
        Span(file, line, 1, line, 11),
        fix=Fix("Add `()`", (Edit(Span(file, line, 11, line, 11), "()"),), Safety.SAFE),
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    return tmp_path


def source(root: Path, path: str, text: str, notebook: CellMap | None = None) -> SourceFile:
    return SourceFile(path, root / path, text, None, (), notebook)


def a_report(root: Path, *findings: Finding, notes: tuple[Note, ...] = ()) -> Report:
    notebook = "import torch\nx = 1\n\nmodel = build()\nmodel.eval\ny = 2"
    sources = {
        "train.py": source(root, "train.py", TRAIN),
        "src/net.py": source(root, "src/net.py", NET),
        "notes.ipynb": source(root, "notes.ipynb", notebook, CellMap((1, 4), (2, 4))),
    }
    fingerprints = {finding: f"{number:016x}" for number, finding in enumerate(findings, 1)}
    return Report(tuple(findings), tuple(sorted(sources)), root, notes, sources=sources, fingerprints=fingerprints)


@pytest.fixture
def report(root: Path) -> Report:
    return a_report(root, uncalled(cell=True), severed())


def test_every_format_takes_a_clean_report_and_findings_without_source(root: Path) -> None:
    clean = Report((), (), root)
    lost = Report((severed("elsewhere.py"), uncalled()), (), root)
    for name in FORMATS:
        assert isinstance(render(name, clean, PLAIN), str)
        text = render(name, lost, PLAIN)
        assert text.endswith("\n"), name
        assert "GRD102" in text or (name == "gitlab" and "detach-on-loss-path" in text), name


@pytest.mark.parametrize("name", FORMATS)
def test_only_people_get_color(name: str, report: Report) -> None:
    colored = render(name, report, Style(color=True))
    assert ("\x1b[" in colored) == (name in HUMAN)
    assert ANSI.sub("", colored) == render(name, report, Style(color=False))


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_beyond_ascii_is_added_where_it_cannot_be_shown(name: str, report: Report) -> None:
    text = render(name, report, Style(unicode=False))
    if name in ("json", "json-lines", "sarif", "gitlab", "junit", "lsp", "rdjson"):
        assert text.isascii()
    # The frames show the file's own characters, and nothing else that is not ASCII.
    assert set(re.findall(r"[^\x00-\x7f]", text)) <= set(NET)


# --- json ---------------------------------------------------------------------------------------------------------------------


def test_json_rows(report: Report) -> None:
    first, second = json.loads(render("json", report, PLAIN))
    assert {
        key: second[key] for key in ("code", "name", "severity", "confidence", "filename", "verdict", "schema_version")
    } == {
        "code": "GRD102",
        "name": "detach-on-loss-path",
        "severity": "error",
        "confidence": "high",
        "filename": "src/net.py",
        "verdict": None,
        "schema_version": 1,
    }
    assert second["message"].startswith("`.detach()` cuts")
    assert second["help"] == "Drop `.detach()` if the encoder should train."
    assert second["location"] == {"row": 6, "column": BEGIN}
    assert second["end_location"] == {"row": 6, "column": END}
    assert second["cell"] is None
    assert second["noqa_row"] == 6
    assert second["fingerprint"] == "0000000000000002"
    assert second["url"].endswith("GRD102-detach-on-loss-path")
    assert [(step["filename"], step["location"]["row"], step["text"]) for step in second["path"]] == [
        ("train.py", 8, "the loss is back-propagated"),
        ("train.py", 7, "the loss is computed from `model(images)`"),
        ("src/net.py", 6, "the gradient stops here"),
    ]
    assert second["claim"]["probe"] == "flow"
    assert second["claim"]["kind"] == "starved"
    assert second["claim"]["subjects"] == ["Net.encoder"]
    assert second["claim"]["site"]["location"] == {"row": 6, "column": BEGIN}
    assert second["fix"]["applicability"] == "unsafe"
    assert second["fix"]["message"] == "Drop `.detach()`"
    assert second["fix"]["edits"][0]["location"] == {"row": 6, "column": END - 9}
    assert second["fix"]["edits"][0]["content"] == ""
    assert (first["cell"], first["location"], first["noqa_row"]) == (4, {"row": 2, "column": 1}, 2)
    assert first["fix"]["applicability"] == "safe"
    assert first["fix"]["edits"][0] == {
        "filename": "notes.ipynb",
        "cell": 4,
        "location": {"row": 2, "column": 11},
        "end_location": {"row": 2, "column": 11},
        "content": "()",
    }
    assert first["claim"] is None
    assert first["path"] == []


def test_json_of_a_clean_run_is_an_empty_array(root: Path) -> None:
    assert json.loads(render("json", Report((), (), root), PLAIN)) == []


def test_json_lines_has_the_same_rows(report: Report) -> None:
    text = render("json-lines", report, PLAIN)
    assert [json.loads(line) for line in text.splitlines()] == json.loads(render("json", report, PLAIN))
    assert render("json-lines", replace(report, findings=()), PLAIN) == ""


# --- sarif --------------------------------------------------------------------------------------------------------------------


def schemas() -> list[Path]:
    """The strict subset beside these tests, and the standard's own schema where ``GRADLINT_SARIF_SCHEMA`` says where it is."""
    full = os.environ.get("GRADLINT_SARIF_SCHEMA")
    return [Path(__file__).parent / "data" / "sarif_subset.schema.json", *([Path(full)] if full else [])]


@pytest.mark.parametrize("schema", schemas(), ids=lambda path: path.name)
def test_sarif_keeps_to_the_schema(schema: Path, root: Path) -> None:
    notes = (Note("warning", "cannot be read: permission denied", "locked"), Note("error", "the baseline cannot be read"))
    for findings in ((), (uncalled(cell=True), severed(), severed("elsewhere.py"))):
        log = json.loads(render("sarif", a_report(root, *findings, notes=notes), PLAIN))
        validator = jsonschema.validators.validator_for(json.loads(schema.read_text()))
        errors = list(validator(json.loads(schema.read_text()), format_checker=jsonschema.FormatChecker()).iter_errors(log))
        assert not errors, errors[0]


def test_sarif_tells_code_scanning_what_it_reads(root: Path) -> None:
    unsure = severed(confidence=Confidence.MEDIUM)
    report = a_report(root, uncalled(cell=True), severed(), unsure)
    (run,) = json.loads(render("sarif", report, PLAIN))["runs"]
    assert run["automationDetails"]["id"].endswith("/")
    assert run["columnKind"] == "unicodeCodePoints"
    assert run["originalUriBaseIds"]["SRCROOT"]["uri"] == root.as_uri() + "/"
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["GRD102", "GRD208"]
    assert rules[0]["properties"]["precision"] == "medium", "a rule is as precise as its least certain finding"
    assert rules[0]["properties"]["problem.severity"] == "error"
    assert rules[0]["defaultConfiguration"]["level"] == "error"
    notebook, cut, _ = run["results"]
    assert rules[cut["ruleIndex"]]["id"] == cut["ruleId"] == "GRD102"
    assert cut["level"] == "error"
    assert cut["partialFingerprints"] == {"primaryLocationLineHash": "0000000000000002:1"}
    physical = cut["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"] == {"uri": "src/net.py", "uriBaseId": "SRCROOT"}
    assert physical["region"] == {"startLine": 6, "startColumn": BEGIN, "endLine": 6, "endColumn": END}
    steps = cut["codeFlows"][0]["threadFlows"][0]["locations"]
    assert [step["location"]["message"]["text"] for step in steps] == [step.text for step in severed().path]
    assert [step["location"]["physicalLocation"]["artifactLocation"]["uri"] for step in steps] == [
        "train.py",
        "train.py",
        "src/net.py",
    ]
    assert [related["id"] for related in cut["relatedLocations"]] == [1, 2, 3]
    (replacement,) = cut["fixes"][0]["artifactChanges"][0]["replacements"]
    assert replacement["deletedRegion"]["startColumn"] == END - 9
    assert notebook["locations"][0]["logicalLocations"] == [{"name": "cell 4", "kind": "module"}]
    assert "codeFlows" not in notebook


def test_sarif_help_is_the_rules_page(report: Report) -> None:
    (run,) = json.loads(render("sarif", report, PLAIN))["runs"]
    rule = next(rule for rule in run["tool"]["driver"]["rules"] if rule["id"] == "GRD102")
    assert rule["help"]["markdown"].startswith("# GRD102 detach-on-loss-path")
    assert "# expect:" not in rule["help"]["markdown"]
    assert not re.search(r"^```python .", rule["help"]["markdown"], re.MULTILINE)
    assert 0 < len(rule["fullDescription"]["text"]) <= 1024
    assert rule["help"]["text"]


def test_sarif_paths_count_from_the_repository_not_from_the_project(root: Path) -> None:
    project = root / "services" / "a b"
    (finding,) = (severed("net.py"),)
    report = Report((finding,), ("net.py",), project, sources={"net.py": source(project, "net.py", NET)})
    (run,) = json.loads(render("sarif", report, PLAIN))["runs"]
    location = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location["uri"] == "services/a%20b/net.py"


def test_sarif_says_whether_the_run_succeeded(root: Path) -> None:
    (run,) = json.loads(render("sarif", a_report(root, notes=(Note("error", "no such file", "x.py"),)), PLAIN))["runs"]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["level"] == "error"


# --- services -----------------------------------------------------------------------------------------------------------------

ANNOTATION = re.compile(r"::(error|warning|notice) ([^:]*(?:::)?[^:]*?)::(.*)")


def annotations(text: str) -> list[tuple[str, dict[str, str], str]]:
    found = [ANNOTATION.fullmatch(line) for line in text.splitlines() if line.startswith("::")]
    assert all(found)
    return [(m[1], dict(p.split("=", 1) for p in m[2].split(",")), m[3]) for m in found if m]


def test_github_annotations(report: Report) -> None:
    (cut, notebook) = annotations(render("github", report, PLAIN))
    assert cut[0] == "error"
    assert cut[1] == {
        "title": "GRD102 detach-on-loss-path",
        "file": "src/net.py",
        "line": "6",
        "endLine": "6",
        "col": str(BEGIN),
        "endColumn": str(END),
    }
    assert cut[2].endswith("%0ADrop `.detach()` if the encoder should train.")
    assert notebook[0] == "warning"
    assert notebook[2].startswith("cell 4: ")


def test_github_escapes_what_would_end_a_command(root: Path) -> None:
    finding = severed("a,b:c.py", message="100%\nsure", help="")
    text = render("github", a_report(root, finding), PLAIN)
    assert "file=a%2Cb%3Ac.py," in text
    assert text.endswith("::100%25%0Asure\n")


def test_github_shows_the_worst_ten_of_a_level_and_says_how_many_more(root: Path) -> None:
    errors = [severed(span=Span("src/net.py", n, 1, n, 2), confidence=Confidence.MEDIUM) for n in range(1, 13)]
    sure = severed(span=Span("src/net.py", 99, 1, 99, 2))
    warnings = [replace(uncalled(), span=Span("train.py", n, 1, n, 2)) for n in range(1, 12)]
    text = render("github", a_report(root, *errors, sure, *warnings), PLAIN)
    shown = annotations(text)
    assert [kind for kind, _, _ in shown].count("error") == 10
    assert [kind for kind, _, _ in shown].count("warning") == 10
    assert shown[0][1]["line"] == "99", "the surest comes first"
    assert shown[-1][0] == "notice"
    assert shown[-1][2] == "4 more findings are in the log of this step"
    plain = [line for line in text.splitlines() if not line.startswith("::")]
    assert len(plain) == 4
    assert plain[0].startswith("src/net.py:10:1: GRD102 ")


def test_gitlab_code_quality(report: Report) -> None:
    notebook, cut = json.loads(render("gitlab", report, PLAIN))
    assert cut["check_name"] == "detach-on-loss-path"
    assert cut["severity"] == "critical"
    assert cut["location"] == {"path": "src/net.py", "lines": {"begin": 6, "end": 6}}
    assert cut["fingerprint"] == "0000000000000002"
    assert cut["description"].startswith("GRD102 `.detach()`")
    assert notebook["severity"] in ("info", "minor", "major", "critical", "blocker")


def test_gitlab_fingerprints_are_never_the_same(root: Path) -> None:
    same = [severed(), severed(span=Span("src/net.py", 7, 1, 7, 2)), severed(span=Span("src/net.py", 7, 3, 7, 4))]
    report = replace(a_report(root, *same), fingerprints=dict.fromkeys(same, "abc"))
    assert len({entry["fingerprint"] for entry in json.loads(render("gitlab", report, PLAIN))}) == 3
    unnamed = replace(report, fingerprints={})
    assert len({entry["fingerprint"] for entry in json.loads(render("gitlab", unnamed, PLAIN))}) == 3


def test_junit(root: Path) -> None:
    control = severed(message="strange \x00 and \x1b <b> & \ud800")
    report = a_report(root, uncalled(cell=True), control, notes=(Note("error", "cannot be read", "x.py"), Note("info", "fine")))
    tree = ET.fromstring(render("junit", report, PLAIN).encode("utf-8"))
    assert tree.tag == "testsuites"
    assert (tree.get("tests"), tree.get("failures"), tree.get("errors")) == ("4", "2", "1")
    suites = {suite.get("name"): suite for suite in tree}
    assert set(suites) == {"notes.ipynb", "src/net.py", "train.py", "gradlint"}
    assert suites["train.py"].find("testcase/failure") is None
    failure = suites["src/net.py"].find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "strange \ufffd and \ufffd <b> & \ufffd"
    assert "train.py:8:5: the loss is back-propagated" in (failure.text or "")
    error = suites["gradlint"].find("testcase/error")
    assert error is not None
    assert error.get("message") == "cannot be read"


def test_rdjson_counts_bytes(report: Report) -> None:
    result = json.loads(render("rdjson", report, PLAIN))
    assert result["source"]["name"] == "gradlint"
    _, cut = result["diagnostics"]
    column = len(CUT[: BEGIN - 1].encode()) + 1
    assert cut["location"] == {
        "path": "src/net.py",
        "range": {"start": {"line": 6, "column": column}, "end": {"line": 6, "column": column + END - BEGIN}},
    }
    assert cut["code"]["value"] == "GRD102"
    assert cut["severity"] == "ERROR"
    assert cut["suggestions"][0]["text"] == ""


def test_azure_commands(root: Path) -> None:
    text = render("azure", a_report(root, severed(message="50% of\nit"), uncalled()), PLAIN)
    first, second = text.splitlines()
    properties = f"type=error;sourcepath=src/net.py;linenumber=6;columnnumber={BEGIN};code=GRD102;"
    assert first == f"##vso[task.logissue {properties}]50%AZP25 of it"
    assert second.startswith("##vso[task.logissue type=warning;")


def test_lsp_diagnostics(report: Report, root: Path) -> None:
    notebook, net = json.loads(render("lsp", report, PLAIN))
    assert net["uri"] == (root / "src/net.py").as_uri()
    (diagnostic,) = net["diagnostics"]
    # One character before the finding lies outside the basic plane: two UTF-16 units.
    assert diagnostic["range"] == {"start": {"line": 5, "character": BEGIN}, "end": {"line": 5, "character": END}}
    assert len(CUT[: BEGIN - 1].encode("utf-16-le")) // 2 == BEGIN
    assert diagnostic["severity"] == 1
    assert diagnostic["code"] == "GRD102"
    assert diagnostic["codeDescription"]["href"].endswith("GRD102-detach-on-loss-path")
    assert diagnostic["source"] == "gradlint"
    related = diagnostic["relatedInformation"]
    assert [item["message"] for item in related] == [step.text for step in severed().path]
    assert related[0]["location"] == {
        "uri": (root / "train.py").as_uri(),
        "range": {"start": {"line": 7, "character": 4}, "end": {"line": 7, "character": 19}},
    }
    assert diagnostic["data"]["fix"]["applicability"] == "unsafe"
    assert diagnostic["data"]["fingerprint"] == "0000000000000002"
    (cell,) = notebook["diagnostics"]
    assert cell["severity"] == 2
    assert cell["data"]["cell"] == 4
    assert cell["range"]["start"] == {"line": 4, "character": 0}


# --- people -------------------------------------------------------------------------------------------------------------------


def test_concise(report: Report) -> None:
    first, second = render("concise", report, PLAIN).splitlines()
    assert first == "notes.ipynb:cell 4:2:1: GRD208 `model.eval` is named, not called. (medium confidence, fix)"
    assert second.startswith(f"src/net.py:6:{BEGIN}: GRD102 `.detach()` cuts the only way")
    assert second.endswith("(unsafe fix)")


def test_concise_keeps_a_finding_on_one_line(root: Path) -> None:
    assert render("concise", a_report(root, severed(message="two\nlines")), PLAIN).count("\n") == 1


def test_grouped_lists_each_file_once(root: Path) -> None:
    report = a_report(root, severed(span=Span("src/net.py", 5, 3, 5, 4)), severed(), uncalled())
    lines = render("grouped", report, PLAIN).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["src/net.py", "", "train.py"]
    assert lines[1].startswith("   5:3   error    GRD102  ") or lines[1].startswith("   5:3  error    GRD102  ")
    assert lines[2].startswith(f"  6:{BEGIN}  error    GRD102  ")
    assert lines[1].index("GRD102") == lines[2].index("GRD102")


def test_full_tells_the_whole_story(root: Path) -> None:
    expected = f"""\
src/net.py:6:{BEGIN}  error GRD102 detach-on-loss-path
  `.detach()` cuts the only way from the loss to `Net.encoder`, which therefore never learns.
      │
    5 │     def forward(self, x):
    6 │         names = {{"🙂": "日本", "key": self.encoder(x).detach()}}
      │ {" " * (text_width(CUT[: BEGIN - 1]))}^^^^^^^^^^^^^^^^^^^^^^^^
    7 │         return self.head(names["key"])
      │
  the path of the gradient, from the loss to where it ends
    1  train.py:8    the loss is back-propagated
                     loss.backward()
    2  train.py:7    the loss is computed from `model(images)`
                     loss = criterion(model(images), labels)
    3  src/net.py:6  the gradient stops here
                     names = {{"🙂": "日本", "key": self.encoder(x).detach()}}

  help: Drop `.detach()` if the encoder should train.
  fix: Drop `.detach()` (changes training, applied by --fix --unsafe-fixes)
    6 -         names = {{"🙂": "日本", "key": self.encoder(x).detach()}}
    6 +         names = {{"🙂": "日本", "key": self.encoder(x)}}
"""
    assert render("full", a_report(root, severed()), PLAIN) == expected


def test_full_in_a_notebook_stays_in_its_cell(root: Path) -> None:
    text = render("full", a_report(root, replace(uncalled(cell=True), span=Span("notes.ipynb", 4, 1, 4, 6))), PLAIN)
    assert text.startswith("notes.ipynb:cell 4:1:1  warning GRD208 uncalled-method  (medium confidence)\n")
    assert "    1 │ model = build()\n" in text
    assert "x = 1" not in text
    assert "    2 + model.eval()\n" in text


def test_full_leaves_out_the_middle_of_a_long_range(root: Path) -> None:
    text = "def f():\n" + "".join(f"    step_{n}()\n" for n in range(2, 40))
    span = Span("long.py", 1, 1, 39, 13)
    report = Report(
        (severed(span=span, path=(), fix=None),), ("long.py",), root, sources={"long.py": source(root, "long.py", text)}
    )
    shown = render("full", report, PLAIN)
    assert "step_2()" in shown
    assert "step_20()" not in shown
    assert "    … │\n" in shown
    assert "   39 │     step_39()\n" in shown


@pytest.mark.parametrize("width", [60, 80, 140])
def test_full_never_exceeds_the_width(width: int, root: Path) -> None:
    line = "x = [" + "日本, " * 80 + "model.encode(batch).detach(), " + "tail, " * 80 + "]"
    begin = line.index("model.encode") + 1
    span = Span("deep/" + "folder/" * 12 + "wide.py", 1, begin, 1, begin + 29)
    finding = severed(
        span=span,
        message="word " * 60,
        help="word " * 60,
        path=(Step(span, "said " * 40), Step(Span("train.py", 8, 5, 8, 20), "short")),
        fix=Fix("Drop it", (Edit(Span(span.file, 1, begin + 19, 1, begin + 29), ""),), Safety.SAFE),
    )
    report = Report(
        (finding,),
        (span.file,),
        root,
        sources={span.file: source(root, span.file, line), "train.py": source(root, "train.py", TRAIN)},
    )
    shown = render("full", report, Style(width=width))
    # A path is never cut: it is what people click on.
    too_long = [text for text in shown.splitlines() if text_width(text) > width and "wide.py" not in text]
    assert not too_long
    caret = next(text for text in shown.splitlines() if "^" in text)
    above = shown.splitlines()[shown.splitlines().index(caret) - 1]
    before = ""
    for char in above:
        if text_width(before) >= caret.index("^"):
            break
        before += char
    assert above[len(before) :].startswith("model.encode(batch)")


def test_full_shows_a_fix_across_lines_and_files(root: Path) -> None:
    train, net = "train.py", "src/net.py"
    fix = Fix(
        "Move it",
        (
            Edit(Span(train, 5, 1, 6, 1), ""),
            Edit(Span(train, 8, 1, 8, 1), "    pass\n"),
            Edit(Span(net, 1, 1, 1, 1), "import torch\n"),
        ),
        Safety.NONE,
    )
    text = render("full", a_report(root, replace(uncalled(), fix=fix)), PLAIN)
    assert "fix: Move it (to be made by hand)" in text
    assert "    5 - optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n" in text
    assert "    7 +     pass\n" in text
    assert "  src/net.py\n    1 + import torch\n" in text


def test_full_says_how_it_comes_about_where_no_gradient_flows(root: Path) -> None:
    finding = replace(uncalled(), path=(Step(Span("train.py", 5, 1, 5, 10), "the optimizer is built"),))
    assert "  how it comes about\n" in render("full", a_report(root, finding), PLAIN)
