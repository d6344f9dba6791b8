"""From whatever forward returns to a loss, and from the backward pass to what each parameter got."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

__all__ = ["Gradient", "describe_output", "float_outputs", "gradients_of", "projection", "tensors_in"]


@dataclass(frozen=True, slots=True)
class Gradient:
    """What one parameter got from the backward pass.

    ``state``: ``live``, ``zero`` (a gradient, but nothing other than zeros in it), ``missing`` (``grad is None``), ``nonfinite``
    or ``frozen`` (``requires_grad`` is false).  ``norm``: the 2-norm, zero where there is none.
    """

    name: str
    elements: int
    state: str
    norm: float = 0.0


def tensors_in(value: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """Every tensor in a tensor, sequence, mapping, named tuple, dataclass, or object with attributes, in order."""
    if depth > 8:
        return
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item, depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from tensors_in(item, depth + 1)
    elif isinstance(value, str | bytes | int | float | bool | type | nn.Module) or value is None:
        return
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name, None), depth + 1)
    elif isinstance(value, torch.distributions.Distribution):
        for name in value.arg_constraints:
            yield from tensors_in(getattr(value, name, None), depth + 1)
    elif hasattr(value, "__dict__"):
        for item in list(vars(value).values()):
            yield from tensors_in(item, depth + 1)


def float_outputs(value: Any) -> list[torch.Tensor]:
    """The floating-point and complex tensors of an output, each once."""
    seen: dict[int, torch.Tensor] = {}
    for tensor in tensors_in(value):
        if tensor.is_floating_point() or tensor.is_complex():
            seen.setdefault(id(tensor), tensor)
    return list(seen.values())


def describe_output(value: Any) -> str:
    """The shapes of an output, at most four of them."""
    found = list(tensors_in(value))
    shown = [f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}" for tensor in found[:4]]
    return ", ".join(shown) + (f" and {len(found) - 4} more" if len(found) > 4 else "") if found else type(value).__name__


def projection(outputs: list[torch.Tensor], seed: int) -> torch.Tensor | None:
    """A random projection of all outputs that carry gradient, ``None`` where none does.

    A sum would do for most modules and fail for those that end in a softmax or a normalisation, whose sum is constant.
    The weights depend on ``seed`` and the shapes alone, so that the loss is the same function in every step.
    """
    terms: list[torch.Tensor] = []
    generator = torch.Generator().manual_seed(seed)
    for output in outputs:
        if not output.requires_grad or not output.numel():
            continue
        dense = output.to_dense() if output.layout is not torch.strided else output
        real = torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense
        weights = torch.randn(real.shape, generator=generator, device="cpu").to(device=real.device, dtype=real.dtype)
        terms.append((real * weights).sum() / max(real.numel(), 1) ** 0.5)
    if not terms:
        return None
    total = terms[0]
    for term in terms[1:]:
        total = total + term.to(device=total.device, dtype=total.dtype)
    return total


def gradients_of(module: nn.Module) -> tuple[Gradient, ...]:
    """What each parameter holds in ``grad``, in the order of ``named_parameters``."""
    found: list[Gradient] = []
    for name, parameter in module.named_parameters():
        elements = 0 if is_lazy(parameter) else parameter.numel()
        if not parameter.requires_grad:
            found.append(Gradient(name, elements, "frozen"))
        elif parameter.grad is None:
            found.append(Gradient(name, elements, "missing"))
        else:
            grad = parameter.grad.detach()
            grad = grad.coalesce().values() if grad.layout is torch.sparse_coo else grad
            norm = float(torch.linalg.vector_norm(grad.to(torch.complex128 if grad.is_complex() else torch.float64)))
            state = "nonfinite" if norm != norm or norm == float("inf") else "live" if norm > 0 else "zero"
            found.append(Gradient(name, elements, state, norm))
    return tuple(found)
