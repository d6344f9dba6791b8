"""Follows values through a running program and notes where gradient stops.

A function mode sees every call into PyTorch.  Each tensor that depends on a leaf requiring grad carries a ``Mark``; an
operation that gives a result without gradient from arguments with one is a *cut*, and whatever is computed from its result
carries the cut's bit, also through ``no_grad``, NumPy and Python numbers.  A cut matters once a loss carries its bit.
"""

from __future__ import annotations

import functools
import operator
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.overrides import TorchFunctionMode

from gradlint.verify import carriers
from gradlint.verify.marks import Mark, bits, merge
from gradlint.verify.places import Place, Places

MARK, LEAF = "_gradlint_mark", "_gradlint_leaf"

_GETTERS = frozenset(("data", "T", "mT", "H", "mH", "real", "imag", "grad"))
_CONVERSIONS = frozenset(
    ("item", "__float__", "__int__", "__index__", "__complex__", "tolist", "numpy", "__array__", "__bool__")
)
_ZERO = frozenset(
    [
        "round",
        "round_",
        "floor",
        "floor_",
        "ceil",
        "ceil_",
        "trunc",
        "trunc_",
        "fix",
        "fix_",
        "sign",
        "sign_",
        "sgn",
        "sgn_",
        "bernoulli",
        "bernoulli_",
        "poisson",
        "normal",
        "heaviside",
        "floor_divide",
        "floor_divide_",
        "__floordiv__",
        "__rfloordiv__",
        "__ifloordiv__",
    ]
)
_OVERWRITES = frozenset(
    [
        "zero_",
        "fill_",
        "normal_",
        "uniform_",
        "random_",
        "exponential_",
        "geometric_",
        "log_normal_",
        "cauchy_",
        "bernoulli_",
        "resize_",
        "set_",
    ]
)
_SUMS = frozenset(
    [
        "add",
        "add_",
        "__add__",
        "__radd__",
        "__iadd__",
        "sub",
        "sub_",
        "subtract",
        "rsub",
        "__sub__",
        "__rsub__",
        "__isub__",
        "sum",
        "mean",
        "nansum",
        "nanmean",
        "stack",
        "cat",
        "concat",
        "concatenate",
        "hstack",
        "vstack",
        "cumsum",
        "tensor",
        "as_tensor",
        "asarray",
        "from_numpy",
    ]
)
_UNARY = frozenset(
    [
        "neg",
        "__neg__",
        "negative",
        "squeeze",
        "unsqueeze",
        "view",
        "reshape",
        "flatten",
        "ravel",
        "to",
        "type",
        "type_as",
        "float",
        "double",
        "half",
        "bfloat16",
        "cpu",
        "cuda",
        "clone",
        "contiguous",
        "__getitem__",
        "select",
        "index_select",
        "narrow",
        "unbind",
        "expand",
        "expand_as",
        "view_as",
        "reshape_as",
        "permute",
        "transpose",
        "t",
        "requires_grad_",
        "nan_to_num",
        "detach",
        "detach_",
        "data",
        "item",
        "tolist",
        "numpy",
        "__float__",
        "all_reduce",
        "alias",
    ]
)
_PRODUCTS = frozenset(
    [
        "mul",
        "mul_",
        "multiply",
        "__mul__",
        "__rmul__",
        "__imul__",
        "div",
        "div_",
        "divide",
        "true_divide",
        "__truediv__",
        "__div__",
        "__itruediv__",
        "lerp",
    ]
)
_PAIRWISE = frozenset(["broadcast_tensors", "meshgrid", "atleast_1d", "atleast_2d", "atleast_3d"])
_QUIET = frozenset(
    [
        "size",
        "dim",
        "numel",
        "stride",
        "is_contiguous",
        "storage_offset",
        "is_floating_point",
        "is_complex",
        "element_size",
        "type_as_",
        "data_ptr",
        "is_same_size",
        "register_hook",
        "retain_grad",
        "register_post_accumulate_grad_hook",
        "is_pinned",
        "nelement",
        "ndimension",
        "get_device",
        "untyped_storage",
        "is_shared",
        "share_memory_",
        "pin_memory",
        "__hash__",
        "__len__",
        "__repr__",
        "__format__",
        "__str__",
        "__dir__",
        "is_inference",
        "is_tensor",
        "isnan",
        "isfinite",
        "isinf",
        "_is_view",
        "requires_grad_",
        "shape",
        "has_names",
        "is_nonzero",
    ]
)


