"""Notes what a running program does to its modules, parameters and optimizers."""

from __future__ import annotations

import functools
import operator
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import FrameType
from typing import Any

import torch
from torch import nn

from gradlint.verify import carriers
from gradlint.verify.graphs import GRAPHS, Graphs, nodes, tensors_within
from gradlint.verify.instrument import Asked
from gradlint.verify.marks import Mark, Term, merge
from gradlint.verify.names import Names
from gradlint.verify.places import Place, Places
from gradlint.verify.promises import KIND, Promises
from gradlint.verify.sequence import Sequence as Sequence_
from gradlint.verify.tracer import LEAF, Tracer, is_source, leaves_of, quiet

MOST_RECORDS = 256
DEEPEST = 3
"""Frames of the user's that tell one backward from another: helpers that do it for several losses are common."""
MOST_MODULES = 100_000
MODAL = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
"""The layers to which the mode makes a difference."""
_INSIDE = ("too-few-gradients", "hook-changes-dtype", "late-bound", "not-saved")
"""The claims whose line may run within a backward or a custom function, where nothing is followed."""
LARGEST_BUFFER = 1 << 20
"""Elements of a buffer that is still compared before and after each forward."""


@dataclass(frozen=True, slots=True)
class Backward:
    """One way in which a backward went: the loss's cuts and terms, and the leaves that it reached and gave a gradient."""

    cuts: int
    live: int
    got: int
    trainable: int
    terms: frozenset[Term]
    error: str


