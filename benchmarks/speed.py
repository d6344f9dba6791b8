"""How much CPU time a cold, uncached run takes, as a ratio to a bare parse of the same files and to TorchFix.

Every contender runs as a process of its own; the rounds are interleaved, so that a busy spell of the machine hits all of them.
CPU time (user and system, children included) is what the kernel accounts to the process, not what a clock on the wall says.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PARSE = """
import ast, pathlib, sys
for path in pathlib.Path(sys.argv[1]).rglob("*.py"):
    ast.parse(path.read_bytes())
"""


@dataclass(slots=True)
class Contender:
    """A command and what its runs took: CPU seconds a round, and the peak memory of any round in MiB."""

    name: str
    command: Sequence[str]
    lines: int
    seconds: list[float] = field(default_factory=list)
    peak: float = 0.0

    def run(self) -> None:
        """Run once, discarding the output; the exit status is no matter, a signal is."""
        process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            raise SystemExit(f"{self.name} ended with status {process.returncode}: {' '.join(self.command)}")
        self.seconds.append(usage.ru_utime + usage.ru_stime)
        self.peak = max(self.peak, usage.ru_maxrss / 1024)

    @property
    def median(self) -> float:
        """The median of the rounds, in CPU seconds."""
        return statistics.median(self.seconds)


def main() -> None:
    """Measure and print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="a package's folder (default: timm, downloaded with pip)")
    parser.add_argument("--package", default="timm", help="the distribution to download when no folder is given")
    parser.add_argument("--part", default="layers", help="the folder below it that TorchFix is timed on (default: layers)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over the whole folder (default: 5)")
    parser.add_argument("--torchfix-rounds", type=int, default=2, help="rounds against TorchFix; 0 leaves it out (default: 2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or download(options.package, Path(scratch))
        print(f"## {folder.name}: cold, no cache, one process\n")
        whole = [
            Contender("python -c pass", [sys.executable, "-c", "pass"], 0),
            Contender("ast.parse of every file", [sys.executable, "-c", PARSE, str(folder)], count_lines(folder)),
            Contender("gradlint check --no-cache", gradlint(folder), count_lines(folder)),
        ]
        measure(whole, options.rounds)
        print(table(whole, base=whole[1]))
        if options.torchfix_rounds:
            pace = against_torchfix(folder / options.part, Path(scratch), options.torchfix_rounds)
            if pace:
                ours = whole[2].lines / whole[2].median
                print(f"\nLines a second: gradlint on {folder.name} {ours:,.0f}, TorchFix on its part {pace:,.0f}.")
                print(f"That is {ours / pace:.0f} times as many.")


def against_torchfix(part: Path, scratch: Path, rounds: int) -> float | None:
    """Time TorchFix and gradlint on one folder; returns TorchFix's lines a second, or None where it could not be installed.

    The folder is copied out of its package first: gradlint would read the rest of the package too, and TorchFix would not.
    """
    print(f"\n## {part.name}: against TorchFix\n")
    folder = shutil.copytree(part, scratch / "part" / part.name)
    command = install_torchfix(scratch)
    if command is None:
        print("TorchFix could not be installed, so it was not measured.")
        return None
    lines = count_lines(folder)
    pair = [
        Contender("gradlint check --no-cache", gradlint(folder), lines),
        Contender("torchfix --select=ALL", [*command, "--select=ALL", str(folder)], lines),
    ]
    measure(pair, rounds)
    print(table(pair, base=pair[0]))
    return lines / pair[1].median


def measure(contenders: Sequence[Contender], rounds: int) -> None:
    """Run every contender once a round, one after the other."""
    for contender in contenders:  # warm the file cache and write the byte code
        contender.run()
        contender.seconds.clear()
    for _ in range(rounds):
        for contender in contenders:
            contender.run()


def gradlint(folder: Path) -> list[str]:
    """The command that is measured."""
    options = ["--no-cache", "--isolated", "--exit-zero", "--jobs", "1", "--output-format", "json"]
    return [sys.executable, "-m", "gradlint", "check", *options, str(folder)]


def count_lines(folder: Path) -> int:
    """Lines of Python below a folder."""
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.py"))


def download(package: str, scratch: Path) -> Path:
    """Fetch a wheel and unpack it; returns the folder of the package."""
    target = scratch / "package"
    command = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(scratch), package]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True)
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    print(f"{wheel.stem.split('-py')[0]}\n")
    return next(path for path in sorted(target.iterdir()) if path.is_dir() and path.suffix != ".dist-info")


def install_torchfix(scratch: Path) -> list[str] | None:
    """Install TorchFix into an environment of its own; returns its command, or None where that fails."""
    home = scratch / "torchfix"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "install", "--quiet", "torchfix"], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "", file=sys.stderr)
        return None
    return [str(python), "-m", "torchfix"]


def table(contenders: Iterable[Contender], base: Contender) -> str:
    """A Markdown table; the last column is the ratio of the medians to ``base``."""
    rows = ["| what | CPU s (median) | spread | lines/s | peak MiB | ratio |", "|---|---:|---:|---:|---:|---:|"]
    for one in contenders:
        pace = f"{one.lines / one.median:,.0f}" if one.lines else ""
        spread = f"{min(one.seconds):.2f} to {max(one.seconds):.2f}"
        rows.append(f"| {one.name} | {one.median:.2f} | {spread} | {pace} | {one.peak:.0f} | {one.median / base.median:.2f} |")
    return "\n".join(rows)


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "NO_COLOR": "1"}


if __name__ == "__main__":
    main()
