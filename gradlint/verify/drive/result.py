"""What driving a module comes to: a run that can be repeated, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gradlint.verify.drive.outputs import Gradient

__all__ = ["Run", "Undriven"]


@dataclass(slots=True)
class Run:
    """A module that was built, fed, and taken through forward and backward.

    ``module``: a fresh instance in training mode, no gradients on it.
    ``description``: one line, ``Net(in_dim=8), forward(x=float32[2, 8])``.
    ``source``: a Python program that does the same again and ends with ``loss.backward()``.
    ``origin``: ``signature`` (made up from signature and layers), ``whole model`` (arguments seen inside a larger model),
    ``example`` (from a docstring) or ``factory`` (named in the configuration).
    ``outputs``: shapes of what forward returned.  ``loss``: the loss's value.
    ``gradients``: what each parameter got, in the order of ``named_parameters``.
    ``input_gradients``: likewise for the inputs, where the module has nothing to train itself.
    ``degenerate``: why no verdict may rest on this run; empty when one may.
    ``notes``: remarks worth a line of evidence.  ``attempts``: how many forwards were tried.  ``seconds``: what it all took.
    """

    module: nn.Module
    description: str
    source: str
    origin: str
    outputs: str
    loss: float
    gradients: tuple[Gradient, ...]
    _loss: Callable[[], torch.Tensor] = field(repr=False)
    input_gradients: tuple[Gradient, ...] = ()
    degenerate: str = ""
    notes: tuple[str, ...] = ()
    attempts: int = 1
    seconds: float = 0.0
    objects: Mapping[str, Any] = field(default_factory=dict)

    def step(self) -> torch.Tensor:
        """Run forward and the stand-in loss once more and return the loss; backward is the caller's.

        The inputs and the loss's weights are the same in every step.
        """
        return self._loss()

    @property
    def live(self) -> tuple[str, ...]:
        """The parameters that got a gradient other than zero."""
        return tuple(item.name for item in self.gradients if item.state == "live")

    @property
    def missing(self) -> tuple[str, ...]:
        """The parameters that want a gradient and got none."""
        return tuple(item.name for item in self.gradients if item.state == "missing")


@dataclass(frozen=True, slots=True)
class Undriven:
    """Why a class could not be driven.

    ``reason``: one sentence for people.  ``stage``: how far it came: ``nothing`` (there is nothing to run), ``construct``,
    ``forward``, ``backward``.  ``attempts``: how many forwards were tried.  ``tried``: the most promising attempt, in one line.
    """

    reason: str
    stage: str
    attempts: int = 0
    seconds: float = 0.0
    tried: str = ""
