"""Values as source text: what constructors and forwards are given, in a form that can be tried, changed and shown.

Every guess is a :data:`Spec`, which renders to a Python expression. The expression is what gets evaluated, so what is shown to
the user is what ran.
"""

from __future__ import annotations

import ast
import enum
import functools
import math
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["Group", "Scope", "Source", "Spec", "Tensor", "Unrenderable", "describe", "is_int", "leaves", "render", "replace"]


class Unrenderable(Exception):
    """A value that no Python expression of reasonable length gives."""


@dataclass(frozen=True, slots=True)
class Source:
    """A Python expression, taken as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of random content.

    ``kind``: ``float``, ``unit`` (floats between 0 and 1), ``sign`` (-1 or 1), ``double``, ``half``, ``bfloat16``, ``complex``, ``long``
    (non-negative integers below ``high``), ``int``, ``bool`` (all true), or ``length`` (every entry is ``high``).
    """

    shape: tuple[int, ...]
    kind: str = "float"
    high: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))  # sizes may come as numpy's numbers

    @property
    def floating(self) -> bool:
        """Whether gradient can flow into it."""
        return self.kind not in {"long", "int", "bool", "length"}

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    def text(self) -> str:
        """The expression that makes it."""
        size = ", ".join(map(str, self.shape)) or "()"
        match self.kind:
            case "float":
                return f"torch.randn({size})"
            case "unit":
                return f"torch.rand({size})"
            case "long":
                return f"torch.randint(0, {max(self.high, 1)}, {self.shape})"
            case "int":
                return f"torch.randint(0, {max(self.high, 1)}, {self.shape}, dtype=torch.int32)"
            case "bool":
                return f"torch.ones({size}, dtype=torch.bool)"
            case "length":
                return f"torch.full({self.shape}, {self.high})"
            case "sign":
                return f"torch.randn({size}).sign()"
            case "complex":
                return f"torch.randn({size}, dtype=torch.complex64)"
            case "double":
                return f"torch.randn({size}, dtype=torch.float64)"
            case "half":
                return f"torch.randn({size}, dtype=torch.float16)"
            case _:
                return f"torch.randn({size}, dtype=torch.{self.kind})"


@dataclass(frozen=True, slots=True)
class Group:
    """A list, tuple, dict or call with parts.

    ``kind``: ``list``, ``tuple``, ``dict``, or the text of a callable, whose keyword arguments the parts then are.
    ``names``: the keys of a dict or the keywords, empty for a list or tuple. A keyword that starts with ``*`` is positional.
    """

    kind: str
    items: tuple[Spec, ...]
    names: tuple[str, ...] = ()


Spec = Source | Tensor | Group

_SHORT = {
    "float": "float32",
    "unit": "float32",
    "sign": "float32",
    "double": "float64",
    "half": "float16",
    "long": "int64",
    "int": "int32",
    "length": "int64",
    "complex": "complex64",
}


def render(spec: Spec) -> str:
    """The expression of a spec."""
    match spec:
        case Source(text):
            return text
        case Tensor():
            return spec.text()
        case Group("list", items):
            return f"[{', '.join(map(render, items))}]"
        case Group("tuple", items):
            return f"({', '.join(map(render, items))}{',' if len(items) == 1 else ''})"
        case Group("dict", items, names):
            return "{" + ", ".join(f"{name!r}: {render(item)}" for name, item in zip(names, items, strict=True)) + "}"
        case Group(kind, items, names):
            return call(kind, zip(names, items, strict=True))


def call(function: str, arguments: Iterator[tuple[str, Spec]] | tuple[tuple[str, Spec], ...] | Any) -> str:
    """The text of a call; a name that starts with ``*`` is given by position, one that starts with ``**`` is unpacked."""
    parts = []
    for name, spec in arguments:
        if name.startswith("*"):
            parts.append(render(spec))
        else:
            parts.append(f"{name}={render(spec)}")
    return f"{function}({', '.join(parts)})"


def describe(spec: Spec) -> str:
    """A spec in the short form for people: ``float32[2, 3]`` for a tensor."""
    match spec:
        case Tensor(shape, kind):
            return f"{_SHORT.get(kind, kind)}{list(shape)}"
        case Source(text):
            return text
        case Group("list", items):
            return f"[{', '.join(map(describe, items))}]"
        case Group("tuple", items):
            return f"({', '.join(map(describe, items))})"
        case Group("dict", items, names):
            return "{" + ", ".join(f"{name!r}: {describe(item)}" for name, item in zip(names, items, strict=True)) + "}"
        case Group(kind, items, names):
            inner = (
                f"{name}={describe(item)}" if not name.startswith("*") else describe(item)
                for name, item in zip(names, items, strict=True)
            )
            return f"{kind}({', '.join(inner)})"


def is_int(spec: Spec) -> int | None:
    """The number, if the spec is a plain whole number."""
    if isinstance(spec, Source) and spec.text.lstrip("-").isdigit():
        return int(spec.text)
    return None


def leaves(spec: Spec) -> Iterator[Spec]:
    """The specs without parts that a spec is made of, in order."""
    if isinstance(spec, Group):
        for item in spec.items:
            yield from leaves(item)
    else:
        yield spec


def replace(spec: Spec, old: Spec, new: Spec) -> Spec:
    """``spec`` with every part that equals ``old`` replaced."""
    if spec == old:
        return new
    if isinstance(spec, Group):
        return Group(spec.kind, tuple(replace(item, old, new) for item in spec.items), spec.names)
    return spec


