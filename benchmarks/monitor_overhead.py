"""What the gain monitor costs: a training step with it, as a ratio to the same step without it.

Plain and monitored steps take turns in one process, each pair in the other order than the one before, so that a busy spell of
the machine hits both.  On the CPU the measure is CPU time; on CUDA it is the time until the device is done.  A monitored step
includes reading the statistics, every time.  On a busy machine the ratio is noisy by several per cent; the share of the
step's CPU time that passes inside the monitor's own functions is not, so that is measured too.  A profile counts what waits
for a value.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradlint.verify import GradientGainMonitor
from gradlint.verify.monitors import gain


class Attention(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.qkv(self.before(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, width)
        x = x + self.out(mixed)
        result: Tensor = x + self.narrow(F.gelu(self.wide(self.between(x))))
        return result


class Residual(nn.Module):
    """A basic block of a residual convolutional network."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(inplace=True),
            nn.Conv2d(outer, outer, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outer),
        )
        same = stride == 1 and inner == outer
        self.side: nn.Module = nn.Identity() if same else nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.side(x), inplace=True)


@dataclass(slots=True)
class Case:
    """A model, its blocks and an input."""

    name: str
    model: nn.Module
    blocks: Sequence[nn.Module]
    batch: Tensor


def transformer(layers: int, width: int, batch: int, length: int) -> Case:
    """A decoder without vocabulary: what its blocks do is what counts."""
    blocks = nn.ModuleList([Attention(width, width // 64) for _ in range(layers)])
    name = f"transformer, {layers} × {width}, {batch} × {length} tokens"
    return Case(name, nn.Sequential(*blocks, nn.LayerNorm(width)), list(blocks), torch.randn(batch, length, width))


def convolutional(batch: int, size: int) -> Case:
    """A residual network of 18 layers."""
    plan = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    blocks = nn.ModuleList([Residual(*each) for each in plan])
    stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    model = nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))
    return Case(f"ResNet-18, {batch} images of {size} × {size}", model, list(blocks), torch.randn(batch, 3, size, size))


def perceptron(layers: int, width: int, batch: int) -> Case:
    """A multilayer perceptron."""
    blocks = [nn.Sequential(nn.Linear(width, width), nn.GELU()) for _ in range(layers)]
    return Case(f"MLP, {layers} × {width}, batch {batch}", nn.Sequential(*blocks), blocks, torch.randn(batch, width))


@dataclass(slots=True)
class Measured:
    """The seconds of each round, plain and monitored, and the share of a step that passes inside the monitor."""

    plain: list[float] = field(default_factory=list)
    monitored: list[float] = field(default_factory=list)
    inside: float = math.nan

    @property
    def ratios(self) -> list[float]:
        """The ratio of each round."""
        return [one / other for one, other in zip(self.monitored, self.plain, strict=True)]

    def row(self, name: str) -> str:
        """A line of the table: median seconds, the median ratio, the middle half of the ratios, the share."""
        plain, monitored = statistics.median(self.plain), statistics.median(self.monitored)
        low, _, high = statistics.quantiles(self.ratios, n=4)
        ratio = f"{statistics.median(self.ratios):.3f} | {low:.3f} – {high:.3f}"
        return f"| {name} | {plain:.4f} | {monitored:.4f} | {ratio} | {100 * self.inside:.2f} % |"


HEAD = (
    "| model | plain step (s) | with the monitor (s) | ratio | middle half of the rounds | inside the monitor |\n"
    "|---|---|---|---|---|---|"
)


class ImpatientMonitor(GradientGainMonitor):
    """What the monitor avoids, for comparison: each hook waits for the device."""

    def _measure(self, block: gain._Block, call: int, made_in: int, gradient: Tensor) -> None:
        super()._measure(block, call, made_in, gradient)
        block.measured[call][0].item()


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="pairs of steps for each model (default: 15)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the CPU section (default: 1)")
    parser.add_argument("--skip-cpu", action="store_true", help="only the CUDA section")
    options = parser.parse_args()
    torch.manual_seed(0)
    if not options.skip_cpu:
        torch.set_num_threads(options.threads)
        print(f"## CPU time, {options.threads} thread(s), torch {torch.__version__}\n\n{HEAD}")
        cases = ((transformer(12, 512, 4, 128), 1), (convolutional(8, 128), 3), (perceptron(12, 512, 128), 20))
        for case, inner in cases:
            print(measure(case, options.rounds, time.process_time, inner=inner).row(case.name), flush=True)
        profile_table(cases[0][0])
    if torch.cuda.is_available():
        on_cuda(options.rounds)
    else:
        print("\nNo CUDA device: its section is left out.")


