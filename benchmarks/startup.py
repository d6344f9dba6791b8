"""How long one clean file takes, from a cold process and without the cache, against a Python that does nothing.

Both are run in turns, so that what else the machine does falls on both; processor time is compared. Python may keep its
compiled modules, as it does for everybody.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CLEAN = """\
import torch
from torch import nn
from torch.utils.data import DataLoader


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.encoder(x))


def train(loader: DataLoader, epochs: int = 3):
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for epoch in range(epochs):
        net.train()
        for x, y in loader:
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            print(epoch, sum((net(x).argmax(-1) == y).sum().item() for x, y in loader))
    return net


if __name__ == "__main__":
    train(DataLoader(torch.load("data.pt"), batch_size=32))
"""


def processor(command: list[str], folder: Path) -> float:
    """The milliseconds of processor time that a command takes."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "gradlint": [sys.executable, "-m", "gradlint", "check", "--no-cache", "clean.py"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "clean.py").write_text(CLEAN)
        for number in range(-1, options.rounds):
            for name, command in commands.items():
                seconds = processor(command, folder)
                if number >= 0:  # the first run compiles
                    taken[name].append(seconds)
    nothing, checked = taken.values()
    for name, values in taken.items():
        print(f"{name}: median {statistics.median(values):.1f} ms, least {min(values):.1f} ms of processor time")
    medians, leasts = statistics.median(checked) / statistics.median(nothing), min(checked) / min(nothing)
    print(f"ratio: {medians:.1f} of medians, {leasts:.1f} of leasts")


if __name__ == "__main__":
    main()