class Scope:
    """The names that expressions may use, and the imports that give them."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"torch": torch, "nn": nn, "functools": functools, "types": types, "math": math}
        self._imports: dict[str, str] = {
            "torch": "import torch",
            "nn": "from torch import nn",
            "functools": "import functools",
            "types": "import types",
            "math": "import math",
        }

    def name(self, value: Any) -> str:
        """An expression for a class or function, remembered with its import.

        A class made inside a function has no import; it is still usable here under its own name.
        """
        module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        if isinstance(value, types.BuiltinFunctionType) and getattr(torch, value.__name__, None) is value:
            return f"torch.{value.__name__}"
        if not isinstance(qualname, str) or not isinstance(module, str):
            raise Unrenderable(repr(value))
        if module == "builtins" and qualname.isidentifier():
            return qualname
        home = sys.modules.get(module)
        top, _, rest = qualname.partition(".")
        found = vars(home).get(top) if home is not None else None
        reached = found
        for part in rest.split(".") if rest else []:
            reached = getattr(reached, part, None)
        if reached is not value:
            if "<" in qualname and isinstance(value, type):
                return self._bind(value.__name__, value, f"# {value.__name__}: a class made inside a function of {module}")
            raise Unrenderable(repr(value))
        if home is nn or module.startswith("torch.nn.modules") and getattr(nn, top, None) is found:
            return f"nn.{qualname}"
        name = self._bind(top, found, f"from {module} import {top}")
        return f"{name}.{rest}" if rest else name

    def _bind(self, name: str, value: Any, line: str) -> str:
        chosen, number = name, 1
        while chosen in self.names and self.names[chosen] is not value:
            number += 1
            chosen = f"{name}_{number}"
        self.names[chosen] = value
        if chosen != name and line.startswith("from "):
            line = f"{line} as {chosen}"
        self._imports.setdefault(chosen, line)
        return chosen

    def value(self, text: str) -> Any:
        """The value of an expression."""
        return eval(compile(text, "<drive>", "eval"), self.names)

    def imports(self, *texts: str) -> list[str]:
        """The import lines that the expressions need."""
        used: dict[str, None] = {"torch": None}
        for text in texts:
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Name) and node.id in self._imports:
                    used.setdefault(node.id)
        return [self._imports[name] for name in used]

    def capture(self, value: Any, depth: int = 0) -> Spec:
        """A spec for a live value.

        Raises:
            Unrenderable: for values that hold state, such as modules.
        """
        if depth > 5:
            raise Unrenderable("nested too deep")
        match value:
            case enum.Enum():
                return Source(f"{self.name(type(value))}.{value.name}")
            case None | bool() | int() | str():
                return Source(repr(value)) if len(repr(value)) < 200 else _refuse(value)
            case float():
                return Source(repr(value) if math.isfinite(value) else f"float('{value}')")
            case torch.Tensor() if type(value) in {torch.Tensor, nn.Parameter}:
                return _captured_tensor(value)
            case torch.dtype() | torch.device():
                return Source(repr(value) if isinstance(value, torch.dtype) else f"torch.{value!r}")
            case torch.Size():
                return Group("tuple", tuple(Source(str(item)) for item in value))
            case functools.partial():
                parts = [("*", Source(self.name(value.func)))]
                parts += [("*", self.capture(item, depth + 1)) for item in value.args]
                parts += [(name, self.capture(item, depth + 1)) for name, item in value.keywords.items()]
                return Group("functools.partial", tuple(spec for _, spec in parts), tuple(name for name, _ in parts))
            case list():
                return Group("list", tuple(self.capture(item, depth + 1) for item in value[:64]))
            case tuple() if type(value) is tuple:
                return Group("tuple", tuple(self.capture(item, depth + 1) for item in value[:64]))
            case tuple() if hasattr(value, "_fields"):
                return Group(self.name(type(value)), tuple(self.capture(item, depth + 1) for item in value), value._fields)
            case Mapping() if all(isinstance(key, str) for key in value):
                return Group("dict", tuple(self.capture(item, depth + 1) for item in value.values()), tuple(value))
            case types.SimpleNamespace():
                inner = vars(value)
                return Group(
                    "types.SimpleNamespace", tuple(self.capture(item, depth + 1) for item in inner.values()), tuple(inner)
                )
            case type() | types.FunctionType() | types.BuiltinFunctionType():
                return Source(self.name(value))
            case _ if is_dataclass(value) and not isinstance(value, nn.Module):
                names = tuple(field.name for field in fields(value) if field.init)
                return Group(
                    self.name(type(value)), tuple(self.capture(getattr(value, name), depth + 1) for name in names), names
                )
            case _:
                return _refuse(value)


def _refuse(value: Any) -> Spec:
    raise Unrenderable(type(value).__name__)


_KINDS = {
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "half",
    torch.bfloat16: "bfloat16",
    torch.complex64: "complex",
    torch.int64: "long",
    torch.int32: "int",
    torch.bool: "bool",
}


def _captured_tensor(value: torch.Tensor) -> Spec:
    kind = _KINDS.get(value.dtype)
    if kind is None:
        raise Unrenderable(f"tensor of {value.dtype}")
    high = 2
    if kind in {"long", "int"} and value.device.type != "meta" and value.numel():
        high = int(value.max()) + 1
    return Tensor(tuple(value.shape), kind, high)
