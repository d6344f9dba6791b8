"""What the verifier's tracer costs: a training step under it and the recorder, as a ratio to the same step without.

What they hook into is never unhooked, so a plain and a traced process take turns, both forked from this one, with the same
model; the measure is the CPU time of a few steps.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import statistics
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from monitor_overhead import Case, convolutional, perceptron, training_step, transformer

from gradlint.verify.instrument import Asked
from gradlint.verify.places import Places
from gradlint.verify.recorder import Recorder


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="pairs of turns for each model (default: 11)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"CPU time, one thread, torch {torch.__version__}, {options.rounds} rounds\n")
    print("| model | plain step (s) | traced (s) | ratio | middle half of the rounds |\n|---|---|---|---|---|")
    for case, inner in (
        (transformer(12, 512, 4, 128), 1),
        (convolutional(8, 128), 2),
        (perceptron(12, 512, 128), 10),
        (perceptron(12, 32, 8), 50),
    ):
        print(row(case, inner, options.rounds), flush=True)


def row(case: Case, inner: int, rounds: int) -> str:
    """A line of the table."""
    with contextlib.ExitStack() as stack:
        plain, traced = (stack.enter_context(process(case, inner, watched)) for watched in (False, True))
        for each in (plain, traced):
            seconds(each)
        pairs: list[tuple[float, float]] = []
        for index in range(rounds):
            first, second = (plain, traced) if index % 2 else (traced, plain)
            one, other = seconds(first), seconds(second)
            pairs.append((one, other) if first is plain else (other, one))
    ratios = [after / before for before, after in pairs]
    low, _, high = statistics.quantiles(ratios, n=4)
    before, after = (statistics.median(column) for column in zip(*pairs, strict=True))
    return f"| {case.name} | {before:.4f} | {after:.4f} | {statistics.median(ratios):.2f} | {low:.2f} – {high:.2f} |"


def seconds(process: Connection) -> float:
    """The CPU seconds of a step, of one turn of a process."""
    process.send(True)
    return float(process.recv())


@contextlib.contextmanager
def process(case: Case, inner: int, watched: bool) -> Iterator[Connection]:
    """A process that takes some steps each time it is told to, and says what one took."""
    here, there = Pipe()
    child = os.fork()
    if child == 0:
        here.close()
        with contextlib.suppress(EOFError):
            serve(there, case, inner, watched)
        os._exit(0)
    there.close()
    try:
        yield here
    finally:
        here.close()
        os.waitpid(child, 0)


def serve(told: Connection, case: Case, inner: int, watched: bool) -> None:
    """Take steps until nobody asks any more."""
    gc.collect()
    with contextlib.ExitStack() as stack:
        if watched:
            asked: tuple[Asked, ...] = ()
            recorder = Recorder(Places([str(Path(__file__).parent)]), asked, 1 << 40, lambda: None)
            recorder.install()
            stack.enter_context(recorder.tracer)
        optimizer = torch.optim.SGD(case.model.parameters(), lr=1e-4)
        while told.recv():
            start = time.process_time()
            for _ in range(inner):
                training_step(case, optimizer, None)
            told.send((time.process_time() - start) / inner)


if __name__ == "__main__":
    main()
