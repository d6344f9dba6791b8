"""A project checked again and again while its texts change says what a fresh run over the same texts says."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

import gradlint.flow.program
from gradlint.core import Confidence, Finding, Span
from gradlint.session import analyze, load_config
from gradlint.session.live import Live

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return shutil.copytree(ROOT / "fixtures" / "whole_slide", tmp_path / "project")


def live(root: Path) -> Live:
    return Live(root, load_config([root], cwd=root))


def told(findings: Iterable[Finding]) -> set[tuple[str, Span, Confidence]]:
    """What findings come down to; of the parts that a message names, the order is nobody's promise."""
    return {(finding.code, finding.span, finding.confidence) for finding in findings}


def fresh(root: Path, texts: dict[Path, str], wanted: Iterable[Path]) -> set[tuple[str, Span, Confidence]]:
    """What a run that knows nothing says of the same files."""
    report = analyze([root], load_config([root], cwd=root), texts, cwd=root, use_cache=False)
    shown = {path.relative_to(root).as_posix() for path in wanted}
    return told(finding for finding in report.findings if finding.span.file in shown)


EDITS = (
    (".detach()", ""),
    ("@torch.no_grad()", ""),
    ("return ", "return 0 * "),
    ("self.", "self . "),
    ("import torch\n", "import torch\nimport torch as t\n"),
    ("def ", "@torch.no_grad()\n    def "),
    ("\n", "\n\n"),
    ("loss", "cost"),
    ("backward()", "backward"),
    (")", ").detach()"),
    ("class ", "class My"),
)


@pytest.mark.parametrize("seed", range(3))
def test_after_any_edits_it_says_what_a_fresh_run_says(project: Path, seed: int) -> None:
    chance = random.Random(seed)
    paths = sorted(project.rglob("*.py"))
    held = live(project)
    texts: dict[Path, str] = {}
    for step in range(16):
        path = chance.choice(paths)
        deed = chance.random()
        if deed < 0.75:
            text = texts.get(path, path.read_text())
            old, new = chance.choice(EDITS)
            places = [i for i in range(len(text)) if text.startswith(old, i)]
            if places:
                at = chance.choice(places)
                text = text[:at] + new + text[at + len(old) :]
            texts[path] = text
            held.put(path, text)
        elif deed < 0.85 and path in texts:
            del texts[path]
            held.put(path, None)
        elif deed < 0.95 and path in texts:
            path.write_text(texts[path])
            held.refresh()
        else:
            new_path = project / f"new_{step}.py"
            new_path.write_text(path.read_text())
            paths.append(new_path)
            held.refresh()
        wanted = chance.sample(paths, 4) if chance.random() < 0.5 else paths
        report = held.check(wanted)
        assert told(report.findings) == fresh(project, texts, wanted), step
        assert not report.failed


def test_only_what_an_edit_can_change_is_followed_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "apart.py").write_text(
        "import torch\nnet = torch.nn.Linear(2, 2)\nfor x in range(3):\n    net(torch.ones(2)).detach().sum().backward()\n"
    )
    followed: list[str] = []
    follow = gradlint.flow.program.Program._follow

    def noted(self: object, action: object, file: object, *rest: object) -> object:
        followed.append(file.path)  # type: ignore[attr-defined]
        return follow(self, action, file, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(gradlint.flow.program.Program, "_follow", noted)
    held = live(project)
    apart, train = project / "apart.py", project / "train.py"
    findings = held.check([apart, train]).findings
    assert {"apart.py", "train.py"} <= set(followed)
    followed.clear()
    assert held.check([apart, train]).findings == findings
    assert followed == []
    held.put(apart, apart.read_text() + "\n")
    assert held.check([apart, train]).findings == findings
    assert followed == ["apart.py"]
    followed.clear()
    helper = project / "slidomics" / "pathology" / "pipeline.py"
    held.put(helper, helper.read_text() + "\n")
    held.check([apart, train])
    assert "train.py" in followed
    assert "apart.py" not in followed


def test_what_another_file_says_of_a_part_counts(tmp_path: Path) -> None:
    """A finding that depends on a question about all texts follows the answer, though its own file was not edited."""
    model, other = tmp_path / "model.py", tmp_path / "other.py"
    model.write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.blocks = [nn.Linear(2, 2), nn.Linear(2, 2)]\n\n    def forward(self, x):\n"
        "        for block in self.blocks:\n            x = block(x)\n        return x\n"
    )
    other.write_text("from torch import nn\nimport model\n\nnet = model.Net()\n")
    held = live(tmp_path)

    def codes(text: str) -> list[str]:
        held.put(other, text)
        return [finding.code for finding in held.check([model]).findings]

    plain = other.read_text()
    assert codes(plain) == ["GRD209"]
    assert codes(plain + "net.rest = nn.ModuleList(net.blocks)\n") == []
    assert codes(plain + "net.rest = nn.ModuleList(net.parts)\n") == ["GRD209"]


def test_a_text_in_memory_wins_until_it_is_dropped(project: Path) -> None:
    held = live(project)
    path = project / "slidomics" / "pathology" / "pipeline.py"
    before = held.check([path]).findings
    assert before
    held.put(path, "import torch\n")
    assert held.check([path]).findings == ()
    held.put(path, None)
    assert held.check([path]).findings == before
    path.write_text("import torch\n")
    assert held.check([path]).findings == before  # not looked at again until told to
    held.refresh()
    assert held.check([path]).findings == ()
    path.unlink()
    held.refresh()
    assert held.check([path]).files == ()


def test_a_file_that_is_not_on_disk_counts(project: Path) -> None:
    held = live(project)
    path = project / "unsaved.py"
    held.put(path, "import torch\noptimizer = torch.optim.SGD([torch.ones(1)])\noptimizer.step\n")
    assert [finding.code for finding in held.check([path]).findings] == ["GRD208"]


def test_excluded_files_are_left_out(project: Path) -> None:
    (project / "gradlint.toml").write_text('extend-exclude = ["pathology"]\n')
    held = live(project)
    path = project / "slidomics" / "pathology" / "pipeline.py"
    assert held.check([path, project / "train.py"]).files == ("train.py",)


def test_without_a_folder_only_texts_count(project: Path) -> None:
    config = load_config([project], cwd=project)
    held = Live(project, config, whole=False)
    train, model = project / "train.py", project / "slidomics" / "pathology" / "pipeline.py"
    held.put(model, model.read_text())
    assert held.check([model]).files == ("slidomics/pathology/pipeline.py",)
    assert list(held.sources) == ["slidomics/pathology/pipeline.py"]
    held.put(train, train.read_text())
    held.check([model])
    assert set(held.sources) <= {"slidomics/pathology/pipeline.py", "train.py"}


def test_a_notebook_in_memory(project: Path) -> None:
    held = live(project)
    path = project / "play.ipynb"
    cell = "import torch\noptimizer = torch.optim.SGD([torch.ones(1)])\noptimizer.step"
    document = {"cells": [{"cell_type": "code", "source": cell}], "metadata": {}}
    held.put(path, json.dumps(document))
    (finding,) = held.check([path]).findings
    assert (finding.code, finding.span.line) == ("GRD208", 3)
    source = held.sources["play.ipynb"]
    held.check([path])
    assert held.sources["play.ipynb"] is source
