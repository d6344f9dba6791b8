"""Tensors within what a module returns: a tensor, a tuple, a list, a mapping, a dataclass, nested in any way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor


def tensors(output: Any, depth: int = 6) -> Iterator[Tensor]:
    """All tensors within ``output``, in its own order."""
    if isinstance(output, Tensor):
        yield output
    elif depth:
        for part in _parts(output):
            yield from tensors(part, depth - 1)


def first_with_gradient(output: Any) -> Tensor | None:
    """The first tensor within ``output`` that gradient can reach."""
    if isinstance(output, Tensor):  # by far the most common: no generator for it
        return output if output.requires_grad else None
    return next((tensor for tensor in tensors(output) if tensor.requires_grad), None)


def _parts(output: Any) -> Iterator[Any]:
    if isinstance(output, Mapping):
        yield from output.values()
    elif isinstance(output, (list, tuple)):
        yield from output
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for field in dataclasses.fields(output):
            yield getattr(output, field.name, None)
