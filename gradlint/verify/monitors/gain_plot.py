"""Norms and log-gains as a figure. Needs matplotlib, the ``plot`` extra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def draw(
    norms: Sequence[float | None],
    log_gains: Sequence[float | None],
    title: str,
    path: str | Path | None = None,
    axes: Sequence[Any] | None = None,
) -> Any:
    """Draw both into two panels and return the figure; see `GradientGainMonitor.plot`."""
    if axes is None:
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("plot() needs matplotlib: pip install 'torch-gradlint[plot]'") from error
        figure = Figure(figsize=(8, 6), layout="constrained")
        above, below = figure.subplots(2, 1)
    else:
        above, below = axes
        figure = above.figure
    _norms(above, norms, title)
    _gains(below, log_gains)
    if path is not None:
        figure.savefig(path)
    return figure


def _norms(axis: Any, norms: Sequence[float | None], title: str) -> None:
    # What cannot stand on a logarithmic axis becomes a gap in the line.
    heights = [norm if norm is not None and 0 < norm < math.inf else math.nan for norm in norms]
    axis.plot(range(len(heights)), heights, marker="o")
    if any(not math.isnan(height) for height in heights):
        axis.set_yscale("log")
    axis.set_title(f"Gradient at the output of each block ({title})")
    axis.set_xlabel("block")
    axis.set_ylabel("norm")


def _gains(axis: Any, log_gains: Sequence[float | None]) -> None:
    heights = [gain if gain is not None and math.isfinite(gain) else math.nan for gain in log_gains]
    axis.bar(range(len(heights)), heights)
    axis.axhline(0.0, color="black", linewidth=0.8)
    for edge in (math.log(0.5), math.log(2.0)):
        axis.axhline(edge, color="grey", linewidth=0.8, linestyle="--")
    axis.set_xticks(range(len(heights)), [f"{index}→{index + 1}" for index in range(len(heights))])
    axis.set_title("Log-gain of each transition (dashed: 0.5 and 2)")
    axis.set_ylabel("log γ")
