"""The tracer under mixed precision, checkpointing, compilation, data loaders and distributed training."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gradlint.core import Outcome

torch = pytest.importorskip("torch")

from gradlint.testing.verifying import put
from gradlint.verify.client import Server
from gradlint.verify.run import Settings

HEAD = """\
import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        h = self.encoder(x).relu(){cut}  # claim: starved model.encoder
        return self.head(h)


model = Net().to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""

LOOPS = {
    "plain": "for step in range(3):\n    loss = model(torch.randn(3, 4, device=device)).pow(2).mean()\n"
    "    optimizer.zero_grad(); loss.backward(); optimizer.step()\n",
    "autocast and scaler": "scaler = torch.amp.GradScaler(device)\nfor step in range(3):\n"
    "    with torch.autocast(device, dtype=torch.bfloat16):\n"
    "        loss = model(torch.randn(3, 4, device=device)).float().pow(2).mean()\n"
    "    optimizer.zero_grad(); scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()\n",
    "reentrant checkpoint": "for step in range(3):\n    x = torch.randn(3, 4, device=device, requires_grad=True)\n"
    "    loss = checkpoint(model, x, use_reentrant=True).pow(2).mean()\n"
    "    optimizer.zero_grad(); loss.backward(); optimizer.step()\n",
    "checkpoint": "for step in range(3):\n    x = torch.randn(3, 4, device=device)\n"
    "    loss = checkpoint(model, x, use_reentrant=False).pow(2).mean()\n"
    "    optimizer.zero_grad(); loss.backward(); optimizer.step()\n",
    "loader with workers": "for epoch in range(2):\n    for x in DataLoader(torch.randn(12, 4), batch_size=4, num_workers=2):\n"
    "        loss = model(x.to(device)).pow(2).mean()\n        optimizer.zero_grad(); loss.backward(); optimizer.step()\n",
    "accumulation": "for step in range(6):\n    (model(torch.randn(3, 4, device=device)).pow(2).mean() / 2).backward()\n"
    "    if step % 2:\n        optimizer.step(); optimizer.zero_grad()\n",
}

WORK = """
def work(rank, world):
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", "29517"
    dist.init_process_group("gloo", rank=rank, world_size=world)
    model = Net()
    wrapped = DistributedDataParallel(model, find_unused_parameters=True)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    for step in range(3):
        loss = wrapped(torch.randn(3, 4)).pow(2).mean()
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    dist.destroy_process_group()

"""

DISTRIBUTED = {
    "spawned": WORK + 'if __name__ == "__main__":\n    mp.spawn(work, args=(2,), nprocs=2)\n',
    "started": WORK
    + 'if __name__ == "__main__":\n    mp.set_start_method("spawn")\n'
    + "    processes = [mp.Process(target=work, args=(rank, 2)) for rank in range(2)]\n"
    + "    for process in processes:\n        process.start()\n    for process in processes:\n        process.join()\n",
    "alone": WORK + 'if __name__ == "__main__":\n    work(0, 1)\n',
}


@pytest.mark.parametrize("name", [*LOOPS, *DISTRIBUTED])
def test_cut_is_confirmed_and_its_absence_refuted(name: str, server: Server, tmp_path: Path) -> None:
    loop = LOOPS.get(name) or DISTRIBUTED[name]
    for cut, outcome in ((".detach()", Outcome.CONFIRMED), ("", Outcome.REFUTED)):
        text = HEAD.format(cut=cut) + loop
        (verdict,), answer = put(
            server, tmp_path, {"main.py": text}, settings=Settings(seconds=60, device="cpu", folder=tmp_path)
        )
        assert verdict.outcome is outcome, (verdict, answer["ending"], answer["output"])
        assert answer["ending"]["kind"] in ("end", "enough")


@pytest.mark.skipif(sys.platform == "win32", reason="torch.compile needs a compiler there")
def test_compiled_parts_run_without_compilation_and_it_is_said(server: Server, tmp_path: Path) -> None:
    loop = "fast = torch.compile(model)\n" + LOOPS["plain"].replace("loss = model(", "loss = fast(")
    for cut, outcome in ((".detach()", Outcome.CONFIRMED), ("", Outcome.REFUTED)):
        (verdict,), answer = put(server, tmp_path, {"main.py": HEAD.format(cut=cut) + loop}, settings=Settings(seconds=120))
        assert verdict.outcome is outcome, (verdict, answer["output"])
        assert any("without compilation" in each.text for each in verdict.evidence)


def test_checkpoint_of_inputs_without_grad_cuts(server: Server, tmp_path: Path) -> None:
    text = HEAD.format(cut="").replace("# claim: starved model.encoder", "")
    text += "front = nn.Linear(4, 4)\nfor step in range(3):\n    x = torch.randn(3, 4)\n"
    text += "    h = checkpoint(model.encoder, x, use_reentrant=True)  # claim: starved model.encoder\n"
    text += "    loss = model.head(h).mean()\n    optimizer.zero_grad(); loss.backward(); optimizer.step()\n"
    (verdict,), answer = put(server, tmp_path, {"main.py": text})
    assert verdict.outcome is Outcome.CONFIRMED, (verdict, answer["output"])


def test_program_for_a_launcher_gets_what_a_launcher_sets(server: Server, tmp_path: Path) -> None:
    from gradlint.session import analyze, load_config
    from gradlint.verify.run import verify

    text = HEAD.format(cut=".detach()").replace("# claim: starved model.encoder", "") + LOOPS["plain"]
    (tmp_path / "main.py").write_text(text.replace("torch.manual_seed(0)", 'torch.manual_seed(int(os.environ["RANK"]))'))
    report = analyze([tmp_path], load_config([tmp_path], cwd=tmp_path, isolated=True), cwd=tmp_path, use_cache=False)
    verdicts = verify(report, Settings(seconds=60, folder=tmp_path), server=server)
    assert verdicts and all(verdict.outcome is Outcome.CONFIRMED for verdict in verdicts.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", LOOPS)
def test_verdicts_on_a_gpu_are_those_on_a_cpu(name: str, server: Server, tmp_path: Path) -> None:
    for cut, outcome in ((".detach()", Outcome.CONFIRMED), ("", Outcome.REFUTED)):
        text = HEAD.format(cut=cut) + LOOPS[name]
        (verdict,), answer = put(server, tmp_path, {"main.py": text}, settings=Settings(seconds=120, folder=tmp_path))
        assert verdict.outcome is outcome, (verdict, answer["output"])
        assert verdict.device == "cuda"
