"""The command line over real projects, from files to exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradlint.cli import main
from gradlint.reporters import FORMATS

ROOT = Path(__file__).parent.parent

NET = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        features = self.encoder(x).detach()
        return self.head(features)
"""

TRAIN = """\
import torch
import torch.nn.functional as F

from net import Net


def train(loader):
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.train
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    Path("train.py").write_text(TRAIN)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def found(run: Run, *arguments: str) -> list[tuple[str, int, str]]:
    rows = json.loads(run("--output-format=json", *arguments)[1])
    return [(row["filename"], row["location"]["row"], row["code"]) for row in rows]


CUT, UNCALLED = ("net.py", 11, "GRD102"), ("train.py", 15, "GRD208")


def test_a_project_is_checked_as_one(run: Run) -> None:
    code, out, err = run("--output-format", "full")
    assert code == 1
    assert "net.py:11:" in out
    assert "error GRD102 detach-on-loss-path" in out
    assert " train.py:13 " in out, "the path leads back to the loss"
    assert "loss.backward()" in out
    assert "^" in out
    assert err.startswith("Found 2 errors in 2 files of 2.\n")


def test_the_same_from_anywhere(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(run) == [CUT, UNCALLED]
    assert found(run, ".") == [CUT, UNCALLED]
    assert found(run, "train.py", "net.py") == [CUT, UNCALLED]
    assert found(run, "check", "train.py", "net.py") == [CUT, UNCALLED], "the command may follow an option"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    absolute = [((tmp_path / name).as_posix(), row, code) for name, row, code in (CUT, UNCALLED)]
    assert found(run, "..") == absolute
    assert found(run, str(tmp_path)) == absolute


def test_one_file_is_checked_with_the_knowledge_of_its_project(run: Run) -> None:
    assert found(run, "net.py") == [CUT]
    text = run("net.py", "--output-format=full")[1]
    assert "loss.backward()" in text, "lines of files that were not checked are shown in the path"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name: str, run: Run) -> None:
    code, out, _ = run("--output-format", name)
    assert code == 1
    assert "detach-on-loss-path" in out or "GRD102" in out
    first = out
    assert run("--output-format", name)[1] == first, "from the cache"
    assert run("--output-format", name, "--no-cache")[1] == first


def test_selection(run: Run) -> None:
    assert found(run, "--select=GRD2") == [UNCALLED]
    assert found(run, "--ignore=uncalled-method") == [CUT]
    assert found(run, "--select=GRD1", "--extend-select=GRD208") == [CUT, UNCALLED]
    assert found(run, "--per-file-ignores=net.py:GRD102") == [UNCALLED]
    assert UNCALLED not in found(run, "--exclude=train.py")
    code, out, err = run("--select=GRD9O1")
    assert (code, out) == (2, "")
    assert err == "gradlint: unknown rule GRD9O1 in select; did you mean GRD901?\n"


def test_fixes(run: Run) -> None:
    code, out, err = run("--diff")
    assert code == 1
    assert "-    model.train\n+    model.train()\n" in out
    assert "detach" not in out
    assert err == "1 finding would be fixed in 1 file.\n"
    assert Path("train.py").read_text() == TRAIN
    assert "-        features = self.encoder(x).detach()\n" in run("--diff", "--unsafe-fixes")[1]
    code, out, _ = run("--fix")
    assert code == 1
    assert "GRD102" in out
    assert "GRD208" not in out
    assert Path("train.py").read_text() == TRAIN.replace("model.train\n", "model.train()\n")
    assert Path("net.py").read_text() == NET
    assert run("--fix-only", "--unsafe-fixes")[:2] == (0, "")
    assert Path("net.py").read_text() == NET.replace(".detach()", "")
    assert run()[:2] == (0, "")


def test_suppressions(run: Run) -> None:
    assert run("--add-ignore")[0] == 0
    assert "# gradlint: ignore[GRD102]" in Path("net.py").read_text()
    code, out, err = run()
    assert (code, out) == (0, "")
    assert err == "Nothing found in 2 files (2 suppressed).\n"


def test_baseline(run: Run) -> None:
    code, out, err = run("baseline", "write")
    assert (code, out) == (0, "")
    assert err.startswith("2 findings accepted in ")
    assert Path("gradlint-baseline.json").exists()
    assert found(run, "--baseline=gradlint-baseline.json") == []
    Path("net.py").write_text("\n\n" + NET)
    assert found(run, "--baseline=gradlint-baseline.json") == []
    Path("net.py").write_text(NET.replace(".detach()", ""))
    _, _, err = run("--baseline=gradlint-baseline.json")
    assert "1 baseline entry no longer found: gradlint baseline prune" in err
    code, _, err = run("baseline", "prune")
    assert code == 0
    assert err.splitlines()[0].startswith("  net.py: GRD102 ")
    assert err.splitlines()[1].startswith("1 entry dropped from ")
    assert "baseline entry" not in run("--baseline=gradlint-baseline.json")[2]
    assert run("--write-baseline", "--baseline=other.json")[0] == 0
    assert len(json.loads(Path("other.json").read_text())["findings"]) == 1


def test_notebooks(run: Run) -> None:
    def code_cell(*lines: str) -> dict[str, Any]:
        return {
            "cell_type": "code",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": [f"{line}\n" for line in lines],
        }

    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Notes"]},
        code_cell("%matplotlib inline", "from torch import nn"),
        code_cell("model = nn.Linear(2, 2)", "model.eval"),
    ]
    Path("notes.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    assert run("notes.ipynb")[1].startswith("notes.ipynb:cell 3:2:1: GRD208 ")
    (row,) = json.loads(run("notes.ipynb", "--output-format=json")[1])
    assert (row["cell"], row["location"]) == (3, {"row": 2, "column": 1})
    run("notes.ipynb", "--fix")
    assert json.loads(Path("notes.ipynb").read_text())["cells"][2]["source"] == ["model = nn.Linear(2, 2)\n", "model.eval()\n"]


def gradlint(*arguments: str, text: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gradlint", *arguments],
        input=text,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **environment},
        timeout=120,
    )


def test_standard_input(run: Run) -> None:
    done = gradlint("-", "--stdin-filename=net.py", "--output-format=concise", text=NET.replace("features", "hidden"))
    assert done.returncode == 1
    assert done.stdout.startswith("net.py:11:")
    assert "GRD102" in done.stdout
    assert gradlint("-", "--stdin-filename=net.py", text=NET.replace(".detach()", "")).returncode == 0
    fixed = gradlint("-", "--fix", text="from torch import nn\nmodel = nn.Linear(2, 2)\nmodel.eval\n")
    assert fixed.returncode == 0
    assert fixed.stdout == "from torch import nn\nmodel = nn.Linear(2, 2)\nmodel.eval()\n"


def test_forced_color_and_narrow_encodings(run: Run) -> None:
    assert "\x1b[31" in gradlint("--output-format=full", FORCE_COLOR="1").stdout
    assert "\x1b[" not in gradlint("--output-format=full", FORCE_COLOR="1", NO_COLOR="1").stdout
    plain = gradlint("--output-format=full", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert plain.returncode == 1
    assert plain.stdout.isascii()
    assert "   11 |         features = self.encoder(x).detach()" in plain.stdout


def test_a_clean_run_imports_no_libcst(run: Run) -> None:
    Path("net.py").write_text(NET.replace(".detach()", ""))
    Path("train.py").write_text(TRAIN.replace("model.train\n", "model.train()\n"))
    code = (
        "import sys\nfrom gradlint.cli import main\n"
        "assert main(['--no-cache', '--isolated', '-q']) == 0\n"
        "heavy = {'libcst', 'torch', 'numpy', 'pygls'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr


def test_a_pipe_that_closes_early_keeps_the_exit_code(run: Run) -> None:
    Path("many.py").write_text("from torch import nn\nmodel = nn.Linear(2, 2)\n" + "model.eval\n" * 3000)
    command = [sys.executable, "-m", "gradlint", "many.py", "--output-format=json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as child:
        assert child.stdout and child.stderr
        child.stdout.read(10)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 1
