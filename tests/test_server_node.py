"""The language server with the protocol package that Visual Studio Code is made of at the other end.

Needs node and ``npm ci`` in ``editors/vscode``.
"""

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
EXTENSION = ROOT / "editors" / "vscode"

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
}


def _needs(folder: Path) -> None:
    if shutil.which("node") is None or not folder.is_dir():
        pytest.skip("needs node, and npm ci in editors/vscode")


def test_session_with_the_protocol_package(tmp_path: Path) -> None:
    _needs(EXTENSION / "node_modules" / "vscode-languageserver-protocol")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "gradlint.toml").touch()
    done = subprocess.run(
        ["node", str(ROOT / "tests" / "data" / "node_client.cjs"), str(EXTENSION), sys.executable, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert {"diagnosticProvider", "codeActionProvider", "hoverProvider"} <= set(seen["capabilities"])
    (first,) = seen["first"]
    assert (first["code"], first["line"]) == ("GRD102", 12)
    assert Path(first["related"][0]["location"]["uri"]).name == "train.py"
    assert [found["code"] for found in seen["burst"]] == ["GRD102"]
    assert seen["actions"][-1] == "Disable GRD102 for this line"
    (change,) = seen["edit"]["documentChanges"]
    assert change["textDocument"]["version"] == 6
    (edit,) = change["edits"]
    assert edit["newText"] == "" or ".detach()" not in edit["newText"]
    assert seen["refreshed"] is True
    assert [found["code"] for found in seen["helper"]] == ["GRD101"]
    assert seen["status"] == 0


def test_extension_is_built_from_sound_types() -> None:
    _needs(EXTENSION / "node_modules" / "typescript")
    for script in ("check", "build", "test"):
        done = subprocess.run(["npm", "run", script], cwd=EXTENSION, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
