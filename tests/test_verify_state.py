"""The probes of membership, steps, state and order: each is confirmed on the fault and not on its mended twin."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradlint.core import Outcome

pytest.importorskip("torch")

from gradlint.testing.verifying import put
from gradlint.verify.client import Server

CONFIRMED, REFUTED = Outcome.CONFIRMED, Outcome.REFUTED


HEAD = """\
import torch
from torch import nn

torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU())
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.body(x))

def batch():
    return torch.randn(8, 4) + 1, torch.randint(0, 2, (8,))

def loss_of(model):
    x, y = batch()
    return nn.functional.cross_entropy(model(x), y)

model = Net()
"""

STEP = """
    loss = loss_of(model)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

CASES = {
    # who is in the optimizer
    "unfrozen too late": (
        CONFIRMED,
        "model.body.requires_grad_(False)\n"
        "optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)\n"
        "for epoch in range(4):\n"
        "    if epoch == 1:\n        model.body.requires_grad_(True)  # claim: not-in-optimizer model.body\n" + STEP,
    ),
    "unfrozen in time": (
        REFUTED,
        "model.body.requires_grad_(False)\n"
        "model.body.requires_grad_(True)  # claim: not-in-optimizer model.body\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):" + STEP,
    ),
    "unfrozen and added": (
        REFUTED,
        "model.body.requires_grad_(False)\n"
        "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)\n"
        "model.body.requires_grad_(True)  # claim: not-in-optimizer model.body\n"
        "optimizer.add_param_group({'params': list(model.body.parameters())})\nfor epoch in range(3):" + STEP,
    ),
    "replaced": (
        CONFIRMED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "model.head = nn.Linear(6, 2)  # claim: not-in-optimizer model.head\nfor epoch in range(3):" + STEP,
    ),
    "replaced in time": (
        REFUTED,
        "model.head = nn.Linear(6, 2)  # claim: not-in-optimizer model.head\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):" + STEP,
    ),
    "frozen in the optimizer": (
        CONFIRMED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "model.body.requires_grad_(False)  # claim: frozen-in-optimizer model.body\nfor epoch in range(3):" + STEP,
    ),
    "frozen out of the optimizer": (
        REFUTED,
        "model.body.requires_grad_(False)  # claim: frozen-in-optimizer model.body\n"
        "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)\nfor epoch in range(3):" + STEP,
    ),
    # what a step moves
    "moves though frozen": (
        CONFIRMED,
        "optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)\nfor epoch in range(4):\n"
        "    optimizer.zero_grad(set_to_none=False)\n    loss_of(model).backward()\n"
        "    if epoch == 1:\n        for p in model.body.parameters():\n"
        "            p.requires_grad = False  # claim: moves-though-frozen model.body\n"
        "    optimizer.step()\n",
    ),
    "frozen and still": (
        REFUTED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for p in model.body.parameters():\n    p.requires_grad = False  # claim: moves-though-frozen model.body\n"
        "for epoch in range(3):" + STEP,
    ),
    # flags
    "flag on a module": (
        CONFIRMED,
        "model.body.requires_grad = False  # claim: flag-without-effect model.body\n",
    ),
    "flag on a module that is frozen anyway": (
        REFUTED,
        "model.body.requires_grad_(False)\nmodel.body.requires_grad = False  # claim: flag-without-effect model.body\n",
    ),
    "misspelled flag": (
        CONFIRMED,
        "for p in model.body.parameters():\n    p.require_grad = False  # claim: flag-without-effect\n",
    ),
    "compared flag": (
        CONFIRMED,
        "for p in model.body.parameters():\n    p.requires_grad == False  # claim: flag-without-effect\n",
    ),
    # buffers and modes
    "drifts": (
        CONFIRMED,
        "model.body.requires_grad_(False)  # claim: drifts model.body.1\n"
        "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)\nfor epoch in range(3):" + STEP,
    ),
    "frozen in eval mode": (
        REFUTED,
        "model.body.requires_grad_(False).eval()  # claim: drifts model.body.1\n"
        "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)\nfor epoch in range(3):" + STEP,
    ),
    "mode reset": (
        CONFIRMED,
        "model.body.requires_grad_(False)\nmodel.body.eval()  # claim: mode-reset model.body\n"
        "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)\nfor epoch in range(3):\n    model.train()" + STEP,
    ),
    "mode kept": (
        REFUTED,
        "model.body.requires_grad_(False)\n"
        "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)\nfor epoch in range(3):\n    model.train()\n"
        "    model.body.eval()  # claim: mode-reset model.body" + STEP,
    ),
    # order
    "uncalled": (
        CONFIRMED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n"
        "    loss_of(model).backward()\n    optimizer.step  # claim: never-called step\n",
    ),
    "not cleared": (
        CONFIRMED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n"
        "    loss_of(model).backward()\n    optimizer.step()  # claim: gradients-not-cleared optimizer\n",
    ),
    "cleared": (
        REFUTED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n"
        "    loss_of(model).backward()\n    optimizer.step()  # claim: gradients-not-cleared optimizer\n"
        "    optimizer.zero_grad()\n",
    ),
    "cleared to zeros": (
        REFUTED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n"
        "    model.zero_grad(set_to_none=False)\n"
        "    loss_of(model).backward()\n    optimizer.step()  # claim: gradients-not-cleared optimizer\n",
    ),
    "accumulated on purpose": (
        REFUTED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(6):\n    loss_of(model).backward()\n"
        "    if epoch % 2:\n        optimizer.step()  # claim: gradients-not-cleared optimizer\n"
        "        optimizer.zero_grad()\n",
    ),
    "cleared before the step": (
        CONFIRMED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n    loss_of(model).backward()\n"
        "    optimizer.zero_grad()  # claim: cleared-before-step optimizer\n    optimizer.step()\n",
    ),
    "cleared before the step by hand": (
        CONFIRMED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n    loss_of(model).backward()\n"
        "    for p in model.parameters():\n        p.grad = None  # claim: cleared-before-step optimizer\n"
        "    optimizer.step()\n",
    ),
    "cleared before backward": (
        REFUTED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n    loss = loss_of(model)\n"
        "    optimizer.zero_grad()  # claim: cleared-before-step optimizer\n    loss.backward()\n    optimizer.step()\n",
    ),
    "step first": (
        CONFIRMED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n    optimizer.zero_grad()\n"
        "    optimizer.step()  # claim: step-before-backward optimizer\n    loss_of(model).backward()\n",
    ),
    "step last": (
        REFUTED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n    optimizer.zero_grad()\n"
        "    loss_of(model).backward()\n    optimizer.step()  # claim: step-before-backward optimizer\n",
    ),
    "clipped first": (
        CONFIRMED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n    optimizer.zero_grad()\n"
        "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # claim: clip-without-effect optimizer\n"
        "    loss_of(model).backward()\n    optimizer.step()\n",
    ),
    "clipped between": (
        REFUTED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n    optimizer.zero_grad()\n"
        "    loss_of(model).backward()\n"
        "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # claim: clip-without-effect optimizer\n    optimizer.step()\n",
    ),
    "scheduler first": (
        CONFIRMED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)\nfor epoch in range(3):\n"
        "    scheduler.step()  # claim: scheduler-before-optimizer optimizer" + STEP,
    ),
    "scheduler last": (
        REFUTED,
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)\nfor epoch in range(3):"
        + STEP
        + "    scheduler.step()  # claim: scheduler-before-optimizer optimizer\n",
    ),
    "wrong optimizer": (
        CONFIRMED,
        "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)\nother = nn.Linear(1, 1)\n"
        "second = torch.optim.SGD(other.parameters(), lr=0.1)\nfor epoch in range(3):\n    optimizer.zero_grad()\n"
        "    loss_of(model).backward()\n    second.step()  # claim: never-stepped optimizer\n",
    ),
    "right optimizer": (
        REFUTED,
        "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)\nother = nn.Linear(1, 1)\n"
        "second = torch.optim.SGD(other.parameters(), lr=0.1)\nfor epoch in range(3):\n    optimizer.zero_grad()\n"
        "    loss_of(model).backward()\n    optimizer.step()  # claim: never-stepped optimizer\n",
    ),
}

