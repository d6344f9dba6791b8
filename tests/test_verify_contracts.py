"""Contracts of the settings: held by the text where it shows enough, and by a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradlint.core import Finding, Outcome, Verdict

pytest.importorskip("torch")

from gradlint.session import analyze, load_config
from gradlint.verify.client import Server
from gradlint.verify.run import Settings, verify

CONFIRMED, REFUTED, INCONCLUSIVE = Outcome.CONFIRMED, Outcome.REFUTED, Outcome.INCONCLUSIVE

MODEL = """\
import torch
from torch import nn


class Blended(nn.Module):
    def __init__(self):
        super().__init__()
        self.host = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
        self.seed = nn.Linear(6, 6)
        self.aux = nn.Linear(6, 1)

    def forward(self, x):
        h = self.host(x)
        return self.aux(DETACHED).sum() + self.seed(h).pow(2).mean()


def small():
    return Blended(), torch.randn(4, 6)
"""

TRAIN = """\
import copy

import model as zoo
import torch

model = getattr(zoo, "Blen" + "ded")()
FREEZE
average = copy.deepcopy(model)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
for _ in range(3):
    loss = model(torch.randn(8, 6))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    average(torch.randn(8, 6))
"""


def verdicts(
    folder: Path, server: Server, contract: str, freeze: str = "", aux: str = "h", script: bool = True
) -> dict[str, Verdict]:
    """The verdicts on the promises of a contract."""
    (folder / "model.py").write_text(MODEL.replace("DETACHED", aux))
    if script:
        (folder / "train.py").write_text(TRAIN.replace("FREEZE", freeze))
    (folder / "gradlint.toml").write_text(f"[[contracts]]\nmodule = {contract}\n")
    config = load_config([folder], cwd=folder)
    report = analyze([folder], config, cwd=folder, use_cache=False)
    found = verify(report, Settings(seconds=30, folder=folder, contracts=config.contracts), server=server)
    return {finding.claim.subjects[1]: verdict for finding, verdict in found.items() if is_contract(finding) and finding.claim}


def is_contract(finding: Finding) -> bool:
    return finding.code == "GRD901"


@pytest.mark.parametrize(
    ("freeze", "outcomes"),
    [
        ("", (CONFIRMED, REFUTED)),
        ("model.host.requires_grad_(False).eval()", (REFUTED, REFUTED)),
        ("model.host.requires_grad_(False)", (CONFIRMED, REFUTED)),  # its statistics move
        ("model.requires_grad_(False); model.aux.requires_grad_(True); model.host.eval()", (REFUTED, CONFIRMED)),
    ],
)
def test_trains_and_frozen(freeze: str, outcomes: tuple[Outcome, Outcome], server: Server, tmp_path: Path) -> None:
    found = verdicts(tmp_path.resolve(), server, '"model:Blended"\ntrains = ["seed"]\nfrozen = ["host"]', freeze)
    assert (found["frozen host"].outcome, found["trains seed"].outcome) == outcomes, found


def test_what_moves_is_told(server: Server, tmp_path: Path) -> None:
    found = verdicts(tmp_path.resolve(), server, '"model:Blended"\nfrozen = ["host"]', "model.host.requires_grad_(False)")
    told = [each.text for each in found["frozen host"].evidence]
    assert any(text.startswith("`host.1.running_mean` moved by up to") for text in told), told


@pytest.mark.parametrize(("aux", "outcome"), [("h", CONFIRMED), ("h.detach()", REFUTED)])
def test_isolated(aux: str, outcome: Outcome, server: Server, tmp_path: Path) -> None:
    found = verdicts(tmp_path.resolve(), server, '"model:Blended"\nisolated = [["aux", "host"]]', aux=aux)
    assert found["isolated aux host"].outcome is outcome, found


def test_a_class_alone_says_nothing_of_what_its_program_may_freeze(server: Server, tmp_path: Path) -> None:
    found = verdicts(tmp_path.resolve(), server, '"model:Blended"\ntrains = ["seed"]\nfrozen = ["host"]', script=False)
    assert found["frozen host"].outcome is INCONCLUSIVE
    assert "without the program that may freeze it" in found["frozen host"].reason
    assert found["trains seed"].outcome is REFUTED


def test_a_factory_will_do(server: Server, tmp_path: Path) -> None:
    found = verdicts(tmp_path.resolve(), server, '"model:small"\ntrains = ["seed"]\nfrozen = ["host"]', script=False)
    assert (found["frozen host"].outcome, found["trains seed"].outcome) == (CONFIRMED, REFUTED)


def test_a_part_that_is_not_there(server: Server, tmp_path: Path) -> None:
    found = verdicts(tmp_path.resolve(), server, '"model:Blended"\ntrains = ["sed"]')
    assert found["trains sed"].outcome is INCONCLUSIVE
    assert "no parameters called `sed`" in found["trains sed"].reason


def test_the_command_reports_what_the_run_has_broken(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import contextlib

    from gradlint.cli import main

    folder = tmp_path.resolve()
    (folder / "model.py").write_text(MODEL.replace("DETACHED", "h"))
    (folder / "train.py").write_text(TRAIN.replace("FREEZE", ""))
    (folder / "gradlint.toml").write_text(
        '[[contracts]]\nmodule = "model:Blended"\ntrains = ["seed"]\nisolated = [["aux", "host"]]\n'
    )
    monkeypatch.chdir(folder)
    monkeypatch.setattr("gradlint.verify.run.Server", lambda: contextlib.nullcontext(server))
    assert main(["verify", ".", "--no-cache", "--output-format", "json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["code"], row["filename"], row["location"]["row"], row["verdict"]) == ("GRD901", "model.py", 5, "confirmed")
    assert "`aux` of `model:Blended` is to give no gradient to `host`" in row["message"]
