"""From what went wrong to what to try next.

Each repair reads a failure and yields changed states with a price: low where the message names the remedy, high where it is a
shot in the dark. The search tries cheap ones first, so the order of repairs does not matter.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from gradlint.verify.drive.failures import Clash, Failure
from gradlint.verify.drive.guesses import BATCH, LENGTH, SIDE, WIDTH
from gradlint.verify.drive.layers import from_shape, layouts, width_of
from gradlint.verify.drive.reading import spelled
from gradlint.verify.drive.state import State, map_leaves
from gradlint.verify.drive.values import Group, Source, Spec, Tensor, is_int, leaves

__all__ = ["Options", "repairs"]

Priced = Iterator[tuple[float, State]]


class Options(Protocol):
    """What the search knows of the parameters of the class at hand."""

    def of_argument(self, name: str) -> Sequence[Spec]:
        """Candidates for a constructor argument, empty where there is no such parameter."""
        ...

    def of_input(self, module: nn.Module, name: str, state: State) -> Sequence[Spec]:
        """Candidates for an argument of forward, empty where there is no such parameter."""
        ...

    def of_name(self, name: str) -> Sequence[Spec]:
        """Candidates for a configuration's attribute."""
        ...

    def argument_names(self) -> Sequence[str]:
        """The constructor's parameters."""
        ...

    def defaults(self, kind: str) -> Mapping[str, Any]:
        """The defaults of a constructor's parameters: of the class that an expression names, of the class at hand for ``""``."""
        ...

    def input_names(self) -> Sequence[str]:
        """The parameters of forward."""
        ...


def repairs(state: State, failure: Failure, options: Options, module: nn.Module | None) -> Priced:
    """Changed states that may get past a failure."""
    if failure.stage == "construct":
        for repair in _CONSTRUCT:
            yield from repair(state, failure, options)
    elif module is not None:
        for fix in _FORWARD:
            yield from fix(state, failure, options, module)
        for price, changed in _arguments_behind_forward(state, failure, options):
            yield price, changed


# --- constructors -------------------------------------------------------------------------------------------------------------

_MISSING = re.compile(r"missing \d+ required (?:positional|keyword-only) arguments?: (.*)")
_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")
_NO_ATTRIBUTE = re.compile(r"'([\w.]+)' object has no attribute '(\w+)'")


def _missing(state: State, failure: Failure, options: Options) -> Priced:
    found = _MISSING.search(failure.message)
    if not found:
        return
    names = re.findall(r"'(\w+)'", found[1])
    changed = state
    for name in names:
        candidates = options.of_argument(name) or options.of_name(name)
        if candidates and changed.argument(name) is None:
            changed = changed.with_argument(name, candidates[0])
    if changed != state:
        yield 0.05, changed


def _unexpected(state: State, failure: Failure, options: Options) -> Priced:
    found = _UNEXPECTED.search(failure.message)
    if found and state.argument(found[1]) is not None:
        yield 0.5, state.without_argument(found[1])


def _configuration(state: State, failure: Failure, options: Options) -> Priced:
    """Give a made-up configuration what it is asked for."""
    found = _NO_ATTRIBUTE.search(failure.message)
    if found and found[1] in {"types.SimpleNamespace", "SimpleNamespace"}:
        yield from _extended(state, "types.SimpleNamespace", found[2], options)
    elif failure.kind == "KeyError":
        key = failure.message.strip("'\"")
        if key.isidentifier():
            yield from _extended(state, "dict", key, options)
    elif found and found[1] in {"int", "float", "str", "bool", "NoneType"} and failure.frames:
        # config.model.width, where ``model`` was taken for a number
        for name in failure.frames[-1].names:
            for key, spec in state.arguments:
                nested = _nested(spec, name, Group("types.SimpleNamespace", ()))
                if nested != spec:
                    yield 1.0, state.with_argument(key.lstrip("*"), nested)
    elif found and found[1] == "dict":
        for key, spec in state.arguments:
            changed = _rekinded(spec, "dict", "types.SimpleNamespace")
            if changed != spec:
                yield 0.6, state.with_argument(key.lstrip("*"), changed)
    if (
        "'types.SimpleNamespace' object is not subscriptable" in failure.message
        or "argument after ** must be a mapping" in failure.message
        or "'types.SimpleNamespace' object is not iterable" in failure.message
    ):
        for key, spec in state.arguments:
            changed = _rekinded(spec, "types.SimpleNamespace", "dict")
            if changed != spec:
                yield 0.6, state.with_argument(key.lstrip("*"), changed)


def _rekinded(spec: Spec, old: str, new: str) -> Spec:
    if isinstance(spec, Group):
        return Group(
            new if spec.kind == old else spec.kind, tuple(_rekinded(item, old, new) for item in spec.items), spec.names
        )
    return spec


def _extended(state: State, kind: str, name: str, options: Options) -> Priced:
    for rank, value in enumerate(list(options.of_name(name))[:4]):
        for key, spec in state.arguments:
            changed = _extend(spec, kind, name, value)
            if changed != spec:
                yield 0.02 + 0.7 * rank, state.with_argument(key.lstrip("*"), changed)


def _extend(spec: Spec, kind: str, name: str, value: Spec) -> Spec:
    if not isinstance(spec, Group):
        return spec
    items = tuple(_extend(item, kind, name, value) for item in spec.items)
    if spec.kind == kind and name not in spec.names:
        return Group(kind, (*items, value), (*spec.names, name))
    return Group(spec.kind, items, spec.names)


def _nested(spec: Spec, name: str, value: Spec) -> Spec:
    """``spec`` with the part called ``name`` replaced, wherever it is a plain value."""
    if not isinstance(spec, Group):
        return spec
    names = spec.names or ("",) * len(spec.items)
    items = tuple(
        value if key == name and not isinstance(item, Group) else _nested(item, name, value)
        for key, item in zip(names, spec.items, strict=True)
    )
    return Group(spec.kind, items, spec.names)


