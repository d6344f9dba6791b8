"""The mutators of the benchmark plant what they say, in programs that still parse."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_mutations", ROOT / "benchmarks" / "mutations.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


mutations = _loaded()

PROGRAM = """\
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import Function


class Scale(Function):
    @staticmethod
    def forward(ctx, x, by):
        ctx.by = by
        return x * by

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.by, None


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(4, 3)
        self.more = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        h = F.dropout(self.body(x).mean(-1), 0.1, training=self.training)
        return self.head(Scale.apply(h, 2.0)) * self.scale


def slope(net, x):
    (found,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    return found


def evaluate(net, x):
    net.eval()
    with torch.no_grad():
        return net(x)


def amp(net, x, optimizer, scaler):
    loss = net(x).mean()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()


def main():
    net = Net()
    if torch.cuda.is_available():
        print("a device is there and not used")
    for parameter in net.more.parameters():
        parameter.requires_grad = False
    optimizer = torch.optim.Adam(net.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    total, state = 0.0, torch.zeros(4)
    for _ in range(5):
        net.train()
        x, y = torch.randn(8, 2, 9), torch.randint(0, 3, (8,))
        scores = net(x)
        loss = F.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
        state = state + 1
        state = state.detach()
        evaluate(net, x)
"""

PAIR = """\
import torch
from torch import nn

first, second, third = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
one = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
two = torch.optim.SGD(third.parameters(), lr=0.1)
for _ in range(3):
    loss = second(first(torch.randn(4, 2))).mean()
    one.zero_grad()
    loss.backward()
    one.step()
"""

LISTED = PAIR.replace("two = torch.optim.SGD(third.parameters(), lr=0.1)\n", "")

# What the planted text holds, or does not hold any more.
PLANTED = {
    "GRD101": "output = net(x)",
    "GRD102": "net(x).detach()",
    "GRD103": "net(x).cpu()",
    "GRD104": "net(x).data",
    "GRD105": "(net(x)",
    "GRD106": "net(x).round()",
    "GRD107": "loss = torch.tensor(loss.item(), requires_grad=True)",
    "GRD109": "@torch.no_grad()\ndef main",
    "GRD110": "torch.set_grad_enabled(False)",
    "GRD111": "with torch.no_grad:",
    "GRD201": "net.body.requires_grad_(False)",
    "GRD202": "net.body.requires_grad_(True)",
    "GRD203": "net.head = nn.Linear(4, 3)",
    "GRD204": "-*second.parameters()",
    "GRD205": "parameters = net.parameters()",
    "GRD206": "net.body.requires_grad = False",
    "GRD207": ".require_grad = False",
    "GRD208": "net.eval\n",
    "GRD209": "self.more = [nn.Linear",
    "GRD210": "nn.Parameter(torch.ones(1)).cuda()",
    "GRD211": "nn.Linear(4, 3)(Scale",
    "GRD301": "net.body.requires_grad_(False)\n    optimizer",
    "GRD305": "-net.train()",
    "GRD306": "-net.eval()",
    "GRD307": "-training=self.training",
    "GRD401": "-optimizer.zero_grad()",
    "GRD402": "loss.backward()\n        optimizer.zero_grad()",
    "GRD403": "optimizer.step()\n        loss.backward()",
    "GRD404": "    loss.backward()\n    two.step()",
    "GRD405": "clip_grad_norm_(net.parameters(), 1.0)",
    "GRD406": "scheduler.step()\n        optimizer.step()",
    "GRD409": "F.cross_entropy(scores.softmax(dim=-1), y)",
    "GRD501": "total += loss\n",
    "GRD502": "-state.detach()",
    "GRD601": "weight.clamp_(-1.0, 1.0)",
    "GRD602": "output *= 2",
    "GRD603": "return grad * ctx.by\n",
    "GRD604": "Scale.forward(None, h, 2.0)",
    "GRD605": "lambda m, i, o: seen.update({label: o})",
    "GRD606": "net.body.register_forward_hook(lambda m, i, o: o.detach())",
    "GRD607": "-create_graph=True",
    "GRD701": "    optimizer.step()\n    scaler.update()",
    "GRD702": "-scaler.unscale_(optimizer)",
}


def test_every_mutator_is_tried_here() -> None:
    assert set(PLANTED) == set(mutations.MUTATORS)


@pytest.mark.parametrize("code", sorted(PLANTED))
def test_mutator_plants_its_bug(code: str) -> None:
    text = {"GRD204": LISTED, "GRD404": PAIR}.get(code, PROGRAM)
    if code == "GRD405":
        text = text.replace("    nn.utils.clip_grad_norm_(net.parameters(), 1.0)\n", "")
    source = mutations.Source(Path("train.py"), text)
    found = mutations.mutants(source, code, 10)
    assert found
    for mutant in found:
        ast.parse(mutant.text)
        assert mutant.code == code and mutant.text != text
        assert all(1 <= line <= mutant.text.count("\n") for line in mutant.planted)
    wanted = PLANTED[code]
    if wanted.startswith("-"):
        assert any(mutant.text.count(wanted[1:]) < text.count(wanted[1:]) for mutant in found)
    else:
        assert any(mutant.text.count(wanted) > text.count(wanted) for mutant in found)


def test_most_is_kept_and_the_choice_stays_the_same() -> None:
    source = mutations.Source(Path("train.py"), PROGRAM)
    everything = mutations.mutants(source, "GRD208", 100)
    some = mutations.mutants(source, "GRD208", 2)
    assert len(everything) > 2 == len(some)
    assert [mutant.text for mutant in some] == [mutant.text for mutant in mutations.mutants(source, "GRD208", 2)]


def test_found_means_found_where_it_was_planted(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM, encoding="utf-8")
    outcome = mutations.Outcome()
    mutations.run(tmp_path, outcome, 1, ["GRD102", "GRD205"])
    assert {code: (count.planted, count.found) for code, count in outcome.rules.items()} == {"GRD102": (1, 1), "GRD205": (1, 1)}
    text = mutations.report(outcome, {"GRD102": "detach-on-loss-path"})
    assert "2 planted bugs, 2 found: **100 %**" in text and "| GRD102 detach-on-loss-path | 1 | 1 | 100 % |" in text


def test_a_finding_elsewhere_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM, encoding="utf-8")
    source = mutations.Source(tmp_path / "train.py", PROGRAM)
    (mutant,) = mutations.mutants(source, "GRD205", 1)
    findings = [f for f in mutations.check(tmp_path, {mutant.path: mutant.text}) if f.code == "GRD205"]
    assert findings and mutations.relates(findings[0], mutant, tmp_path)
    elsewhere = mutations.Mutant("GRD205", mutant.path, mutant.text, frozenset({1}), "")
    assert not mutations.relates(findings[0], elsewhere, tmp_path)
