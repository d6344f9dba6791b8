"""The cut tracer and the flow probe: every kind of cut is confirmed at its line, and its harmless twin is not."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gradlint.core import Outcome

pytest.importorskip("torch")

from gradlint.testing.verifying import put
from gradlint.verify.client import Server

PROGRAM = """\
import math
import numpy as np
import torch
from torch import nn

class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()
    @staticmethod
    def backward(ctx, grad):
        return torch.zeros_like(grad)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(6, 8)
        self.head = nn.Linear(8, 3)
{methods}
    def forward(self, x):
{body}
        return self.head(h)

torch.manual_seed(0)
model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step in range(4):
    x, y = torch.randn(5, 6), torch.randint(0, 3, (5,))
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def program(body: str, methods: str = "") -> str:
    return PROGRAM.format(
        body=textwrap.indent(textwrap.dedent(body).strip("\n"), " " * 8),
        methods=textwrap.indent(textwrap.dedent(methods).strip("\n"), " " * 4),
    )


CUTS = {
    "detach": "h = self.encoder(x).detach()  # claim: starved model.encoder",
    "detach in place": "h = self.encoder(x).relu_()\nh.detach_()  # claim: starved model.encoder",
    "torch.detach": "h = torch.detach(self.encoder(x))  # claim: starved model.encoder",
    "data": "h = self.encoder(x).data  # claim: starved model.encoder",
    "block": "with torch.no_grad():  # claim: starved model.encoder\n    h = self.encoder(x)",
    "inference": "with torch.inference_mode():  # claim: starved model.encoder\n    h = self.encoder(x)\nh = h.clone()",
    "set_grad_enabled": "with torch.set_grad_enabled(False):  # claim: starved model.encoder\n    h = self.encoder(x)",
    "numpy": "h = torch.from_numpy(self.encoder(x).detach().numpy())  # claim: starved model.encoder",
    "numpy, computed with": """
        with torch.no_grad():
            a = self.encoder(x)
        a = a.numpy()  # claim: starved model.encoder
        h = torch.as_tensor(np.tanh(a) * 2.0)
    """,
    "tolist": "h = torch.tensor(self.encoder(x).tolist())  # claim: starved model.encoder",
    "torch.tensor of a tensor": "h = torch.tensor(self.encoder(x))  # claim: starved model.encoder",
    "item": "h = torch.ones(5, 8) * self.encoder(x).mean().item()  # claim: starved model.encoder",
    "float": "m = float(self.encoder(x).mean())  # claim: starved model.encoder\nh = torch.full((5, 8), math.exp(m))",
    "round": "h = self.encoder(x).round()  # claim: starved model.encoder",
    "comparison": "h = (self.encoder(x) > 0).float()  # claim: starved model.encoder",
    "argmax": "h = torch.eye(8)[self.encoder(x).argmax(1)]  # claim: starved model.encoder",
    "parameter": "h = nn.Parameter(self.encoder(x))  # claim: starved model.encoder",
    "custom function": "h = Round.apply(self.encoder(x))  # claim: starved model.encoder",
    "numbers rebuilt": """
        best = self.encoder(x).argmax(1)  # claim: starved model.encoder
        table = {i: float(i) for i in range(8)}
        h = torch.tensor([[table[int(b)]] * 8 for b in best])
    """,
}


@pytest.mark.parametrize("name", CUTS)
def test_cut_is_confirmed_at_its_line(name: str, server: Server, tmp_path: Path) -> None:
    (verdict,), answer = put(server, tmp_path, {"main.py": program(CUTS[name])})
    assert verdict.outcome is Outcome.CONFIRMED, (verdict, answer["output"])
    assert any("model.encoder" in each.text for each in verdict.evidence)
    assert "main.py" in verdict.driver and "optimizer steps" in verdict.driver and verdict.device == "cpu"


def test_decorator(server: Server, tmp_path: Path) -> None:
    methods = """
        @torch.no_grad()  # claim: starved model.encoder
        def features(self, x):
            return self.encoder(x)
    """
    (verdict,), _ = put(server, tmp_path, {"main.py": program("h = self.features(x)", methods)})
    assert verdict.outcome is Outcome.CONFIRMED
    # Bare, without parentheses, it works as well.
    bare = program("h = self.features(x)", methods.replace("no_grad()", "no_grad"))
    assert put(server, tmp_path, {"main.py": bare})[0][0].outcome is Outcome.CONFIRMED


