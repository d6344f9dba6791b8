"""What each rule says about a fact, where, and what its fix makes of the source."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gradlint.core import Claim, Confidence, Edit, Finding, Safety, Severity, Span, Step
from gradlint.flow.facts import (
    BackwardDisabled,
    DeviceRoundTrip,
    Fact,
    FrozenAfterOptimizer,
    FrozenModeReset,
    FrozenNormTraining,
    MisspelledGradAttribute,
    ModuleFlagAssigned,
    ReplacedAfterOptimizer,
    Revived,
    Severed,
    UncalledMethod,
    UnfrozenAfterOptimizer,
)
from gradlint.rules import all_rules
from gradlint.survey.source import SourceFile, from_text
from gradlint.syntax.check import check_file

LOSS = Span("train.py", 88, 5, 88, 20)
HIGH = Confidence.HIGH


def source(text: str, path: str = "model.py") -> SourceFile:
    return from_text(text, Path("/project") / path, path)


def spot(file: SourceFile, text: str, nth: int = 0) -> Span:
    """The place of the nth occurrence of a text."""
    offset = -1
    for _ in range(nth + 1):
        offset = file.text.index(text, offset + 1)

    def at(position: int) -> tuple[int, int]:
        before = file.text[:position]
        return before.count("\n") + 1, position - before.rfind("\n")

    return Span(file.path, *at(offset), *at(offset + len(text)))


def severed(file: SourceFile, text: str, cut: str, api: str, construct: str = "call", nth: int = 0, **more: Any) -> Severed:
    values: dict[str, Any] = {"starved": ("model.encoder",), "scope": "module", "loss": LOSS} | more
    return Severed(spot(file, text, nth), HIGH, (Step(LOSS, "the loss"),), cut, construct, api, **values)


def only(file: SourceFile, *facts: Fact) -> Finding:
    findings = check_file(file, facts, all_rules())
    assert len(findings) == 1, findings
    return findings[0]


def fixed(file: SourceFile, *findings: Finding) -> str:
    """The text after the fixes."""
    starts = [0]
    for line in file.text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def offset(line: int, column: int) -> int:
        return starts[line - 1] + column - 1

    edits: list[Edit] = []
    for finding in findings:
        assert finding.fix is not None, finding.message
        edits += finding.fix.edits
    text = file.text
    for edit in sorted(edits, key=lambda edit: edit.span, reverse=True):
        begin, end = offset(edit.span.line, edit.span.column), offset(edit.span.end_line, edit.span.end_column)
        text = text[:begin] + edit.text + text[end:]
    return text


def dedent(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


# --- GRD101 and GRD109: regions --------------------------------------------------------------------------------------


DECORATED = """\
class Net(nn.Module):
    # the tower
    @cached  # kept
    @torch.no_grad()
    async def encode(self, x):
        return self.tower(x)
"""


def test_no_grad_decorator() -> None:
    file = source(DECORATED)
    finding = only(file, severed(file, "torch.no_grad()", "no-grad", "@torch.no_grad()", "decorator"))
    assert (finding.code, finding.severity, finding.confidence) == ("GRD101", Severity.ERROR, HIGH)
    assert finding.span == Span("model.py", 4, 6, 4, 21)
    assert finding.message == (
        "No gradient reaches `model.encoder`: `@torch.no_grad()` cuts it off from the loss at train.py:88."
    )
    assert finding.help == (
        "Take the decorator away where training comes through. If `model.encoder` is meant to stay as it is, freeze it."
    )
    assert finding.claim == Claim("flow", "starved", ("model.encoder",), finding.span)
    assert finding.path == (Step(LOSS, "the loss"),)
    assert finding.fix is not None and finding.fix.safety is Safety.UNSAFE
    assert fixed(file, finding) == DECORATED.replace("    @torch.no_grad()\n", "")


REGION = '''\
def forward(self, x):
    if self.fast:
        pass
    else:
        # the backbone
        with torch.no_grad():  # too slow otherwise
            # features
            y = self.backbone(
                x,
            )

            note = """
            kept as it is
                this too
"""
            if y is None:
                return x
            # done
        y = y + 1
    return y
'''

REGION_FIXED = '''\
def forward(self, x):
    if self.fast:
        pass
    else:
        # the backbone
        # too slow otherwise
        # features
        y = self.backbone(
            x,
        )

        note = """
            kept as it is
                this too
