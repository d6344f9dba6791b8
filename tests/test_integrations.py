"""What runs gradlint for people: the GitHub Action and the hooks of pre-commit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HOOKS: dict[str, dict[str, Any]] = {
    hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
}

CUT = """\
import torch
from torch import nn

import helper

net = nn.Linear(2, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
loss = helper.reduce(net(torch.ones(1, 2)))
loss.backward()
optimizer.step
"""
HELPER = "def reduce(x):\n    return x.detach().sum()\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(CUT)
    (folder / "helper.py").write_text(HELPER)
    (folder / "other.py").write_text("import torch\n\noptimizer = torch.optim.SGD([torch.ones(1)])\noptimizer.zero_grad\n")
    return folder


def _gradlint(folder: Path) -> Path:
    """A command that is the gradlint of this checkout."""
    command = folder / "gradlint-of-this-checkout"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m gradlint "$@"\n')
    command.chmod(0o755)
    return command


def _step(name: str, folder: Path, given: dict[str, str]) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """Run a step of the action as GitHub does: its inputs filled in, its outputs read from the file that it appends to."""
    step = next(step for step in ACTION["runs"]["steps"] if step["name"] == name)
    defaults = {key: str(entry["default"]) for key, entry in ACTION["inputs"].items()}
    environment = {
        key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: {**defaults, **given}[match[1]], value)
        for key, value in step["env"].items()
    }
    environment |= {"GRADLINT": str(_gradlint(folder.parent)), "GITHUB_OUTPUT": str(folder.parent / "output")}
    assert not any("${{" in value for value in environment.values()), environment
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    lines = Path(environment["GITHUB_OUTPUT"]).read_text().splitlines() if Path(environment["GITHUB_OUTPUT"]).exists() else []
    return done, dict(line.split("=", 1) for line in lines)


def test_action_annotates_and_writes_sarif(project: Path) -> None:
    done, outputs = _step("Run gradlint", project, {})
    assert done.returncode == 1, done.stderr
    assert "::error title=GRD102 detach-on-loss-path,file=helper.py,line=2" in done.stdout
    assert outputs == {"sarif": "./gradlint.sarif", "findings": "3"}
    sarif = json.loads((project / "gradlint.sarif").read_text())
    assert [result["ruleId"] for result in sarif["runs"][0]["results"]] == ["GRD102", "GRD208", "GRD208"]


def test_action_minds_its_inputs(project: Path) -> None:
    given = {"paths": "other.py", "sarif": "", "annotations": "false", "fail": "false"}
    done, outputs = _step("Run gradlint", project, given)
    assert done.returncode == 0, done.stderr
    assert outputs == {"findings": "1"}
    assert "other.py:4:1: GRD208" in done.stdout
    assert not (project / "gradlint.sarif").exists()
    done, _ = _step("Run gradlint", project, {"arguments": "--select NONSENSE"})
    assert done.returncode == 2
    done, outputs = _step("Run gradlint", project, {"arguments": "--ignore GRD1,GRD2"})
    assert (done.returncode, outputs["findings"]) == (0, "0")


def test_action_says_what_it_takes_and_gives() -> None:
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text(encoding="utf-8")))
    assert used == set(ACTION["inputs"])
    documented = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    for name in ACTION["inputs"]:
        assert f"| `{name}` |" in documented


def test_hooks() -> None:
    check, verify = HOOKS["gradlint"], HOOKS["gradlint-verify"]
    assert set(HOOKS) == {"gradlint", "gradlint-verify"}
    for hook in HOOKS.values():
        assert hook["types_or"] == ["python", "jupyter"]
        assert hook["require_serial"] is True
        assert hook["pass_filenames"] is False
    assert check["language"] == "python"
    assert (verify["language"], verify["stages"]) == ("system", ["manual"])


def _repository(project: Path, arguments: str, *, pass_filenames: bool) -> None:
    """A git repository whose hook is ours, run by the interpreter of the tests."""
    entry = HOOKS["gradlint"]["entry"].replace("gradlint", str(_gradlint(project.parent)), 1)
    hook = {**HOOKS["gradlint"], "entry": f"{entry} {arguments}", "language": "system", "pass_filenames": pass_filenames}
    (project / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": [hook]}]}))
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=project, check=True, capture_output=True)


@pytest.mark.parametrize("pass_filenames", [False, True])
def test_hook_on_one_changed_file_says_what_a_full_run_says(project: Path, pass_filenames: bool) -> None:
    _repository(project, "--output-format concise", pass_filenames=pass_filenames)
    full = subprocess.run(
        [str(_gradlint(project.parent)), "check", "--output-format", "concise"], cwd=project, capture_output=True, text=True
    )
    lines = [line for line in full.stdout.splitlines() if ": GRD" in line]
    assert len(lines) == 3
    (project / "helper.py").write_text(HELPER.replace("x.detach()", "x.detach() "))
    subprocess.run(["git", "add", "helper.py"], cwd=project, check=True)
    environment = {**os.environ, "PRE_COMMIT_HOME": str(project.parent / "home")}
    command = [sys.executable, "-m", "pre_commit", "run"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if ": GRD" in line]
    wanted = lines if not pass_filenames else [line for line in lines if line.startswith("helper.py")]
    assert said == wanted
    assert done.returncode == 1
