"""How long a person waits for findings after a keystroke, and whether the server's memory grows.

Makes a workspace of a given size (by default 100,000 lines: packages of models, losses and training scripts), opens a file of
2,000 lines in it over the language server protocol, and types. A keystroke counts from the moment the change is sent until the
findings for that version arrive. Then it replays an hour's worth of edits as fast as the server takes them and reads the memory
of both its processes on the way.

The seconds belong to the machine: the script says how busy it was.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from client import Client

# The workspace -------------------------------------------------------------------------------------------------------


def model(name: str, lines: int, chance: random.Random) -> str:
    """A module file of so many lines: blocks of layers, each with a forward of its own, and a network of some of them."""
    text = ["import torch", "from torch import nn", "from torch.nn import functional as F", "", ""]
    blocks: list[str] = []
    while len(text) < lines - 30:
        block = f"{name.title().replace('_', '')}Block{len(blocks)}"
        blocks.append(block)
        width = chance.choice([32, 64, 128])
        text += [
            f"class {block}(nn.Module):",
            f'    """A block of width {width}."""',
            "",
            f"    def __init__(self, width={width}, rate=0.1):",
            "        super().__init__()",
            "        self.norm = nn.LayerNorm(width)",
            "        self.first = nn.Linear(width, 4 * width)",
            "        self.second = nn.Linear(4 * width, width)",
            "        self.drop = nn.Dropout(rate)",
            "        self.scale = nn.Parameter(torch.ones(width))",
            "",
            "    def forward(self, x, mask=None):",
            "        h = self.first(self.norm(x))",
            "        if mask is not None:",
            "            h = h * mask.unsqueeze(-1)",
            "        h = F.gelu(h)",
            "        h = self.second(self.drop(h))",
            "        return x + self.scale * h",
            "",
            "    def describe(self):",
            "        total = 0",
            "        for parameter in self.parameters():",
            "            total += parameter.numel()",
            '        return f"{total} parameters"',
            "",
            "",
        ]
    used = blocks[: min(6, len(blocks))]
    text += [
        f"class {name.title().replace('_', '')}(nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        *(f"        self.part{number} = {block}(64)" for number, block in enumerate(used)),
        "        self.head = nn.Linear(64, 10)",
        "",
        "    def forward(self, x):",
        *(f"        x = self.part{number}(x)" for number in range(len(used))),
        "        return self.head(x)",
    ]
    return "\n".join(text) + "\n"


TRAIN = """\
import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader

from {package}.{module} import {cls}
from {package}.tools import metrics, schedule


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    net = {cls}()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    loader = DataLoader(torch.load("data.pt"), batch_size=32)
    for epoch in range(options.epochs):
        net.train()
        for x, y in loader:
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule(optimizer, epoch)
        net.eval()
        with torch.no_grad():
            print(metrics(net(x), y))


if __name__ == "__main__":
    main()
"""

TOOLS = """\
def metrics(logits, y):
    return {"accuracy": (logits.argmax(-1) == y).float().mean().item()}


def schedule(optimizer, epoch):
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * 0.95**epoch
"""


def workspace(root: Path, lines: int, big: int) -> Path:
    """Fill a folder; returns the file to type in, which one training script uses."""
    chance = random.Random(1)
    written = 0
    (root / "pyproject.toml").write_text("[tool.gradlint]\n")
    for number in itertools.count():
        package = root / f"package{number}"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "tools.py").write_text(TOOLS)
        for part in range(10):
            name = f"model_{part}"
            text = model(name, big if number == part == 0 else chance.choice([150, 300, 600]), chance)
            (package / f"{name}.py").write_text(text)
            train = TRAIN.format(package=package.name, module=name, cls=name.title().replace("_", ""))
            (root / f"train_{number}_{part}.py").write_text(train)
            written += text.count("\n") + train.count("\n")
        if written >= lines:
            return root / "package0" / "model_0.py"
    raise AssertionError


# Looking -------------------------------------------------------------------------------------------------------------


def memory(process: int) -> float:
    """What a process holds, in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError


