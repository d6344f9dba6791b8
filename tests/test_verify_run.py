"""From findings to verdicts: what is run for which finding, and what the commands say of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gradlint.core import Claim, Confidence, Finding, Outcome, Severity, Span
from gradlint.session import Report
from gradlint.survey.source import read
from gradlint.verify.plan import Plan

FILES = {
    "train.py": """\
import torch
from model import Net
from losses import total

torch.manual_seed(0)


def main():
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    for step in range(3):
        loss = total(net(torch.randn(4, 6)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
""",
    "model.py": """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(6, 5)
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        h = self.encoder(x).detach()
        return self.head(h)
""",
    "losses.py": "def total(out):\n    return out.pow(2).mean()\n",
    "alone.py": """\
from torch import nn


class Alone(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.encoder = nn.Linear(width, 5)
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        h = self.encoder(x).detach()
        return self.head(h)
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def finding(file: Path, line: int, subject: str = "encoder") -> Finding:
    text = file.read_text().splitlines()[line - 1]
    span = Span(str(file), line, len(text) - len(text.lstrip()) + 1, line, len(text) + 1)
    claim = Claim("flow", "starved", (subject,), span)
    return Finding("GRD102", "detach-on-loss-path", "", Severity.ERROR, Confidence.HIGH, span, claim=claim)


def report_of(folder: Path, *findings: Finding) -> Report:
    files = sorted(folder.rglob("*.py"))
    return Report(findings, tuple(map(str, files)), folder, sources={str(file): read(file, str(file)) for file in files})


# The plan ------------------------------------------------------------------------------------------------------------


def test_programs_are_found_through_imports(project: Path) -> None:
    plan = Plan([read(file, file.name) for file in sorted(project.glob("*.py"))])
    assert [program.file.name for program in plan.for_finding(project / "losses.py")] == ["train.py"]
    assert [program.file.name for program in plan.for_finding(project / "train.py")] == ["train.py"]
    assert plan.for_finding(project / "alone.py") == []


def test_a_file_that_only_defines_is_no_program(project: Path) -> None:
    plan = Plan([read(file, file.name) for file in sorted(project.glob("*.py"))])
    assert [program.file.name for program in plan.programs] == ["train.py"]


def test_packages_and_relative_imports(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/__init__.py").write_text("")
    (tmp_path / "app/net.py").write_text("x = 1\n")
    (tmp_path / "app/run.py").write_text("from . import net\nfrom .net import x\n\nif __name__ == '__main__':\n    print(x)\n")
    plan = Plan([read(file, str(file)) for file in sorted(tmp_path.rglob("*.py"))])
    (program,) = plan.for_finding(tmp_path / "app/net.py")
    assert program.file.name == "run.py"
    assert plan.package_of(program.file) == ("app", tmp_path)


def test_the_class_around_a_finding(project: Path) -> None:
    plan = Plan([read(file, str(file)) for file in sorted(project.glob("*.py"))])
    (found,) = plan.classes(finding(project / "alone.py", 11), project / "alone.py")
    assert (found.module, found.qualname, found.root) == ("alone", "Alone", project)


# Running -------------------------------------------------------------------------------------------------------------

pytest_torch = pytest.importorskip("torch")

from gradlint.verify.client import Server
from gradlint.verify.run import Settings, verify


def test_script_first_class_for_want_of_one(project: Path, server: Server) -> None:
    scripted, alone = finding(project / "model.py", 11), finding(project / "alone.py", 11)
    told: list[str] = []
    verdicts = verify(report_of(project, scripted, alone), Settings(seconds=60), progress=told.append, server=server)
    assert verdicts[scripted].outcome is Outcome.CONFIRMED
    assert "train.py, 3 optimizer steps" in verdicts[scripted].driver
    assert verdicts[alone].outcome is Outcome.CONFIRMED, verdicts[alone]
    # A driven module says with which arguments and shapes it ran.
    assert "Alone(" in verdicts[alone].driver and "float32[" in verdicts[alone].driver
    assert [name.rpartition("/")[2] for name in told] == ["Alone", "train.py"] or told[-1] != told[0]


def test_configured_driver_comes_first(project: Path, server: Server) -> None:
    (project / "factories.py").write_text(
        "import torch\nfrom alone import Alone\n\n\ndef small():\n    return Alone(3), torch.randn(2, 3)\n"
    )
    alone = finding(project / "alone.py", 11)
    settings = Settings(seconds=60, drivers={"alone:Alone": "factories:small"})
    verdict = verify(report_of(project, alone), settings, server=server)[alone]
    assert verdict.outcome is Outcome.CONFIRMED
    assert "factories:small" in verdict.driver and "float32[2, 3]" in verdict.driver


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 3", "returned a int"),
        ("raise OSError('no data')", "OSError: no data"),
        ("return lambda: Alone(3)(torch.randn(2, 3)).sum()", ""),
        ("return Alone(3), {'x': torch.randn(2, 3)}, lambda out: out.pow(2).mean()", ""),
    ],
)
def test_what_a_configured_driver_may_return(body: str, said: str, project: Path, server: Server) -> None:
    (project / "factories.py").write_text(f"import torch\nfrom alone import Alone\n\n\ndef small():\n    {body}\n")
    alone = finding(project / "alone.py", 11)
    report = report_of(project, alone)
    settings = Settings(seconds=60, drivers={"alone.py": "factories:small"})
    told: list[str] = []
    verdict = verify(report, settings, progress=told.append, server=server)[alone]
    assert told[0] == "factories:small()"
    if said:
        assert told[1] == "Alone"  # the next way is tried
    elif "lambda: Alone" not in body:
        assert verdict.outcome is Outcome.CONFIRMED


def test_a_driver_that_cannot_be_found_is_said(project: Path, server: Server) -> None:
    wrong = finding(project / "losses.py", 2)
    (project / "train.py").unlink()
    settings = Settings(seconds=60, drivers={"losses.py": "nowhere:nothing"})
    verdict = verify(report_of(project, wrong), settings, server=server)[wrong]
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "nowhere:nothing" in verdict.reason and "cannot be found" in verdict.reason


def test_a_finding_that_nothing_reaches_is_inconclusive(project: Path, server: Server) -> None:
    lonely = finding(project / "losses.py", 2)
    (project / "train.py").unlink()
    verdict = verify(report_of(project, lonely), Settings(seconds=30), server=server)[lonely]
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "No program of the project reaches this file" in verdict.reason


def test_a_finding_without_claim_gets_no_verdict(project: Path, server: Server) -> None:
    import dataclasses

    silent = dataclasses.replace(finding(project / "model.py", 11), claim=None)
    assert verify(report_of(project, silent), Settings(), server=server) == {}


# The commands --------------------------------------------------------------------------------------------------------


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    import os

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "gradlint", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def test_verify_shows_the_verdict_beside_the_finding(project: Path) -> None:
    done = command("verify", ".", "--isolated", "--no-cache", cwd=project)
    assert done.returncode == 1, done.stderr
    assert "model.py:11:13" in done.stdout
    assert "confirmed: In 3 optimizer steps no gradient came to what is cut off here" in done.stdout
    assert "- `net.encoder.*`, 2 tensors, 35 parameters: no gradient" in done.stdout
    assert "ran train.py, 3 optimizer steps on cpu" in done.stdout
    assert "1 confirmed" in done.stderr


class Ran(NamedTuple):
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


Here = Callable[..., Ran]


@pytest.fixture
def here(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Carries out a command in this process, with the warm one that is there already."""

    def carry_out(*arguments: str, cwd: Path) -> Ran:
        from gradlint.cli import main

        monkeypatch.chdir(cwd)
        for module in ("run", "trace"):
            monkeypatch.setattr(f"gradlint.verify.{module}.Server", lambda: contextlib.nullcontext(server))
        capsys.readouterr()
        code = main(list(arguments))
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return carry_out


def test_json_has_verdict_and_evidence(project: Path, here: Here) -> None:
    done = here("verify", "model.py", "--isolated", "--no-cache", "--output-format", "json", cwd=project)
    (row,) = [row for row in json.loads(done.stdout) if row["filename"] == "model.py"]
    assert row["verdict"] == "confirmed"
    assert row["evidence"][0]["text"].startswith("`net.encoder.*`")
    assert row["evidence"][1]["filename"] == "model.py" and row["evidence"][1]["location"]["row"] == 11
    assert row["verification"]["device"] == "cpu" and row["verification"]["driver"].startswith("train.py")


def test_sarif_has_the_verdict_in_its_properties(project: Path, here: Here) -> None:
    done = here("verify", "model.py", "--isolated", "--no-cache", "--output-format", "sarif", cwd=project)
    (result,) = json.loads(done.stdout)["runs"][0]["results"]
    assert result["properties"]["verdict"] == "confirmed"
    assert result["properties"]["evidence"]


@pytest.mark.parametrize(
    ("options", "code", "shown"),
    [
        (["--only", "confirmed"], 1, True),
        (["--only", "refuted"], 0, False),
        (["--only", "refuted,inconclusive"], 0, False),
        (["--fail-on", "never"], 0, True),
        (["--fail-on", "any"], 1, True),
        (["--fail-on", "unrefuted"], 1, True),
    ],
)
def test_only_and_fail_on(options: list[str], code: int, shown: bool, project: Path, here: Here) -> None:
    done = here("verify", "model.py", "--isolated", "--no-cache", "--output-format", "concise", *options, cwd=project)
    assert done.returncode == code, done.stderr
    assert ("[confirmed]" in done.stdout) is shown


def test_clean_project_starts_no_torch(project: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "start", lambda _: pytest.fail("a process was started"))
    (project / "model.py").write_text(FILES["model.py"].replace(".detach()", ""))
    (project / "alone.py").unlink()
    done = here("verify", ".", "--isolated", "--no-cache", "-v", cwd=project)
    assert (done.returncode, done.stdout) == (0, "")


def test_wrong_verdict_name(project: Path, here: Here) -> None:
    done = here("verify", ".", "--only", "confirmd", cwd=project)
    assert done.returncode == 2
    assert "did you mean confirmed" in done.stderr


def test_trace_shows_what_trains_and_what_does_not(project: Path) -> None:
    done = command("trace", "train.py", "--isolated", "--no-cache", cwd=project)
    assert done.returncode == 1, done.stderr
    assert "gets gradient" in done.stdout and "net.head.*, 2 tensors, 6 parameters" in done.stdout
    assert "model.py:11: the value is detached here (GRD102)" in done.stdout
    assert "net.encoder.*, 2 tensors, 35 parameters: no gradient" in done.stdout


def test_trace_finds_what_the_static_analysis_cannot(project: Path, here: Here) -> None:
    (project / "losses.py").write_text(
        "import os\ndef total(out): return getattr(out.pow(2).mean(), os.environ.get('ENDING', 'detach'))()\n"
    )
    (project / "model.py").write_text(FILES["model.py"].replace(".detach()", ""))
    done = here("trace", "train.py", "--isolated", "--no-cache", "--output-format", "json", cwd=project)
    assert done.returncode == 1
    traced = json.loads(done.stdout)
    (cut,) = traced["cuts"]
    assert cut["place"]["filename"] == "losses.py" and cut["place"]["row"] == 2 and cut["findings"] == []
    assert {group["name"] for group in traced["parameters"]["starved"]} == {"net.*"}


def test_trace_stops_after_the_steps_and_passes_arguments(project: Path, here: Here) -> None:
    (project / "train.py").write_text(
        FILES["train.py"].replace("range(3)", "range(10**9)").replace("torch.manual_seed(0)", "import sys\nprint(sys.argv)")
    )
    (project / "model.py").write_text(FILES["model.py"].replace(".detach()", ""))
    done = here(
        "trace",
        "train.py",
        "--steps",
        "4",
        "--isolated",
        "--no-cache",
        "--output-format",
        "json",
        "--",
        "--lr",
        "1",
        cwd=project,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["steps"] == 4


def test_trace_does_not_judge_what_had_no_turn_yet(project: Path, here: Here) -> None:
    """The copy's steps use up those that are watched; the gradient of the original was to come by hand after them."""
    (project / "train.py").write_text(
        "import copy\nimport torch\nfrom torch import nn\n\nnet = nn.Linear(2, 1)\n"
        "outer = torch.optim.SGD(net.parameters(), lr=0.1)\nwhile True:\n    learner = copy.deepcopy(net)\n"
        "    inner = torch.optim.SGD(learner.parameters(), lr=0.1)\n    for _ in range(9):\n        inner.zero_grad()\n"
        "        decay = sum((p - q.detach()).pow(2).sum() for p, q in zip(learner.parameters(), net.parameters()))\n"
        "        (learner(torch.ones(1, 2)).sum() + decay).backward()\n        inner.step()\n"
        "    for p, q in zip(net.parameters(), learner.parameters()):\n        p.grad = q.grad.clone()\n    outer.step()\n"
    )
    for steps, code in ((5, 0), (12, 0)):
        done = here("trace", "train.py", "--isolated", "--no-cache", "--steps", str(steps), cwd=project)
        assert done.returncode == code, done.stdout


def test_trace_of_a_program_that_fails(project: Path, here: Here) -> None:
    (project / "train.py").write_text("raise OSError('no data at all')\n")
    done = here("trace", "train.py", "--isolated", "--no-cache", cwd=project)
    assert "OSError: no data at all" in done.stdout
    assert here("trace", "nowhere.py", cwd=project).returncode == 2


def test_neither_the_commands_nor_the_plan_import_torch() -> None:
    code = (
        "import sys, gradlint.cli.verify, gradlint.cli.trace, gradlint.verify.run, gradlint.verify.trace, gradlint.verify.client\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert command("--version", cwd=Path.cwd()).returncode == 0
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(filter(None, sys.path))}, check=False)
    assert done.returncode == 0
