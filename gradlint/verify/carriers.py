"""Python numbers and NumPy arrays that remember which cut tensors they came from.

They are subclasses of ``float``, ``int`` and ``ndarray`` and behave like them; arithmetic keeps the memory.  What leaves them
(string formatting, C extensions) is a plain value again.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gradlint.verify.marks import Mark, merge

ATTRIBUTE = "_gradlint_mark"


def mark_of(value: Any) -> Mark | None:
    """The memory of a number or an array, or None."""
    return getattr(value, ATTRIBUTE, None) if isinstance(value, _carrying()) else None


def marks_of(values: Iterable[Any], depth: int = 3) -> list[Mark]:
    """The memories of numbers and arrays within nested lists, tuples and dictionaries."""
    found: list[Mark] = []
    for value in values:
        if isinstance(value, (list, tuple)) and depth:
            found += marks_of(value, depth - 1)
        elif isinstance(value, dict) and depth:
            found += marks_of(value.values(), depth - 1)
        elif (mark := mark_of(value)) is not None:
            found.append(mark)
    return found


def carry(value: Any, mark: Mark | None) -> Any:
    """``value`` with a memory, where its type can have one; lists are carried element by element."""
    if mark is None or not mark.depends:
        return value
    if type(value) is float:
        return Number(value, mark)
    if type(value) is int:
        return Integer(value, mark)
    if isinstance(value, list):
        return [carry(element, mark) for element in value]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return _as_array(value, mark)
        if isinstance(value, numpy.floating):
            return _as_array(numpy.asarray(value), mark)
    return value


def _binary(name: str) -> Callable[[Any, Any], Any]:
    original: Callable[[Any, Any], Any] = getattr(float, name)
    linear = name in ("__add__", "__radd__", "__sub__", "__rsub__")

    def method(self: Any, other: Any) -> Any:
        result = original(float(self), other)
        if result is NotImplemented:
            return result
        marks = [mark for mark in (mark_of(self), mark_of(other)) if mark is not None]
        keep = linear or (name in ("__mul__", "__rmul__", "__truediv__") and len(marks) == 1)
        return carry(result, merge(marks, terms=keep))

    return method


def _unary(name: str) -> Callable[[Any], Any]:
    original: Callable[[Any], Any] = getattr(float, name)

    def method(self: Any) -> Any:
        return carry(original(float(self)), mark_of(self))

    return method


class Number(float):
    """A float that came from a tensor."""

    def __new__(cls, value: float, mark: Mark) -> Number:
        number = super().__new__(cls, value)
        setattr(number, ATTRIBUTE, mark)
        return number

    def __reduce__(self) -> tuple[Any, ...]:
        return float, (float(self),)

    def __copy__(self) -> Number:
        return self

    def __deepcopy__(self, memo: object) -> Number:
        return self

    def __round__(self, digits: int | None = None) -> Any:  # type: ignore[override]
        plain: Any = round(float(self)) if digits is None else round(float(self), digits)
        return carry(plain, mark_of(self))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return _apply_ufunc(ufunc, method, inputs, options)


class Integer(int):
    """An int that came from a tensor."""

    def __new__(cls, value: int, mark: Mark) -> Integer:
        number = super().__new__(cls, value)
        setattr(number, ATTRIBUTE, mark)
        return number

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)

    def __copy__(self) -> Integer:
        return self

    def __deepcopy__(self, memo: object) -> Integer:
        return self


def _integer_binary(name: str) -> Callable[[Any, Any], Any]:
    original: Callable[[Any, Any], Any] = getattr(int, name)

    def method(self: Any, other: Any) -> Any:
        result = original(int(self), other)
        if result is NotImplemented:
            return result
        return carry(result, merge([mark for mark in (mark_of(self), mark_of(other)) if mark is not None]))

    return method


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
for _word in _BINARY:
    for _name in (f"__{_word}__", f"__r{_word}__"):
        setattr(Number, _name, _binary(_name))
        setattr(Integer, _name, _integer_binary(_name))
for _name in ("__neg__", "__abs__", "__pos__"):
    setattr(Number, _name, _unary(_name))


def number(kind: type, arguments: tuple[Any, ...], convert: Callable[[Any], Mark | None]) -> Any:
    """``float(…)`` or ``int(…)`` of the user's code. ``convert`` gives the memory for a tensor that is converted."""
    mark = merge(marks_of(arguments)) if arguments else None
    if arguments and mark is None:
        mark = convert(arguments[0])
    return carry(kind(*(_plain(value) for value in arguments)), mark)


def _plain(value: Any) -> Any:
    return value


# NumPy ---------------------------------------------------------------------------------------------------------------


