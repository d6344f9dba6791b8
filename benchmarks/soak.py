"""Random editing over a real repository: no fault on the way, nothing stale, and at the end what the command line says.

Copies a folder, opens its files over the language server protocol and replays a person's work as fast as the server takes it:
typing letter by letter, pasting, deleting, taking back, saving, opening, closing, renaming, removing, changes of the settings.
Every so often it waits for the server to settle and compares what is shown with a run that knows nothing of what was before.

``python benchmarks/soak.py path/to/repository``; the exit code is 1 when something differs or went wrong.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from client import ROOT, Client

sys.path.insert(0, str(ROOT))

from gradlint.server.rows import rows
from gradlint.server.text import UTF16, Lines
from gradlint.session import ConfigError, analyze, load_config

PASTED = [
    "x = x.detach()\n",
    "with torch.no_grad():\n    pass\n",
    "optimizer.step\n",
    "import torch\n",
    "@torch.no_grad()\n",
    "loss.backward()\n",
    "for p in model.parameters():\n    p.requires_grad = False\n",
    "# gradlint: ignore[GRD102]\n",
    '"""\n',
    "class New(nn.Module):\n    def forward(self, x):\n        return x.data\n",
]
TYPED = ["y = x.detach().cpu()", "self.encoder.eval()", "return loss.item()", "# 🙂", "z = [", "optimizer.zero_grad()", "if x:"]
SETTINGS = [
    "",
    'ignore = ["GRD1"]\n',
    "preview = true\n",
    'min-confidence = "low"\n',
    'extend-exclude = ["*a*.py"]\n',
    "no-such = 1\n",
]

Shown = collections.Counter[tuple[str, tuple[int, int], tuple[int, int]]]