def _collections(state: State, failure: Failure, options: Options) -> Priced:
    """A number where a list is wanted, or the other way round."""
    message = failure.message
    wants_list = re.search(
        r"'(int|float)' object is not (iterable|subscriptable)|object of type '(int|float|NoneType)' has no len|cannot unpack non-iterable (int|float)|'NoneType' object is not (iterable|subscriptable)",
        message,
    )
    wants_more = re.search(r"(list|tuple) index out of range|not enough values to unpack", message)
    wants_fewer = "too many values to unpack" in message
    wants_number = re.search(
        r"unsupported operand type\(s\)|can only concatenate|'(list|tuple)' object cannot be interpreted|must be (real )?(number|int|float)|not supported between instances of|empty\(\): argument|must be tuple of ints|invalid combination of arguments|can't multiply sequence",
        message,
    )
    if not (wants_list or wants_more or wants_fewer or wants_number):
        return
    for price, name, spec in _suspects(state, failure, options):
        number = is_int(spec)
        if wants_list and (number is not None or spec == Source("None") or isinstance(spec, Source)):
            value = Source(str(number if number is not None else WIDTH))
            for cost, length in enumerate((2, 4, 3, 1)):
                yield price + 0.3 * cost, state.with_argument(name, Group("list", (value,) * length))
            for candidate in options.of_argument(name):
                if isinstance(candidate, Group) or isinstance(candidate, Source) and candidate.text[:1] in "[(":
                    yield price, state.with_argument(name, candidate)
        sequence = _as_sequence(spec)
        if sequence and (wants_more or wants_fewer):
            for length in (len(sequence) + 1, len(sequence) * 2, max(len(sequence) - 1, 1), 5):
                yield price + 0.2, state.with_argument(name, Group("list", tuple((sequence * 5)[:length])))
        if sequence and wants_number:
            yield price, state.with_argument(name, sequence[0])
            for candidate in options.of_argument(name):
                if is_int(candidate) is not None:
                    yield price, state.with_argument(name, candidate)


def _as_sequence(spec: Spec) -> tuple[Spec, ...]:
    if isinstance(spec, Group) and spec.kind in {"list", "tuple"}:
        return spec.items
    if isinstance(spec, Source) and re.fullmatch(r"[\[(][\d, ]+[\])]", spec.text):
        return tuple(Source(number) for number in re.findall(r"\d+", spec.text))
    return ()


def _suspects(state: State, failure: Failure, options: Options) -> Iterator[tuple[float, str, Spec]]:
    """Constructor arguments that the failing expressions name, the innermost frame first; then the others."""
    seen: set[str] = set()
    for distance, frame in enumerate(reversed(failure.frames)):
        for name in frame.names:
            for key in (name, name.lstrip("_")):
                spec = state.argument(key)
                if spec is not None and key not in seen:
                    seen.add(key)
                    yield 0.6 + 0.3 * distance, key, spec
    for key, spec in state.arguments:
        if key.lstrip("*") not in seen:
            yield 2.0, key.lstrip("*"), spec


def _optional(state: State, failure: Failure, options: Options) -> Priced:
    """Give a parameter whose default does not work, if a failing expression names it."""
    known = set(options.argument_names())
    for distance, frame in enumerate(reversed(failure.frames)):
        for name in frame.names:
            if name in known and state.argument(name) is None:
                for rank, value in enumerate(list(options.of_argument(name))[:4]):
                    yield 1.0 + 0.4 * rank + 0.3 * distance, state.with_argument(name, value)


def _alternatives(state: State, failure: Failure, options: Options) -> Priced:
    for price, name, spec in _suspects(state, failure, options):
        rank = 0
        for value in options.of_argument(name):
            if value != spec:
                yield price + 0.6 + 0.4 * rank, state.with_argument(name, value)
                rank += 1


def _alternative_attributes(state: State, failure: Failure, options: Options) -> Priced:
    """Other values for the attributes of a configuration that the failing expressions name."""
    for distance, frame in enumerate(reversed(failure.frames[-3:])):
        for name in frame.names:
            for key, spec in state.arguments:
                for group in _groups(spec):
                    given = dict(zip(group.names, group.items, strict=True)) if group.names or not group.items else {}
                    if name not in given and (group.kind in _PLAIN or name not in options.defaults(group.kind)):
                        continue
                    for rank, value in enumerate(list(options.of_name(name))[:6]):
                        if value != given.get(name):
                            merged = given | {name: value}
                            changed = _swap(spec, group, Group(group.kind, tuple(merged.values()), tuple(merged)))
                            yield 1.0 + 0.4 * rank + 0.3 * distance, state.with_argument(key.lstrip("*"), changed)


_PLAIN = {"list", "tuple", "dict", "types.SimpleNamespace"}


def _groups(spec: Spec) -> Iterator[Group]:
    if isinstance(spec, Group):
        if spec.names or not spec.items:
            yield spec
        for item in spec.items:
            yield from _groups(item)


def _swap(spec: Spec, old: Spec, new: Spec) -> Spec:
    if spec == old:
        return new
    if isinstance(spec, Group):
        return Group(spec.kind, tuple(_swap(item, old, new) for item in spec.items), spec.names)
    return spec


def _conditions(state: State, failure: Failure, options: Options) -> Priced:
    """Make true what an assertion or the condition before a raise asks for."""
    for clash in failure.clashes:
        for price, changed in _satisfied(state, clash, options):
            yield price, changed