@functools.cache
def _array_class() -> Any:
    import numpy

    class Array(numpy.ndarray):
        """An array that came from a tensor."""

        def __array_finalize__(self, origin: Any) -> None:
            if origin is not None:
                setattr(self, ATTRIBUTE, getattr(origin, ATTRIBUTE, None))

        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
            return _apply_ufunc(ufunc, method, inputs, options)

        def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
            mark = merge(marks_of([*arguments, *options.values()]), terms=function.__name__ in _LINEAR)
            return _carried(function(*_bare(arguments), **_bare(options)), mark)

        def __getitem__(self, key: Any) -> Any:
            return carry(super().__getitem__(_bare(key)), mark_of(self))

        def __reduce__(self) -> Any:
            return self.view(numpy.ndarray).__reduce__()

        def tolist(self) -> Any:
            return carry(self.view(numpy.ndarray).tolist(), mark_of(self))

        def item(self, *arguments: Any) -> Any:
            return carry(self.view(numpy.ndarray).item(*arguments), mark_of(self))

        def __float__(self) -> float:
            return float(self.view(numpy.ndarray))

    def reduction(name: str) -> Callable[..., Any]:
        def method(self: Any, *arguments: Any, **options: Any) -> Any:
            mark = merge([mark for mark in (mark_of(self),) if mark], terms=name in _LINEAR)
            return _carried(getattr(self.view(numpy.ndarray), name)(*_bare(arguments), **_bare(options)), mark)

        return method

    for name in ("mean", "sum", "min", "max", "std", "var", "prod", "dot", "clip", "cumsum", "trace", "argmax", "argmin"):
        setattr(Array, name, reduction(name))
    return Array


_LINEAR = frozenset(("mean", "sum", "stack", "concatenate", "average", "add", "subtract", "vstack", "hstack", "cumsum"))


def _carrying() -> tuple[type, ...]:
    return (Number, Integer, _array_class()) if "numpy" in sys.modules else (Number, Integer)


def arrays() -> tuple[type, ...]:
    """The classes of NumPy arrays, none while NumPy is not there."""
    numpy = sys.modules.get("numpy")
    return (numpy.ndarray,) if numpy is not None else ()


def _as_array(value: Any, mark: Mark) -> Any:
    array = value.view(_array_class())
    setattr(array, ATTRIBUTE, mark)
    return array


def _bare(value: Any) -> Any:
    """``value`` without memories that NumPy would trip over."""
    import numpy

    if isinstance(value, _array_class()):
        return value.view(numpy.ndarray)
    if isinstance(value, Number):
        return float(value)
    if type(value) in (tuple, list):
        return type(value)(_bare(element) for element in value)
    if type(value) is dict:
        return {key: _bare(element) for key, element in value.items()}
    return value


def _carried(result: Any, mark: Mark | None) -> Any:
    if isinstance(result, tuple) and type(result) is tuple:
        return tuple(_carried(element, mark) for element in result)
    if getattr(getattr(result, "dtype", None), "kind", "f") in "OUSMm":
        return result
    return carry(result, mark)


def _apply_ufunc(ufunc: Any, method: str, inputs: Any, options: Any) -> Any:
    mark = merge(marks_of([*inputs, *options.values()]), terms=ufunc.__name__ in _LINEAR)
    out = options.pop("out", None)
    if out is not None:
        options["out"] = _bare(out)
    result = getattr(ufunc, method)(*_bare(inputs), **{key: _bare(value) for key, value in options.items()})
    if out is not None:
        for target in out:
            if isinstance(target, _array_class()):
                setattr(target, ATTRIBUTE, mark)
        return out[0] if len(out) == 1 else out
    return _carried(result, mark)


def follow_numpy() -> None:
    """Let the functions that make arrays of lists keep the memories in them. Once, when NumPy is there."""
    numpy = sys.modules.get("numpy")
    if numpy is None or getattr(numpy, ATTRIBUTE, False):
        return
    setattr(numpy, ATTRIBUTE, True)
    for name in (
        "array",
        "asarray",
        "ascontiguousarray",
        "mean",
        "sum",
        "average",
        "median",
        "std",
        "var",
        "prod",
        "max",
        "min",
    ):
        setattr(numpy, name, _remembering(getattr(numpy, name), name in _LINEAR or "array" in name))


def follow_math() -> None:
    """Let the functions of ``math`` keep the memories of their arguments."""
    for name, function in vars(math).items():
        if callable(function) and not name.startswith("_"):
            setattr(math, name, _remembering(function, name == "fsum"))


def _remembering(function: Any, linear: bool) -> Any:
    @functools.wraps(function)
    def remembering(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        marks = marks_of(arguments)
        return _carried(result, merge(marks, terms=linear)) if marks else result

    return remembering