class Soak:
    """One repository being worked on. ``faults``: what was wrong; ``deeds``: what was done, how often."""

    def __init__(self, root: Path, log: Path, seed: int) -> None:
        self.root = root
        self.chance = random.Random(seed)
        self.deeds: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.checks = 0
        self.paths = sorted(root.rglob("*.py"))
        self.original = {path: path.read_bytes().decode("utf-8", "replace") for path in self.paths}
        self.texts: dict[Path, str] = {}  # of what is open
        self.versions: dict[Path, int] = {}
        self.log = log
        self.client = Client(root, log.open("w", encoding="utf-8"))

    # What a person does ----------------------------------------------------------------------------------------------

    def deed(self) -> None:
        """Do one thing."""
        choices: list[tuple[Callable[[], None], int]] = [
            (self.type, 30),
            (self.paste, 12),
            (self.cut, 8),
            (self.back, 10),
            (self.open, 10),
            (self.close, 6),
            (self.save, 8),
            (self.rename, 3),
            (self.remove, 1),
            (self.look, 8),
            (self.fix, 3),
            (self.set, 1),
        ]
        if not self.texts:
            self.open()
            return
        deed = self.chance.choices([deed for deed, _ in choices], [weight for _, weight in choices])[0]
        self.deeds[deed.__name__] += 1
        deed()

    def one(self) -> Path:
        """Some open file."""
        return self.chance.choice(sorted(self.texts))

    def open(self, path: Path | None = None) -> None:
        """Open a file."""
        closed = [path for path in self.paths if path not in self.texts]
        if path is None and (not closed or len(self.texts) >= 12):
            return
        path = path or self.chance.choice(closed)
        self.texts[path] = path.read_bytes().decode("utf-8", "replace").removeprefix("\ufeff")
        self.versions[path] = self.versions.get(path, 0) + 1
        document = {"uri": path.as_uri(), "languageId": "python", "version": self.versions[path], "text": self.texts[path]}
        self.client.notify("textDocument/didOpen", {"textDocument": document})

    def close(self) -> None:
        """Close a file without saving it."""
        path = self.one()
        del self.texts[path]
        self.client.notify("textDocument/didClose", {"textDocument": {"uri": path.as_uri()}})

    def edit(self, path: Path, start: int, end: int, new: str) -> None:
        """Replace a stretch of an open file."""
        text = self.texts[path]
        where = {"start": position(text, start), "end": position(text, end)}
        self.texts[path] = text[:start] + new + text[end:]
        self.versions[path] += 1
        identifier = {"uri": path.as_uri(), "version": self.versions[path]}
        self.client.notify(
            "textDocument/didChange", {"textDocument": identifier, "contentChanges": [{"range": where, "text": new}]}
        )

    def line_start(self, path: Path) -> int:
        """Where some line begins."""
        text = self.texts[path]
        ends = [number for number, char in enumerate(text) if char == "\n"]
        return self.chance.choice([0, *(end + 1 for end in ends)])

    def type(self) -> None:
        """Type a line letter by letter, at the indentation of the one below."""
        path = self.one()
        at = self.line_start(path)
        rest = self.texts[path][at : at + 200]
        indent = rest[: len(rest) - len(rest.lstrip(" "))]
        for letter in indent + self.chance.choice(TYPED) + "\n":
            self.edit(path, at, at, letter)
            at += 1

    def paste(self) -> None:
        """Put something in, often where it breaks the file."""
        path = self.one()
        at = self.line_start(path) if self.chance.random() < 0.8 else self.chance.randrange(len(self.texts[path]) + 1)
        rest = self.texts[path][at : at + 200]
        indent = rest[: len(rest) - len(rest.lstrip(" "))] if self.chance.random() < 0.8 else ""
        new = "".join(indent + line for line in self.chance.choice(PASTED).splitlines(keepends=True))
        self.edit(path, at, at, new)

    def cut(self) -> None:
        """Take a stretch out."""
        path = self.one()
        at = self.line_start(path)
        self.edit(path, at, min(len(self.texts[path]), at + self.chance.choice([1, 4, 40, 200])), "")

    def back(self) -> None:
        """Give a file the text that it had at first."""
        path = self.one()
        self.edit(path, 0, len(self.texts[path]), self.original.get(path, "import torch\n"))

    def save(self) -> None:
        """Save a file."""
        path = self.one()
        path.write_bytes(self.texts[path].encode("utf-8", "replace"))
        self.client.notify("textDocument/didSave", {"textDocument": {"uri": path.as_uri()}})
        self.happened(path, 2)

    def happened(self, path: Path, kind: int) -> None:
        """Tell the server that a file on disk was created (1), changed (2) or deleted (3)."""
        event = {"uri": path.as_uri(), "type": kind}
        self.client.notify("workspace/didChangeWatchedFiles", {"changes": [event]})

    def rename(self) -> None:
        """Rename a file; the editor goes on with it under the new name."""
        old = self.chance.choice(self.paths)
        new = old.with_name(f"{old.stem.partition('__')[0]}__{self.chance.randrange(10**6)}.py")
        was_open = old in self.texts
        if was_open:
            self.client.notify("textDocument/didClose", {"textDocument": {"uri": old.as_uri()}})
            del self.texts[old]
        old.rename(new)
        self.paths[self.paths.index(old)] = new
        self.original[new] = self.original[old]
        self.happened(old, 3)
        self.happened(new, 1)
        if was_open:
            self.open(new)

    def remove(self) -> None:
        """Remove a file that is not open."""
        closed = [path for path in self.paths if path not in self.texts]
        if len(closed) > len(self.original) // 2:
            path = self.chance.choice(closed)
            path.unlink()
            self.paths.remove(path)
            self.happened(path, 3)

    def look(self) -> None:
        """Hover somewhere."""
        path = self.one()
        at = position(self.texts[path], self.chance.randrange(len(self.texts[path]) + 1))
        self.client.request("textDocument/hover", {"textDocument": {"uri": path.as_uri()}, "position": at})

    def fix(self) -> None:
        """Take the first action that is offered anywhere in a file."""
        path = self.one()
        everything = {"start": {"line": 0, "character": 0}, "end": position(self.texts[path], len(self.texts[path]))}
        asked = {"textDocument": {"uri": path.as_uri()}, "range": everything, "context": {"diagnostics": []}}
        actions = [action for action in self.client.request("textDocument/codeAction", asked) or [] if action.get("edit")]
        if not actions:
            return
        for address, edits in actions[0]["edit"]["changes"].items():
            target = next((path for path in self.texts if path.as_uri() == address), None)
            if target is None:
                continue
            for entry in sorted(edits, key=lambda entry: tuple(entry["range"]["start"].values()), reverse=True):
                lines = Lines(self.texts[target])
                start, end = (lines.offset(side["line"], side["character"], UTF16) for side in entry["range"].values())
                self.edit(target, start, end, entry["newText"])

    def set(self) -> None:
        """Write other settings, now and then wrong ones."""
        path = self.root / "gradlint.toml"
        path.write_text(self.chance.choice(SETTINGS))
        self.happened(path, 2)

    # Looking ---------------------------------------------------------------------------------------------------------

    def settled(self) -> dict[Path, Shown]:
        """What is shown of the open files once the server has caught up."""
        for path in sorted(self.texts)[:1]:  # an answer waits for the analysis, and what is published goes out before it
            asked = {"textDocument": {"uri": path.as_uri()}, "position": {"line": 0, "character": 0}}
            self.client.request("textDocument/hover", asked)
        found: dict[Path, Shown] = {}
        addresses = {path.as_uri(): path for path in self.texts}
        for address, params in dict(self.client.shown).items():
            if address not in addresses:
                if params["diagnostics"] and not address.endswith(".toml"):
                    self.faults.append(f"{address} is not open and shows {len(params['diagnostics'])}")
                continue
            path = addresses[address]
            if params.get("version") != self.versions[path]:
                self.faults.append(f"{path.name} shows version {params.get('version')} of {self.versions[path]}")
            found[path] = collections.Counter(
                (entry["code"], *(tuple(entry["range"][side].values()) for side in ("start", "end")))
                for entry in params["diagnostics"]
            )
        return found

    def compare(self) -> None:
        """Compare what is shown with what a run over the same texts says that knows nothing else."""
        shown = self.settled()
        expected: dict[Path, Shown] = {path: collections.Counter() for path in self.texts}
        try:
            config = load_config([self.root], cwd=self.root)
            report = analyze([self.root], config, self.texts, cwd=self.root, use_cache=False)
        except ConfigError:  # nothing is known then, and the settings file says why
            pass
        else:
            for row in rows(report.findings, report.sources, report.fingerprints, "utf-16"):
                if row.place.path in expected:
                    expected[row.place.path][row.code, row.place.start, row.place.end] += 1
        self.checks += 1
        self.deeds["findings compared"] += sum(map(collections.Counter.total, expected.values()))
        for path, wanted in expected.items():
            if (seen := shown.get(path)) != wanted:
                missing = wanted - (seen or collections.Counter())
                surplus = (seen or collections.Counter()) - wanted
                self.faults.append(f"check {self.checks}, {path.name}: missing {dict(missing)}, too much {dict(surplus)}")

    def finish(self) -> int:
        """Save all, compare with the command line, and leave; returns how many findings there are."""
        (self.root / "gradlint.toml").write_text("")
        self.happened(self.root / "gradlint.toml", 2)
        for path in list(self.texts):
            path.write_bytes(self.texts[path].encode("utf-8", "replace"))
            self.client.notify("textDocument/didSave", {"textDocument": {"uri": path.as_uri()}})
        for path in self.paths:
            if path not in self.texts:
                self.open(path)
        shown = self.settled()
        command = [sys.executable, "-m", "gradlint", "check", "--no-cache", "--output-format", "json", "."]
        done = subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
        )
        said: dict[Path, collections.Counter[tuple[str, int]]] = {path: collections.Counter() for path in self.paths}
        for entry in json.loads(done.stdout):
            said[self.root / entry["filename"]][entry["code"], entry["location"]["row"]] += 1
        for path, wanted in said.items():
            rows_shown = shown.get(path, collections.Counter()).elements()
            seen = collections.Counter((code, start[0] + 1) for code, start, _ in rows_shown)
            if seen != wanted:
                self.faults.append(f"at the end, {path.name}: shown {dict(seen)}, the command line says {dict(wanted)}")
        if (status := self.client.close()) != 0:
            self.faults.append(f"the server left with {status}")
        self.faults += [f"the server said: {message}" for message in self.client.messages if "gradlint.toml" not in message]
        words = self.log.read_text(encoding="utf-8")
        if "Traceback" in words or "rror" in words:
            self.faults.append(f"in the log: {words[-2000:]}")
        return sum(sum(counts.values()) for counts in said.values())


