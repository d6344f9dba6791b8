"""The pytest plugin, run as its users run it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).parent.parent
PLUGIN = "gradlint.verify.monitors.pytest_plugin"

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, cut):
        super().__init__()
        self.encoder, self.head, self.cut = nn.Linear(3, 3), nn.Linear(3, 1), cut

    def forward(self, x):
        features = self.encoder(x)
        return self.head(features.detach() if self.cut else features).square().mean()

def parts(cut):
    torch.manual_seed(0)
    model = Net(cut)
    return model, torch.optim.SGD(model.parameters(), lr=0.1), torch.randn(4, 3)
"""


def run(folder, code, *options):
    (folder / "net.py").write_text(MODEL)
    (folder / "test_net.py").write_text(code)
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "PY_COLORS": "0",
    }
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "--rootdir", str(folder), *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_fixture_audits_and_shows_the_table_only_when_the_test_fails(tmp_path):
    done = run(
        tmp_path,
        "from net import parts\n"
        "def test_good(gradient_audit):\n"
        "    assert gradient_audit(*parts(cut=False))\n"
        "def test_bad(gradient_audit):\n"
        "    assert gradient_audit(*parts(cut=True)).ok\n"
        "def test_flow(gradient_audit):\n"
        "    model, _, batch = parts(cut=False)\n"
        "    assert gradient_audit.assert_flow(model, batch, trains='encoder').ok\n"
        "def test_no_flow(gradient_audit):\n"
        "    model, _, batch = parts(cut=True)\n"
        "    gradient_audit.assert_flow(model, batch, trains='encoder')\n",
    )
    assert done.returncode == 1
    assert "2 failed, 2 passed" in done.stdout
    assert done.stdout.count("gradient audit") == 1
    assert "No gradient arrives: `encoder.*` (2 tensors, 12 parameters)" in done.stdout
    assert "`encoder.*` (2 tensors) gets no gradient" in done.stdout


def test_collection_imports_no_torch(tmp_path):
    done = run(tmp_path, "import sys\ndef test_light(gradient_audit):\n    assert 'torch' not in sys.modules\n")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_entry_point_names_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"gradlint": PLUGIN}
    assert project["optional-dependencies"]["plot"] == ["matplotlib>=3.7"]