"""
        if y is None:
            return x
        # done
        y = y + 1
    return y
'''


@pytest.mark.parametrize("rule", ["GRD101", "GRD109"])
def test_region_is_dedented_with_comments_and_strings_right(rule: str) -> None:
    file = source(REGION)
    fact: Fact = severed(file, "with torch.no_grad()", "no-grad", "torch.no_grad()", "with", starved=("a", "b"), scope="loss")
    if rule == "GRD109":
        fact = BackwardDisabled(fact.span, Confidence.MEDIUM, (), "with", "torch.no_grad()", LOSS)
    finding = only(file, fact)
    assert finding.code == rule
    assert finding.span == fact.span
    assert fixed(file, finding) == REGION_FIXED
    if rule == "GRD101":
        assert finding.message == (
            "No gradient reaches `a` and `b`: `torch.no_grad()` cuts the whole loss at train.py:88 off from them."
        )
        assert finding.claim is not None and finding.claim.kind == "severed"
    else:
        assert finding.message == (
            "`torch.no_grad()` switches gradient off where the loss is computed, so the backward at train.py:88 finds no "
            "graph to go back through."
        )
        assert finding.confidence is Confidence.MEDIUM
        assert finding.help == "Compute the loss outside it, or take the region away."


@pytest.mark.parametrize(
    ("before", "header", "after"),
    [
        ("with torch.no_grad(): y = f(x)  # why\n", "with torch.no_grad()", "y = f(x)  # why\n"),
        (
            "with torch.no_grad(), autocast('cuda'):\n    y = f(x)\n",
            "with torch.no_grad(), autocast('cuda')",
            "with autocast('cuda'):\n    y = f(x)\n",
        ),
        (
            "with autocast('cuda'), torch.no_grad():\n    y = f(x)\n",
            "with autocast('cuda'), torch.no_grad()",
            "with autocast('cuda'):\n    y = f(x)\n",
        ),
        (
            "with (\n    open(p) as f,\n    torch.no_grad(),\n):\n\ty = f(x)\n",
            "with (\n    open(p) as f,\n    torch.no_grad()",
            "with (\n    open(p) as f,\n):\n\ty = f(x)\n",
        ),
        ("with (torch.no_grad()):\n\n\ty = f(x)\n\tz = y", "with (torch.no_grad()", "\ny = f(x)\nz = y"),
        (
            "async def f():\n\twith th.no_grad():\n\t\tawait g()\n\t\tif a:\n\t\t\tb()\n\n\n\tc()\n",
            "with th.no_grad()",
            "async def f():\n\tawait g()\n\tif a:\n\t\tb()\n\n\n\tc()\n",
        ),
        (
            'with torch.no_grad():\n    y = \'a\\\n  b\' + \\\n  f"""\n    {y}\n"""\n  # low\n    z = 1\n',
            "with torch.no_grad()",
            'y = \'a\\\n  b\' + \\\n  f"""\n    {y}\n"""\n  # low\nz = 1\n',
        ),
    ],
)
def test_shapes_of_regions(before: str, header: str, after: str) -> None:
    file = source(before)
    api = "th.no_grad()" if "th.no" in header else "torch.no_grad()"
    finding = only(file, severed(file, header, "no-grad", api, "with"))
    assert fixed(file, finding) == after


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("with torch.no_grad() as region:\n    y = f(x, region)\n", "with torch.no_grad() as region"),
        ("with (\n    torch.no_grad(),  # slow\n):\n    y = f(x)\n", "with (\n    torch.no_grad()"),
        ("with torch.no_grad(), torch.no_grad():\n    y = f(x)\n", "with torch.no_grad(), torch.no_grad()"),
        ("with a, b:\n    y = f(x)\n", "with a, b"),
    ],
)
def test_regions_that_only_a_person_can_change(text: str, header: str) -> None:
    file = source(text)
    finding = only(file, severed(file, header, "no-grad", "torch.no_grad()", "with"))
    assert finding.fix is None
    assert finding.span.line == 1


# --- GRD102 … GRD106: values -----------------------------------------------------------------------------------------


VALUES: list[tuple[str, str, str, str, dict[str, Any]]] = [
    # what stands there, the guilty node, cut and api, what is left
    ("y = x.detach()\n", "x.detach()", "detach .detach()", "y = x\n", {}),
    ("y = (a + b).detach().mean()\n", "(a + b).detach()", "detach .detach()", "y = (a + b).mean()\n", {}),
    ("y = torch.detach(a + b) * c\n", "torch.detach(a + b)", "detach torch.detach", "y = (a + b) * c\n", {}),
    ("y = f(torch.detach(a + b))\n", "torch.detach(a + b)", "detach torch.detach", "y = f(a + b)\n", {}),
    ("y = torch.detach(input=x)\n", "torch.detach(input=x)", "detach torch.detach", "y = x\n", {}),
    ("y = torch.detach((a, b)[0])\n", "torch.detach((a, b)[0])", "detach torch.detach", "y = (a, b)[0]\n", {}),
    (
        "y = torch.detach(\n    a\n    .b\n)\n",
        "torch.detach(\n    a\n    .b\n)",
        "detach torch.detach",
        "y = (a\n    .b)\n",
        {},
    ),
    ("y = torch.detach(a if b else c)\n", "torch.detach(a if b else c)", "detach torch.detach", "y = a if b else c\n", {}),
    ("y = -torch.detach(a if b else c)\n", "torch.detach(a if b else c)", "detach torch.detach", "y = -(a if b else c)\n", {}),
    ("def f(h):\n    h.detach_()\n    return h\n", "h.detach_()", "detach .detach_()", "def f(h):\n    return h\n", {}),
    ("def f(h):\n    h.detach_()  # no\n", "h.detach_()", "detach .detach_()", "def f(h):\n    pass  # no\n", {}),
    ("if a: h.detach_(); b()\n", "h.detach_()", "detach .detach_()", "if a: pass; b()\n", {}),
    ("h = g\nh.detach_()", "h.detach_()", "detach .detach_()", "h = g", {}),
    ("h = g(h.detach_())\n", "h.detach_()", "detach .detach_()", "h = g(h)\n", {}),
    (
        "y = (\n    x  # the features\n    .detach()  # cut\n    .mean()\n)\n",
        "x  # the features\n    .detach()",
        "detach .detach()",
        "y = (\n    x  # the features\n      # cut\n    .mean()\n)\n",
        {},
    ),
    (
        "y = (\n    x\n    .detach()\n    .mean()\n)\n",
        "x\n    .detach()",
        "detach .detach()",
        "y = (\n    x\n    .mean()\n)\n",
        {},
    ),
    ('n = {"🙂": "日本", k: e(x).detach()}\n', "e(x).detach()", "detach .detach()", 'n = {"🙂": "日本", k: e(x)}\n', {}),
    ("y = x.data\n", "x.data", "data .data", "y = x\n", {"construct": "attribute"}),
    ("y = f(x, x.data.mean())\n", "x.data", "data .data", "y = f(x, x.mean())\n", {"construct": "attribute"}),
    ("t += loss.item()\n", "loss.item()", "python .item()", "t += loss\n", {}),
    ("t = torch.tensor([a, b])\n", "torch.tensor([a, b])", "python torch.tensor", "t = torch.stack([a, b])\n", {}),
    (
        "t = th.as_tensor(\n    [loss(x) for x in xs],\n    dtype=th.float32,\n    requires_grad=True,\n).mean()\n",
        "th.as_tensor(\n    [loss(x) for x in xs],\n    dtype=th.float32,\n    requires_grad=True,\n)",
        "python th.as_tensor",
        "t = th.stack(\n    [loss(x) for x in xs],\n).mean()\n",
        {},
    ),
    (
        "z = q(x).sample()\n",
        "q(x).sample()",
        "nondifferentiable .sample()",
        "z = q(x).rsample()\n",
        {"differentiable": "rsample"},
    ),
]


@pytest.mark.parametrize(("before", "node", "what", "after", "more"), VALUES)
def test_values(before: str, node: str, what: str, after: str, more: dict[str, Any]) -> None:
    cut, api = what.split()
    file = source(before)
    finding = only(file, severed(file, node, cut, api, **more))
    assert finding.code == {"detach": "GRD102", "data": "GRD104", "python": "GRD105", "nondifferentiable": "GRD106"}[cut]
    assert finding.span == spot(file, node)
    assert f"`{api}`" in finding.message
    assert finding.fix is not None and finding.fix.safety is Safety.UNSAFE
    assert fixed(file, finding) == after


@pytest.mark.parametrize(
    ("text", "node", "cut", "api", "construct"),
    [
        ("y = x.detach(1, 2)\n", "x.detach(1, 2)", "detach", "stop", "call"),
        ("y = stop(x)\n", "stop(x)", "detach", "stop", "call"),
        ("y = torch.detach(*x)\n", "torch.detach(*x)", "detach", "torch.detach", "call"),
        ("y = torch.detach(  # why\n    x)\n", "torch.detach(  # why\n    x)", "detach", "torch.detach", "call"),
        ("y = float(x)\n", "float(x)", "python", "float()", "call"),
        ("y = x.numpy()\n", "x.numpy()", "python", ".numpy()", "call"),
        ("y = torch.tensor(x)\n", "torch.tensor(x)", "python", "torch.tensor", "call"),
        ("y = torch.tensor([x, 0.0])\n", "torch.tensor([x, 0.0])", "python", "torch.tensor", "call"),
        ("y = torch.tensor([x, -1])\n", "torch.tensor([x, -1])", "python", "torch.tensor", "call"),
        ("y = torch.tensor([[x]])\n", "torch.tensor([[x]])", "python", "torch.tensor", "call"),
        ("y = torch.tensor([])\n", "torch.tensor([])", "python", "torch.tensor", "call"),
        ("y = tensor([a, b])\n", "tensor([a, b])", "python", "torch.tensor", "call"),
        ("y = x.argmax(1)\n", "x.argmax(1)", "nondifferentiable", ".argmax()", "call"),
        ("y = a < x > 0\n", "a < x > 0", "nondifferentiable", ">", "operator"),
        ("y = (x // 2) + 1\n", "x // 2", "nondifferentiable", "//", "operator"),
    ],
)
def test_values_without_a_fix(text: str, node: str, cut: str, api: str, construct: str) -> None:
    file = source(text)
    finding = only(file, severed(file, node, cut, api, construct))
    assert finding.span == spot(file, node)
    assert finding.fix is None
    assert finding.severity is Severity.ERROR


def test_the_three_scopes_of_a_cut() -> None:
    file = source("y = x.detach()\n")
    said = {}
    for scope in ("module", "loss", "term"):
        finding = only(file, severed(file, "x.detach()", "detach", ".detach()", scope=scope, starved=("a", "b", "c", "d", "e")))
        assert finding.claim is not None
        said[scope, finding.claim.kind] = finding.message
    them = "`a`, `b`, `c` and 2 more"
    assert said == {
        ("module", "starved"): f"No gradient reaches {them}: `.detach()` cuts them off from the loss at train.py:88.",
        ("loss", "severed"): f"No gradient reaches {them}: `.detach()` cuts the whole loss at train.py:88 off from them.",
        ("term", "inert"): f"One term of the loss at train.py:88 trains nothing: `.detach()` cuts it off from {them}.",
    }
    assert finding.help.endswith("If `a`, `b`, `c` and 2 more are meant to stay as they are, freeze them.")


def test_wording_when_nothing_is_known_by_name() -> None:
    file = source("y = x.detach()\n")
    finding = only(file, severed(file, "x.detach()", "detach", ".detach()", starved=(), scope="loss"))
    assert finding.message == (
        "No gradient reaches the parameters behind it: `.detach()` cuts the whole loss at train.py:88 off from them."
    )
    assert finding.help.endswith("If that is meant, freeze what should stay as it is.")


def test_python_and_nondifferentiable_messages() -> None:
    file = source("a = x.item()\nb = q.sample()\nc = x.argmax()\n")
    findings = check_file(
        file,
        [
            severed(file, "x.item()", "python", ".item()"),
            severed(file, "q.sample()", "nondifferentiable", ".sample()", differentiable="rsample"),
            severed(file, "x.argmax()", "nondifferentiable", ".argmax()"),
        ],
        all_rules(),
    )
    assert [finding.code for finding in findings] == ["GRD105", "GRD106", "GRD106"]
    assert findings[0].message == (
        "No gradient reaches `model.encoder`: `.item()` keeps the number, not its history, and cuts it off from the loss at "
        "train.py:88."
    )
    assert findings[1].message == (
        "No gradient reaches `model.encoder`: `.sample()` has no useful gradient and cuts it off from the loss at train.py:88."
    )
    assert findings[1].help.startswith("`.rsample()` gives the same and lets gradient through.")
    assert findings[2].help.startswith("Use a smooth stand-in for training")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("y = g(x.cpu()).mean()\n", "y = g(x).mean()\n"),
        ('y = g(x.to("cpu")).mean()\n', "y = g(x).mean()\n"),
        ('y = g(x.to(torch.device("cpu"), non_blocking=True)).mean()\n', "y = g(x).mean()\n"),
    ],
)
def test_cpu_in_graph(before: str, after: str) -> None:
    file = source(before)
    call = before[before.index("x.") : before.index(").mean")]
    finding = only(file, DeviceRoundTrip(spot(file, call), HIGH, (), ".cpu()", LOSS))
    assert (finding.code, finding.severity) == ("GRD103", Severity.WARNING)
    assert finding.message == (
        "`.cpu()` leads the way to the loss at train.py:88 over the CPU. The gradient survives that, but each step waits for "
        "the device and copies, forward and backward, and what follows runs on the CPU."
    )
    assert fixed(file, finding) == after


def test_a_helper_that_moves_is_not_dropped() -> None:
    file = source("y = self.to_host(x)\n")
    finding = only(file, DeviceRoundTrip(spot(file, "self.to_host(x)"), HIGH, (), "self.to_host", LOSS))
    assert finding.fix is None


# --- GRD107 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["loss.requires_grad_()\n", "loss.requires_grad = True\n"])
def test_revived(text: str) -> None:
    file = source(text, "train.py")
    span = spot(file, text.strip())
    finding = only(file, Revived(span, HIGH, (), ("net",), Span("net.py", 7, 1, 7, 9), LOSS))
    assert (finding.code, finding.severity, finding.fix) == ("GRD107", Severity.ERROR, None)
    assert finding.message == (
        "Making the value require gradient again silences the error of `backward` at train.py:88 and trains nothing: its "
        "history was lost at net.py:7, so no gradient reaches `net`."
    )
    here = only(file, Revived(span, HIGH, (), ("net",), span, LOSS))
    assert "its history was lost here, so" in here.message


# --- GRD2xx: who trains ----------------------------------------------------------------------------------------------


def freeze(file: SourceFile, text: str, optimizer: str, moves: bool = False, nth: int = 0) -> FrozenAfterOptimizer:
    return FrozenAfterOptimizer(spot(file, text, nth), HIGH, (), spot(file, optimizer), LOSS, ("model.trunk",), moves)


SCRIPT = """\
import torch