def position(text: str, at: int) -> dict[str, int]:
    """An offset as the protocol counts it."""
    line, character = Lines(text).position(at, UTF16)
    return {"line": line, "character": character}


def soak(folder: Path, events: int, every: int, seed: int, rest: float = 0.0) -> Soak:
    """Work on a copy of a folder.

    Args:
        folder: the repository.
        events: how many things are done.
        every: after how many of them what is shown is compared.
        seed: of the chance.
        rest: the seconds that pass between two things at most.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch).resolve() / "copy"
        shutil.copytree(folder, root, ignore=shutil.ignore_patterns(".git", ".gradlint_cache"), symlinks=True)
        (root / "gradlint.toml").write_text("")
        work = Soak(root, Path(scratch) / "log", seed)
        try:
            for number in range(1, events + 1):
                work.deed()
                if rest:
                    time.sleep(work.chance.random() * rest)
                if number % every == 0:
                    work.compare()
            work.deeds["findings at the end"] = work.finish()
        finally:
            if work.client.server.poll() is None:
                work.client.server.kill()
        return work


def main() -> int:
    """Work and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, default=1_200, help="things that are done: ten minutes at two a second (1,200)")
    parser.add_argument("--every", type=int, default=30, help="after how many of them what is shown is compared (30)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rest", type=float, default=0.05, help="seconds between two of them at most (0.05)")
    options = parser.parse_args()
    began = time.perf_counter()
    work = soak(options.folder, options.events, options.every, options.seed, options.rest)
    done = ", ".join(f"{name} {count}" for name, count in sorted(work.deeds.items()))
    print(f"{len(work.paths)} files, {time.perf_counter() - began:.0f} s, {work.checks} comparisons; {done}")
    for fault in work.faults:
        print(f"  {fault}")
    print("nothing stale, no fault" if not work.faults else f"{len(work.faults)} faults")
    return bool(work.faults)


if __name__ == "__main__":
    sys.exit(main())