def training_step(case: Case, optimizer: torch.optim.Optimizer, monitor: GradientGainMonitor | None) -> None:
    """One step; with a monitor, its statistics are read too."""
    optimizer.zero_grad()
    case.model(case.batch).float().square().mean().backward()
    optimizer.step()
    if monitor is not None:
        monitor.summary_stats()


def measure(
    case: Case,
    rounds: int,
    clock: Callable[[], float],
    monitor_class: type[GradientGainMonitor] = GradientGainMonitor,
    inner: int = 1,
) -> Measured:
    """Plain and monitored steps in turn; ``inner`` steps are timed together."""
    optimizer = torch.optim.SGD(case.model.parameters(), lr=1e-4)
    measured = Measured()

    def timed(watched: bool) -> float:
        monitor = monitor_class(case.blocks, strict_single_backward=False) if watched else None
        start = clock()
        for _ in range(inner):
            training_step(case, optimizer, monitor)
        seconds = (clock() - start) / inner
        if monitor is not None:
            monitor.close()
        return seconds

    for watched in (False, True, False, True):
        timed(watched)
    for index in range(rounds):
        for watched in (False, True) if index % 2 else (True, False):
            (measured.monitored if watched else measured.plain).append(timed(watched))
    measured.inside = inside(case, optimizer, max(3, rounds // 3) * inner)
    return measured


def inside(case: Case, optimizer: torch.optim.Optimizer, steps: int) -> float:
    """The share of the CPU time of some steps that passes in the hooks and in reading."""
    spent = 0.0

    def timing(function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            nonlocal spent
            start = time.process_time()
            result = function(*arguments)
            spent += time.process_time() - start
            return result

        return timed

    with (
        mock.patch.object(gain._ForwardHook, "__call__", timing(gain._ForwardHook.__call__)),
        mock.patch.object(GradientGainMonitor, "_measure", timing(GradientGainMonitor._measure)),
        mock.patch.object(GradientGainMonitor, "summary_stats", timing(GradientGainMonitor.summary_stats)),
        GradientGainMonitor(case.blocks, strict_single_backward=False) as monitor,
    ):
        start = time.process_time()
        for _ in range(steps):
            training_step(case, optimizer, monitor)
        return spent / (time.process_time() - start)


def on_cuda(rounds: int) -> None:
    """A 16-bit transformer step, large and small, and for the small one also a monitor that waits in each hook."""
    case = transformer(24, 1024, 8, 1024)
    case.model.to("cuda", torch.bfloat16)
    case.batch = case.batch.to("cuda", torch.bfloat16)
    print(f"\n## {torch.cuda.get_device_name()}, bfloat16, torch {torch.__version__}\n\n{HEAD}")
    print(measure(case, rounds, device_clock, inner=5).row(case.name), flush=True)
    small = transformer(24, 256, 2, 128)
    small.model.to("cuda", torch.bfloat16)
    small.batch = small.batch.to("cuda", torch.bfloat16)
    print(measure(small, rounds, device_clock, inner=20).row(f"{small.name} (bound by the host)"), flush=True)
    print(measure(small, rounds, device_clock, ImpatientMonitor, inner=20).row("the same, waiting in each hook"), flush=True)

    profile_table(case)


def profile_table(case: Case) -> None:
    """Print how often a step waits, without a monitor, with it, and with one that waits in each hook."""
    print(
        f"\nWhat waits for a value in one step of the {case.name}, according to a profile (reading the statistics left out):\n"
    )
    print(f"- plain: {waits(case, None)}")
    print(f"- with the monitor: {waits(case, GradientGainMonitor)}")
    print(f"- with a monitor that waits in each hook: {waits(case, ImpatientMonitor)}")


def device_clock() -> float:
    """Seconds, after everything on the device is done."""
    torch.cuda.synchronize()
    return time.perf_counter()


def waits(case: Case, monitor_class: type[GradientGainMonitor] | None) -> int:
    """How often a profile sees a step wait for the device, or copy to the host."""
    optimizer = torch.optim.SGD(case.model.parameters(), lr=1e-4)
    training_step(case, optimizer, None)
    monitor = monitor_class(case.blocks, strict_single_backward=False) if monitor_class is not None else None
    activities = [torch.profiler.ProfilerActivity.CPU]
    if case.batch.is_cuda:
        torch.cuda.synchronize()
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        training_step(case, optimizer, None)
    names = [event.name for event in profile.events() or ()]
    if monitor is not None:
        monitor.close()
    waiting = ("aten::_local_scalar_dense", "cudaStreamSynchronize", "Memcpy DtoH")
    return sum(any(word in name for word in waiting) for name in names)


if __name__ == "__main__":
    main()