@dataclass(slots=True)
class Drift:
    """A module whose buffers changed in its forward. ``frozen``: none of the parameters around it required grad then."""

    module: Any
    frozen: int = 0
    times: int = 0
    training: int = 0
    largest: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Freezing:
    """What the line of a claim froze and unfroze."""

    frozen: dict[int, Any] = field(default_factory=dict)
    unfrozen: dict[int, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Held:
    """An optimizer that was built. ``values``: of its parameters, nothing is kept."""

    optimizer: Any
    place: Place | None
    steps: int = 0


@dataclass(slots=True)
class Flagged:
    """A gradient flag assigned where it has no effect."""

    receiver: Any
    value: bool | None
    wrong: int
    total: int


class Stop(BaseException):
    """Enough has been seen."""


class Recorder:
    """Everything noted in one run, for the claims that are asked of it.

    ``enough``: called when ``steps`` optimizer steps have been seen since the last claim's line was reached first; or in all,
    when not ``patient``.
    """

    def __init__(
        self, places: Places, asked: Sequence[Asked], steps: int, enough: Callable[[], None], *, patient: bool = True
    ) -> None:
        self.places = places
        self.tracer = Tracer(places, self._flagged, lambda tensor: self.sequence.zero_grad([tensor]))
        if any(each.claim.kind == "saved-changed" for each in asked):
            self.tracer.on_change = lambda: self.sequence.note("changed in place")
        self.asked = asked
        self.wanted = steps
        self.enough = enough
        self.patient = patient
        self.names = Names(places)
        self.reached: Counter[int] = Counter()
        self.last_reached = 0
        self.reached_at: dict[int, int] = {}
        self.backwards: dict[tuple[Place, ...], Counter[Backward]] = defaultdict(Counter)
        self.served: Counter[tuple[Place, ...]] = Counter()
        self._pending: list[tuple[Place, ...]] = []
        self._stepped = False
        self.gradients = 0
        self.nonzero = 0
        self.got = 0
        self.ever_trainable = 0
        self.checks: Counter[int] = Counter()
        self.optimizers: list[Held] = []
        self.steps = 0
        self.modules: dict[int, Any] = {}
        self.drifts: dict[int, Drift] = {}
        self.freezings: dict[int, Freezing] = defaultdict(Freezing)
        self.evaluated: dict[int, dict[int, Any]] = defaultdict(dict)
        self.reset: dict[int, tuple[Any, Place | None]] = {}
        self.trained_after_eval: Counter[int] = Counter()
        self.replaced: dict[int, list[tuple[Any, str, Any]]] = defaultdict(list)
        self.moved: dict[int, tuple[Any, float]] = {}
        self.flags: dict[int, list[Flagged]] = defaultdict(list)
        self.values: dict[int, list[str]] = defaultdict(list)
        self.calls: Counter[str] = Counter()
        self.sequence: Sequence_ = Sequence_(self._mask, self.claims_here)
        self.graphs = Graphs(
            lambda tensor: mark.live if (mark := self.tracer.mark(tensor)) is not None else 0,
            any(each.claim.kind in GRAPHS for each in asked),
        )
        self.kinds = {each.number: each.claim.kind for each in asked}
        self.subjects = {each.number: each.claim.subjects for each in asked}
        self.promises = Promises(asked, self._leaves_of)
        self.receivers: dict[int, Any] = {}
        self.random: dict[int, Any] = {}
        self.made: dict[int, dict[int, Any]] = defaultdict(dict)
        self.steps_at: dict[int, list[int]] = defaultdict(list)
        self.initial: dict[int, tuple[Any, Any]] = {}
        self.compiled = False
        self.owners: dict[int, Any] = {}
        self.inputs: dict[int, Any] = {}
        self.keeps_inputs = any(each.claim.kind == "random-in-evaluation" for each in asked)
        self.backwards_of: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._modes: dict[int, bool] = {}
        self._kept_graphs: list[tuple[set[int], set[Any], int]] = []
        self.watch_moves = any(each.claim.kind == "moves-though-frozen" for each in asked)
        self._depth = 0
        self._to_remember: list[Any] = []
        self._frozen_before: list[tuple[Any, Any]] = []
        self._buffers_before: dict[int, list[tuple[str, Any, Any]]] = {}
        self._sites: dict[tuple[str, int], tuple[int, ...]] = {
            (each.claim.site.file, line): () for each in asked for line in _lines(each)
        }
        for each in asked:
            for line in _lines(each):
                key = (each.claim.site.file, line)
                self._sites[key] = (*self._sites[key], each.number)

    # Questions -------------------------------------------------------------------------------------------------------

    def claims_here(self) -> set[int]:
        """The claims on whose lines some frame of the user's stands right now."""
        if not self._sites:
            return set()
        found: set[int] = set()
        for place in self.places.stack():
            for line in range(place.line, place.end_line + 1):
                found.update(self._sites.get((place.file, line), ()))
        return found

    def held(self) -> set[int]:
        """The ids of all parameters that some optimizer holds now."""
        return {id(tensor) for held in self.optimizers for tensor in _held(held.optimizer)}

    def trainable(self) -> int:
        """The leaves that require grad now and, if there is an optimizer at all, are in one."""
        held = self.held() if self.optimizers else None
        mask = 0
        for leaf in self.tracer.trace.leaves:
            tensor = leaf.tensor()
            if tensor is not None and tensor.requires_grad and (id(tensor) in held if held is not None else leaf.parameter):
                mask |= 1 << leaf.number
        return mask

    def _mask(self, tensors: Iterable[Any]) -> int:
        """The leaves among tensors as a set."""
        numbers = (tensor.__dict__.get(LEAF) for tensor in tensors)
        return functools.reduce(operator.or_, (1 << number for number in numbers if number is not None), 0)

    # Hooks -----------------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Hook in. For the rest of the process: nothing is ever unhooked."""
        self.tracer.install()
        self._watch_backward()
        self._watch_optimizers()
        self._watch_modules()
        self.sequence.watch()

    def start_over(self, steps: int) -> None:
        """Forget what trained so far: it was a search for arguments. ``steps``: as for the constructor."""
        self.wanted = steps
        self.reached.clear()
        self.backwards.clear()
        self.served.clear()
        self.drifts.clear()
        self.trained_after_eval.clear()
        self.optimizers.clear()
        self.promises = Promises(self.asked, self._leaves_of)
        self.gradients = self.nonzero = self.got = self.steps = self.last_reached = self.ever_trainable = 0

    def hear_reached(self, number: int) -> None:
        """The statement of a claim runs."""
        if not self.reached[number]:
            self.last_reached = self.steps if self.optimizers else self.gradients
            self.reached_at[number] = self.steps
        self.reached[number] += 1
        if isinstance(owner := sys._getframe(1).f_locals.get("self"), nn.Module):
            self.owners[number] = owner
        if len(self.steps_at[number]) < MOST_RECORDS:
            self.steps_at[number].append(self.steps)

    def hear_flag(self, number: int, receiver: Any, value: bool | None) -> None:
        """A flag was assigned on ``receiver`` where nothing reads it."""
        with quiet():
            if isinstance(receiver, nn.Module):
                tensors: list[Any] = list(receiver.parameters())
            else:
                tensors = [receiver] if isinstance(receiver, torch.Tensor) else []
            wanted = False if value is None else value
            wrong = sum(tensor.requires_grad is not wanted for tensor in tensors)
            if len(self.flags[number]) < MOST_RECORDS:
                self.flags[number].append(Flagged(receiver, value, wrong, len(tensors)))

    def hear_iterated(self, number: int, thing: Any) -> Any:
        """Something is about to be gone over: an iterator is counted and given on as it was."""
        if not isinstance(thing, Iterator):
            return thing
        elements = list(thing)
        self.sequence.facts[number]["iterated" if elements else "iterated nothing"] += 1
        return iter(elements)

    def hear_passes(self, number: int, value: Any) -> Any:
        """A value passes a claim's line; what to go on with."""
        if self.tracer.paused and self.kinds[number] not in _INSIDE:
            return value
        facts = self.sequence.facts[number]
        with quiet():
            match self.kinds[number]:
                case "discarded":
                    self.receivers[number] = value
                case "not-a-leaf":
                    for tensor in tensors_within(value):
                        facts["a leaf" if is_source(tensor) else "no leaf"] += 1
                case "bypassed":
                    wanted = {f"{name.rpartition('.')[2]}Backward" for name in self.subjects[number]}
                    for tensor in tensors_within(value):
                        facts["through backward" if type(tensor.grad_fn).__name__ in wanted else "bypassed"] += 1
                case "not-saved":
                    facts["a tensor" if next(tensors_within(value, 1), None) is not None else "no tensor"] += 1
                case "too-few-gradients":
                    self._count_gradients(facts, value, sys._getframe(1))
                case "late-bound":
                    return self._bound(facts, self.subjects[number], value, sys._getframe(1))
                case "hook-changes-dtype":
                    return self._typed(facts, value, sys._getframe(1))
                case _:
                    self.graphs.passes(number, value, self.reached[number])
        return value

    def _count_gradients(self, facts: Counter[str], value: Any, frame: FrameType) -> None:
        """Compare what a ``backward`` returns with what its ``forward`` took."""
        needed = getattr(_first_local(frame), "needs_input_grad", None)
        if needed is not None:
            given = len(value) if isinstance(value, (tuple, list)) else 1
            facts["enough" if given >= len(needed) else f"{given} for {len(needed)}"] += 1

    def _bound(self, facts: Counter[str], names: Sequence[str], function: Any, frame: FrameType) -> Any:
        """A function that compares, when it is called, what it closes over with what that was when it was made."""
        if not callable(function):
            return function
        scopes = (frame.f_locals, frame.f_globals)
        made = {name: next((scope[name] for scope in scopes if name in scope), None) for name in names}

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            code = function.__code__
            closed = dict(zip(code.co_freevars, function.__closure__ or (), strict=False))
            for name, value in made.items():
                if name in closed:
                    now = closed[name].cell_contents
                else:
                    now = value if name in code.co_varnames else function.__globals__.get(name, value)
                facts["as it was" if now is value else "moved on"] += 1
            return function(*args, **kwargs)

        return called if hasattr(function, "__code__") else function

    def _typed(self, facts: Counter[str], value: Any, frame: FrameType) -> Any:
        """Compare the type of what a gradient hook returns with what it is given, also with what autocast would give it."""
        if not callable(value) or isinstance(value, torch.Tensor):
            given = _first_local(frame)
            if isinstance(value, torch.Tensor) and isinstance(given, torch.Tensor):
                facts["same type" if value.dtype == given.dtype else "another type"] += 1
            return value

        @functools.wraps(value)
        def hook(gradient: Any, *args: Any, **kwargs: Any) -> Any:
            result = value(gradient, *args, **kwargs)
            if isinstance(gradient, torch.Tensor) and not facts["asked"]:
                facts["asked"] += 1
                with quiet(), self.tracer.pause(), torch.no_grad():
                    low = value(gradient.detach().to(torch.bfloat16), *args, **kwargs)
                if isinstance(low, torch.Tensor):
                    facts["same type" if low.dtype == torch.bfloat16 else "another type"] += 1
            return result

        return hook

    def hear_value(self, number: int, value: Any) -> Any:
        """An expression statement was evaluated to ``value``."""
        owner = getattr(value, "__self__", None)
        if self.kinds[number] == "discarded":
            receiver = self.receivers.pop(number, None)
            for tensor in tensors_within(value):
                self.sequence.facts[number]["itself" if tensor is receiver else "dropped"] += 1
        if callable(value):
            described = f"a method of {type(owner).__name__}" if owner is not None else f"a {type(value).__name__}"
        else:
            described = ""
        if len(self.values[number]) < MOST_RECORDS:
            self.values[number].append(described)
        return value

    def hear_number(self, kind: type, *arguments: Any) -> Any:
        """``float(…)`` or ``int(…)`` is called."""
        if kind not in (float, int):
            return kind(*arguments)
        return carriers.number(kind, arguments, self.tracer.convert)

    def hear_legacy(self, constructor: Any, *arguments: Any, **options: Any) -> Any:
        """An old constructor such as ``torch.FloatTensor(…)`` is called."""
        return self.tracer.made("tensor", arguments, constructor(*arguments, **options))

    def _progress(self) -> None:
        seen = self.steps if self.optimizers else self.gradients
        met = all(self.reached[each.number] for each in self.asked if each.claim.kind != KIND)
        waited = seen - self.last_reached >= self.wanted and met
        if waited or (not self.patient and seen >= self.wanted):
            self.enough()

    # Backward --------------------------------------------------------------------------------------------------------

    def _watch_backward(self) -> None:
        original = torch.autograd.backward
        original_grad = torch.autograd.grad

        @functools.wraps(original)
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            if self.tracer.paused:
                original(tensors, *args, **kwargs)
                return
            retained = bool(kwargs.get("retain_graph", args[1] if len(args) > 1 else False))
            self._backward(tensors, retained, lambda: original(tensors, *args, **kwargs))

        @functools.wraps(original_grad)
        def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if self.tracer.paused:
                return original_grad(outputs, inputs, *args, **kwargs)
            return self._grad(outputs, inputs, lambda: original_grad(outputs, inputs, *args, **kwargs))

        torch.autograd.backward = backward
        torch.autograd.grad = grad

    def _backward(self, tensors: Any, retained: bool, run: Callable[[], None]) -> None:
        losses = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
        place = tuple(islice(self.places.stack(sys._getframe(2)), DEEPEST))
        self.tracer.forget_escapes()
        if self._stepped:
            self._pending, self._stepped = [], False
        self._pending.append(place)
        self.gradients += 1
        self.calls["backward"] += 1
        with quiet(), self.tracer.pause():
            if self.gradients <= 8:
                self.names.look()
            mark = merge([mark for loss in losses if (mark := self.tracer.mark(loss)) is not None], terms=True)
            live = self._reachable(losses) if self.gradients <= 64 else (mark.live if mark else 0)
            trainable = self.trainable()
            self.ever_trainable |= trainable
            before = {leaf.number: _version(leaf.tensor()) for leaf in self.tracer.trace.leaves}
            severed = bool(losses) and not any(loss.requires_grad for loss in losses)
            behind = self.graphs.backward(losses)
            self._look_at_graph(losses, retained)
            self._look_at_modes()
        error = ""
        try:
            with self.tracer.pause():
                run()
        except RuntimeError as trouble:
            error = str(trouble).partition("\n")[0]
            if not severed:
                self._record(place, mark, live, 0, trainable, error)
                raise
            # A loss without a graph ends most programs here.  The rest of the program has more to tell.
        with quiet(), self.tracer.pause():
            got = self._received(before)
            for number, leaves in behind.items():
                self.graphs.arrived[number] |= leaves & got
                self.sequence.leaked[number] = self.sequence.leaked.get(number, 0) | leaves & got
            self.sequence.backward(losses, got, before, [held.optimizer for held in self.optimizers])
        self._record(place, mark, live, got, trainable, error)
        if not self.optimizers:
            self._progress()

    def _look_at_modes(self) -> None:
        """Note layers that ran in eval mode for this backward although a claim's line is what put them there."""
        for number, parts in self.evaluated.items():
            ran = [self._modes[key] for key in parts if key in self._modes]
            if ran:
                self.sequence.facts[number]["trained in train mode" if all(ran) else "trained in eval mode"] += 1
        self._modes.clear()

    def _look_at_graph(self, losses: Sequence[Any], retained: bool) -> None:
        """Note whether a graph that was kept at a claim's line is gone through again."""
        here = self.claims_here()
        if not here and not self._kept_graphs:
            return
        found = nodes(loss.grad_fn for loss in losses if loss.grad_fn is not None)
        for numbers, kept, steps in self._kept_graphs:
            if not kept.isdisjoint(found):
                for number in numbers:
                    carried = number in here and steps < self.steps
                    self.sequence.facts[number]["graph carried on" if carried else "graph used again"] += 1
        if retained and here:
            for number in here:
                self.sequence.facts[number]["graph kept"] += 1
            self._kept_graphs = [*self._kept_graphs[-3:], (here, found, self.steps)]

    def _record(self, place: tuple[Place, ...], mark: Mark | None, live: int, got: int, trainable: int, error: str) -> None:
        mark = mark or Mark(0, 0, 0)
        terms = mark.summands()
        group = self.backwards[place]
        record = Backward(mark.cuts, live, got, trainable, terms, error)
        if record in group or len(group) < MOST_RECORDS:
            group[record] += 1

    def _received(self, before: dict[int, Any]) -> int:
        """The leaves that got a gradient since ``before``; notes those whose gradient is not all zeros."""
        got = 0
        for leaf in self.tracer.trace.leaves:
            tensor = leaf.tensor()
            if tensor is None or _version(tensor) == before.get(leaf.number) or tensor.grad is None:
                continue
            bit = 1 << leaf.number
            got |= bit
            if not self.nonzero & bit and self.checks[leaf.number] < 24:
                self.checks[leaf.number] += 1
                if _nonzero(tensor.grad):
                    self.nonzero |= bit
        self.got |= got
        return got

    def _grad(self, outputs: Any, inputs: Any, run: Callable[[], Any]) -> Any:
        place_outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
        given = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
        place = self.places.here(sys._getframe(2))
        with self.tracer.pause():
            results = run()
        with quiet(), self.tracer.pause():
            mark = merge([mark for output in place_outputs if (mark := self.tracer.mark(output)) is not None])
            for tensor, gradient in zip(given, results, strict=False):
                if gradient is None:
                    continue
                if isinstance(tensor, torch.Tensor) and tensor.is_leaf and tensor.requires_grad:
                    bit = 1 << self.tracer.leaf(tensor).number
                    self.got |= bit
                    if not self.nonzero & bit and _nonzero(gradient):
                        self.nonzero |= bit
                if mark is not None and gradient.requires_grad:
                    self.tracer.put(gradient, Mark(mark.live, mark.depends, mark.cuts))
                elif mark is not None:
                    self.tracer.put(gradient, self.tracer.severed("grad", "grad", mark, place))
        return results

    def _reachable(self, losses: Iterable[Any]) -> int:
        """The leaves at the ends of the losses' graphs."""
        mask = 0
        stack = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
        for loss in losses:
            if loss.requires_grad and loss.grad_fn is None:
                mask |= 1 << self.tracer.leaf(loss).number
        seen = set(stack)
        while stack:
            node = stack.pop()
            variable = getattr(node, "variable", None) if type(node).__name__ == "AccumulateGrad" else None
            if variable is not None:
                mask |= 1 << self.tracer.leaf(variable).number
            for following, _ in node.next_functions:
                if following is not None and following not in seen:
                    seen.add(following)
                    stack.append(following)
        return mask

    def _leaves_of(self, tensors: Iterable[Any]) -> list[Any]:
        """The leaves at the ends of the graphs of tensors."""
        return list(leaves_of(self.tracer.trace, self._reachable(tensors)))

    # Optimizers ------------------------------------------------------------------------------------------------------

    def _watch_optimizers(self) -> None:
        from torch.optim import optimizer as module

        optimizer_class: Any = module.Optimizer
        initialise, zero = optimizer_class.__init__, optimizer_class.zero_grad

        @functools.wraps(initialise)
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            place = self.places.here(sys._getframe(1))
            initialise(optimizer, *args, **kwargs)
            self.optimizers.append(Held(optimizer, place))

        @functools.wraps(zero)
        def zero_grad(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            self.calls["zero_grad"] += 1
            self.sequence.zero_grad(_held(optimizer))
            with self.tracer.pause():
                zero(optimizer, *args, **kwargs)

        optimizer_class.__init__ = __init__
        optimizer_class.zero_grad = zero_grad
        module.register_optimizer_step_pre_hook(lambda optimizer, _args, _kwargs: self._before_step(optimizer))
        module.register_optimizer_step_post_hook(lambda optimizer, _args, _kwargs: self._after_step(optimizer))

    def _before_step(self, optimizer: Any) -> None:
        with quiet():
            for tensor in self._to_remember:
                self.initial.setdefault(id(tensor), (tensor, tensor.detach().clone()))
            self._to_remember = []
            self._take_up(optimizer)
            self.sequence.before_step(optimizer, self._mask(t for t in _held(optimizer) if t.grad is not None))
            if self.watch_moves:
                self._frozen_before = [(t, t.detach().clone()) for t in _held(optimizer) if not t.requires_grad]

    def _take_up(self, optimizer: Any) -> None:
        """A gradient that the program itself put there counts like one that came by backward."""
        for tensor in _held(optimizer):
            number = tensor.__dict__.get(LEAF)
            if tensor.grad is not None and number is not None and not self.nonzero >> number & 1:
                self.got |= 1 << number
                if self.checks[number] < 24:
                    self.checks[number] += 1
                    self.nonzero |= int(_nonzero(tensor.grad)) << number

    def _after_step(self, optimizer: Any) -> None:
        with quiet(), self.tracer.pause():
            self.calls["step"] += 1
            versions = {t.__dict__[LEAF]: _version(t) for t in _held(optimizer) if t.grad is not None and LEAF in t.__dict__}
            self.sequence.after_step(optimizer, versions)
            for tensor, before in self._frozen_before:
                distance = float((tensor.detach() - before).abs().max()) if tensor.numel() else 0.0
                if distance > 0:
                    _, largest = self.moved.get(id(tensor), (tensor, 0.0))
                    self.moved[id(tensor)] = tensor, max(largest, distance)
            self._frozen_before = []
            for held in self.optimizers:
                if held.optimizer is optimizer:
                    held.steps += 1
            stepped = self._mask(_held(optimizer))
            for place in self._pending:
                self.served[place] |= stepped
            self._stepped = True
            if self.steps < 4:
                self.names.look()
            self.steps += 1
            self._progress()

    # Modules ---------------------------------------------------------------------------------------------------------

    def _watch_modules(self) -> None:
        from torch.nn.modules import module

        module_class: Any = nn.Module
        initialise = nn.Module.__init__
        train = nn.Module.train
        assign = nn.Module.__setattr__
        zero = nn.Module.zero_grad
        add = nn.Module.add_module

        @functools.wraps(initialise)
        def __init__(instance: Any, *args: Any, **kwargs: Any) -> None:
            initialise(instance, *args, **kwargs)
            if len(self.modules) < MOST_MODULES:
                self.modules[id(instance)] = instance
                for number in self.claims_here():
                    self.made[number][id(instance)] = instance

        @functools.wraps(train)
        def switched(instance: Any, mode: bool = True) -> Any:
            outermost = not self._depth
            if outermost:
                self._switch(instance, mode)
            self._depth += 1
            try:
                return train(instance, mode)
            finally:
                self._depth -= 1

        def __setattr__(instance: Any, name: str, value: Any) -> None:
            if isinstance(value, (nn.Module, nn.Parameter)) and self._sites:
                self._replace(instance, name, value)
            assign(instance, name, value)

        @functools.wraps(add)
        def add_module(instance: Any, name: str, value: Any) -> None:
            self._replace(instance, name, value)
            add(instance, name, value)

        @functools.wraps(zero)
        def zero_grad(instance: Any, *args: Any, **kwargs: Any) -> None:
            self.sequence.zero_grad(instance.parameters())
            zero(instance, *args, **kwargs)

        module_class.zero_grad = zero_grad
        module_class.__init__ = __init__
        module_class.train = switched
        module_class.__setattr__ = __setattr__
        module_class.add_module = add_module
        module.register_module_forward_pre_hook(self._before_forward)
        module.register_module_forward_hook(self._after_forward, always_call=True)

    def _switch(self, instance: Any, mode: bool) -> None:
        if mode:
            covered = {id(part) for part in instance.modules()}
            place = self.places.here(sys._getframe(2))
            for parts in self.evaluated.values():
                for key in parts.keys() & covered:
                    self.reset.setdefault(key, (parts[key], place))
            self.calls["train"] += 1
        else:
            for number in self.claims_here():
                self.evaluated[number].update({id(part): part for part in instance.modules()})
            self.calls["eval"] += 1

    def _replace(self, instance: Any, name: str, value: Any) -> None:
        for number in self.claims_here():
            if len(self.replaced[number]) < MOST_RECORDS:
                self.replaced[number].append((instance, name, value))
                self._remember(value.parameters() if isinstance(value, nn.Module) else [value])

    def _remember(self, tensors: Iterable[Any]) -> None:
        """Keep the values that tensors have when the next optimizer step comes."""
        self._to_remember.extend(tensors)

    def _before_forward(self, module: Any, inputs: Any) -> None:
        if self.tracer.paused:
            return
        if self.keeps_inputs:
            self.inputs[id(module)] = inputs
        with quiet():
            self.promises.sees(module)
        if module.training and _is_random(module):
            self.random[id(module)] = module
        if isinstance(module, MODAL):
            if torch.is_grad_enabled():
                self._modes[id(module)] = bool(module.training)
            elif module.training:
                self.sequence.note("train mode without gradient")
            else:
                self.sequence.note("eval mode without gradient")
        if module.training and id(module) in self.reset:
            self.trained_after_eval[id(module)] += 1
        if len(self.modules) < MOST_MODULES and id(module) not in self.modules:
            self.modules[id(module)] = module
        if module._buffers:
            with quiet():
                if not any(tensor.requires_grad for tensor in module.parameters()):
                    self._buffers_before[id(module)] = [
                        (name, buffer, buffer.detach().clone())
                        for name, buffer in module._buffers.items()
                        if isinstance(buffer, torch.Tensor) and buffer.numel() <= LARGEST_BUFFER
                    ]

    def _after_forward(self, module: Any, _inputs: Any, output: Any) -> None:
        if self.promises.held and not self.tracer.paused:
            with quiet():
                self.promises.ran(module, output)
        before = self._buffers_before.pop(id(module), None)
        if not before:
            return
        with quiet():
            for name, _, old in before:
                new = module._buffers.get(name)
                if not isinstance(new, torch.Tensor) or new.shape != old.shape or torch.equal(new, old):
                    continue
                drift = self.drifts.setdefault(id(module), Drift(module))
                distance = float((new.double() - old.double()).abs().max())
                drift.largest[name] = max(drift.largest.get(name, 0.0), distance)
                drift.times += 1
                drift.training += bool(module.training)

    # The rest --------------------------------------------------------------------------------------------------------

    def _flagged(self, tensor: Any, value: bool) -> None:
        if not self._sites:
            return
        for number in self.claims_here():
            freezing = self.freezings[number]
            if value:
                freezing.unfrozen[id(tensor)] = tensor
                self._remember([tensor])
            else:
                freezing.frozen[id(tensor)] = tensor


def _is_random(module: Any) -> bool:
    """Whether a layer draws numbers in train mode."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    return isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and module.dropout > 0


def _first_local(frame: FrameType) -> Any:
    """The first argument of the function that a frame executes."""
    names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
    return frame.f_locals.get(names[0]) if names else None


def _held(optimizer: Any) -> Iterator[Any]:
    """The parameters of an optimizer."""
    for group in optimizer.param_groups:
        yield from group["params"]


def _lines(asked: Asked) -> Iterator[int]:
    site = asked.claim.site
    yield from range(site.line, site.end_line + 1)


def _nonzero(gradient: Any) -> bool:
    """Whether a gradient is not all zeros; one that cannot be asked, as under ``vmap``, counts as such."""
    try:
        return bool((gradient.coalesce().values() if gradient.is_sparse else gradient).ne(0).any())
    except RuntimeError:
        return True


def _version(tensor: Any) -> tuple[int, int] | None:
    """What changes when a gradient is accumulated."""
    if tensor is None or tensor.grad is None:
        return None
    return id(tensor.grad), tensor.grad._version
