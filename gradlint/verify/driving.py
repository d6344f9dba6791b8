"""Modules taken through training steps without the program that trains them: by a configured factory, or by themselves."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gradlint.verify.interfaces import Driven, DriverError, Target

DRIVE_SHARE = 0.5
"""Of the time limit: what finding arguments for a class may take."""


def by_factory(target: Target, seconds: float) -> Driven:
    """Call the factory of the settings and make sense of what it returns.

    It may return a ``Driven``; a function without arguments, which computes a loss; a module and its input (a tensor, a tuple
    of arguments or a dictionary of keyword arguments); or those two and a loss function of the output.

    Raises:
        DriverError: the factory is not there, or returns something else.
    """
    module, _, name = target.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise DriverError(f"The factory {target.factory} of the settings cannot be found: {error}") from error
    made = factory()
    if isinstance(made, Driven):
        return made
    if callable(made) and not isinstance(made, nn.Module):
        return Driven(made, {}, f"{target.factory}()")
    if isinstance(made, Sequence) and len(made) in (2, 3) and isinstance(made[0], nn.Module):
        network, given = made[0].to(target.device), _moved(made[1], target.device)
        loss = made[2] if len(made) == 3 else _projected
        description = f"{type(network).__name__} and its input from {target.factory}(): {_shape(given)}"
        return Driven(lambda: loss(_called(network, given)), {type(network).__name__: network, "self": network}, description)
    raise DriverError(
        f"{target.factory} returned a {type(made).__name__}; it should return a module and its input, these and a loss "
        "function, or a function that computes a loss"
    )


def by_class(target: Target, seconds: float) -> Driven:
    """Build a class of the user's and feed it, with no help.

    Raises:
        DriverError: it cannot be imported, is no module, or no arguments were found that run.
    """
    from gradlint.verify.drive import Undriven, drive

    try:
        found: Any = importlib.import_module(target.module)
        for part in target.qualname.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise DriverError(f"{target.module} cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise DriverError(f"{target.qualname} is no nn.Module, so it cannot be driven alone")
    run = drive(found, device=target.device, seed=target.seed, time_limit=seconds * DRIVE_SHARE)
    if isinstance(run, Undriven):
        raise DriverError(f"{target.qualname} could not be driven alone: {run.reason}")
    return Driven(
        run.step,
        {target.qualname: run.module, "self": run.module, **run.objects},
        run.description,
        degenerate=run.degenerate,
        notes=run.notes,
    )


DRIVERS: Mapping[str, Callable[[Target, float], Driven]] = {"config": by_factory, "auto": by_class}


def take_steps(driven: Driven, steps: int) -> None:
    """Train for some steps; what is driven without an optimizer gets plain gradient descent."""
    modules = [thing for thing in driven.objects.values() if isinstance(thing, nn.Module)]
    optimizers = list(driven.optimizers)
    if not optimizers:
        trainable = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}
        if trainable:
            optimizers = [torch.optim.SGD(list(trainable.values()), lr=1e-3)]
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        losses = driven.step()
        for loss in losses if isinstance(losses, (list, tuple)) else [losses]:
            loss.backward()
        for optimizer in optimizers:
            optimizer.step()


def _called(module: nn.Module, given: Any) -> Any:
    if isinstance(given, Mapping):
        return module(**given)
    return module(*given) if isinstance(given, (list, tuple)) else module(given)


def _projected(output: Any) -> torch.Tensor:
    """A stand-in loss: the output's own loss if it has one, else a random projection of all its numbers."""
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(loss, torch.Tensor):
        return loss
    found = [tensor for tensor in _tensors(output) if tensor.is_floating_point()]
    if not found:
        raise DriverError("The module returns no floating-point tensor to make a loss of")
    if len(found) == 1 and found[0].numel() == 1:
        return found[0].sum()
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(tensor.shape, generator=generator).to(tensor) for tensor in found]
    # A plain sum of a softmax or a normalised output is constant and would have no gradient at all.
    terms = [(tensor * weight).sum() for tensor, weight in zip(found, weights, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for element in value for tensor in _tensors(element)]
    return []


def _moved(value: Any, device: str) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(element, device) for key, element in value.items()}
    return type(value)(_moved(element, device) for element in value) if type(value) in (list, tuple) else value


def _shape(value: Any) -> str:
    shown = [f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}" for tensor in _tensors(value)]
    return ", ".join(shown[:4]) or type(value).__name__