SCALER = """\
scaler = torch.amp.GradScaler("cuda")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    optimizer.zero_grad()
    loss = loss_of(model)
"""

CASES |= {
    "scaled, stepped directly": (
        CONFIRMED,
        SCALER + "    scaler.scale(loss).backward()\n    optimizer.step()  # claim: amp-step optimizer\n",
    ),
    "not scaled, stepped directly": (
        REFUTED,
        SCALER + "    loss.backward()\n    optimizer.step()  # claim: amp-step optimizer\n",
    ),
    "never updated": (
        CONFIRMED,
        SCALER + "    scaler.scale(loss).backward()\n    scaler.step(optimizer)  # claim: amp-update optimizer\n",
    ),
    "updated": (
        REFUTED,
        SCALER
        + "    scaler.scale(loss).backward()\n    scaler.step(optimizer)  # claim: amp-update optimizer\n    scaler.update()\n",
    ),
    "backward not scaled": (
        CONFIRMED,
        SCALER + "    loss.backward()  # claim: amp-backward optimizer\n    scaler.step(optimizer)\n    scaler.update()\n",
    ),
    "backward scaled": (
        REFUTED,
        SCALER
        + "    scaler.scale(loss).backward()  # claim: amp-backward optimizer\n    scaler.step(optimizer)\n"
        + "    scaler.update()\n",
    ),
    "clipped scaled": (
        CONFIRMED,
        SCALER
        + "    scaler.scale(loss).backward()\n"
        + "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # claim: clip-before-unscale optimizer\n"
        + "    scaler.step(optimizer)\n    scaler.update()\n",
    ),
    "clipped unscaled": (
        REFUTED,
        SCALER
        + "    scaler.scale(loss).backward()\n    scaler.unscale_(optimizer)\n"
        + "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # claim: clip-before-unscale optimizer\n"
        + "    scaler.step(optimizer)\n    scaler.update()\n",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_probe(name: str, server: Server, tmp_path: Path) -> None:
    outcome, text = CASES[name]
    (verdict,), answer = put(server, tmp_path, {"main.py": HEAD + text})
    assert verdict.outcome is outcome, (verdict, answer["output"], answer["ending"])
    assert verdict.evidence or outcome is REFUTED


def test_evidence_says_how_much_a_buffer_moved(server: Server, tmp_path: Path) -> None:
    (verdict,), _ = put(server, tmp_path, {"main.py": HEAD + CASES["drifts"][1]})
    assert "`model.body.1`" in verdict.evidence[0].text
    assert "running_mean by up to 0." in verdict.evidence[0].text


def test_evidence_names_and_counts_parameters(server: Server, tmp_path: Path) -> None:
    (verdict,), _ = put(server, tmp_path, {"main.py": HEAD + CASES["unfrozen too late"][1]})
    assert verdict.evidence[0].text == "`model.body.*`, 4 tensors, 42 parameters: in no optimizer after 3 more steps"
    assert "a gradient comes, and no step applies it" in verdict.evidence[1].text


def test_device_moves(server: Server, tmp_path: Path) -> None:
    text = (
        HEAD
        + "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(3):\n    x, y = batch()\n"
        + "    h = model(x).cpu()  # claim: leaves-device\n    shown = h.detach().cpu()  # claim: leaves-device\n"
        + "    loss = nn.functional.cross_entropy(h, y)\n    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()\n"
    )
    (on_the_way, aside), _ = put(server, tmp_path, {"main.py": text})
    assert on_the_way.outcome is CONFIRMED
    assert aside.outcome is REFUTED