def _satisfied(state: State, clash: Clash, options: Options) -> Priced:
    named = [name for name in clash.names if state.argument(name) is not None]
    match clash.operator:
        case "==":
            for have, want in _pairs(clash.have, clash.want):
                if have in set(state.numbers()):
                    yield 0.8, state.renumbered(have, want, frozenset(named) or None)
                    yield 1.4, state.renumbered(have, want)
            for name in named:
                if isinstance(clash.want, int | str | float | bool):
                    yield 1.0, state.with_argument(name, Source(repr(clash.want)))
                if isinstance(clash.have, int | str | float | bool):
                    yield 1.2, state.with_argument(name, Source(repr(clash.have)))
            for name in [name for name in clash.names if state.argument(name) is None and options.of_argument(name)]:
                if isinstance(clash.want, int | str | float | bool):
                    yield 1.2, state.with_argument(name, Source(repr(clash.want)))
        case "in":
            wanted = (
                list(clash.want)[:6]
                if isinstance(clash.want, Mapping | list | tuple | set | frozenset)
                or hasattr(clash.want, "__iter__")
                and not isinstance(clash.want, str | torch.Tensor)
                else []
            )
            for name in named or [name for name in clash.names if options.of_argument(name)]:
                for rank, value in enumerate(wanted):
                    if isinstance(value, int | str | float | bool | None):
                        yield 0.6 + 0.2 * rank, state.with_argument(name, Source(repr(value)))
                    elif isinstance(value, tuple) and all(isinstance(item, int | str) for item in value):
                        yield 0.6 + 0.2 * rank, state.with_argument(name, Source(repr(value)))
        case "%":
            if isinstance(clash.have, int) and isinstance(clash.want, int) and clash.want:
                yield from _divisible(state, clash.have, clash.want)
        case "<" | ">":
            for name in named:
                for value in (clash.want, _next(clash.want, clash.operator), clash.have):
                    if isinstance(value, int | float) and not isinstance(value, bool):
                        yield 0.9, state.with_argument(name, Source(repr(value)))
        case "isinstance":
            kinds = clash.want if isinstance(clash.want, tuple) else (clash.want,)
            for name in named:
                old = state.argument(name)
                assert old is not None
                for rank, kind in enumerate(kinds):
                    value = _as_kind(kind, old, options.of_argument(name))
                    if value is not None:
                        yield 0.7 + 0.3 * rank, state.with_argument(name, value)
        case "none" | "truth":
            for name in clash.names:
                for rank, value in enumerate(list(options.of_argument(name))[:3]):
                    if value not in {Source("None"), Source("False")}:
                        yield 0.8 + 0.3 * rank, state.with_argument(name, value)
                if clash.want is False:
                    yield 0.8, state.with_argument(name, Source("False"))
        case "differ":
            for name in named:
                for rank, value in enumerate(list(options.of_argument(name))[:4]):
                    yield 1.0 + 0.3 * rank, state.with_argument(name, value)


def _next(value: Any, operator: str) -> Any:
    return value + (1 if operator == "<" else -1) if isinstance(value, int | float) else None


def _as_kind(kind: Any, old: Spec, candidates: Sequence[Spec]) -> Spec | None:
    value = is_int(old)
    if kind in {list, tuple} or getattr(kind, "__name__", "") in {"Sequence", "Iterable", "list", "tuple", "Collection"}:
        for candidate in candidates:
            if isinstance(candidate, Group) and candidate.kind in {"list", "tuple"}:
                return candidate
            if isinstance(candidate, Source) and candidate.text[:1] in "[(":
                return candidate
        return Group("tuple" if kind is tuple else "list", (old, old))
    if kind is int:
        return Source(str(value)) if value is not None else Source(str(WIDTH))
    if kind is str:
        return next(
            (candidate for candidate in candidates if isinstance(candidate, Source) and candidate.text[:1] == "'"), Source("''")
        )
    if kind is dict or getattr(kind, "__name__", "") in {"Mapping", "dict"}:
        return Group("dict", ())
    if kind is float:
        return Source("0.5")
    if kind is torch.Tensor:
        return Tensor((WIDTH,))
    return None


def _pairs(have: Any, want: Any) -> Iterator[tuple[int, int]]:
    """Whole numbers that differ between the two sides of a comparison, in both directions."""
    if isinstance(have, bool) or isinstance(want, bool):
        return
    if isinstance(have, int) and isinstance(want, int):
        if have != want:
            yield have, want
            yield want, have
    elif isinstance(have, tuple | list) and isinstance(want, tuple | list) and len(have) == len(want):
        for one, other in zip(have, want, strict=True):
            yield from _pairs(one, other)


