"""Symptoms: each is seen where it is, and its opposite where that is; nothing passes in between."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from gradlint.testing.pages import SYMPTOMS, Symptom
from gradlint.testing.symptoms import Runtime, judge, watched

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        self.head = nn.Linear(3, 1)

    def forward(self, x):
        return self.head(self.encoder(x))

model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
"""

STEP = """
for _ in range(2):
    loss = model(torch.randn(4, 3)).pow(2).mean()
    optimizer.zero_grad(set_to_none=False)
    loss.backward()
    optimizer.step()
"""


def seen(runtime: Runtime, folder: Path, text: str, *symptoms: str) -> tuple[list[Symptom], dict[str, Any]]:
    (folder / "main.py").write_text(textwrap.dedent(text), encoding="utf-8")
    pairs = [Symptom(*symptom.split("=", 1)) for symptom in symptoms]
    return pairs, runtime.observe(folder, "main.py", watched(pairs))


@pytest.mark.parametrize(
    ("symptom", "setup", "bad", "good"),
    [
        (
            "no_grad=model.encoder",
            "",
            "loss = model.head(model.encoder(torch.ones(4, 3)).detach()).mean(); loss.backward()",
            STEP,
        ),
        ("zero_grad=model.encoder", "", "(0 * model(torch.randn(4, 3))).sum().backward()", STEP),
        ("unchanged=model.head", "", "model(torch.randn(4, 3)).sum().backward()", STEP),
        (
            "trains=model.encoder",
            "",
            STEP,
            "model.encoder.requires_grad_(False)\noptimizer.param_groups[0]['weight_decay'] = 0" + STEP,
        ),
        (
            "moves=model.encoder",
            "",
            STEP + "model.encoder.requires_grad_(False)" + STEP,
            STEP + "model.encoder.requires_grad_(False)\nfor p in model.encoder.parameters(): p.grad = None" + STEP,
        ),
        ("drifts=model.encoder", "model.encoder.requires_grad_(False)", STEP, "model.encoder.eval()" + STEP),
        ("missing=model.head", "", "optimizer = torch.optim.SGD(model.encoder.parameters(), lr=0.1)", ""),
        (
            "held=model.encoder",
            "model.encoder.requires_grad_(False)",
            "",
            "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)",
        ),
        ("training=model.encoder.1", "", STEP, "model.eval()"),
        ("raises=does not require grad", "", "model(torch.randn(4, 3)).detach().sum().backward()", STEP),
    ],
    ids=lambda value: value if "=" in value and "\n" not in value and " = " not in value else None,
)
def test_symptom(page_runtime: Runtime, tmp_path: Path, symptom: str, setup: str, bad: str, good: str) -> None:
    for program, shows in ((bad, "bad"), (good, "good")):
        pairs, observation = seen(page_runtime, tmp_path, f"{MODEL}\n{setup}\n{program}\n", symptom)
        assert judge(shows, pairs, observation) == ()
        other = "good" if shows == "bad" else "bad"
        assert judge(other, pairs, observation), f"the {shows} program passes for {other}"


def test_every_symptom_is_tested() -> None:
    cases = next(mark for mark in test_symptom.pytestmark if mark.name == "parametrize").args[1]  # type: ignore[attr-defined]
    assert {case[0].partition("=")[0] for case in cases} == set(SYMPTOMS)


def test_what_is_true_in_part_fails_both_ways(page_runtime: Runtime, tmp_path: Path) -> None:
    pairs, observation = seen(page_runtime, tmp_path, MODEL + "model.head(torch.ones(4, 3)).mean().backward()", "no_grad=model")
    for verdict in ("bad", "good"):
        (trouble,) = judge(verdict, pairs, observation)
        assert trouble.startswith("model shows in part no_grad: ")


def test_a_replaced_layer_is_watched_from_when_it_is_used(page_runtime: Runtime, tmp_path: Path) -> None:
    text = MODEL + STEP + "model.head = nn.Linear(3, 1)" + STEP
    pairs, observation = seen(page_runtime, tmp_path, text, "unchanged=model.head", "missing=model.head")
    assert judge("bad", pairs, observation) == ()


def test_an_error_fails_whatever_else_is_promised(page_runtime: Runtime, tmp_path: Path) -> None:
    pairs, observation = seen(page_runtime, tmp_path, MODEL + "print('so far')\n1 / 0", "no_grad=model")
    for verdict in ("bad", "good"):
        (trouble,) = judge(verdict, pairs, observation)
        assert "ZeroDivisionError" in trouble and "so far" in trouble
    assert judge("bad", [Symptom("raises", "division")], observation) == ()
    assert judge("bad", [Symptom("raises", "something else")], observation)


def test_unknown_objects_are_named(page_runtime: Runtime, tmp_path: Path) -> None:
    pairs, observation = seen(page_runtime, tmp_path, MODEL + STEP, "no_grad=net")
    assert judge("bad", pairs, observation) == ("net is not known at module level when the program ends",)


def test_a_program_is_main_and_sees_its_neighbours(page_runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "losses.py").write_text("scale = 3\n", encoding="utf-8")
    _, observation = seen(page_runtime, tmp_path, "from losses import scale\nassert __name__ == '__main__'\nprint(scale)")
    assert (observation["error"], observation["output"]) == ("", "3\n")


def test_leaving_is_fine_and_dying_is_not(page_runtime: Runtime, tmp_path: Path) -> None:
    assert seen(page_runtime, tmp_path, "raise SystemExit(0)")[1]["error"] == ""
    assert seen(page_runtime, tmp_path, "raise SystemExit(3)")[1]["error"] == "SystemExit: 3"
    assert "ChildProcessError" in seen(page_runtime, tmp_path, "import os; os._exit(1)")[1]["error"]


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    if not Runtime.available():
        pytest.skip("running programs needs torch and a system that can fork")
    with Runtime(timeout=0.5) as runtime:
        observation = seen(runtime, tmp_path, "import time\nprint('on', flush=True)\ntime.sleep(60)")[1]
    assert observation["error"].startswith("TimeoutError")