def processor(process: int) -> float:
    """The seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Typing --------------------------------------------------------------------------------------------------------------

TYPED = "        h = h + 0.5 * self.norm(h).mean(-1, keepdim=True)  # more of it\n"


class Typist:
    """Types a line into the file letter by letter, takes it back, and starts again elsewhere."""

    def __init__(self, client: Client, path: Path) -> None:
        self.client = client
        self.uri = path.as_uri()
        self.lines = path.read_text().split("\n")
        self.version = 1
        self._chance = random.Random(2)
        self._plan: list[tuple[int, int, int, str]] = []
        document = {"uri": self.uri, "languageId": "python", "version": 1, "text": "\n".join(self.lines)}
        client.notify("textDocument/didOpen", {"textDocument": document})

    def key(self) -> None:
        """One keystroke."""
        if not self._plan:
            places = [number for number, line in enumerate(self.lines) if line == "        h = F.gelu(h)"]
            line = self._chance.choice(places)
            for column, letter in enumerate(TYPED):
                self._plan.append((line, column, 0, letter))
            self._plan.append((line, 0, len(TYPED) - 1, ""))  # the whole line is deleted again
        line, column, deleted, letter = self._plan.pop(0)
        if deleted:
            where = {"start": {"line": line, "character": 0}, "end": {"line": line + 1, "character": 0}}
        else:
            where = {"start": {"line": line, "character": column}, "end": {"line": line, "character": column}}
        self.version += 1
        change = {"range": where, "text": letter}
        self.client.notify(
            "textDocument/didChange",
            {"textDocument": {"uri": self.uri, "version": self.version}, "contentChanges": [change]},
        )


def share(values: list[float], part: float) -> float:
    """The value below which a part of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000, help="lines of the workspace (100,000)")
    parser.add_argument("--file", type=int, default=2_000, help="lines of the file that is typed in (2,000)")
    parser.add_argument("--keys", type=int, default=300, help="keystrokes that are timed (300)")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between keystrokes (0.2)")
    parser.add_argument("--replay", type=int, default=7_200, help="edits that are replayed for memory: an hour at two a second")
    parser.add_argument("--workspace", type=Path, help="a folder to type in instead of a made one; needs --document")
    parser.add_argument("--document", type=Path, help="the file in it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.workspace:
            root, path = options.workspace.resolve(), options.document.resolve()
        else:
            root = Path(scratch).resolve()
            path = workspace(root, options.lines, options.file)
        files = [file for file in root.rglob("*.py") if ".venv" not in file.parts]
        total = sum(file.read_bytes().count(b"\n") for file in files)
        print(f"{total:,} lines in {len(files)} files; typing in {path.name}, {len(path.read_text().splitlines()):,} lines")
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        began = time.perf_counter()
        client = Client(root)
        typist = Typist(client, path)
        when, _ = client.answer(1)
        print(f"first findings after {when - began:.1f} s")
        time.sleep(3)
        processes = client.processes()
        waits: list[float] = []
        used: list[list[float]] = []
        for _ in range(options.keys):
            before = [processor(process) for process in processes]
            sent = time.perf_counter()
            typist.key()
            when, _ = client.answer(typist.version)
            waits.append(1000 * (when - sent))
            time.sleep(options.pause)
            used.append([1000 * (processor(process) - start) for process, start in zip(processes, before, strict=True)])
        print(
            f"keystroke to findings, {len(waits)} keys: p50 {share(waits, 0.5):.0f} ms, p95 {share(waits, 0.95):.0f} ms, "
            f"max {max(waits):.0f} ms; mean processor time of the server "
            f"{statistics.mean(server for server, _ in used):.0f} ms, of the analysis "
            f"{statistics.mean(analysis for _, analysis in used):.0f} ms"
        )
        held = []
        for number in range(options.replay):
            typist.key()
            if number % 10 == 9:
                client.answer(typist.version)
            if number % max(1, options.replay // 8) == 0:
                time.sleep(2.5)  # a pause of the typist, in which memory is tidied up
                held.append([memory(process) for process in client.processes()])
        if held:
            print("memory while an hour of edits is replayed, MiB (server, analysis):")
            print("  " + "  ".join(f"{server:.0f}, {analysis:.0f}" for server, analysis in held))
        print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}; the server left with {client.close()}")


if __name__ == "__main__":
    main()