def _divisible(state: State, number: int, divisor: int) -> Priced:
    """Make ``number % divisor`` zero: enlarge the one, or reduce the other."""
    numbers = set(state.numbers())
    if divisor <= 0 or number <= 0:
        return
    multiple = number * divisor // math.gcd(number, divisor)
    if number in numbers and multiple <= 4096:
        yield 0.7, state.renumbered(number, multiple)
    if divisor in numbers:
        for smaller in (math.gcd(number, divisor), 4, 2, 1):
            if smaller and number % smaller == 0 and smaller != divisor:
                yield 0.8, state.renumbered(divisor, smaller)
    for base in numbers:
        if base > 1 and number % base == 0 and number != base and base * multiple // number <= 4096:
            yield 1.2, state.renumbered(base, base * multiple // number)


def _division(state: State, failure: Failure, options: Options) -> Priced:
    """Messages that speak of divisibility, and of widths that do not fit."""
    text = failure.message.lower()
    if "divis" in text or "multiple of" in text or "divide" in text:
        numbers = failure.numbers
        for one, other in zip(numbers, numbers[1:], strict=False):
            yield from _divisible(state, one, other)
            yield from _divisible(state, other, one)
        for price, factor in ((1.6, 2), (1.8, 3), (2.0, 4), (2.2, 6), (2.6, 8)):
            yield price, state.renumbered(WIDTH, WIDTH * factor)
        for name in ("num_heads", "heads", "n_heads", "nhead", "n_head", "groups", "num_groups"):
            if state.argument(name) is not None or options.of_argument(name):
                yield 1.4, state.with_argument(name, Source("4"))
                yield 1.8, state.with_argument(name, Source("1"))


def _numbers_in_arguments(state: State, failure: Failure, options: Options) -> Priced:
    """Replace a number that the message names by another that it names."""
    present = set(state.numbers())
    numbers = failure.numbers[:8]
    if found := re.search(r"\((\d+)\) must match .*?\((\d+)\)", failure.message):
        for have, want in (found.groups(), found.groups()[::-1]):
            for key, _ in state.arguments:
                yield 0.7, state.renumbered(int(have), int(want), frozenset([key.lstrip("*")]))
    for have in dict.fromkeys(numbers):
        if have in present:
            for want in dict.fromkeys(numbers):
                if want != have and 0 < want <= 4096:
                    yield 1.6, state.renumbered(have, want)
                    for key, _ in state.arguments:
                        yield 1.7, state.renumbered(have, want, frozenset([key.lstrip("*")]))


_TYPE = re.compile(r"str|int|float|bool|list|tuple|dict|None|NoneType|Tensor|[A-Z]\w+(Config|Model|Module|Layer)?")


def _named_choices(state: State, failure: Failure, options: Options) -> Priced:
    """Try the words that a message offers: ``mode must be one of 'sum', 'mean'``."""
    message = failure.message[:2000]
    if failure.kind not in {
        "ValueError",
        "KeyError",
        "AssertionError",
        "NotImplementedError",
        "RuntimeError",
        "AttributeError",
        "TypeError",
    }:
        return
    if re.search(r"missing \d+ required|unexpected keyword|has no attribute|operand type", message) or not re.search(
        r"one of|choose|choices|supported|support|valid|should be|must be|available|allowed|expected|options|unknown|either",
        message,
        re.IGNORECASE,
    ):
        return
    words = re.findall(r"'([\w.+-]+)'|\"([\w.+-]+)\"", message)
    offered = [one or other for one, other in words]
    listed = re.search(r"one of:?\s*[\[({]?([\w.+-]+(?:,? (?:or |and )?[\w.+-]+)*)", message)
    if listed:
        offered += [word for word in re.split(r",? or |,? and |, ?", listed[1]) if word]
    offered = [word for word in dict.fromkeys(offered) if not _TYPE.fullmatch(word)][:12]
    if not offered:
        return
    named = [name for name in options.argument_names() if re.search(rf"\b{re.escape(name)}\b", message)]
    texts = [key.lstrip("*") for key, spec in state.arguments if isinstance(spec, Source) and spec.text[:1] == "'"]
    for place, name in enumerate(list(dict.fromkeys([*named, *texts]))[:4]):
        for rank, word in enumerate(offered):
            if repr(word) != getattr(state.argument(name), "text", ""):
                yield 0.7 + 0.4 * place + 0.1 * rank, state.with_argument(name, Source(repr(word)))


_OFFLINE = re.compile(
    r"download|URL|urlopen|https?:|weights from|No such file|not found|checkpoint|Connection|offline|pretrained|cache",
    re.IGNORECASE,
)


def _offline(state: State, failure: Failure, options: Options) -> Priced:
    """Do without weights that would have to be fetched."""
    if not _OFFLINE.search(failure.message) and failure.kind not in {"OSError", "FileNotFoundError", "URLError", "HTTPError"}:
        return
    for name in options.argument_names():
        if re.search(r"pretrain|weights|checkpoint|ckpt|^load|download", name):
            for rank, value in enumerate(("False", "None")):
                if state.argument(name) != Source(value):
                    yield 0.6 + 0.2 * rank, state.with_argument(name, Source(value))


def _wider(state: State, failure: Failure, options: Options) -> Priced:
    """Widths that divided, multiplied or subtracted come out as nothing."""
    if re.search(
        r"by zero|must be positive|invalid.*0|zero|negative|greater than|expected a positive", failure.message.lower()
    ):
        for width in (64, 128, 256):
            if width != WIDTH:
                yield 1.5 + width / 256, state.renumbered(WIDTH, width)


_DEPTH = re.compile(r".*(depth|layers|blocks|num_layers|n_layer|repeats|stages_repeats)s?", re.IGNORECASE)
_WIDE = re.compile(
    r".*(dim|dims|width|widths|features|channels|chs|hidden|hidden_size|intermediate_size|planes|d_model|units|size|ffn|inner|embd)",
    re.IGNORECASE,
)
_IMAGE = re.compile(r".*(img|image|input|resolution|patch|window|kernel|vocab|head|grid|pool).*", re.IGNORECASE)


_WORDS = re.compile(r".*vocab.*|num_embeddings|n_?tokens?|num_(tokens|words|items|users|entities|codes)", re.IGNORECASE)
_HEADS = re.compile(r"(num|n)_?(attention_|attn_)?heads", re.IGNORECASE)


def _smaller(state: State, failure: Failure, options: Options) -> Priced:
    """For a module that is too large: fewer layers, then narrower ones too, as far as defaults and names tell."""
    if failure.kind != "TooBig":
        return
    steps = ((), ("width",), ("width", "words"), ("width", "heads"), ("width", "heads", "words"))
    for rank, what in enumerate(steps):
        changed = state
        for name, value in _shrunk(options.defaults(""), dict(state.arguments), what).items():
            changed = changed.with_argument(name, Source(repr(value)))
        for key, spec in state.arguments:
            if isinstance(spec, Group) and re.fullmatch(r"\w+", spec.kind) and spec.kind not in {"list", "tuple", "dict"}:
                given = dict(zip(spec.names, spec.items, strict=True))
                smaller = _shrunk(options.defaults(spec.kind), given, what)
                if smaller:
                    merged = given | {name: Source(repr(value)) for name, value in smaller.items()}
                    changed = changed.with_argument(key.lstrip("*"), Group(spec.kind, tuple(merged.values()), tuple(merged)))
        if changed != state:
            yield 0.3 + 0.2 * rank, changed


def _shrunk(defaults: Mapping[str, Any], given: Mapping[str, Spec], what: tuple[str, ...]) -> dict[str, Any]:
    """Smaller values for the parameters of a constructor that are given or have a default."""
    found: dict[str, Any] = {}
    for name, default in defaults.items():
        value = is_int(given[name]) if name in given else default
        if _DEPTH.fullmatch(name):
            small = _reduced(value, lambda number: min(number, 2))
        elif "width" in what and _WIDE.fullmatch(name) and not _IMAGE.fullmatch(name):
            small = _reduced(value, lambda number: max(number // 8, 8) if number >= 128 else number)
        elif "heads" in what and _HEADS.fullmatch(name):
            small = _reduced(value, lambda number: max(number // 8, 1))
        elif "words" in what and _WORDS.fullmatch(name):
            small = _reduced(value, lambda number: min(number, 1000))
        else:
            continue
        if small is not None and small != value:
            found[name] = small
    return found


def _reduced(value: Any, smaller: Callable[[int], int]) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return smaller(value)
    if isinstance(value, tuple | list) and value and all(isinstance(item, int) for item in value):
        return type(value)(smaller(item) for item in value)
    return None


_CONSTRUCT: tuple[Callable[[State, Failure, Options], Priced], ...] = (
    _missing,
    _unexpected,
    _configuration,
    _conditions,
    _collections,
    _division,
    _optional,
    _alternatives,
    _alternative_attributes,
    _numbers_in_arguments,
    _wider,
    _smaller,
    _named_choices,
    _offline,
)


# --- forward ------------------------------------------------------------------------------------------------------------------


def _arguments_behind_forward(state: State, failure: Failure, options: Options) -> Priced:
    """Repairs of the constructor's arguments for a forward that fails; dearer, since the module has to be built again."""
    for repair in (_configuration, _conditions, _collections, _division, _numbers_in_arguments, _smaller, _named_choices):
        for price, changed in repair(state, failure, options):
            yield price + 0.8, changed
    if "None" in failure.message or "not callable" in failure.message:
        for price, changed in _optional(state, failure, options):
            yield price + 0.3, changed
    for price, changed in _alternatives(state, failure, options):
        yield price + 3.0, changed
    for price, changed in _alternative_attributes(state, failure, options):
        yield price + 1.5, changed


def _tensors(state: State, failure: Failure) -> list[tuple[float, str, Spec]]:
    """The arguments of forward, those that the failing expressions name first."""
    found: dict[str, float] = {}
    for distance, frame in enumerate(reversed(failure.frames)):
        for name in frame.names:
            if state.input(name) is not None:
                found.setdefault(name, 0.1 * distance)
    result = []
    for key, spec in state.inputs or ():
        name = key.lstrip("*")
        result.append((found.get(name, 0.5), name, spec))
    return sorted(result, key=lambda item: item[0])


def _each_tensor(state: State, failure: Failure, change: Callable[[Tensor], list[tuple[float, Spec]]]) -> Priced:
    """Apply a change to the tensors of one argument after another, then to those of all."""
    everywhere: dict[str, Spec] = {}
    for price, name, spec in _tensors(state, failure):
        versions: dict[int, tuple[float, Spec]] = {}
        kinds = [leaf for leaf in leaves(spec) if isinstance(leaf, Tensor)]
        widest = max((len(change(leaf)) for leaf in kinds), default=0)
        for index in range(widest):

            def chosen(leaf: Spec, index: int = index) -> Spec:
                options = change(leaf) if isinstance(leaf, Tensor) else []
                return options[index][1] if index < len(options) else leaf

            changed = map_leaves(spec, chosen)
            cost = min(options[index][0] for leaf in kinds if index < len(options := change(leaf)))
            if changed != spec:
                versions[index] = (cost, changed)
                yield price + cost, state.with_input(name, changed)
        if 0 in versions:
            everywhere[name] = versions[0][1]
    if len(everywhere) > 1:
        whole = state
        for name, spec in everywhere.items():
            whole = whole.with_input(name, spec)
        yield 1.2, whole


_LONG = re.compile(
    r"scalar types?:? Long|to be (of )?(type )?(long|int)|Long, ?Int|used as indices must be|index tensor|expected.*\b(int64|Long)\b.*(but )?(found|got)|dtype int64|only (supports|applicable).*(int|index)|"
    r"not implemented for 'Float'|integer|LongTensor|bitwise|torch\.int64|expected scalar type Long|index_select\(\): Expected dtype int|indices must be|Expected object of scalar type Long|must be (a )?long",
    re.IGNORECASE,
)
_FLOAT = re.compile(
    r"not implemented for '(Long|Int|Bool)'|mixed dtype|share same datatype|found (Long|Int|Bool)|(got|and|but) (Long|Int)\b|\(Long\w*\)|LongTensor\)|Got:? ?Long|be (a )?(floating|float)|can't be cast to the desired output type (Long|Bool)|floating point|input dtype should be either floating|"
    r"have the same dtype, but got|expected m1 and m2|negation|Subtraction.*bool|got torch\.(long|int64|bool)|type torch\.(int64|long|bool)|expected scalar type (Float|Half)|dtype of input|got Long|long int|Only Tensors of floating point",
    re.IGNORECASE,
)
_BOOL = re.compile(
    r"must be bool|dtype to be bool|BoolTensor|expected.*\bBool\b.*(found|got)|logical|bool(ean)? (mask|tensor|type)|supports boolean mask",
    re.IGNORECASE,
)
_DOUBLE = re.compile(r"(Double|float64|ComplexFloat|complex)", re.IGNORECASE)


def _kinds(state: State, failure: Failure, options: Options, module: nn.Module) -> Priced:
    message = failure.message
    ids = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)]
    high = min(ids) if ids else 4
    if _LONG.search(message):
        yield from _each_tensor(
            state, failure, lambda leaf: _as_long(leaf, high) if leaf.floating or leaf.kind == "bool" else []
        )
    if _FLOAT.search(message):
        yield from _each_tensor(state, failure, lambda leaf: [] if leaf.floating else [(0.3, Tensor(leaf.shape))])
    if _BOOL.search(message):
        yield from _each_tensor(state, failure, lambda leaf: [] if leaf.kind == "bool" else [(0.4, Tensor(leaf.shape, "bool"))])
    if _DOUBLE.search(message):
        kinds = ("complex", "double", "float") if "omplex" in message else ("double", "float")
        yield from _each_tensor(
            state, failure, lambda leaf: [(0.8, Tensor(leaf.shape, kind)) for kind in kinds if leaf.kind != kind]
        )
    if re.search(
        r"between 0 and 1|all elements of (input|target) should be|probabilit|in \[0, ?1\]|should be .*non-negative|negative entr|within the support|satisfy the constraint",
        message,
    ):
        yield from _each_tensor(
            state, failure, lambda leaf: [(0.4, Tensor(leaf.shape, "unit"))] if leaf.kind == "float" else []
        )
    if re.search(r"out of (range|bounds)|invalid index|device-side assert", message):
        numbers = [number for number in failure.numbers if number > 0]
        lower = [number for number in (*numbers, 2, 1)]
        yield from _each_tensor(
            state,
            failure,
            lambda leaf: [
                (0.5 + 0.2 * rank, Tensor(leaf.shape, leaf.kind, number))
                for rank, number in enumerate(lower)
                if leaf.kind in {"long", "int"} and number < leaf.high
            ],
        )
        yield from _each_tensor(
            state,
            failure,
            lambda leaf: [(0.9, Tensor(leaf.shape, leaf.kind, max(leaf.shape)))] if leaf.kind == "length" else [],
        )
    if re.search(r"lengths?|less than|at most|Expected", message):
        yield from _each_tensor(
            state,
            failure,
            lambda leaf: [
                (0.8, Tensor(leaf.shape, "length", number))
                for number in (LENGTH, LENGTH // 2, 1)
                if leaf.kind == "length" and number != leaf.high
            ],
        )


def _as_long(leaf: Tensor, high: int) -> list[tuple[float, Spec]]:
    found: list[tuple[float, Spec]] = [(0.4, Tensor(leaf.shape, "long", high))]
    if len(leaf.shape) > 1:
        found.append((0.7, Tensor(leaf.shape[:1], "long", high)))
    if len(leaf.shape) > 2:
        found.append((0.6, Tensor(leaf.shape[:2], "long", high)))
        found.append((0.8, Tensor((leaf.shape[0], *leaf.shape[2:]), "long", high)))
    return found


def _ranks_wanted(failure: Failure) -> list[int]:
    message = failure.message
    wanted: list[int] = []
    if found := re.search(
        r"expected (?:to be |sequence of )?.*?unpack \(expected (\d+)|to unpack \(expected (?:at least )?(\d+)", message
    ):
        wanted.append(int(found[1] or found[2]))
    if found := re.search(r"len\(dims\) = (\d+)", message):
        wanted.append(int(found[1]))
    if found := re.search(r"Dimension out of range \(expected to be in range of \[-?\d+, (\d+)\], but got (-?\d+)\)", message):
        got = int(found[2])
        wanted.append(got + 1 if got >= 0 else -got)
    if found := re.search(r"too many indices for tensor of dimension (\d+)", message):
        wanted += [int(found[1]) + 1, int(found[1]) + 2]
    if re.search(r"\dD|\d-D|\d dim|dimension|\brank\b|ndim", message):
        before_got = re.split(r"\bgot\b|\bbut\b|\binstead\b|\breceived\b", message)[0]
        digits = [int(text) for text in re.findall(r"(?<!\d)([1-6])[ -]?(?:D\b|dim)", before_got)]
        wanted += sorted(digits, reverse=True)
        after = [int(text) for text in re.findall(r"(?<!\d)([1-6])[ -]?(?:D\b|dim)", message)]
        wanted += [digit for digit in after if digit not in wanted]
        if "dimension" in message.lower():
            wanted += [digit for digit in failure.numbers if 1 <= digit <= 6 and digit not in wanted]
    if re.search(r"tuple index out of range|list index out of range", message) and failure.frames:
        wanted += [4, 3, 5]
    for clash in failure.clashes:
        if (
            clash.operator == "=="
            and isinstance(clash.want, int)
            and re.search(r"dim\(\)|ndim|len\(.*(shape|size\(\))\)", clash.left)
        ):
            wanted.insert(0, clash.want)
        if (
            clash.operator == "in"
            and re.search(r"dim\(\)|ndim|len\(.*(shape|size\(\))\)", clash.left)
            and hasattr(clash.want, "__iter__")
        ):
            wanted[:0] = sorted([item for item in clash.want if isinstance(item, int)], reverse=True)
    return list(dict.fromkeys(rank for rank in wanted if 0 <= rank <= 6))


def _patterns(state: State, failure: Failure, options: Options, module: nn.Module) -> Priced:
    """Shapes that a message spells out: ``expected BxCxHxW``, ``must be Nx3x3``, ``expected shape (B, C, H, W)``."""
    width = width_of(module)
    for order, shape in enumerate(itertools.islice(spelled(failure.message), 3)):
        wanted = list(from_shape(shape, width))[:2]
        yield from _each_tensor(
            state,
            failure,
            lambda leaf: [  # noqa: B023
                (0.5 + 0.3 * order + 0.3 * index, Tensor(item.shape, leaf.kind, leaf.high))  # noqa: B023
                for index, item in enumerate(wanted)  # noqa: B023
                if item.shape != leaf.shape
            ],
        )


def _ranks(state: State, failure: Failure, options: Options, module: nn.Module) -> Priced:
    width = width_of(module)
    for order, rank in enumerate(_ranks_wanted(failure)):
        yield from _each_tensor(
            state,
            failure,
            lambda leaf: [
                (0.4 + 0.3 * order + 0.3 * index, changed) for index, changed in enumerate(_reranked(leaf, rank, width))
            ],  # noqa: B023
        )


def _reranked(leaf: Tensor, rank: int, width: int) -> list[Tensor]:
    if rank == len(leaf.shape):
        return []
    found: list[Tensor] = []
    last = leaf.shape[-1] if leaf.shape else width
    if rank == len(leaf.shape) - 1 and rank:
        found += [Tensor(leaf.shape[1:], leaf.kind, leaf.high), Tensor((leaf.shape[0], *leaf.shape[2:]), leaf.kind, leaf.high)]
    if leaf.floating:
        widths = [width] if last == width or rank >= 3 and last in {LENGTH, SIDE} else [last, width]
        for channels in widths:
            found += [item for item in layouts(rank, channels) if item.floating]
        if rank == len(leaf.shape) + 1:
            found += [Tensor((BATCH, *leaf.shape), leaf.kind, leaf.high), Tensor((*leaf.shape, LENGTH), leaf.kind, leaf.high)]
    elif rank:
        sizes = (*leaf.shape, *(LENGTH for _ in range(rank)))[:rank]
        found.append(Tensor(sizes, leaf.kind, leaf.high))
    return list(dict.fromkeys(found))


def _sizes(state: State, failure: Failure, options: Options, module: nn.Module) -> Priced:
    """Larger or smaller maps and batches."""
    text = failure.message.lower()
    larger = re.search(
        r"kernel size can't be greater|too small|padding size should be less|non-empty|expected more than 1|must be greater|at least|zero|empty|smaller|negative|exceed|out of bounds|should be at least|invalid for input",
        text,
    )
    if larger:
        yield from _each_tensor(
            state,
            failure,
            lambda leaf: [
                (0.5 + 0.3 * step, Tensor(_scaled(leaf.shape, factor), leaf.kind, leaf.high))
                for step, factor in enumerate((2, 4, 8, 14))
                if len(leaf.shape) >= 3
            ],
        )
        yield from _each_tensor(
            state,
            failure,
            lambda leaf: (
                [(0.9, Tensor((4, *leaf.shape[1:]), leaf.kind, leaf.high))] if leaf.shape and leaf.shape[0] == BATCH else []
            ),
        )
    if re.search(r"divis|multiple of|invalid for input of size|unflatten|evenly", text):
        sides = (32, 64, 224, 28, 56, 7, 8, 49, 96, 128, 256, 12)
        yield from _each_tensor(
            state,
            failure,
            lambda leaf: [
                (0.9 + 0.1 * step, Tensor(_sided(leaf.shape, side), leaf.kind, leaf.high))
                for step, side in enumerate(sides)
                if len(leaf.shape) >= 3
            ],
        )
    if re.search(r"sizes of tensors must match|must match the size", text):
        # Strides with and without padding agree for some sides alone
        sides = (SIDE + 1, 2 * SIDE, 2 * SIDE + 1, 4 * SIDE, 15, 224)
        yield from _each_tensor(
            state,
            failure,
            lambda leaf: (
                [(0.6 + 0.15 * step, Tensor(_sided(leaf.shape, side), leaf.kind, leaf.high)) for step, side in enumerate(sides)]
                if len(leaf.shape) >= 4
                else []
            ),
        )
    if re.search(r"size|height|width|resolution|shape", text):
        present = {
            size for _, spec in state.inputs or () for leaf in leaves(spec) if isinstance(leaf, Tensor) for size in leaf.shape
        }
        named = [number for number in dict.fromkeys(failure.numbers) if 4 <= number <= 1024 and number not in present]
        for price, side in enumerate(named[:4]):
            yield from _each_tensor(
                state,
                failure,
                lambda leaf: (
                    [(0.7 + 0.2 * price, Tensor(_sided(leaf.shape, side), leaf.kind, leaf.high))]
                    if len(leaf.shape) >= 4
                    else []
                ),  # noqa: B023
            )
    if "batch" in text:
        yield from _each_tensor(
            state, failure, lambda leaf: [(1.0, Tensor((1, *leaf.shape[1:]), leaf.kind, leaf.high))] if leaf.shape else []
        )


def _scaled(shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    if len(shape) >= 4:
        return (*shape[:2], *(size * factor for size in shape[2:]))
    return (*shape[:-1], shape[-1] * factor) if shape[-1] in {LENGTH, SIDE} else (shape[0], shape[1] * factor, *shape[2:])


def _sided(shape: tuple[int, ...], side: int) -> tuple[int, ...]:
    if len(shape) >= 4:
        return (*shape[:2], *(side for _ in shape[2:]))
    return (shape[0], side, *shape[2:])


def _number_pairs(failure: Failure) -> Iterator[tuple[float, int, int]]:
    """Pairs (have, want) of sizes that a failure speaks of."""
    message = failure.message
    if found := re.search(r"\((\d+)x(\d+) and (\d+)x(\d+)\)", message):
        rows, inner, outer, _ = map(int, found.groups())
        yield 0.2, inner, outer
        yield 0.9, rows, outer
        yield 1.5, outer, inner
    if found := re.search(r"to have (\d+) channels, but got (\d+)", message):
        yield 0.1, int(found[2]), int(found[1])
    if found := re.search(r"[Ee]xpected.*?(\d+),? (?:but )?got:? (\d+)", message):
        yield 0.3, int(found[2]), int(found[1])
    if found := re.search(r"\((\d+)\) must match .*?\((\d+)\)", message):
        yield 0.3, int(found[1]), int(found[2])
        yield 0.3, int(found[2]), int(found[1])
    if found := re.search(r"normalized_shape=\[([\d, ]+)\].*input of size ?\[([\d, ]+)\]", message):
        want, have = ([int(text) for text in part.split(",")] for part in found.groups())
        for one, other in zip(have[-len(want) :], want, strict=False):
            if one != other:
                yield 0.2, one, other
    if found := re.search(r"should contain (\d+) elements not (\d+)", message):
        yield 0.2, int(found[2]), int(found[1])
    for clash in failure.clashes:
        if clash.operator in {"==", "<", ">"}:
            for have, want in _pairs(clash.have, clash.want):
                yield 0.3, have, want
        if (
            clash.operator == "%"
            and isinstance(clash.have, int)
            and isinstance(clash.want, int)
            and clash.want > 0
            and clash.have > 0
        ):
            multiple = clash.have * clash.want // math.gcd(clash.have, clash.want)
            yield 0.4, clash.have, multiple
            yield 0.5, clash.have, clash.want
        if clash.operator == "in" and isinstance(clash.have, int) and isinstance(clash.want, tuple | list | set | range):
            for item in list(clash.want)[:3]:
                if isinstance(item, int):
                    yield 0.4, clash.have, item
    numbers = list(dict.fromkeys(failure.numbers))[:10]
    for have in numbers:
        for want in numbers:
            if have != want:
                yield 1.2, have, want


def _dimensions(state: State, failure: Failure, options: Options, module: nn.Module) -> Priced:
    """Set a size that is wrong to the one that is wanted."""
    seen: set[tuple[int, int]] = set()
    for price, have, want in _number_pairs(failure):
        if (have, want) in seen or not 0 < want <= 200_000 or have < 0:
            continue
        seen.add((have, want))
        yield from _resized(state, failure, price, have, want)
        for _, name, spec in _tensors(state, failure):
            if is_int(spec) == have:
                yield price + 0.5, state.with_input(name, Source(str(want)))


def _resized(state: State, failure: Failure, price: float, have: int, want: int) -> Priced:
    def change(leaf: Tensor) -> list[tuple[float, Spec]]:
        shape = leaf.shape
        places = [index for index, size in enumerate(shape) if size == have]
        found: list[tuple[float, Spec]] = []
        if places:
            every = tuple(want if size == have else size for size in shape)
            singles = [
                tuple(want if index == place else size for index, size in enumerate(shape)) for place in reversed(places)
            ]
            spatial = len(places) >= 2 and len(shape) >= 4 and set(places[-2:]) == {len(shape) - 1, len(shape) - 2}
            order = [every, *singles] if spatial or len(places) == 1 else [*singles, every]
            found += [
                (price + 0.1 * step, Tensor(item, leaf.kind, leaf.high)) for step, item in enumerate(dict.fromkeys(order))
            ]
        elif len(shape) >= 2:
            # The size is derived from ours: a product of sides, a multiple of the channels
            if len(shape) >= 4 and math.isqrt(want) ** 2 == want and have == math.prod(shape[2:]):
                found.append((price + 0.3, Tensor((*shape[:2], *(math.isqrt(want) for _ in shape[2:])), leaf.kind, leaf.high)))
            for place in (*range(len(shape) - 1, 0, -1), 0):
                size = shape[place]
                if have and (size * want) % have == 0 and 0 < size * want // have <= 4096 and size > 1:
                    resized = tuple(size * want // have if index == place else old for index, old in enumerate(shape))
                    found.append((price + 0.7, Tensor(resized, leaf.kind, leaf.high)))
            flat = re.search(r"mat1|invalid for|elements|normalized_shape|weight of size", failure.message)
            if flat and len(shape) >= 4 and have > shape[1] and have % shape[1] == 0:
                for step, side in enumerate((28, 32, 64, 224, 96, 128, 84, 227, 8, 4, 48, 299)):
                    found.append(
                        (price + 0.8 + 0.1 * step, Tensor((*shape[:2], *(side for _ in shape[2:])), leaf.kind, leaf.high))
                    )
            if len(shape) >= 2 and shape[-1] != want and have == math.prod(shape[1:]):
                found.append((price + 0.6, Tensor((shape[0], want), leaf.kind, leaf.high)))
        return found

    yield from _each_tensor(state, failure, change)


def _forms(state: State, failure: Failure, options: Options, module: nn.Module) -> Priced:
    """A list, dict, number or object where a tensor was given, or the other way round."""
    message = failure.message
    attribute = _NO_ATTRIBUTE.search(message)
    for price, name, spec in _tensors(state, failure):
        if price >= 0.5 and len(state.inputs or ()) > 1:
            price += 0.5
        if isinstance(spec, Tensor):
            if attribute and attribute[1] == "Tensor":
                if attribute[2] in {"items", "keys", "values", "get"}:
                    yield 0.5 + price, state.with_input(name, Group("dict", ()))
                else:
                    yield 0.8 + price, state.with_input(name, Group("types.SimpleNamespace", (spec,), (attribute[2],)))
            if (
                re.search(
                    r"cannot be interpreted as an integer|must be Number|must be (an )?int|'Tensor' object is not|converted to (an index|Python scalars?|Scalar)|a Tensor with \d+ elements cannot|(be|got|type|found)[^.]*\bint\b|not Tensor",
                    message,
                )
                and not spec.floating
                or "integer" in message
                or "only integer tensors" in message
                or "cannot be converted to Scalar" in message
                or "must be tuple of ints" in message
            ):
                yield 0.7 + price, state.with_input(name, Source("4"))
                yield 0.9 + price, state.with_input(name, Source(f"({SIDE}, {SIDE})"))
            if (
                re.search(
                    r"expected (Sequence|a sequence|Tuple|list)|expected (a )?(list|tuple)|must be (a )?(tuple|list)|index \d+ is out of bounds for dimension 0|iteration over a 0-d",
                    message,
                    re.IGNORECASE,
                )
                or failure.kind == "IndexError"
                or any(clash.operator == "isinstance" for clash in failure.clashes)
            ):
                for cost, count in enumerate((2, 4, 3)):
                    yield 1.0 + 0.3 * cost + price, state.with_input(name, Group("list", (spec,) * count))
        if isinstance(spec, Group) and spec.kind in {"dict", "types.SimpleNamespace"}:
            key = failure.message.strip("'\"") if failure.kind == "KeyError" else attribute[2] if attribute else ""
            if key.isidentifier() and key not in spec.names:
                base = next((leaf for leaf in leaves(spec) if isinstance(leaf, Tensor)), None)
                width = width_of(module)
                for cost, value in enumerate(
                    [
                        *([base] if base else []),
                        *(items[0] for items in (layouts(4, width), layouts(3, width), layouts(2, width))),
                    ]
                ):
                    yield 0.4 + 0.4 * cost, state.with_input(name, Group(spec.kind, (*spec.items, value), (*spec.names, key)))
        if isinstance(spec, Group) and spec.kind in {"list", "tuple"}:
            if (
                re.search(r"index out of range|not enough values|must match|same length|expected \d+", message)
                or failure.clashes
            ):
                for cost, count in enumerate((len(spec.items) + 1, len(spec.items) - 1, 4, 3, 5)):
                    if count > 0 and count != len(spec.items):
                        yield (
                            0.7 + 0.2 * cost + price,
                            state.with_input(name, Group(spec.kind, tuple((spec.items * 5)[:count]))),
                        )
            if (
                re.search(r"'(list|tuple)' object|must be Tensor, not|\(list|tuple\)|received an invalid combination", message)
                and spec.items
            ):
                yield 0.5 + price, state.with_input(name, spec.items[0])


def _unset(state: State, failure: Failure, options: Options, module: nn.Module) -> Priced:
    """Arguments that were left out or ``None`` and turn out to be needed."""
    missing = _MISSING.search(failure.message)
    if missing and "forward" in failure.message:
        changed = state
        for name in re.findall(r"'(\w+)'", missing[1]):
            found = options.of_input(module, name, state)
            if found and changed.input(name) is None:
                changed = changed.with_input(name, found[0])
        if changed != state:
            yield 0.4, changed
    known = list(options.input_names())
    none = "None" in failure.message
    for distance, frame in enumerate(reversed(failure.frames)):
        for name in frame.names:
            if name in known and state.input(name) in {None, Source("None")}:
                for rank, value in enumerate(list(options.of_input(module, name, state))[:6]):
                    if value != Source("None"):
                        yield (0.5 if none else 1.0) + 0.3 * rank + 0.1 * distance, state.with_input(name, value)
    if none or failure.clashes or failure.kind == "ValueError":
        for name in known:
            if state.input(name) in {None, Source("None")} and (none or re.search(rf"\b{re.escape(name)}\b", failure.message)):
                for rank, value in enumerate(list(options.of_input(module, name, state))[:4]):
                    if value != Source("None"):
                        yield 1.4 + 0.4 * rank, state.with_input(name, value)


def _other_inputs(state: State, failure: Failure, options: Options, module: nn.Module) -> Priced:
    """Other candidates for the arguments that the failing expressions name."""
    for price, name, spec in _tensors(state, failure):
        rank = 0
        for value in options.of_input(module, name, state):
            if value != spec:
                yield 1.2 + price + 0.3 * rank, state.with_input(name, value)
                rank += 1


_FORWARD: tuple[Callable[[State, Failure, Options, nn.Module], Priced], ...] = (
    _kinds,
    _ranks,
    _patterns,
    _sizes,
    _dimensions,
    _forms,
    _unset,
    _other_inputs,
)
