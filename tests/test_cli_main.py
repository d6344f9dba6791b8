"""The command line over reports made by hand: options, exit codes, streams."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradlint import __version__
from gradlint.cli import check, main
from gradlint.cli.parser import COMMANDS, UsageError, parse
from gradlint.cli.settings import config_of
from gradlint.cli.terminal import progress, style
from gradlint.core import Confidence, Edit, Finding, Fix, Safety, Severity, Span
from gradlint.reporters import FORMATS
from gradlint.session import Config, ConfigError, Fixing, Note, Report
from gradlint.session.config import OUTPUT_FORMATS
from gradlint.survey.source import SourceFile

ROOT = Path(__file__).parent.parent


def a_finding(line: int = 1, safety: Safety = Safety.SAFE, severity: Severity = Severity.WARNING) -> Finding:
    fix = Fix("Add `()`", (Edit(Span("train.py", line, 11, line, 11), "()"),), safety)
    span = Span("train.py", line, 1, line, 11)
    return Finding("GRD208", "uncalled-method", "`model.eval` is named, not called.", severity, Confidence.HIGH, span, fix=fix)


class Session:
    """Stands in for the analysis: remembers how it was asked and answers with a report made by hand."""

    def __init__(self) -> None:
        self.report = Report((), ("train.py",), Path.cwd())
        self.paths: Sequence[str | Path] = ()
        self.config = Config()
        self.overlay: dict[Path, str] = {}
        self.options: dict[str, Any] = {}

    def find(self, *findings: Finding, **more: Any) -> None:
        source = SourceFile("train.py", Path("train.py").absolute(), "model.eval\n" * 60, None)
        self.report = Report(findings, ("train.py",), Path.cwd(), sources={"train.py": source}, **more)

    def analyze(self, paths: Sequence[str | Path], config: Config, overlay: dict[Path, str], **options: Any) -> Report:
        self.paths, self.config, self.overlay, self.options = paths, config, overlay, options
        return self.report


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Session:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    made = Session()
    monkeypatch.setattr(check, "analyze", made.analyze)
    return made


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


# --- commands and exit codes --------------------------------------------------------------------------------------------------


def test_exit_codes(session: Session, run: Run) -> None:
    assert run()[0] == 0
    session.find(a_finding())
    assert run()[0] == 1
    assert run("--exit-zero")[0] == 0
    session.find(a_finding(), notes=(Note("error", "It cannot be read."),))
    assert run()[0] == 2
    assert run("--exit-zero")[0] == 2
    session.find(notes=(Note("warning", "There are no Python files here to check."),))
    code, out, err = run()
    assert (code, out) == (0, "")
    assert "warning: There are no Python files here to check.\n" in err


def test_check_is_what_happens_without_a_command(session: Session, run: Run) -> None:
    session.find(a_finding())
    assert run("train.py") == run("check", "train.py")
    assert session.paths == ("train.py",)
    run("check")
    assert session.paths == ()
    run("check", "a.py", "--no-cache", "b.py", "--select", "GRD1", "c.py")
    assert session.paths == ("a.py", "b.py", "c.py")
    run("--", "-odd.py")
    assert session.paths == ("-odd.py",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--halp"], "gradlint: there is no option --halp; did you mean --help?"),
        (["--min-confidence=hihg"], "gradlint: argument --min-confidence: invalid choice: 'hihg'"),
        (["nowhere.py"], "gradlint: nowhere.py: no such file or folder"),
        (["chekc"], "gradlint: chekc: no such file or folder; did you mean the command check?"),
        (["--quiet", "rule"], "gradlint: rule: no such file or folder; a command comes first: gradlint rule"),
        (["rule", "GRD1O2"], "gradlint: there is no rule GRD1O2; did you mean GRD1"),
        (["rule", "detach-on-los-path"], "gradlint: there is no rule detach-on-los-path; did you mean detach-on-loss-path?"),
        (["config", "selct"], "gradlint: there is no setting selct; did you mean select?"),
        (["--config", "nowhere.toml"], "gradlint: nowhere.toml: the settings cannot be read: no such file or directory"),
        (["--config", "selct=['GRD1']"], "gradlint: --config selct=['GRD1']: unknown key selct; did you mean select?"),
        (["--config", "a.toml", "--config", "b.toml"], "gradlint: there can be one settings file, not 2: a.toml, b.toml"),
        (["--config", "a.toml", "--isolated"], "gradlint: --isolated reads no settings file"),
        (["--per-file-ignores", "GRD102"], "gradlint: --per-file-ignores takes PATTERN:RULE, not GRD102"),
        (["--jobs", "many"], "gradlint: argument --jobs/-j: many is not a number of processes"),
        (["-", "train.py"], "gradlint: standard input (-) is checked alone, without other paths"),
        (["--stdin-filename", "a.py", "b.py"], "gradlint: --stdin-filename names the text on standard input"),
        (["rule", "GRD101", "extra"], "gradlint: unexpected argument extra"),
        (["--write-baseline", "nowhere"], "gradlint: nowhere: no such file or folder"),
        (["baseline", "write", "nowhere"], "gradlint: nowhere: no such file or folder"),
        (["baseline", "prune", "-"], "gradlint: a baseline needs files, not standard input"),
        (["baseline"], "gradlint: the following arguments are required: action"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, run: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message), err
    assert err.count("\n") == 1


def test_a_baseline_that_is_not_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").touch()
    for arguments in (["baseline", "prune"], ["--baseline", "known.json"]):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert "the baseline cannot be read: no such file or directory" in err
        assert err.count("\n") == 1


def test_an_unknown_rule_is_blamed_on_who_named_it(session: Session, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(paths: object, config: Config, *rest: object, **more: object) -> Report:
        raise ConfigError("pyproject.toml: unknown rule GRD999 in select")

    monkeypatch.setattr(check, "analyze", refuse)
    code, _, err = run("--select", "GRD999")
    assert code == 2
    assert err.startswith("gradlint: unknown rule GRD999 in select")
    code, _, err = run("--select", "GRD102")
    assert err.startswith("gradlint: pyproject.toml: unknown rule GRD999 in select")


def test_a_crash_is_one_line_and_verbose_shows_where(session: Session, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> Report:
        raise RuntimeError("the lattice\nis upside down")

    monkeypatch.setattr(check, "analyze", crash)
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err == (
        "gradlint: an error in gradlint itself stopped the run: "
        "RuntimeError: the lattice is upside down (--verbose shows where)\n"
    )
    code, _, err = run("-v")
    assert code == 2
    assert "Traceback" in err
    assert err.endswith("RuntimeError: the lattice is upside down\n")


def test_an_interrupted_run_says_so(session: Session, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "analyze", interrupt)
    assert run() == (2, "", "gradlint: interrupted\n")


def test_help_names_every_command_and_version_the_version(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(f"  {name} " in out for name in COMMANDS)
    assert all(name in out for name in FORMATS)
    assert run("--version") == (0, f"gradlint {__version__}\n", "")
    for command in COMMANDS:
        code, out, _ = run(command, "--help")
        assert code == 0
        assert out.startswith("usage: gradlint")


def test_the_settings_know_the_same_formats() -> None:
    assert set(OUTPUT_FORMATS) == set(FORMATS)


# --- options ------------------------------------------------------------------------------------------------------------------


def settings(*arguments: str) -> Config:
    options = parse(arguments)
    return config_of(options, options.paths)


def test_options_win_over_the_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text(
        '[tool.gradlint]\nselect = ["GRD1"]\nextend-ignore = ["GRD103"]\nmin-confidence = "low"\n'
        'output-format = "json"\nbaseline = "known.json"\nper-file-ignores = { "a.py" = ["GRD101"] }\n'
    )
    file = settings()
    assert file.select == ("GRD1",)
    assert file.min_confidence is Confidence.LOW
    said = settings(
        "--select=GRD2,GRD3",
        "--select",
        "GRD102",
        "--extend-ignore=GRD104",
        "--min-confidence=high",
        "--output-format=sarif",
        "--baseline=other.json",
        "--per-file-ignores=tests/*:GRD102,GRD105,b c.py:detach-on-loss-path",
        "--preview",
        "--force-exclude",
        "--extend-exclude=gen,*.gen.py",
        "--cache-dir=cache",
    )
    assert said.select == ("GRD2", "GRD3", "GRD102")
    assert said.extend_ignore == ("GRD103", "GRD104")
    assert said.min_confidence is Confidence.HIGH
    assert said.output_format == "sarif"
    assert said.baseline == tmp_path / "other.json"
    assert [(entry.pattern, entry.selectors) for entry in said.per_file_ignores] == [
        ("a.py", ("GRD101",)),
        ("tests/*", ("GRD102", "GRD105")),
        ("b c.py", ("detach-on-loss-path",)),
    ]
    assert said.preview
    assert said.force_exclude
    assert said.extend_exclude == ("gen", "*.gen.py")
    assert said.cache_dir == tmp_path / "cache"
    assert file.baseline == tmp_path / "known.json"


def test_config_takes_a_file_and_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.toml").write_text('ignore = ["GRD103"]\n')
    config = settings("--config", "a=b.toml", "--config", 'min-confidence="high"', "--config", "preview=true")
    assert config.ignore == ("GRD103",)
    assert config.min_confidence is Confidence.HIGH
    assert config.preview


def test_isolated_reads_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gradlint.toml").write_text('select = ["GRD1"]\n')
    assert settings("--isolated").select == ("ALL",)
    assert settings().select == ("GRD1",)


def test_an_option_is_never_guessed_from_its_beginning() -> None:
    with pytest.raises(UsageError):
        parse(["--sel", "GRD1"])


def test_the_run_is_asked_for_what_the_options_say(session: Session, run: Run) -> None:
    run("--no-cache", "--jobs", "3")
    assert session.options["use_cache"] is False
    assert session.options["jobs"] == 3
    assert session.options["fixing"] is None
    run("--fix")
    assert session.options["fixing"] == Fixing(unsafe=False, write=True)
    run("--diff", "--unsafe-fixes")
    assert session.options["fixing"] == Fixing(unsafe=True, write=False)
    run("--fix-only")
    assert session.options["fixing"] == Fixing(unsafe=False, write=True)


# --- output -------------------------------------------------------------------------------------------------------------------


def test_results_go_to_stdout_and_the_rest_to_stderr(session: Session, run: Run) -> None:
    session.find(a_finding(), a_finding(2, Safety.UNSAFE, Severity.ERROR), suppressed=2, baselined=1)
    _, out, err = run()
    assert out == (
        "train.py:1:1: GRD208 `model.eval` is named, not called. (fix)\n"
        "train.py:2:1: GRD208 `model.eval` is named, not called. (unsafe fix)\n"
    )
    assert err == (
        "Found 1 error, 1 warning in 1 file of 1 (2 suppressed, 1 in the baseline).\n"
        "1 can be fixed with --fix; 1 can be fixed with --fix --unsafe-fixes; gradlint rule GRD208 explains a rule.\n"
    )
    assert run("--quiet") == (1, out, "")
    session.find()
    assert run() == (0, "", "Nothing found in 1 file.\n")
    assert run("-q") == (0, "", "")


def test_notes(session: Session, run: Run) -> None:
    notes = (Note("info", "Not followed.", "link"), Note("warning", "Left out.", "locked"), Note("error", "Gone."))
    session.find(notes=notes)
    assert run()[2] == "warning: locked: Left out.\nerror: Gone.\n"
    assert run("-v")[2] == "info: link: Not followed.\nwarning: locked: Left out.\nerror: Gone.\n"
    assert run("-q")[2] == "error: Gone.\n"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_be_asked_for(name: str, session: Session, run: Run) -> None:
    session.find(a_finding())
    code, out, _ = run("--output-format", name)
    assert code == 1
    assert "uncalled-method" in out or "GRD208" in out


def test_machine_formats_are_clean_on_both_streams(session: Session, run: Run) -> None:
    session.find(a_finding())
    _, out, err = run("--output-format=json", "--color=always")
    assert json.loads(out)[0]["code"] == "GRD208"
    assert err == ""
    session.find()
    assert json.loads(run("--output-format=json")[1]) == []


def test_full_on_a_terminal_up_to_thirty_findings(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for count, full in ((1, True), (30, True), (31, False)):
        session.find(*map(a_finding, range(1, count + 1)))
        screen = Terminal()
        monkeypatch.setattr(sys, "stdout", screen)
        assert main(["--color=never"]) == 1
        assert ("uncalled-method" in screen.getvalue()) == full
        assert ("help" in screen.getvalue() or "fix: Add" in screen.getvalue()) == full


def test_the_settings_choose_the_format(session: Session, run: Run) -> None:
    Path("gradlint.toml").write_text('output-format = "json-lines"\n')
    session.find(a_finding())
    assert json.loads(run()[1])["code"] == "GRD208"
    assert run("--output-format=concise")[1].startswith("train.py:1:1: ")


def test_output_file(session: Session, run: Run) -> None:
    session.find(replace(a_finding(), message="日本 \ud800"))
    code, out, err = run("--output-format=concise", "--output-file", "report.txt")
    assert (code, out) == (1, "")
    assert Path("report.txt").read_text("utf-8") == "train.py:1:1: GRD208 日本 \\ud800 (fix)\n"
    assert "Found 1 warning" in err
    code, out, err = run("--output-file", "no/such/folder/report.txt")
    assert (code, out) == (2, "")
    assert err.startswith("gradlint: no/such/folder/report.txt: the report cannot be written: ")


def test_statistics(session: Session, run: Run) -> None:
    session.find(*map(a_finding, range(1, 13)), replace(a_finding(), code="GRD102", name="detach-on-loss-path", fix=None))
    assert run("--statistics")[1] == "12  GRD208  uncalled-method  (safe fix)\n 1  GRD102  detach-on-loss-path\n"
    assert json.loads(run("--statistics", "--output-format=json")[1]) == [
        {"code": "GRD208", "name": "uncalled-method", "count": 12, "fix": "safe"},
        {"code": "GRD102", "name": "detach-on-loss-path", "count": 1, "fix": "none"},
    ]


def test_diff_and_fix(session: Session, run: Run) -> None:
    diff = "--- train.py\n+++ train.py\n@@ -1 +1 @@\n-model.eval\n+model.eval()\n"
    session.find(a_finding(), diff=diff, fixed={"train.py": 1})
    assert run("--diff") == (1, diff, "1 finding would be fixed in 1 file.\n")
    assert run("--diff", "--exit-zero")[0] == 0
    painted = run("--diff", "--color=always")[1]
    assert "\x1b[32m+model.eval()" in painted
    session.find(fixed={"train.py": 2})
    assert run("--fix") == (0, "", "Nothing found in 1 file.\n2 findings fixed in 1 file.\n")
    session.find(a_finding(), fixed={"train.py": 2})
    assert run("--fix")[0] == 1
    assert run("--fix-only") == (0, "", "2 findings fixed in 1 file.\n")
    session.find(a_finding())
    assert run("--diff") == (0, "", "Nothing would be fixed.\n")


def test_stale_baseline_entries_are_told(session: Session, run: Run) -> None:
    session.find(stale=("train.py: GRD208 uncalled-method: model.eval",))
    assert run()[2].startswith("1 baseline entry no longer found: gradlint baseline prune\n")
    assert "  train.py: GRD208 uncalled-method: model.eval\n" in run("-v")[2]


# --- standard input -----------------------------------------------------------------------------------------------------------


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input(session: Session, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    feed(monkeypatch, b"\xef\xbb\xbfmodel.eval\n")
    assert run("-")[0] == 0
    assert session.paths == ("-",)
    assert session.overlay == {tmp_path / "-": "model.eval\n"}
    feed(monkeypatch, "# coding: latin-1\n# é\n".encode("latin-1"))
    run("-", "--stdin-filename", "src/train.py")
    assert session.paths == ("src/train.py",)
    assert session.overlay == {tmp_path / "src/train.py": "# coding: latin-1\n# é\n"}
    feed(monkeypatch, b'{"cells": []}')
    run("--stdin-filename", "a.ipynb")
    assert session.overlay == {tmp_path / "a.ipynb": '{"cells": []}'}


def test_fixed_standard_input_goes_to_stdout(session: Session, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    session.find(a_finding(2), fixed={"train.py": 1}, changed={"train.py": "model.eval()\nmodel.eval\n"})
    feed(monkeypatch, b"model.eval\nmodel.eval\n")
    code, out, err = run("-", "--fix")
    assert code == 1
    assert out == "model.eval()\nmodel.eval\n"
    assert "train.py:2:1: GRD208" in err
    session.find()
    feed(monkeypatch, b"x = 1\n")
    assert run("-", "--fix", "-q")[1] == "x = 1\n"


def test_standard_input_that_is_no_text(session: Session, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"\x00\x01\x02")
    code, _, err = run("-")
    assert code == 2
    assert err.startswith("error: -: The file is not Python text")
    feed(monkeypatch, b"x = '\xff'\n")
    code, _, err = run("-")
    assert code == 0
    assert "warning: -: The file is not valid UTF-8: byte 0xff on line 1." in err


@pytest.mark.parametrize("option", ["--add-ignore", "--write-baseline"])
def test_what_needs_files_says_so(option: str, session: Session, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"x\n")
    code, _, err = run("-", option)
    assert code == 2
    assert "need files, not standard input" in err


# --- terminal -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("color", "environment", "terminal", "expected"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "0"}, False, False),
        ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_color(color: str, environment: dict[str, str], terminal: bool, expected: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    assert style(stream, color, environment).color is expected


def test_width_and_unicode() -> None:
    stream = Terminal()
    assert style(stream, "auto", {"COLUMNS": "72"}).width == 72
    assert style(stream, "auto", {"COLUMNS": "10"}).width == 60
    assert style(stream, "auto", {"COLUMNS": "9999"}).width == 140
    assert style(stream, "auto", {}).width == 100
    assert style(stream, "auto", {}).unicode
    assert not style(io.TextIOWrapper(io.BytesIO(), "latin-1"), "auto", {}).unicode
    assert not style(io.TextIOWrapper(io.BytesIO(), "ascii"), "auto", {}).unicode


def test_progress_is_silent_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", delay=0.001):
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="no timer signals")
def test_progress_on_a_terminal_shows_after_a_while_and_is_wiped_away() -> None:
    import pty

    inside, outside = pty.openpty()
    code = (
        "import time\nfrom gradlint.cli.terminal import progress\n"
        "with progress('reading', delay=0.05):\n    time.sleep(0.2)\n"
        "with progress('quick', delay=5):\n    pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], stderr=outside, stdout=subprocess.PIPE, env=environment, check=True)
    os.close(outside)
    shown = os.read(inside, 4096)
    os.close(inside)
    assert done.stdout == b""
    assert b"reading, 0 s" in shown
    assert shown.endswith(b"\r\x1b[K")
    assert b"quick" not in shown


# --- the process --------------------------------------------------------------------------------------------------------------


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "gradlint", *arguments], capture_output=True, env=environment, timeout=120, **options
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gradlint.cli import main\n"
        "assert main(['--help']) == 0\nassert main(['--version']) == 0\n"
        "heavy = {'libcst', 'torch', 'gradlint.flow', 'gradlint.session', 'gradlint.survey', 'pathspec', 'ast', 'json'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)


def test_python_m_gradlint() -> None:
    done = process("--version")
    assert done.returncode == 0
    assert done.stdout.decode() == f"gradlint {__version__}\n".replace("\n", os.linesep)


def test_a_reader_that_goes_away_is_no_error() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gradlint", "rule", "--all", "--output-format", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as child:
        assert child.stdout and child.stderr
        child.stdout.read(10)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_encoding_of_stdout_will_do(encoding: str) -> None:
    done = process("rule", "--all", env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert "GRD102 detach-on-loss-path" in done.stdout.decode(encoding)


def test_rule_shows_pages(run: Run) -> None:
    code, by_code, _ = run("rule", "GRD102")
    assert code == 0
    assert by_code.startswith("GRD102 detach-on-loss-path\n")
    assert "```" not in by_code
    assert run("rule", "Detach-On-Loss-Path")[1] == by_code == run("rule", "grd102")[1]
    markdown = run("rule", "GRD102", "--output-format=markdown")[1]
    assert markdown.startswith("# GRD102 detach-on-loss-path\n")
    listed = run("rule")[1]
    assert listed.index("GRD101  no-grad-on-training-path") < listed.index("GRD102  detach-on-loss-path")
    assert len(run("rule", "--all")[1]) > len(by_code)


def test_rule_as_data(run: Run) -> None:
    entry = json.loads(run("rule", "GRD102", "--output-format=json")[1])
    assert entry["code"] == "GRD102"
    assert entry["severity"] == "error"
    assert entry["fix"] == "unsafe"
    assert entry["probe"] == "flow"
    assert entry["preview"] is False
    assert entry["summary"]
    assert entry["explanation"].startswith("# GRD102")
    codes = [other["code"] for other in json.loads(run("rule", "--output-format=json")[1])]
    assert codes == sorted(codes)
    assert {"GRD001", "GRD102"} <= set(codes)


def test_config_lists_and_explains(run: Run) -> None:
    listed = run("config")[1]
    assert "\nmin-confidence\n    " in listed
    explained = run("config", "min_confidence")[1]
    assert '[tool.gradlint]\n  min-confidence = "medium"\n' in explained
    assert "one of    high, medium, low" in explained
    assert json.loads(run("config", "--output-format=json")[1])["properties"]["select"]["type"] == "array"
    assert json.loads(run("config", "select", "--output-format=json")[1])["type"] == "array"


def test_show_settings(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tomllib

    monkeypatch.chdir(tmp_path)
    Path("gradlint.toml").write_text('ignore = ["GRD103"]\n')
    code, out, _ = run("--show-settings", "--select", "GRD1")
    assert code == 0
    assert out.startswith(f"# settings file: {tmp_path.as_posix()}/gradlint.toml\n")
    shown = tomllib.loads(out)
    assert shown["select"] == ["GRD1"]
    assert shown["ignore"] == ["GRD103"]


def test_show_files(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.py", "a.ipynb", "pkg/c.py", "build/d.py", "notes.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert run("--show-files") == (0, "a.ipynb\nb.py\npkg/c.py\n", "")
    assert run("--show-files", "pkg", "build/d.py") == (0, "build/d.py\npkg/c.py\n", "")
    assert run("--show-files", "pkg", "build/d.py", "--force-exclude") == (0, "pkg/c.py\n", "")
    assert run("--show-files", "--exclude=pkg,*.ipynb") == (0, "b.py\nbuild/d.py\n", "")


def test_clean_removes_only_what_is_ours(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("clean") == (0, "", "There is no cache.\n")
    mine = tmp_path / "precious"
    mine.mkdir()
    (mine / "thesis.txt").touch()
    run("clean", "--cache-dir", "precious")
    assert (mine / "thesis.txt").exists()