def test_generator_that_yields_inside_no_grad_reaches_into_its_caller(server: Server, tmp_path: Path) -> None:
    text = """\
import torch
from torch import nn

def batches():
    with torch.no_grad():  # claim: severed
        for _ in range(3):
            yield torch.randn(4, 6)

model = nn.Linear(6, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for x in batches():
    loss = model(x).pow(2).mean()
    loss.backward()
    optimizer.step()
"""
    (verdict,), _ = put(server, tmp_path, {"main.py": text})
    assert verdict.outcome is Outcome.CONFIRMED
    assert any("does not require grad" in each.text for each in verdict.evidence)


def test_forward_hook_that_detaches(server: Server, tmp_path: Path) -> None:
    text = program("h = self.encoder(x)").replace(
        "optimizer = ",
        "model.encoder.register_forward_hook(\n"
        "    lambda module, inputs, output: output.detach()  # claim: starved model.encoder\n)\noptimizer = ",
    )
    (verdict,), _ = put(server, tmp_path, {"main.py": text})
    assert verdict.outcome is Outcome.CONFIRMED


HARMLESS = {
    "another way": "h = self.encoder(x)\nh = h + h.detach()  # claim: starved model.encoder",
    "straight through": "h = self.encoder(x)\nh = h + (h.round() - h).detach()  # claim: starved model.encoder",
    "logging": "h = self.encoder(x)\nself.logged = h.mean().item()  # claim: starved model.encoder",
    "index": "h = self.encoder(x)\nh = h[h.argmax(1) % 5]  # claim: starved model.encoder",
    "mask": "h = self.encoder(x)\nh = h * (h > 0)  # claim: starved model.encoder",
    "metric": (
        "with torch.no_grad():  # claim: starved model.encoder\n    self.norm = self.encoder(x).norm()\nh = self.encoder(x)"
    ),
    "frozen input": "h = self.encoder(x.detach())  # claim: starved model.encoder",
    "enabled again": """
        with torch.no_grad():  # claim: starved model.encoder
            with torch.enable_grad():
                h = self.encoder(x)
    """,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_cut_is_refuted(name: str, server: Server, tmp_path: Path) -> None:
    (verdict,), answer = put(server, tmp_path, {"main.py": program(HARMLESS[name])})
    assert verdict.outcome is Outcome.REFUTED, (verdict, answer["output"])


def test_value_that_leaves_and_never_comes_back_is_not_refuted_rashly(server: Server, tmp_path: Path) -> None:
    body = """
        h = self.encoder(x)
        chosen = h.argmax(1).tolist()  # claim: inert model.encoder
        self.file = str(chosen)
    """
    (verdict,), _ = put(server, tmp_path, {"main.py": program(body)})
    assert verdict.outcome is not Outcome.CONFIRMED


LOSSES = """\
import torch
from torch import nn

torch.manual_seed(0)
a, b = nn.Linear(4, 4), nn.Linear(4, 4)
optimizer = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=0.1)
for step in range(3):
    x = torch.randn(6, 4)
    main = (a(x) + b(x)).pow(2).mean()
    {term}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    "term",
    [
        "loss = main + 0.1 * b(x).detach().abs().mean()  # claim: inert b",
        "loss = main\n    loss += b(x).abs().mean().item()  # claim: inert b",
        "loss = sum([main, b(x).data.abs().mean()])  # claim: inert b",
        "loss = torch.stack([main, b(x).detach().abs().mean()]).mean()  # claim: inert b",
        "parts = {'m': main, 'r': b(x).abs().mean().detach()}  # claim: inert b\n    loss = sum(parts.values())",
        "loss = main + torch.tensor(b(x).abs().mean().item())  # claim: inert b",
    ],
)
def test_inert_term_is_confirmed_although_every_parameter_has_gradient(term: str, server: Server, tmp_path: Path) -> None:
    (verdict,), answer = put(server, tmp_path, {"main.py": LOSSES.format(term=term)})
    assert verdict.outcome is Outcome.CONFIRMED, (verdict, answer["output"])
    assert "summand" in verdict.reason


@pytest.mark.parametrize(
    "term",
    [
        "loss = main + (b(x) - a(x).detach()).abs().mean()  # claim: inert a",
        "loss = main * main.detach()  # claim: inert a",
        "loss = main / main.item()  # claim: inert a",
        "loss = main[None][main.argmin().long()]  # claim: inert a",
    ],
)
def test_live_term_is_refuted(term: str, server: Server, tmp_path: Path) -> None:
    (verdict,), answer = put(server, tmp_path, {"main.py": LOSSES.format(term=term)})
    assert verdict.outcome is Outcome.REFUTED, (verdict, answer["output"])


def test_loss_is_judged_by_what_its_optimizer_holds(server: Server, tmp_path: Path) -> None:
    text = """\
import torch
from torch import nn

torch.manual_seed(0)
G, D = nn.Linear(3, 4), nn.Linear(4, 1)
optimizer_g = torch.optim.SGD(G.parameters(), lr=0.1)
optimizer_d = torch.optim.SGD(D.parameters(), lr=0.1)
for step in range(3):
    fake = G(torch.randn(5, 3))
    loss_d = D(fake.detach()).mean()  # claim: severed G
    optimizer_d.zero_grad(); loss_d.backward(); optimizer_d.step()
    loss_g = -D(fake.{cut}).mean()  # claim: severed G
    optimizer_g.zero_grad(); loss_g.backward(); optimizer_g.step()
"""
    (first, second), _ = put(server, tmp_path, {"main.py": text.format(cut="detach()")})
    assert (first.outcome, second.outcome)[1] is Outcome.CONFIRMED
    (first, second), _ = put(server, tmp_path, {"main.py": text.format(cut="clone()")})
    assert first.outcome is Outcome.REFUTED and second.outcome is Outcome.REFUTED


REVIVED = """\
import torch
from torch import nn

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    loss = model(torch.randn(5, 4)).pow(2).mean()
    {line}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    "line",
    [
        "loss = torch.tensor(loss.item(), requires_grad=True)  # claim: severed model",
        "loss = torch.autograd.Variable(loss.data, requires_grad=True)  # claim: severed model",
        "loss = loss.detach().requires_grad_()  # claim: severed model",
        "loss = loss.detach()\n    loss.requires_grad = True  # claim: severed model",
    ],
)
def test_revived_leaf(line: str, server: Server, tmp_path: Path) -> None:
    (verdict,), answer = put(server, tmp_path, {"main.py": REVIVED.format(line=line)})
    assert verdict.outcome is Outcome.CONFIRMED, (verdict, answer["output"])


