"""Every kind of claim has a program on which it is confirmed and a mended one on which it is not."""

from __future__ import annotations

import re
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
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU())
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.body(x))

def batch():
    return torch.randn(8, 4) + 1

def train(loss, *optimizers):
    for each in optimizers:
        each.zero_grad()
    loss.backward()
    for each in optimizers:
        each.step()

model, other = Net(), Net()
sgd, second = (torch.optim.SGD(m.parameters(), lr=0.01) for m in (model, other))
"""

GROUP = """\
torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x, both):
        return self.one(x) + self.two(x) if both else self.one(x)

"""
TURNS = "for _ in range(3):\n"
STEP = TURNS + "    train(model(batch()).pow(2).mean(), sgd)\n"

SQUARE = """
class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        {kept}
        return x * scale

    @staticmethod
    def backward(ctx, grad):
        {returned}

w = nn.Parameter(torch.ones(3))
for _ in range(2):
    loss = {made}
    loss = loss.sum()
    loss.backward()
"""


def square(kept: str = "ctx.scale = scale", returned: str = "return grad * 2, None", made: str = "Scaled.apply(w, 2)") -> str:
    return SQUARE.format(kept=kept, returned=returned, made=made)


CASES = {
    # what is in an optimizer, and what is a parameter
    "exhausted": (
        CONFIRMED,
        "params = model.parameters()\nprint(len(list(params)))\nfor p in params:  # claim: exhausted @ params\n    p.data.zero_()\n",
    ),
    "not exhausted": (
        REFUTED,
        "params = iter(list(model.parameters()))\nfor p in params:  # claim: exhausted @ params\n    p.numel()\n",
    ),
    "tied and frozen": (
        CONFIRMED,
        "other.head.weight = model.head.weight\nmodel.head.requires_grad_(False)  # claim: frozen-with-another other.head\n"
        + STEP,
    ),
    "not tied and frozen": (
        REFUTED,
        "model.head.requires_grad_(False)  # claim: frozen-with-another other.head\n" + STEP,
    ),
    "made anew": (
        CONFIRMED,
        TURNS + "    head = nn.Linear(2, 2)  # claim: made-anew head\n    train(head(model(batch())).pow(2).mean(), sgd)\n",
    ),
    "made once": (
        REFUTED,
        "head = None\n"
        + TURNS
        + "    head = head or nn.Linear(2, 2)  # claim: made-anew head\n    train(head(model(batch())).pow(2).mean(), sgd)\n",
    ),
    "in a list": (
        CONFIRMED,
        "class Kept(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.parts = [nn.Linear(2, 2)]  # claim: not-registered parts\n\nKept()\n",
    ),
    "in a module list": (
        REFUTED,
        "class Kept(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.parts = nn.ModuleList([nn.Linear(2, 2)])  # claim: not-registered parts\n\nKept()\n",
    ),
    "moved to where it is": (
        INCONCLUSIVE,
        "class Kept(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.w = nn.Parameter(torch.ones(2)).to('cpu')  # claim: not-registered w\n\nKept()\n",
    ),
    "toggled after the wrap": (
        CONFIRMED,
        "compiled = torch.compile(model)\nmodel.body.requires_grad_(False)  # claim: toggled-after-wrap model.body\n" + STEP,
    ),
    "toggled before the wrap": (
        REFUTED,
        "model.body.requires_grad_(False)  # claim: toggled-after-wrap model.body\ncompiled = torch.compile(other)\n" + STEP,
    ),
    "a branch that is skipped": (
        CONFIRMED,
        GROUP + "wrapped = nn.parallel.DistributedDataParallel(Two())  # claim: unused\n"
        "wrapped(batch(), False).sum().backward()\nwrapped(batch(), False).sum().backward()\n",
    ),
    "no branch is skipped": (
        REFUTED,
        GROUP + "wrapped = nn.parallel.DistributedDataParallel(Two())  # claim: unused\n"
        "wrapped(batch(), True).sum().backward()\nwrapped(batch(), True).sum().backward()\n",
    ),
    # modes
    "left in eval mode": (
        CONFIRMED,
        TURNS + "    train(model(batch()).pow(2).mean(), sgd)\n    model.eval()  # claim: trains-in-eval-mode model\n",
    ),
    "back in train mode": (
        REFUTED,
        TURNS
        + "    model.train()\n    train(model(batch()).pow(2).mean(), sgd)\n    model.eval()  # claim: trains-in-eval-mode\n",
    ),
    "evaluated in train mode": (
        CONFIRMED,
        STEP + "with torch.no_grad():\n    print(model(batch()))  # claim: evaluated-in-train-mode\n",
    ),
    "evaluated in eval mode": (
        REFUTED,
        STEP + "model.eval()\nwith torch.no_grad():\n    print(model(batch()))  # claim: evaluated-in-train-mode\n",
    ),
    "dropout without the mode": (
        CONFIRMED,
        "class Drops(nn.Module):\n    def forward(self, x):\n"
        "        return nn.functional.dropout(x, 0.5)  # claim: random-in-evaluation\n\nDrops()(batch())\n",
    ),
    "dropout with the mode": (
        REFUTED,
        "class Drops(nn.Module):\n    def forward(self, x):\n"
        "        return nn.functional.dropout(x, 0.5, self.training)  # claim: random-in-evaluation\n\nDrops()(batch())\n",
    ),
    "a frozen teacher with dropout": (
        CONFIRMED,
        "other.requires_grad_(False)  # claim: random-though-frozen other\n"
        + TURNS
        + "    x = batch()\n    train((model(x) - other(x)).pow(2).mean(), sgd)\n",
    ),
    "a frozen teacher in eval mode": (
        REFUTED,
        "other.requires_grad_(False).eval()  # claim: random-though-frozen other\n"
        + TURNS
        + "    x = batch()\n    train((model(x) - other(x)).pow(2).mean(), sgd)\n",
    ),
    "a teacher that is only left out": (
        CONFIRMED,
        "teacher = Net()\n"
        + TURNS
        + "    x = batch()\n    with torch.no_grad():\n        wanted = teacher(x)  # claim: random-though-frozen teacher\n"
        "    train((model(x) - wanted).pow(2).mean(), sgd)\n",
    ),
    "a buffer written in forward": (
        CONFIRMED,
        "class Counts(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.register_buffer('seen', torch.zeros(()))\n\n    def forward(self, x):\n"
        "        self.seen += 1  # claim: drifts model.extra\n        return x\n\n"
        "model.body.add_module('extra', Counts())\nmodel.body.requires_grad_(False)\n" + STEP,
    ),
    "a buffer written with the same": (
        REFUTED,
        "class Counts(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.register_buffer('seen', torch.zeros(()))\n\n    def forward(self, x):\n"
        "        self.seen += 0  # claim: drifts model.extra\n        return x\n\n"
        "model.body.add_module('extra', Counts())\nmodel.body.requires_grad_(False)\n" + STEP,
    ),
    # the training step
    "micro-batches": (
        CONFIRMED,
        "for turn in range(4):\n    model(batch()).pow(2).mean().backward()  # claim: accumulation-not-scaled\n"
        "    if turn % 2:\n        sgd.step()\n        sgd.zero_grad()\n",
    ),
    "scaled micro-batches": (
        REFUTED,
        "for turn in range(4):\n    (model(batch()).pow(2).mean() / 2).backward()  # claim: accumulation-not-scaled\n"
        "    if turn % 2:\n        sgd.step()\n        sgd.zero_grad()\n",
    ),
    "a graph kept for nothing": (
        CONFIRMED,
        TURNS + "    loss = model(batch()).pow(2).mean()\n    loss.backward(retain_graph=True)  # claim: graph-kept\n",
    ),
    "a graph kept for another backward": (
        REFUTED,
        TURNS
        + "    h = model(batch())\n    h.mean().backward(retain_graph=True)  # claim: graph-kept\n    h.pow(2).mean().backward()\n",
    ),
    "a graph kept for what is carried": (
        CONFIRMED,
        "state = torch.zeros(2)\nw = nn.Parameter(torch.ones(2))\nplain = torch.optim.SGD([w], lr=0.0)\n"
        + TURNS
        + "    state = torch.tanh(state + w)\n    state.sum().backward(retain_graph=True)  # claim: graph-kept\n    plain.step()\n",
    ),
    # where gradient goes
    "checkpointed without gradient": (
        CONFIRMED,
        TURNS + "    h = checkpoint(model.body, batch(), use_reentrant=True)  # claim: starved model.body\n"
        "    train(model.head(h).pow(2).mean(), sgd)\n",
    ),
    "checkpointed the new way": (
        REFUTED,
        TURNS + "    h = checkpoint(model.body, batch(), use_reentrant=False)  # claim: starved model.body\n"
        "    train(model.head(h).pow(2).mean(), sgd)\n",
    ),
    "a penalty without a graph": (
        CONFIRMED,
        TURNS + "    x = batch().requires_grad_()\n    out = model(x).sum()\n"
        "    slope, = torch.autograd.grad(out, x, retain_graph=True)  # claim: inert model\n"
        "    train(out + slope.pow(2).sum(), sgd)\n",
    ),
    "a penalty with a graph": (
        REFUTED,
        TURNS + "    x = batch().requires_grad_()\n    out = model(x).sum()\n"
        "    slope, = torch.autograd.grad(out, x, create_graph=True)  # claim: inert model\n"
        "    train(out + slope.pow(2).sum(), sgd)\n",
    ),
    "one way is cut": (
        CONFIRMED,
        TURNS + "    h = model.body(batch())\n    side = h.detach()  # claim: severed-way model.body\n"
        "    train((model.head(h) * side.mean()).pow(2).mean(), sgd)\n",
    ),
    "what is cut is only looked at": (
        REFUTED,
        TURNS + "    h = model.body(batch())\n    side = h.detach()  # claim: severed-way model.body\n"
        "    print(side.mean())\n    train(model.head(h).pow(2).mean(), sgd)\n",
    ),
    "a target with a graph": (
        CONFIRMED,
        TURNS
        + "    x = batch()\n    target = other(x)  # claim: let-through other\n    train((model(x) - target).pow(2).mean(), sgd)\n",
    ),
    "a target without": (
        REFUTED,
        TURNS + "    x = batch()\n    target = other(x).detach()  # claim: let-through other\n"
        "    train((model(x) - target).pow(2).mean(), sgd)\n",
    ),
    "the other's step": (
        CONFIRMED,
        "critic = nn.Linear(2, 1)\nthird = torch.optim.SGD(critic.parameters(), lr=0.01)\n"
        + TURNS
        + "    fake = model(batch())\n    third.zero_grad()\n"
        "    critic(fake).mean().backward(retain_graph=True)  # claim: leaks-into @ critic(fake)\n    third.step()\n"
        "    sgd.step()\n    sgd.zero_grad()\n",
    ),
    "the other's graph is gone": (
        CONFIRMED,
        "critic = nn.Linear(2, 1)\nthird = torch.optim.SGD(critic.parameters(), lr=0.01)\n"
        + TURNS
        + "    fake = model(batch())\n    train(-critic(fake).mean(), sgd)\n"
        "    train(critic(fake).mean(), third)  # claim: leaks-into @ critic(fake)\n",
    ),
    "the other's step, cleared": (
        REFUTED,
        "critic = nn.Linear(2, 1)\nthird = torch.optim.SGD(critic.parameters(), lr=0.01)\n"
        + TURNS
        + "    fake = model(batch())\n    third.zero_grad()\n"
        "    critic(fake).mean().backward()  # claim: leaks-into @ critic(fake)\n    third.step()\n"
        "    train(-critic(model(batch())).mean(), sgd)\n",
    ),
    "a leaf rebound": (
        CONFIRMED,
        "w = torch.ones(2, requires_grad=True)\n(w * 2).sum().backward()\nw = w - 0.1 * w.grad  # claim: not-a-leaf w\n",
    ),
    "a leaf made again": (
        REFUTED,
        "w = torch.ones(2, requires_grad=True)\n(w * 2).sum().backward()\n"
        "w = (w - 0.1 * w.grad).detach().requires_grad_()  # claim: not-a-leaf w\n",
    ),
    "a detach for nothing": (CONFIRMED, "h = model(batch())\nh.detach()  # claim: discarded\nh.sum().backward()\n"),
    "a detach in place": (INCONCLUSIVE, "h = model(batch())\nh.detach_()  # claim: discarded\n"),
    # what autograd refuses
    "an inference tensor": (
        CONFIRMED,
        "with torch.inference_mode():\n    x = batch()\nh = model.head.weight * x[:2, :1]  # claim: raises\n",
    ),
    "made in an inference region": (
        CONFIRMED,
        "with torch.inference_mode():  # claim: raises @ torch.inference_mode()\n    x = batch()\n"
        "h = model.head.weight * x[:2, :1]\n",
    ),
    "a cloned inference tensor": (
        REFUTED,
        "with torch.inference_mode():\n    x = batch()\nh = model.head.weight * x.clone()[:2, :1]  # claim: raises\n",
    ),
    "a leaf changed in place": (CONFIRMED, "model.head.weight.mul_(2)  # claim: raises\n"),
    "a leaf changed without gradient": (
        REFUTED,
        "with torch.no_grad():\n    model.head.weight.mul_(2)  # claim: raises\n",
    ),
    "raises something else": (INCONCLUSIVE, "{}['no']  # claim: raises\n"),
    "what was saved is changed": (
        CONFIRMED,
        "h = torch.sigmoid(model(batch()))\nh += 1  # claim: saved-changed\nh.sum().backward()\n",
    ),
    "what was saved is changed by an argument": (
        CONFIRMED,
        "h = torch.softmax(model(batch()), 1)\n"
        "h = nn.functional.dropout(h, 0.5, inplace=True)  # claim: saved-changed\nh.sum().backward()\n",
    ),
    "what was not saved is changed": (
        REFUTED,
        "h = model(batch()) * 3\nh += 1  # claim: saved-changed\nh.sum().backward()\n",
    ),
    # hooks
    "a hook made in a loop": (
        CONFIRMED,
        "for name, p in model.head.named_parameters():\n    p.register_hook(lambda g: print(name))  # claim: late-bound name\n"
        + STEP,
    ),
    "a hook with its own variable": (
        REFUTED,
        "for name, p in model.head.named_parameters():\n"
        "    p.register_hook(lambda g, name=name: print(name))  # claim: late-bound name\n" + STEP,
    ),
    "a hook that is defined in a loop": (
        CONFIRMED,
        "for name, p in model.head.named_parameters():\n    def hook(g):  # claim: late-bound name\n        print(name)\n"
        "    p.register_hook(hook)\n" + STEP,
    ),
    "a hook that widens": (
        CONFIRMED,
        "mask = torch.ones(2, 6)\nmodel.head.weight.register_hook(lambda g: g * mask)  # claim: hook-changes-dtype\n" + STEP,
    ),
    "a hook that casts": (
        REFUTED,
        "mask = torch.ones(2, 6)\nmodel.head.weight.register_hook(lambda g: g * mask.to(g.dtype))  # claim: hook-changes-dtype\n"
        + STEP,
    ),
    # functions with a backward of their own
    "a gradient too few": (CONFIRMED, square(returned="return grad * 2  # claim: too-few-gradients")),
    "gradients enough": (REFUTED, square(returned="return grad * 2, None  # claim: too-few-gradients")),
    "forward called": (
        CONFIRMED,
        square(
            made="Scaled.forward(type('C', (), {})(), w, 2)  # claim: bypassed Scaled @ Scaled.forward(type('C', (), {})(), w, 2)"
        ),
    ),
    "applied": (REFUTED, square(made="Scaled.apply(w, 2)  # claim: bypassed Scaled @ Scaled.apply(w, 2)")),
    "a tensor on ctx": (CONFIRMED, square(kept="ctx.x = x  # claim: not-saved")),
    "a number on ctx": (REFUTED, square(kept="ctx.scale = scale  # claim: not-saved")),
}


@pytest.mark.parametrize("title", CASES)
def test_probe(title: str, server: Server, tmp_path: Path) -> None:
    wanted, program = CASES[title]
    (verdict,), answer = put(server, tmp_path, {"main.py": HEAD + program})
    assert verdict.outcome is wanted, f"{verdict.reason} {verdict.evidence} {answer['ending']} {answer['output'][-500:]}"
    assert verdict.evidence or wanted is not CONFIRMED


def test_there_is_a_probe_for_each_claim_that_rules_make() -> None:
    from gradlint.verify.probes import PROBES

    rules = Path(__file__).parent.parent / "gradlint" / "rules"
    made = {
        kind for file in rules.glob("*.py") for kind in re.findall(r'Claim\(\s*"\w+",\s*"([\w-]+)"', file.read_text("utf-8"))
    }
    assert len(made) > 20
    assert made <= PROBES.keys()


def test_each_probe_is_confirmed_and_refuted_in_some_test() -> None:
    from gradlint.verify.probes import PROBES

    claimed = {
        kind
        for file in Path(__file__).parent.glob("test_verify_*.py")
        for kind in re.findall(r"# claim: ([\w-]+)", file.read_text("utf-8"))
    }
    assert PROBES.keys() - {"contract"} <= claimed  # test_verify_contracts has those
