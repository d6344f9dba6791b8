"""Contracts of the settings, held against a run: what of a module gets gradient, what moves, and what reaches what.

A promise is written as the settings have it: ``trains seed``, ``frozen host``, ``isolated aux_head encoder``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from gradlint.verify.graphs import tensors_within
from gradlint.verify.instrument import Asked

KIND = "contract"
MOST_ELEMENTS = 100_000_000
"""Of the values that are kept for comparison."""


class Held:
    """A module under contract. ``before``: its parameters and buffers as they were when it first ran."""

    def __init__(self, module: Any) -> None:
        self.module = module
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        size = sum(tensor.numel() for tensor in tensors.values())
        self.before = {name: t.detach().clone() for name, t in tensors.items()} if size <= MOST_ELEMENTS else {}

    def moved(self, part: str) -> dict[str, float]:
        """How far the parameters and buffers of a part have moved, by name; only those that have."""
        now = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        found: dict[str, float] = {}
        for name, old in self.before.items():
            new = now.get(name)
            if covers(part, name) and isinstance(new, torch.Tensor) and new.shape == old.shape and not torch.equal(new, old):
                found[name] = float((new.detach().double() - old.double()).abs().max())
        return found


class Promises:
    """The modules that the contracts asked about are on. ``leaks``: by claim, parameters behind what has to be isolated."""

    def __init__(self, asked: Sequence[Asked], reachable: Callable[[Iterable[Any]], Iterable[Any]]) -> None:
        self.asked = [each for each in asked if each.claim.kind == KIND]
        self.names = {each.claim.subjects[0] for each in self.asked}
        self.reachable = reachable
        self.held: dict[str, list[Held]] = {}
        self.leaks: dict[int, dict[int, Any]] = {}
        self._known: set[int] = set()
        self._sources: dict[int, list[tuple[Asked, Any]]] = {}

    def sees(self, module: Any) -> None:
        """A module is about to run."""
        if not self.asked or id(module) in self._known:
            return
        self._known.add(id(module))
        for name in self.names:
            if any(_is(cls, name) for cls in type(module).__mro__):
                self.adopt(name, module)

    def adopt(self, name: str, module: Any) -> None:
        """A module is what a contract's name means."""
        self._known.add(id(module))
        self.held.setdefault(name, []).append(Held(module))
        for each in self.asked:
            word, *parts = each.claim.subjects[1].split()
            if each.claim.subjects[0] == name and word == "isolated" and len(parts) == 2:
                for inner_name, inner in module.named_modules():
                    if inner_name == parts[0]:
                        self._sources.setdefault(id(inner), []).append((each, module))

    def ran(self, module: Any, output: Any) -> None:
        """A module has run and gave an output."""
        for each, owner in self._sources.get(id(module), ()):
            outputs = [tensor for tensor in tensors_within(output) if tensor.requires_grad]
            part = each.claim.subjects[1].split()[2]
            behind = {id(tensor) for tensor in self.reachable(outputs)}
            found = self.leaks.setdefault(each.number, {})
            found.update((id(p), p) for n, p in owner.named_parameters() if covers(part, n) and id(p) in behind)


def covers(part: str, name: str) -> bool:
    """Whether a dotted name is a part or lies in it."""
    return name == part or name.startswith(f"{part}.")


def _is(cls: Any, name: str) -> bool:
    module, _, qualname = name.rpartition(":")
    if cls is nn.Module or cls.__qualname__ != qualname:
        return False
    return cls.__module__ in (module, "__main__") or module.endswith(f".{cls.__module__}")
