"""The language server in a Neovim without a screen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pygls")

ROOT = Path(__file__).resolve().parent.parent

FILES = {
    "helper.py": "import torch\n\n\ndef normalise(x):\n    return x / x.norm()\n",
    "model.py": """\
from torch import nn

from helper import normalise


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(normalise(self.encoder(x)).detach())
""",
    "train.py": """\
import torch
from torch import nn

from model import Net

net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for x, y in torch.load("batches.pt"):
    loss = nn.functional.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
    "gradlint.toml": "",
}


@pytest.mark.skipif(shutil.which("nvim") is None, reason="needs Neovim")
def test_session(tmp_path: Path) -> None:
    """Findings, a burst of edits, columns after an emoji, a fix applied, another file, and a clean end."""
    project = tmp_path / "project"
    project.mkdir()
    for name, text in FILES.items():
        (project / name).write_text(text)
    seen_at = tmp_path / "seen.json"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GRADLINT_PYTHON": sys.executable,
        "GRADLINT_ROOT": str(project),
        "GRADLINT_SEEN": str(seen_at),
        "XDG_STATE_HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    script = ROOT / "tests" / "data" / "neovim_session.lua"
    command = ["nvim", "--headless", "--clean", "-n", "-c", f"luafile {script}"]
    done = subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True, timeout=90)
    assert seen_at.exists(), done.stderr
    seen = json.loads(seen_at.read_text())
    assert "problem" not in seen, (seen, done.stderr)
    ((code, line, start, end),) = seen["first"]
    text = FILES["model.py"].splitlines()[line]
    assert code == "GRD102"
    assert text[start:end] == "normalise(self.encoder(x)).detach()"
    assert seen["shift"] == seen["expected"]  # in bytes, which is how Neovim counts
    assert seen["title"].endswith("(changes training)")
    assert seen["fixed"] == "        '🙂🙂'; return self.head(normalise(self.encoder(x)))"
    assert [(code, line) for code, line, *_ in seen["helper"]] == [("GRD101", 3)]
    assert seen["status"] == 0