model = Net()

# all of it
optimizer = SGD(model.parameters(), lr=0.1)
criterion = CrossEntropyLoss()

# not the trunk
# of the model
for p in model.trunk.parameters():
    p.requires_grad = False  # frozen

print("ready")
"""


def test_freeze_moves_above_the_optimizer() -> None:
    file = source(SCRIPT)
    finding = only(file, freeze(file, "p.requires_grad = False", "SGD(model.parameters(), lr=0.1)"))
    assert (finding.code, finding.severity) == ("GRD201", Severity.WARNING)
    assert finding.message == (
        "`model.trunk` is frozen after the optimizer at model.py:6 took it: without a gradient the optimizer passes it over, "
        "but carries it for nothing (train.py:88)."
    )
    assert finding.claim is not None and finding.claim.probe == "membership"
    assert fixed(file, finding) == dedent(
        """
        import torch

        model = Net()

        # not the trunk
        # of the model
        for p in model.trunk.parameters():
            p.requires_grad = False  # frozen
        # all of it
        optimizer = SGD(model.parameters(), lr=0.1)
        criterion = CrossEntropyLoss()


        print("ready")
        """
    )


def test_freeze_that_still_moves_is_an_error() -> None:
    file = source("def f(model):\n\topt = SGD(model.parameters())\n\tmodel.trunk.requires_grad_(False)\n\treturn opt\n")
    finding = only(file, freeze(file, "model.trunk.requires_grad_(False)", "SGD(model.parameters())", moves=True))
    assert finding.severity is Severity.ERROR
    assert finding.message == (
        "`model.trunk` is frozen after the optimizer at model.py:2 took it: what is left of the gradient, momentum or weight "
        "decay goes on moving it at each step (train.py:88)."
    )
    assert finding.claim == Claim("step", "moves-though-frozen", ("model.trunk",), finding.span)
    assert fixed(file, finding) == (
        "def f(model):\n\tmodel.trunk.requires_grad_(False)\n\topt = SGD(model.parameters())\n\treturn opt\n"
    )


@pytest.mark.parametrize(
    "between",
    [
        "model = wrap(model)",
        "model.trunk = Trunk()",
        "from nets import model",
        "train(optimizer)",
        "stats = train(model, optimizer)",
        "for x in data:\n    step(x)",
        "with torch.enable_grad():\n    y = 1",
        "def model():\n    pass",
        "(model := wrap())",
    ],
)
def test_freeze_stays_where_something_comes_between(between: str) -> None:
    file = source(f"optimizer = SGD(model.parameters())\n{between}\nmodel.trunk.requires_grad_(False)\n")
    finding = only(file, freeze(file, "model.trunk.requires_grad_(False)", "SGD(model.parameters())"))
    assert finding.fix is None


@pytest.mark.parametrize(
    "text",
    [
        "opt = SGD(model.parameters())\nfor epoch in range(9):\n    if epoch == 3:\n        FREEZE\n    train(opt)\n",
        "opt = SGD(model.parameters())\nif stage:\n    FREEZE\nelse:\n    other()\n",
        "opt = SGD(model.parameters())\ndef later():\n    FREEZE\n",
        "opt = SGD(model.parameters()); FREEZE\n",
        "def build():\n    return SGD(model.parameters())\nFREEZE\n",
        "opt = SGD(model.parameters())\nFREEZE; b = 1\n",
    ],
)
def test_freeze_stays_where_it_is_not_of_the_same_block(text: str) -> None:
    text = text.replace("FREEZE", "model.trunk.requires_grad_(False)")
    file = source(text)
    finding = only(file, freeze(file, "model.trunk.requires_grad_(False)", "SGD(model.parameters())"))
    assert finding.fix is None


def test_guarded_freeze_moves_with_its_guard() -> None:
    file = source("opt = SGD(model.parameters())\nif args.freeze:\n    for p in model.parameters(): p.requires_grad = False\n")
    finding = only(file, freeze(file, "p.requires_grad = False", "SGD(model.parameters())"))
    assert fixed(file, finding) == (
        "if args.freeze:\n    for p in model.parameters(): p.requires_grad = False\nopt = SGD(model.parameters())\n"
    )


def test_freeze_and_optimizer_in_different_files() -> None:
    file = source("a = 1\nmodel.trunk.requires_grad_(False)\n")
    fact = FrozenAfterOptimizer(
        spot(file, "model.trunk.requires_grad_(False)"), HIGH, (), Span("o.py", 1, 1, 1, 6), LOSS, ("model.trunk",), False
    )
    finding = only(file, fact)
    assert finding.fix is None
    assert "the optimizer at o.py:1 took it" in finding.message


def test_optimizer_before_unfreeze() -> None:
    file = source("model.trunk.requires_grad_(True)\n", "train.py")
    finding = only(
        file,
        UnfrozenAfterOptimizer(
            spot(file, "model.trunk.requires_grad_(True)"), HIGH, (), Span("train.py", 3, 1, 3, 5), LOSS, ("a", "b")
        ),
    )
    assert (finding.code, finding.severity, finding.fix) == ("GRD202", Severity.ERROR, None)
    assert finding.message == (
        "`a` and `b` are unfrozen after the optimizer at train.py:3 was built without them: the gradient is computed, but no "
        "step moves them (train.py:88)."
    )
    assert finding.claim is not None and finding.claim.kind == "not-in-optimizer"


def test_optimizer_before_module_change() -> None:
    file = source("model.fc = nn.Linear(4, 2)\n", "train.py")
    finding = only(
        file,
        ReplacedAfterOptimizer(
            spot(file, "model.fc = nn.Linear(4, 2)"), HIGH, (), Span("train.py", 3, 1, 3, 5), LOSS, ("model.fc",)
        ),
    )
    assert (finding.code, finding.fix) == ("GRD203", None)
    assert finding.message == (
        "`model.fc` changes after the optimizer at train.py:3 took the parameters: the new ones are in no optimizer and stay "
        "as they were initialised (train.py:88)."
    )


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("model.requires_grad = False\n", False, "model.requires_grad_(False)\n"),
        ("if a: model.trunk.requires_grad=(flag)  # f\n", None, "if a: model.trunk.requires_grad_(flag)  # f\n"),
        ("model.requires_grad = not a; b = 1\n", None, "model.requires_grad_(not a); b = 1\n"),
        ("(model).requires_grad = True\n", True, "(model).requires_grad_(True)\n"),
    ],
)
def test_module_flag(before: str, value: bool | None, after: str) -> None:
    file = source(before)
    begin = before.removeprefix("if a: ")
    text = begin.split(";")[0].split("  #")[0].strip()
    finding = only(file, ModuleFlagAssigned(spot(file, text), HIGH, (), "model", value))
    assert (finding.code, finding.severity) == ("GRD206", Severity.ERROR)
    assert finding.message == (
        f"This { {False: 'freezes', True: 'unfreezes', None: 'changes'}[value] } nothing: on a module, `requires_grad` is an "
        "attribute like any other, and the parameters of `model` keep theirs."
    )
    assert finding.fix is not None and finding.fix.safety is Safety.SAFE
    assert fixed(file, finding) == after


def test_module_flag_of_two_targets_is_left_to_the_person() -> None:
    file = source("a.requires_grad = b.requires_grad = False\n")
    text = "a.requires_grad = b.requires_grad = False"
    assert only(file, ModuleFlagAssigned(spot(file, text), HIGH, (), "a", False)).fix is None


@pytest.mark.parametrize(
    ("text", "written", "right", "form", "on_module", "after"),
    [
        ("p.require_grad = False", "p.require_grad", "requires_grad", "attribute", False, "p.requires_grad = False"),
        ("p.require_grad = False", "require_grad", "requires_grad", "attribute", False, "p.requires_grad = False"),
        ("a.x = p.require_grad = f(1)", "require_grad", "requires_grad", "attribute", False, "a.x = p.requires_grad = f(1)"),
        ("m.require_grad = False", "require_grad", "requires_grad", "attribute", True, "m.requires_grad_(False)"),
        ("p.requires_grad_ = False", "p.requires_grad_", "requires_grad", "method", False, "p.requires_grad = False"),
        ("m.requires_grad_ = False", "m.requires_grad_", "requires_grad_", "method", True, "m.requires_grad_(False)"),
        (
            "p.requires_grad == False",
            "p.requires_grad == False",
            "requires_grad",
            "comparison",
            False,
            "p.requires_grad = False",
        ),
        ("p.require_grad==False", "p.require_grad==False", "requires_grad", "comparison", False, "p.requires_grad = False"),
        ("m.requires_grad == False", "m.requires_grad", "requires_grad", "comparison", True, "m.requires_grad_(False)"),
    ],
)
def test_misspelled(text: str, written: str, right: str, form: str, on_module: bool, after: str) -> None:
    file = source(f"for p in ps:\n    {text}  # freeze\n")
    finding = only(file, MisspelledGradAttribute(spot(file, text), HIGH, (), written, right, form, on_module))
    assert finding.code == "GRD207"
    assert {"attribute": "PyTorch does not know", "method": "is a method", "comparison": "is compared"}[form] in finding.message
    assert finding.fix is not None and finding.fix.safety is Safety.SAFE
    assert fixed(file, finding) == f"for p in ps:\n    {after}  # freeze\n"


@pytest.mark.parametrize("text", ["(p.requires_grad == False)", "p.requires_grad == a == b", "p.requires_grad == (yield)"])
def test_odd_comparisons_keep_their_syntax(text: str) -> None:
    file = source(f"def f(p):\n    {text}\n")
    fact = MisspelledGradAttribute(spot(file, text), HIGH, (), text, "requires_grad", "comparison", False)
    finding = only(file, fact)
    if finding.fix is not None:
        compile(fixed(file, finding), "model.py", "exec")


def test_uncalled() -> None:
    file = source("def f(model):\n    model.eval; (model.train)\n", "train.py")
    facts = [
        UncalledMethod(spot(file, "model.eval"), HIGH, (), "module", "eval"),
        UncalledMethod(spot(file, "model.train"), Confidence.LOW, (), "unknown", "train"),
    ]
    findings = check_file(file, facts, all_rules())
    assert [finding.code for finding in findings] == ["GRD208", "GRD208"]
    assert findings[0].message == "`eval` of the module is named, not called: this line does nothing."
    assert findings[1].message == "`train` is named, not called: this line does nothing."
    assert findings[1].confidence is Confidence.LOW
    assert fixed(file, *findings) == "def f(model):\n    model.eval(); (model.train())\n"


# --- GRD3xx: modes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "node", "module", "after"),
    [
        ("net.requires_grad_(False)", "net.requires_grad_(False)", "net", "net.requires_grad_(False)\nnet.eval()"),
        (
            "def f(self):\n  self.net.requires_grad_(False)  # fixed\n  return 1\n",
            "self.net.requires_grad_(False)",
            "model.net",
            "def f(self):\n  self.net.requires_grad_(False)  # fixed\n  self.net.eval()\n  return 1\n",
        ),
        (
            "for p in m.net.parameters():\n\tp.requires_grad = False\n# end\n",
            "p.requires_grad = False",
            "m.net",
            "for p in m.net.parameters():\n\tp.requires_grad = False\nm.net.eval()\n# end\n",
        ),
        (
            "if a:\n    for n, p in net.named_parameters(): p.requires_grad_(False)\n",
            "p.requires_grad_(False)",
            "net",
            "if a:\n    for n, p in net.named_parameters(): p.requires_grad_(False)\n    net.eval()\n",
        ),
        ("a = 1; net.requires_grad_(False); b = 2\n", "net.requires_grad_(False)", "net",
         "a = 1; net.requires_grad_(False); net.eval(); b = 2\n"),
        (
            "net = resnet18().requires_grad_(False)\n",
            "resnet18().requires_grad_(False)",
            "net",
            "net = resnet18().requires_grad_(False).eval()\n",
        ),
    ],
)  # fmt: skip
def test_frozen_norm(before: str, node: str, module: str, after: str) -> None:
    file = source(before)
    finding = only(file, FrozenNormTraining(spot(file, node), HIGH, (), module, ("bn1", "bn2"), True))
    assert (finding.code, finding.severity) == ("GRD301", Severity.WARNING)
    spelled = "self.net" if "self" in before else module
    assert finding.message == (
        f"`{spelled}` is frozen but runs in train mode: the running statistics of `bn1` and `bn2` go on moving with every "
        "batch."
    )
    assert finding.claim == Claim("state", "drifts", ("bn1", "bn2"), finding.span)
    assert fixed(file, finding) == after


@pytest.mark.parametrize(
    ("text", "node", "module"),
    [
        ("freeze(net)\n", "freeze(net)", "net"),
        ("self.freeze_net()\n", "self.freeze_net()", "self.net"),
        ("for p in params:\n    p.requires_grad = False\n", "p.requires_grad = False", "net"),
        ("for p in chain(a.parameters(), b.parameters()):\n    p.requires_grad = False\n", "p.requires_grad = False", "a"),
        (
            "for n, p in net.named_parameters():\n    if 'fc' not in n:\n        p.requires_grad = False\n",
            "p.requires_grad = False",
            "net",
        ),
        ("for p in net.parameters():\n    p.requires_grad = False\n", "p.requires_grad = False", "trunk"),
        ("net.freeze_trunk(False)\n", "net.freeze_trunk(False)", "net.trunk"),
    ],
)
def test_frozen_norm_without_a_module_in_sight(text: str, node: str, module: str) -> None:
    file = source(text)
    finding = only(file, FrozenNormTraining(spot(file, node), Confidence.MEDIUM, (), module, (), False))
    assert finding.fix is None
    assert "if it has batch normalisation, as networks of its kind do" in finding.message
    assert finding.claim is not None and finding.claim.subjects == (module,)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("self.trunk.requires_grad_(False)\n", "self.trunk.requires_grad_(False)"),
        ("for p in self.trunk.parameters(): p.requires_grad = False\n", "p.requires_grad = False"),
    ],
)
def test_frozen_norm_is_told_of_what_the_code_freezes(text: str, node: str) -> None:
    file = source(text)
    facts = [FrozenNormTraining(spot(file, node), HIGH, (), name, (name,), True) for name in ("m.trunk.1", "m.trunk.bn")]
    finding = only(file, *facts)
    assert finding.message == (
        "`self.trunk` is frozen but runs in train mode: the running statistics of `m.trunk.1` and `m.trunk.bn` go on moving "
        "with every batch."
    )
    assert finding.help.startswith("Call `self.trunk.eval()` after the freeze")
    assert fixed(file, finding) == f"{text}self.trunk.eval()\n"


def test_frozen_norm_that_is_frozen_by_itself() -> None:
    file = source("freeze(bn)\n")
    finding = only(file, FrozenNormTraining(spot(file, "freeze(bn)"), HIGH, (), "m.0", ("m.0",), True))
    assert finding.message == "`m.0` is frozen but runs in train mode: its running statistics go on moving with every batch."
    assert finding.help.startswith("Call `m[0].eval()`")


def test_frozen_mode_reset() -> None:
    file = source("model.trunk.eval()\n", "train.py")
    finding = only(file, FrozenModeReset(spot(file, "model.trunk.eval()"), HIGH, (), "model.trunk", LOSS))
    assert (finding.code, finding.fix) == ("GRD302", None)
    assert finding.message == (
        "`model.trunk` is put into eval mode here, but the `train()` at train.py:88 puts it back into train mode, and nothing "
        "undoes that."
    )
    assert "`def train(self, mode=True): super().train(mode); self.trunk.eval(); return self`" in finding.help


@pytest.mark.parametrize(
    ("module", "part"),
    [
        ("model.trunk", "self.trunk"),
        ("m.layers.0.norm", "self.layers[0].norm"),
        ("m.layers.?", "self.layers[i]"),
        ("a", "self.a"),
    ],
)
def test_frozen_mode_help_is_code(module: str, part: str) -> None:
    file = source("trunk.eval()\n", "train.py")
    finding = only(file, FrozenModeReset(spot(file, "trunk.eval()"), HIGH, (), module, LOSS))
    assert f"; {part}.eval(); " in finding.help


# --- across rules ----------------------------------------------------------------------------------------------------


def test_facts_about_one_place_make_one_finding() -> None:
    file = source("y = x.detach()\n")
    facts: Sequence[Fact] = [
        Severed(spot(file, "x.detach()"), Confidence.MEDIUM, (), "detach", "call", ".detach()", ("a",), "module", LOSS),
        severed(file, "x.detach()", "detach", ".detach()", starved=("b", "a")),
    ]
    finding = only(file, *facts)
    assert finding.message.startswith("No gradient reaches `b` and `a`:")
    assert finding.confidence is HIGH


def test_places_in_a_notebook_are_said_by_cell() -> None:
    file = notebook("import torch", "a = 1\ny = x.detach()")
    assert file.text == "import torch\na = 1\ny = x.detach()\n"
    fact = severed(file, "x.detach()", "detach", ".detach()", loss=spot(file, "y"))
    finding = only(file, fact)
    assert finding.message.endswith("from the loss at cell 2, line 2.")
    assert fixed(file, finding) == "import torch\na = 1\ny = x\n"


def notebook(*cells: str) -> SourceFile:
    document = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [{"cell_type": "code", "source": c} for c in cells],
    }
    return from_text(json.dumps(document), Path("/project/n.ipynb"), "n.ipynb")


def test_fixes_stay_in_their_cell() -> None:
    file = notebook("a = 1\nh.detach_()", "b = 2")
    finding = only(file, severed(file, "h.detach_()", "detach", ".detach_()"))
    assert fixed(file, finding) == "a = 1\nb = 2\n"
    assert finding.fix is not None and finding.fix.edits[0].span.end_line == 2

    file = notebook("b = 1", "h.detach_()", "c = 3")
    finding = only(file, severed(file, "h.detach_()", "detach", ".detach_()"))
    assert fixed(file, finding) == "b = 1\n\nc = 3\n"

    file = notebook("net.requires_grad_(False)", "c = 3")
    finding = only(file, FrozenNormTraining(spot(file, "net.requires_grad_(False)"), HIGH, (), "net", (), True))
    assert fixed(file, finding) == "net.requires_grad_(False)\nnet.eval()\nc = 3\n"
    assert finding.fix is not None and finding.fix.edits[0].span.line == 1


def test_nothing_moves_from_cell_to_cell() -> None:
    freezing, building = "model.trunk.requires_grad_(False)", "SGD(model.parameters())"
    together = notebook(f"opt = {building}\n{freezing}", "a = 1")
    assert fixed(together, only(together, freeze(together, freezing, building))) == f"{freezing}\nopt = {building}\na = 1\n"
    apart = notebook(f"opt = {building}", freezing)
    assert only(apart, freeze(apart, freezing, building)).fix is None
