"""Measures of tensors that stay on their device, and reading many of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

NORMS = ("l2", "l1", "linf", "mean")


def measure(tensor: Tensor, norm_type: str) -> Tensor:
    """A norm as a 0-dim tensor on the device of ``tensor``; nothing waits for its value.

    ``mean`` gives the sum of the absolute values: whoever reads it divides by the number of elements.  Sixteen-bit tensors
    are summed in 32 bits, where half precision would overflow.
    """
    tensor = tensor.detach()
    if tensor.is_nested:
        tensor = tensor.values()
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    narrow = tensor.dtype in (torch.float16, torch.bfloat16)
    dtype = torch.float32 if narrow else None
    if not tensor.numel():
        return torch.zeros((), dtype=torch.float32, device=tensor.device)
    if norm_type == "linf":
        largest = tensor.abs().amax()
        return largest.to(torch.float32) if narrow else largest
    norm: Tensor = torch.linalg.vector_norm(tensor, 2 if norm_type == "l2" else 1, dtype=dtype)
    return norm


def read(scalars: Sequence[Tensor]) -> list[float]:
    """The values of 0-dim tensors, in order. Each device is asked (and waited for) once for each type of number."""
    values = [0.0] * len(scalars)
    together: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    whole: list[Any] = [each.full_tensor() if hasattr(each, "full_tensor") else each for each in scalars]
    for place, scalar in enumerate(whole):
        together.setdefault((scalar.device, scalar.dtype), []).append(place)
    for places in together.values():
        for place, value in zip(places, torch.stack([whole[place] for place in places]).tolist(), strict=True):
            values[place] = float(value)
    return values