def test_line_that_does_not_run_is_inconclusive(server: Server, tmp_path: Path) -> None:
    body = "h = self.encoder(x)\nif not self.training:\n    h = h.detach()  # claim: starved model.encoder"
    (verdict,), _ = put(server, tmp_path, {"main.py": program(body)})
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "did not run" in verdict.reason


def test_frozen_subject_is_refuted(server: Server, tmp_path: Path) -> None:
    text = program("h = self.encoder(x).detach()  # claim: starved model.encoder").replace(
        "optimizer = torch.optim.AdamW(model.parameters()",
        "model.encoder.requires_grad_(False)\noptimizer = torch.optim.AdamW(model.head.parameters()",
    )
    (verdict,), _ = put(server, tmp_path, {"main.py": text})
    assert verdict.outcome is Outcome.REFUTED


def test_values_and_randomness_are_those_of_a_plain_run(server: Server, tmp_path: Path) -> None:
    """The tracer changes nothing: what the program prints, traced, is what it prints without."""
    import subprocess
    import sys

    text = program("h = self.encoder(x).relu()\nh = h + h.round().detach()  # claim: starved model.encoder")
    text += "print(repr(loss.item()), [p.double().sum().item() for p in model.parameters()])\n"
    _, answer = put(server, tmp_path, {"main.py": text})
    plain = subprocess.run([sys.executable, str(tmp_path / "main.py")], capture_output=True, text=True, check=True)
    assert plain.stdout and answer["output"] == plain.stdout