_FACTORIES = frozenset(("tensor", "as_tensor", "asarray", "from_numpy"))
ESCAPE_FRAMES = 2
"""A number that left PyTorch in a function is looked for in this one and in those around it, so many in all."""
MOST_ESCAPES = 256


@dataclass(slots=True)
class Cut:
    """A place where gradient stops.

    ``kind``: ``detach``, ``data``, ``python``, ``no-grad``, ``inference-mode``, ``nondifferentiable``, ``zero``, ``parameter``,
    ``function``, ``checkpoint``, ``grad``; ``move`` and ``custom`` mark places of interest at which gradient goes on, ``stay``
    one where a leaf that was to be moved is there already.
    ``severed``: the leaves that were cut off here; ``behind``: all leaves that a value passing here depended on.
    """

    number: int
    kind: str
    api: str
    place: Place | None
    severed: int = 0
    behind: int = 0
    count: int = 0
    revived: int = 0


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of code that switches gradient off. ``place``: where it is entered, or the decorator."""

    kind: str
    api: str
    place: Place | None


@dataclass(slots=True)
class Leaf:
    """A tensor that requires grad and was computed by nothing. ``tensor`` is a reference, strong for parameters."""

    number: int
    tensor: Callable[[], Any]
    parameter: bool
    place: Place | None = None
    cuts: int = 0


@dataclass(slots=True)
class Trace:
    """All that was seen of cuts and leaves."""

    cuts: list[Cut] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    by_key: dict[tuple[str, Place | None], Cut] = field(default_factory=dict)

    def cut(self, kind: str, api: str, place: Place | None) -> Cut:
        """The cut of a kind at a place, the same one each time."""
        key = kind, place
        found = self.by_key.get(key)
        if found is None:
            found = self.by_key[key] = Cut(len(self.cuts), kind, api, place)
            self.cuts.append(found)
        return found


Listener = Callable[[str, Any, Any], None]


class Tracer(TorchFunctionMode):
    """The function mode. Enter it once per process; ``install`` adds what a mode does not see.

    ``on_flag``: called when ``requires_grad`` of a tensor is set, with the tensor and the value; ``on_clear``: when its
    ``grad`` is set to None; ``on_change``: when a computed tensor that requires grad is written to.
    """

    def __init__(
        self,
        places: Places,
        on_flag: Callable[[Any, bool], None] = lambda _tensor, _value: None,
        on_clear: Callable[[Any], None] = lambda _tensor: None,
    ) -> None:
        super().__init__()
        self.places = places
        self.trace = Trace()
        self.regions: tuple[Region, ...] = ()
        self.paused = 0
        self.pretending = 0
        self.switching = False
        self.escaped = 0
        self.trouble = ""
        self._escapes: list[tuple[FrameType, Mark]] = []
        self.on_flag = on_flag
        self.on_clear = on_clear
        self.inference: set[Place] = set()
        self.on_change: Callable[[], None] | None = None

    # Marks -----------------------------------------------------------------------------------------------------------

    def mark(self, tensor: Any) -> Mark | None:
        """What is known of a tensor."""
        kept: Mark | None = tensor.__dict__.get(MARK) if hasattr(tensor, "__dict__") else None
        if is_source(tensor):
            bit = 1 << self.leaf(tensor).number
            cuts = kept.cuts if kept else 0
            return Mark(bit, bit | (kept.depends if kept else 0), cuts)
        return kept

    def leaf(self, tensor: Any) -> Leaf:
        """The entry of a leaf that requires grad."""
        number = tensor.__dict__.get(LEAF)
        if number is not None and self.trace.leaves[number].tensor() is tensor:
            return self.trace.leaves[int(number)]
        parameter = isinstance(tensor, torch.nn.Parameter)
        reference: Callable[[], Any] = (lambda: tensor) if parameter else weakref.ref(tensor)
        leaf = Leaf(len(self.trace.leaves), reference, parameter)
        self.trace.leaves.append(leaf)
        setattr(tensor, LEAF, leaf.number)
        return leaf

    def put(self, tensor: Any, mark: Mark | None) -> None:
        """Remember ``mark`` for a tensor."""
        if mark is not None:
            setattr(tensor, MARK, mark)
        elif hasattr(tensor, "__dict__"):
            tensor.__dict__.pop(MARK, None)

    def collect(self, values: Iterable[Any], marks: list[Mark], scalars: list[bool], depth: int = 4) -> None:
        """The marks of all tensors, numbers and arrays in nested values."""
        for value in values:
            if isinstance(value, torch.Tensor):
                mark = self.mark(value)
                if mark is not None:
                    marks.append(mark)
                    scalars.append(not isinstance(value, UninitializedTensorMixin) and value.numel() == 1)
            elif isinstance(value, (list, tuple)):
                if depth:
                    self.collect(value, marks, scalars, depth - 1)
            elif isinstance(value, dict):
                if depth:
                    self.collect(value.values(), marks, scalars, depth - 1)
            elif (mark := carriers.mark_of(value)) is not None:
                marks.append(mark)
                scalars.append(True)

    # The mode --------------------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
            if name not in _GETTERS or self.paused:
                return func(*args, **kwargs)
        elif name == "__set__":
            return self._set(func, args)
        elif self.paused or name in _QUIET:
            if name == "requires_grad_":
                return self._require(func, args, kwargs)
            return func(*args, **kwargs)
        if name == "backward" or name == "grad":
            return func(*args, **kwargs)
        marks: list[Mark] = []
        scalars: list[bool] = []
        try:
            self.collect(args, marks, scalars)
            if kwargs:
                self.collect(kwargs.values(), marks, scalars)
        except Exception as error:
            self.trouble = self.trouble or f"before {name}: {type(error).__name__}: {error}"
        result = func(*args, **kwargs)
        try:
            return self._follow(name, args, kwargs, marks, scalars, result)
        except Exception as error:  # what is noted may get lost, the program must not
            self.trouble = self.trouble or f"{name}: {type(error).__name__}: {error}"
            return result

    def _follow(self, name: str, args: Any, kwargs: Any, marks: list[Mark], scalars: list[bool], result: Any) -> Any:
        """Note what an operation made of its arguments; the result to give to the program."""
        if not marks:
            if self._escapes and (regained := self._regained(name, args)) is not None:
                self.put(result, regained)
            if kwargs.get("requires_grad") is True and isinstance(result, torch.Tensor):
                self.revive(result)
            if name in _OVERWRITES and args and isinstance(args[0], torch.Tensor):
                self.put(args[0], None)
            return result
        if kwargs.get("requires_grad") is True and isinstance(result, torch.Tensor):
            self.put(result, merge(marks))
            self.revive(result)
            return result
        if name in _CONVERSIONS:
            return self._convert(name, marks, result)
        self._give(name, args, kwargs, marks, scalars, result)
        return result

    def _give(self, name: str, args: Any, kwargs: Any, marks: list[Mark], scalars: list[bool], result: Any) -> None:
        """Mark what an operation returned."""
        apart = name in _SUMS or ((name in _UNARY or name in _PRODUCTS) and len(marks) == 1)
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if kwargs.get("inplace") is True and first is not None and requires_grad(first) and self.on_change is not None:
            self.on_change()
        if name == "copy_" and first is not None:
            kept: list[Mark] = []
            self.collect(args[1:], kept, [])
            incoming = merge(kept)
        elif name in _OVERWRITES:
            incoming = None
        elif name in _UNARY and len(marks) > 1:
            incoming = _selected(marks)
        else:
            incoming = merge(marks, apart, scalars)
        if name in _PAIRWISE:
            for given, tensor in zip(
                args[0] if len(args) == 1 and isinstance(args[0], (list, tuple)) else args, tensors_in(result), strict=False
            ):
                self.put(tensor, self.mark(given) if isinstance(given, torch.Tensor) else None)
            return
        if name in ("__setitem__", "index_put_", "masked_fill_", "scatter_", "scatter_add_", "index_add_", "index_copy_"):
            result = first
        for tensor in tensors_in(result):
            self._derive(name, tensor, tensor is first, incoming)
        out = kwargs.get("out") if kwargs else None
        if out is not None:
            for tensor in tensors_in(out):
                self._derive(name, tensor, True, incoming)

    def _derive(self, name: str, tensor: Any, inplace: bool, incoming: Mark | None) -> None:
        """Mark one result of an operation whose arguments carry ``incoming``."""
        if inplace and is_source(tensor):
            if name in _MOVES and incoming is not None:
                self._passing("stay", name, incoming)
            return  # a parameter's update is no way for gradient
        if inplace and self.on_change is not None and requires_grad(tensor) and _changes(name):
            self.on_change()
        if incoming is None or not incoming.depends:
            self.put(tensor, None)
            return
        mark = self.derived(name, incoming, requires_grad(tensor))
        self.put(tensor, mark)
        if inplace and tensor._base is not None and not is_source(tensor._base):
            old = self.mark(tensor._base)
            self.put(tensor._base, merge([old, mark], terms=True) if old is not None else mark)

    def derived(self, name: str, incoming: Mark, live: bool) -> Mark:
        """The mark of a result, cut where it has to be."""
        if self.pretending and not self.regions:
            return incoming
        if name in _MOVES:
            incoming = self._passing("move", name, incoming)
        if live and name not in _ZERO:
            return incoming
        if not torch.is_grad_enabled() and self.regions:
            cuts = 0
            for region in self.regions:
                cuts |= self._pass(self.trace.cut(region.kind, region.api, region.place), incoming)
            if name in _EXPLICIT or name in _ZERO:  # it would cut without the region too
                cuts |= self._pass(self.trace.cut(_KINDS.get(name, "zero"), name, self.places.here(_outer())), incoming)
            return incoming.severed(cuts)
        if not incoming.live and name not in _EXPLICIT and name not in _ZERO:
            return incoming
        kind = _KINDS.get(name) or ("zero" if name in _ZERO else "nondifferentiable")
        if not torch.is_grad_enabled() and kind == "nondifferentiable":
            kind = "no-grad"
        return incoming.severed(self._pass(self.trace.cut(kind, name, self.places.here(_outer())), incoming))

    def _pass(self, cut: Cut, mark: Mark) -> int:
        cut.severed |= mark.live
        cut.behind |= mark.depends
        cut.count += 1
        return 1 << cut.number

    def severed(self, kind: str, api: str, mark: Mark, place: Place | None) -> Mark:
        """``mark`` beyond a cut at a place."""
        return Mark(mark.live, mark.depends, mark.cuts).severed(self._pass(self.trace.cut(kind, api, place), mark))

    def _passing(self, kind: str, api: str, mark: Mark) -> Mark:
        """``mark`` after a place of interest that cuts nothing."""
        cut = self.trace.cut(kind, api, self.places.here(_outer()))
        cut.behind |= mark.depends
        cut.count += 1
        bit = 1 << cut.number
        terms = frozenset(term._replace(cuts=term.cuts | bit) for term in mark.terms)
        return mark._replace(cuts=mark.cuts | bit, terms=terms)

    def _convert(self, name: str, marks: list[Mark], result: Any) -> Any:
        mark = merge(marks, terms=True)
        if mark is None or name == "__bool__" or isinstance(result, bool):
            return result
        carriers.follow_numpy()
        if name == "numpy" and not mark.live and not torch.is_grad_enabled() and self.regions:
            return carriers.carry(result, mark)
        cut = self._pass(self.trace.cut("python", name, self.places.here(_outer())), mark)
        self._escape(mark.severed(cut))
        # Python insists on plain numbers from these; the user's own calls of float and int are rewritten to keep the mark.
        return result if name.startswith("__") and name != "__array__" else carriers.carry(result, mark.severed(cut))

    def _set(self, func: Any, args: Any) -> Any:
        name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name == "requires_grad" and not self.paused:
            self._flag(args[0], bool(args[1]))
        if name == "grad" and args[1] is None and not self.paused:
            self.on_clear(args[0])
        result = func(*args)
        if name == "data" and not self.paused and not is_source(args[0]):
            mark = self.mark(args[1])
            self.put(args[0], mark.severed(0) if mark else None)
        return result

    def _require(self, func: Any, args: Any, kwargs: Any) -> Any:
        if not self.paused:
            self._flag(args[0], bool(kwargs.get("requires_grad", args[1] if len(args) > 1 else True)))
        return func(*args, **kwargs)

    def _flag(self, tensor: Any, value: bool) -> None:
        self.on_flag(tensor, value)
        if value and not tensor.requires_grad:
            self.revive(tensor)

    def revive(self, tensor: Any) -> None:
        """Note where a tensor becomes a leaf: one that remembers its cuts was computed, and made a leaf again."""
        kept = tensor.__dict__.get(MARK)
        leaf = self.leaf(tensor)
        leaf.place = self.places.here(_outer())
        leaf.cuts = kept.cuts if kept else 0

    def convert(self, value: Any) -> Mark | None:
        """The mark of a tensor that the user's code turns into a number with ``float(…)`` or ``int(…)``."""
        if not isinstance(value, torch.Tensor):
            return None
        with quiet():
            mark = self.mark(value)
        if mark is None or self.paused:
            return None
        cut = self._pass(self.trace.cut("python", "float", self.places.here(_outer())), mark)
        self._escape(mark.severed(cut))
        return mark.severed(cut)

    def _escape(self, mark: Mark) -> None:
        """A value becomes a plain Python one: remember in which of the user's functions, for ``_regained``."""
        self.escaped |= mark.cuts
        frame: FrameType | None = _outer()
        functions = 0
        while frame is not None and functions < ESCAPE_FRAMES:
            if self.places.is_user(frame.f_code.co_filename):
                self._escapes.append((frame, mark))
                functions += not frame.f_code.co_name.startswith("<")
            frame = frame.f_back
        del self._escapes[:-MOST_ESCAPES]

    def forget_escapes(self) -> None:
        """What left PyTorch before has had its chance to come back."""
        self._escapes.clear()

    def _regained(self, name: str, args: Any) -> Mark | None:
        """The mark of a tensor made of plain numbers: they may stem from whatever left PyTorch in the same function before."""
        if name not in _FACTORIES or not args or not isinstance(args[0], (list, tuple, *carriers.arrays())):
            return None
        frame: FrameType | None = _outer()
        while frame is not None and not self.places.is_user(frame.f_code.co_filename):
            frame = frame.f_back
        return merge([mark for where, mark in self._escapes if where is frame])

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Follow nothing for a while."""
        self.paused += 1
        try:
            yield
        finally:
            self.paused -= 1

    # What a mode does not see ----------------------------------------------------------------------------------------

    def install(self) -> None:
        """Wrap what a mode does not see. For the rest of the process: nothing is ever unwrapped."""
        self._wrap_regions()
        self._wrap_apply()
        self._wrap_parameter()
        self._wrap_from_numpy()
        self._wrap_state()
        carriers.follow_math()
        carriers.follow_numpy()

    def made(self, name: str, arguments: Sequence[Any], result: Any) -> Any:
        """Mark what a constructor that no mode sees made of ``arguments``."""
        marks: list[Mark] = []
        if not self.paused:
            with quiet():
                if isinstance(result, torch.Tensor) and result.requires_grad and result.is_leaf:
                    self.revive(result)
                self.collect(arguments, marks, [])
                mark = merge(marks, terms=True) or self._regained(name, arguments)
                if mark is not None and isinstance(result, torch.Tensor):
                    if not is_source(result):
                        mark = self.derived(name, mark, requires_grad(result))
                    self.put(result, mark)
        return result

    def _wrap_regions(self) -> None:
        tracer = self

        def entered(manager: Any, disabled: bool, kind: str, api: str) -> None:
            manager._gradlint_before = tracer.regions
            if disabled:
                place = getattr(manager, "_gradlint_place", None) or tracer.places.here(_outer())
                tracer.regions = (*tracer.regions, Region(kind, api, place))
                if kind == "inference-mode" and place is not None:
                    tracer.inference.add(place)
            elif kind == "no-grad":
                tracer.regions = ()

        @contextmanager
        def switch() -> Iterator[None]:
            outside, tracer.switching = tracer.switching, True
            try:
                yield
            finally:
                tracer.switching = outside

        def left(manager: Any) -> None:
            if hasattr(manager, "_gradlint_before"):
                tracer.regions = manager._gradlint_before

        def wrap(cls: Any, kind: str, api: str, disables: Callable[[Any], bool]) -> None:
            enter, leave, clone, call = cls.__enter__, cls.__exit__, cls.clone, cls.__call__

            def __enter__(manager: Any) -> Any:
                with switch():
                    result = enter(manager)
                entered(manager, disables(manager), kind, api)
                return result

            def __exit__(manager: Any, *details: Any) -> Any:
                with switch():
                    result = leave(manager, *details)
                left(manager)
                return result

            def copied(manager: Any) -> Any:
                new = clone(manager)
                if getattr(manager, "_gradlint_place", None):
                    new._gradlint_place = manager._gradlint_place
                return new

            def __call__(manager: Any, function: Any) -> Any:
                manager._gradlint_place = tracer.places.here(_outer())
                left(manager)
                return call(manager, function)

            cls.__enter__, cls.__exit__, cls.clone, cls.__call__ = __enter__, __exit__, copied, __call__

        wrap(torch.no_grad, "no-grad", "no_grad", lambda _: True)
        wrap(torch.enable_grad, "no-grad", "enable_grad", lambda _: False)
        wrap(torch.inference_mode, "inference-mode", "inference_mode", lambda manager: bool(manager.mode))
        wrap(torch.set_grad_enabled, "no-grad", "set_grad_enabled", lambda manager: not manager.mode)
        initialise = torch.set_grad_enabled.__init__

        def __init__(manager: Any, mode: bool) -> None:
            initialise(manager, mode)
            if not tracer.switching:
                entered(manager, not mode, "no-grad", "set_grad_enabled")

        enter_again = torch.set_grad_enabled.__enter__

        def __enter__(manager: Any) -> Any:
            tracer.regions = getattr(manager, "_gradlint_before", tracer.regions)
            return enter_again(manager)

        switch_class: Any = torch.set_grad_enabled
        switch_class.__init__ = __init__
        switch_class.__enter__ = __enter__

    def _wrap_apply(self) -> None:
        tracer = self
        function_class: Any = torch.autograd.Function
        original = function_class.apply.__func__

        @functools.wraps(original)
        def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
            if tracer.paused:
                return original(cls, *args, **kwargs)
            marks: list[Mark] = []
            with quiet():
                tracer.collect([*args, *kwargs.values()], marks, [])
            incoming = merge(marks)
            if cls.__name__ == "CheckpointFunction":
                tracer.pretending += 1
                try:
                    result = original(cls, *args, **kwargs)
                finally:
                    tracer.pretending -= 1
                with quiet():
                    for tensor in tensors_in(result):
                        mark = tracer.mark(tensor)
                        if mark is not None:
                            tracer.put(tensor, tracer.derived("checkpoint", mark, requires_grad(tensor)))
                return result
            with tracer.pause():
                result = original(cls, *args, **kwargs)
            if incoming is not None:
                foreign = cls.__module__.partition(".")[0] == "torch"
                with quiet():
                    for tensor in tensors_in(result):
                        mark = tracer.derived("apply", incoming, requires_grad(tensor))
                        tracer.put(tensor, mark if foreign else tracer._passing("custom", cls.__name__, mark))
            return result

        function_class.apply = classmethod(apply)

    def _wrap_parameter(self) -> None:
        tracer = self
        parameter_class: Any = torch.nn.Parameter
        original = parameter_class.__new__

        def __new__(cls: Any, data: Any = None, requires_grad: bool = True) -> Any:
            parameter = original(cls, data, requires_grad)
            if not tracer.paused and isinstance(data, torch.Tensor):
                with quiet():
                    mark = tracer.mark(data)
                    if mark is not None and mark.depends:
                        cut = tracer._pass(tracer.trace.cut("parameter", "nn.Parameter", tracer.places.here(_outer())), mark)
                        tracer.put(parameter, mark.severed(cut))
            return parameter

        parameter_class.__new__ = __new__

    def _wrap_from_numpy(self) -> None:
        library: Any = torch
        original = torch.from_numpy

        @functools.wraps(original)
        def from_numpy(array: Any) -> Any:
            return self.made("from_numpy", [array], original(array))

        library.from_numpy = from_numpy

    def _wrap_state(self) -> None:
        """Keep the marks out of what is saved."""
        library: Any = torch._utils
        original = library._get_obj_state

        def state(thing: Any) -> Any:
            found = original(thing)
            if isinstance(found, dict) and (MARK in found or LEAF in found):
                found = {key: value for key, value in found.items() if key not in (MARK, LEAF)}
                return found or None
            return found

        library._get_obj_state = state


_MOVES = frozenset(("cpu", "to", "cuda"))
_EXPLICIT = frozenset(("detach", "detach_", "data"))
_KINDS = {
    "detach": "detach",
    "detach_": "detach",
    "data": "data",
    "tensor": "python",
    "as_tensor": "python",
    "asarray": "python",
    "from_numpy": "python",
    "apply": "function",
    "checkpoint": "checkpoint",
}


def _changes(name: str) -> bool:
    """Whether an operation writes to its first argument, by its name."""
    return (name.endswith("_") and not name.endswith("__")) or name.startswith("__i") or name == "__setitem__"


def _selected(marks: Sequence[Mark]) -> Mark:
    """The mark of a part of the first value, chosen by the others: its summands stay apart, the choice is behind each."""
    first, *choice = marks
    depends = functools.reduce(operator.or_, (mark.depends for mark in choice))
    cuts = functools.reduce(operator.or_, (mark.cuts for mark in choice))
    terms = frozenset(term._replace(depends=term.depends | depends, cuts=term.cuts | cuts) for term in first.terms)
    return Mark(first.live, first.depends | depends, first.cuts | cuts, terms)


def requires_grad(tensor: Any) -> bool:
    """Whether a tensor requires grad; a view that autograd refuses to speak of does not."""
    try:
        return bool(tensor.requires_grad)
    except RuntimeError:
        return False


def is_source(tensor: Any) -> bool:
    """Whether a tensor is a leaf that requires grad."""
    try:
        return bool(tensor.requires_grad and tensor.is_leaf)
    except RuntimeError:
        return False


quiet: Callable[[], Any] = torch._C.DisableTorchFunction
"""A context in which no function mode sees anything: for questions to tensors outside the mode's own handler."""


def _outer() -> FrameType:
    return sys._getframe(2)


def tensors_in(value: Any, depth: int = 3) -> Iterator[Any]:
    """The tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif depth and isinstance(value, (list, tuple)):
        for element in value:
            yield from tensors_in(element, depth - 1)
    elif depth and isinstance(value, dict):
        for element in value.values():
            yield from tensors_in(element, depth - 1)


def leaves_of(trace: Trace, mask: int) -> Iterator[Any]:
    """The tensors of the leaves in a set that still exist."""
    for number in bits(mask):
        tensor = trace.leaves[number].tensor()
        if tensor is not None:
            yield tensor
