"""Graphs that live too long: what is kept beyond its iteration, and what is carried into the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradlint.core import Outcome

pytest.importorskip("torch")

from gradlint.testing.verifying import put
from gradlint.verify.client import Server

CONFIRMED, REFUTED, INCONCLUSIVE = Outcome.CONFIRMED, Outcome.REFUTED, Outcome.INCONCLUSIVE


HEAD = """\
import torch
from torch import nn

torch.manual_seed(0)
model, cell, head = nn.Linear(3, 3), nn.LSTMCell(3, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*model.parameters(), *cell.parameters(), *head.parameters()], lr=0.1)

def loss_of():
    return model(torch.randn(4, 3)).pow(2).mean()

def train(loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

"""

CASES = {
    # kept beyond the iteration
    "a total": (
        CONFIRMED,
        "total = 0\nfor _ in range(5):\n    loss = loss_of()\n    train(loss)\n    total = total + loss  # claim: graph-outlives\n",
    ),
    "a total that ends with an error": (
        CONFIRMED,
        "total = 0\nfor _ in range(5):\n    loss = loss_of()\n    train(loss)\n    total += loss  # claim: graph-outlives\n"
        "raise MemoryError('full')\n",
    ),
    "a total of detached values": (
        REFUTED,
        "total = 0\nfor _ in range(5):\n    loss = loss_of()\n    train(loss)\n    total += loss.detach()  # claim: graph-outlives\n",
    ),
    "a total of numbers": (
        REFUTED,
        "total = 0\nfor _ in range(5):\n    loss = loss_of()\n    train(loss)\n    total += loss.item()  # claim: graph-outlives\n",
    ),
    "a total that is back-propagated": (
        REFUTED,
        "for _ in range(2):\n    total = 0\n    for _ in range(5):\n        total += loss_of()  # claim: graph-outlives\n"
        "    train(total)\n",
    ),
    "a list in a dictionary": (
        CONFIRMED,
        "log = {'loss': []}\nfor _ in range(5):\n    loss = loss_of()\n    log['loss'].append(loss)  # claim: graph-outlives\n"
        "    train(loss)\n",
    ),
    "the states of a recurrent network": (
        CONFIRMED,
        "memory = []\nfor _ in range(4):\n    state, loss = None, 0\n    for _ in range(3):\n"
        "        state = cell(torch.randn(2, 3), state)\n        memory.append(state)  # claim: graph-outlives\n"
        "        loss = loss + head(state[0]).mean()\n    train(loss)\n",
    ),
    "used late": (
        REFUTED,
        "other = nn.Linear(3, 1)\nfor _ in range(2):\n    losses = []\n    for _ in range(4):\n"
        "        losses.append(loss_of())  # claim: graph-outlives\n        other(torch.ones(3)).sum().backward()\n"
        "    train(sum(losses))\n",
    ),
    "outputs in a tuple": (
        CONFIRMED,
        "seen = []\nfor step in range(5):\n    loss = loss_of()\n    seen.append((step, {'loss': loss}))  # claim: graph-outlives\n"
        "    train(loss)\n",
    ),
    "a list that is emptied": (
        REFUTED,
        "for _ in range(5):\n    losses = []\n    for _ in range(3):\n        losses.append(loss_of())  # claim: graph-outlives\n"
        "    train(sum(losses))\n",
    ),
    "only the last one": (
        REFUTED,
        "state = {}\nfor _ in range(5):\n    loss = loss_of()\n    state['last'] = loss  # claim: graph-outlives\n    train(loss)\n",
    ),
    "once": (
        INCONCLUSIVE,
        "total = 0\nfor _ in range(1):\n    loss = loss_of()\n    train(loss)\n    total += loss  # claim: graph-outlives\n",
    ),
    # carried into the next iteration
    "a carried state": (
        CONFIRMED,
        "state = None\nfor _ in range(3):\n    state = cell(torch.randn(2, 3), state)  # claim: carried state\n"
        "    train(head(state[0]).mean())\n",
    ),
    "a carried state, each graph kept": (
        CONFIRMED,
        "state = None\nfor _ in range(3):\n    state = cell(torch.randn(2, 3), state)  # claim: carried state\n"
        "    head(state[0]).mean().backward(retain_graph=True)\n",
    ),
    "a state detached on the next line": (
        REFUTED,
        "state = None\nfor _ in range(3):\n    state = cell(torch.randn(2, 3), state)  # claim: carried state\n"
        "    train(head(state[0]).mean())\n    state = tuple(part.detach() for part in state)\n",
    ),
    "one backward for the whole sequence": (
        REFUTED,
        "for _ in range(3):\n    state = None\n    for _ in range(4):\n        state = cell(torch.randn(2, 3), state)  # claim: carried\n"
        "    train(head(state[0]).mean())\n",
    ),
    "another loss goes wrong": (
        REFUTED,
        "state, old = None, loss_of()\nfor turn in range(3):\n"
        "    state = cell(torch.randn(2, 3), None)  # claim: carried state\n    train(head(state[0]).mean())\ntrain(old)\ntrain(old)\n",
    ),
}


@pytest.mark.parametrize("title", CASES)
def test_what_becomes_of_graphs(title: str, server: Server, tmp_path: Path) -> None:
    wanted, program = CASES[title]
    (verdict,), answer = put(server, tmp_path, {"main.py": HEAD + program})
    assert verdict.outcome is wanted, f"{verdict.reason} {verdict.evidence} {answer['ending']} {answer['output'][-500:]}"


def test_the_evidence_counts(server: Server, tmp_path: Path) -> None:
    (verdict,), _ = put(server, tmp_path, {"main.py": HEAD + CASES["a total"][1]})
    assert [each.text for each in verdict.evidence] == [
        "the graphs of 4 earlier iterations are still there when the line runs again"
    ]
    assert verdict.evidence[0].span is not None and verdict.evidence[0].span.line == 20
