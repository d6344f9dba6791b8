"""What the user calls a parameter: found by looking into variables of the user's frames and modules."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

import torch
from torch import nn

from gradlint.verify.places import Places

_WRAPPERS = frozenset(("OptimizedModule", "DistributedDataParallel", "DataParallel", "FullyShardedDataParallel"))
MOST_DEEP = 3
"""How many objects are walked through on the way from a variable to a module."""


class Names:
    """Names of modules and tensors, gathered while the program runs."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.roots: dict[str, tuple[Any, int]] = {}

    def look(self, namespaces: Sequence[dict[str, Any]] = ()) -> None:
        """Look into all frames of the user's that are running now, and into further namespaces."""
        frame: FrameType | None = sys._getframe(1)
        seen = []
        while frame is not None:
            if self.places.is_user(frame.f_code.co_filename):
                seen.append(frame.f_locals)
            frame = frame.f_back
        for rank, variables in enumerate(reversed(seen), 1):
            self.add(variables, rank)
        for namespace in namespaces:
            self.add(namespace)

    def add(self, variables: dict[str, Any], rank: int = 0) -> None:
        """Take up whatever modules and tensors are in some variables. ``rank``: names of a lower one are preferred."""
        for name, value in list(variables.items()):
            if not name.startswith("__"):
                self._walk(name, value, MOST_DEEP, rank)

    def _walk(self, name: str, value: Any, depth: int, rank: int) -> None:
        if isinstance(value, (nn.Module, nn.Parameter)):
            known = self.roots.get(name)
            if known is None or known[1] >= rank:
                self.roots[name] = value, rank
        elif isinstance(value, torch.Tensor) or not depth:
            return
        elif isinstance(value, dict):
            for key, element in list(value.items())[:64]:
                self._walk(f"{name}.{key}", element, depth - 1, rank)
        elif isinstance(value, (list, tuple)):
            for number, element in enumerate(value[:64]):
                self._walk(f"{name}.{number}", element, depth - 1, rank)
        elif self._is_users(value):
            for key, element in list(vars(value).items())[:64]:
                self._walk(f"{name}.{key}", element, depth - 1, rank)

    def _is_users(self, value: Any) -> bool:
        module = sys.modules.get(type(value).__module__)
        file = getattr(module, "__file__", None)
        return file is not None and hasattr(value, "__dict__") and self.places.is_user(file)

    def finish(self, modules: Iterable[Any]) -> dict[int, list[str]]:
        """All names of each tensor, by id, the best first; tensors of modules without a variable go by their class."""
        known: dict[int, list[str]] = {}
        found = [(name, root, rank, _size(root)) for name, (root, rank) in self.roots.items()]
        found.sort(key=lambda each: (-each[3], type(each[1]).__name__ in _WRAPPERS, each[2], len(each[0]), each[0]))
        named = [(name, root) for name, root, _, _ in found]
        for name, root in [*named, *((type(module).__name__, module) for module in _outermost(modules))]:
            for below, tensor in _tensors(root):
                full = f"{name}.{below}" if below else name
                names = known.setdefault(id(tensor), [])
                if full not in names:
                    names.append(full)
        return known


def _size(root: Any) -> int:
    return sum(1 for _ in _tensors(root))


def _tensors(root: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(root, nn.Module):
        yield from root.named_parameters(remove_duplicate=False)
        yield from root.named_buffers(remove_duplicate=False)
    else:
        yield "", root


def _outermost(modules: Iterable[Any]) -> list[Any]:
    """The modules that are not part of another."""
    every = list(modules)
    inner = {id(child) for module in every for child in module.children()}
    return [module for module in every if id(module) not in inner]


def matches(subject: str, name: str) -> bool:
    """Whether a subject, as a claim spells it, means a tensor of this name or a module that it is in.

    ``?`` stands for any one part.  The subject may begin inside the name: ``encoder`` means ``model.encoder.weight``.
    """
    wanted, parts = subject.split("."), name.split(".")
    return any(
        all(a in ("?", b) for a, b in zip(wanted, parts[start:], strict=False)) for start in range(len(parts) - len(wanted) + 1)
    )


def summarise(tensors: Sequence[Any], names: dict[int, list[str]], every: Iterable[Any]) -> list[tuple[str, int, int]]:
    """Tensors as groups: the name of the largest module all of whose tensors are meant, how many they are, their elements.

    ``every``: all tensors that could be meant, so that a group is only named when it is complete.
    """
    meant = {id(tensor): tensor for tensor in tensors}
    outside = [names.get(id(tensor), [""])[0].split(".") for tensor in every if id(tensor) not in meant]
    groups: dict[str, list[Any]] = {}
    for tensor in meant.values():
        name = names.get(id(tensor), ["a parameter without a name"])[0]
        parts = name.split(".")
        for end in range(1, len(parts)):
            if not any(other[:end] == parts[:end] for other in outside):
                name = ".".join(parts[:end]) + ".*"
                break
        groups.setdefault(name, []).append(tensor)
    return [(name, len(held), sum(tensor.numel() for tensor in held)) for name, held in groups.items()]
