"""The search: build, feed, read what went wrong, change one thing, again; the most promising state first."""

from __future__ import annotations

import contextlib
import functools
import gc
import heapq
import inspect
import io
import itertools
import logging
import math
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gradlint.verify.drive.failures import Failure, from_exception
from gradlint.verify.drive.guesses import LENGTH, Guesser, required_parameters, signature_of
from gradlint.verify.drive.inputs import Same, argument, guesses, parameters_of
from gradlint.verify.drive.layers import width_of
from gradlint.verify.drive.limits import Clock, Limits, OutOfTime, TooBig
from gradlint.verify.drive.outputs import Gradient, describe_output, float_outputs, gradients_of, projection, tensors_in
from gradlint.verify.drive.repairs import repairs
from gradlint.verify.drive.result import Run, Undriven
from gradlint.verify.drive.state import State, map_leaves
from gradlint.verify.drive.values import Group, Scope, Source, Spec, Tensor, Unrenderable, leaves, render

__all__ = ["Search", "degenerate_of", "quiet"]

_ELEMENTS = 4_000_000  # of all inputs of one forward
_PARAMETERS = 100_000_000
_BUILDS = 160  # attempts at building a module
_FORWARDS = 400
_STATES_OF_A_FAILURE = 40  # how many repairs of one failure are followed
_REBUILDS_OF_A_FAILURE = 20  # and how many of a failed forward that build the module anew


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what user code prints, warns of and logs from drowning the report."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@dataclass(slots=True)
class Trial:
    """A forward and backward that went through."""

    state: State
    output: str
    loss: float
    gradients: tuple[Gradient, ...]
    input_gradients: tuple[Gradient, ...]
    degenerate: str
    carries: bool
    frozen_inputs: bool

    @property
    def missing(self) -> int:
        return sum(item.state == "missing" for item in self.gradients)

    @property
    def quality(self) -> tuple[bool, bool, int, int]:
        """Higher is better."""
        return self.carries, not self.degenerate, -self.missing, -sum(item.state == "zero" for item in self.gradients)


class Search:
    """Looks for arguments that take a module class through forward and backward.

    ``kind``: the class.  ``scope``: names of the expressions.  ``device``: where it runs.  ``seed``: set before every build and
    every making of inputs.  ``clock``: counts the work.  ``deadline``: on that clock.
    """

    def __init__(
        self, kind: type[nn.Module], scope: Scope, clock: Clock, *, device: str, seed: int, deadline: float, depth: int = 0
    ) -> None:
        self.kind = kind
        self.scope = scope
        self.clock = clock
        self.device = device
        self.seed = seed
        self.deadline = deadline
        self.depth = depth
        self.slice = math.inf  # seconds for one build or forward
        self.elements = 120_000_000  # of everything that one build makes
        self.overran = False  # whether an attempt was given up for its size or time
        self.attempts = 0
        self.builds = 0
        self.home = inspect.getmodule(kind)
        self.guesser = Guesser(scope, self._nested)
        self.furthest: tuple[int, int, Failure | None, State | None] = (0, 0, None, None)
        self._modules: dict[str, nn.Module | Failure] = {}
        self._guesses: dict[str, list[Spec]] = {}
        self._best: Trial | None = None

    # --- what repairs ask --------------------------------------------------------------------------------------------------

    def of_argument(self, name: str) -> Sequence[Spec]:
        """Candidates for a constructor argument."""
        parameter, function = self._parameter(name)
        if parameter is None:
            return []
        return self._candidates(function, parameter)

    def of_name(self, name: str) -> Sequence[Spec]:
        """Candidates for an attribute of a configuration."""
        return self._candidates(self.kind.__init__, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY))

    def of_input(self, module: nn.Module, name: str, state: State) -> Sequence[Spec]:
        """Candidates for an argument of forward."""
        base = next(
            (leaf for _, spec in state.inputs or () for leaf in leaves(spec) if isinstance(leaf, Tensor)),
            Tensor((2, LENGTH, width_of(module))),
        )
        for index, parameter in enumerate(parameters_of(module)):
            if parameter.name == name:
                found = argument(module, parameter, self.guesser, first=index == 0)
                return list(dict.fromkeys(item.of(base) if isinstance(item, Same) else item for item in found))
        return []

    def argument_names(self) -> Sequence[str]:
        """The constructor's parameters, those of base classes too where it passes keywords on."""
        names: list[str] = []
        for function in self._constructors():
            signature = signature_of(function)
            if signature:
                names += [name for name in list(signature.parameters)[1:] if name not in names]
        return names

    def defaults(self, kind: str) -> Mapping[str, Any]:
        """The defaults of a constructor's parameters: of the class that an expression names, of the class at hand for ``""``."""
        functions: list[Any]
        if kind:
            value = self.scope.names.get(kind)
            functions = [value] if callable(value) else []
        else:
            functions = list(self._constructors())
        found: dict[str, Any] = {}
        for function in functions:
            signature = signature_of(function)
            for name, parameter in signature.parameters.items() if signature else ():
                if parameter.default is not parameter.empty:
                    found.setdefault(name, parameter.default)
        return found

    def input_names(self) -> Sequence[str]:
        """The parameters of forward."""
        signature = signature_of(self.kind.forward)
        return list(signature.parameters)[1:] if signature else []

    def _candidates(self, function: Any, parameter: inspect.Parameter) -> list[Spec]:
        key = f"{getattr(function, '__qualname__', '')}.{parameter.name}"
        if key not in self._guesses:
            self._guesses[key] = self.guesser.values(function, parameter, self.home)
        return self._guesses[key]

    def _constructors(self) -> Iterator[Any]:
        for base in self.kind.__mro__:
            if "__init__" in vars(base) and base not in {object, nn.Module}:
                yield vars(base)["__init__"]
                signature = signature_of(vars(base)["__init__"])
                if signature and not any(item.kind is item.VAR_KEYWORD for item in signature.parameters.values()):
                    return

    def _parameter(self, name: str) -> tuple[inspect.Parameter | None, Any]:
        for function in self._constructors():
            signature = signature_of(function)
            if signature and name in signature.parameters:
                return signature.parameters[name], function
        return None, None

    # --- building ----------------------------------------------------------------------------------------------------------

    def _nested(self, kind: type[nn.Module]) -> Spec | None:
        """An expression that builds an instance of another class."""
        if self.depth >= 2:
            return None
        inner = Search(
            kind,
            self.scope,
            self.clock,
            device=self.device,
            seed=self.seed,
            deadline=min(self.deadline, self.clock.now() + 2),
            depth=self.depth + 1,
        )
        state = inner.construct()
        if state is None:
            return None
        return Group(state.maker, tuple(spec for _, spec in state.arguments), tuple(name for name, _ in state.arguments))

    def construct(self) -> State | None:
        """Only build: the first state whose constructor goes through."""
        try:
            for state, outcome in self._explore(self.seeds(), goal="construct"):
                if isinstance(outcome, nn.Module):
                    return state
        except OutOfTime:
            pass
        return None

    def built(self, seeds: Iterable[State], *, builds: int) -> Iterator[tuple[State, nn.Module]]:
        """The first state whose constructor goes through, with its module; nothing where none does.

        Raises:
            OutOfTime: the deadline has passed.
        """
        for state, outcome in self._explore(seeds, goal="construct", builds=builds):
            assert isinstance(outcome, nn.Module)
            yield state, outcome

    def seeds(self) -> Iterator[State]:
        """First states: the likeliest guess for each required argument, then one argument after another varied."""
        maker = self.scope.name(self.kind)
        parameters = required_parameters(self.kind.__init__)
        if parameters is None:
            yield State(maker)
            return
        columns = [(parameter, self._candidates(self.kind.__init__, parameter)) for parameter in parameters]
        signature = signature_of(self.kind.__init__)
        kinds = inspect.Parameter

        def named(parameter: inspect.Parameter) -> str:
            return f"*{parameter.name}" if parameter.kind is kinds.POSITIONAL_ONLY else parameter.name

        first = tuple((named(parameter), column[0]) for parameter, column in columns if column)
        variadic = [item for item in (signature.parameters.values() if signature else ()) if item.kind is kinds.VAR_POSITIONAL]
        plain = State(maker, first)
        yield plain
        if variadic and not any(item.kind is kinds.VAR_KEYWORD for item in signature.parameters.values() if signature):
            for spec in self.guesser.values(
                self.kind.__init__, kinds(variadic[0].name.removesuffix("s"), kinds.KEYWORD_ONLY), self.home
            )[:3]:
                yield State(maker, (*((f"*{name.lstrip('*')}", item) for name, item in first), ("*0", spec)))
            yield State(
                maker,
                (
                    *((f"*{name.lstrip('*')}", item) for name, item in first),
                    ("*0", Source("nn.Linear(32, 32)")),
                    ("*1", Source("nn.ReLU()")),
                ),
            )

    def build(self, state: State, *, fresh: bool = False) -> nn.Module | Failure:
        """The module of a state, or what went wrong. Built once unless ``fresh``."""
        text = state.building
        key = f"stir {text}" if state.stirred else text
        if not fresh and key in self._modules:
            return self._modules[key]
        self.builds += 1
        outcome: nn.Module | Failure
        try:
            with torch.device(self.device), torch.enable_grad(), self._limits():
                torch.manual_seed(self.seed)
                value = self.scope.value(text)
            if not isinstance(value, nn.Module):
                outcome = Failure("construct", "TypeError", f"{state.maker} made a {type(value).__name__}, not a module")
            elif self.device != "meta" and _size(value) > _PARAMETERS:
                outcome = Failure("construct", "TooBig", "more parameters than are allowed in a trial")
            else:
                value.to(self.device)
                value.train()  # what it returns is not to be relied on: overridden methods forget to return the module
                outcome = value
                if state.stirred:
                    _stir(outcome)
        except OutOfTime:
            outcome = Failure("construct", "TooBig", "building it takes too long for a trial")
        except TooBig as error:
            outcome = Failure("construct", "TooBig", f"it is too large for a trial ({error})")
        except (Exception, SystemExit) as error:
            outcome = from_exception("construct", error)
        if not fresh:
            if len(self._modules) > 32:
                self._modules.clear()
                gc.collect()
            self._modules[key] = outcome
        return outcome

    # --- feeding -----------------------------------------------------------------------------------------------------------

    def fed(self, state: State) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of forward, made anew from the seed."""
        torch.manual_seed(self.seed)
        with torch.device(self.device):
            positional = [self.scope.value(render(spec)) for name, spec in state.inputs or () if name.startswith("*")]
            named = {name: self.scope.value(render(spec)) for name, spec in state.inputs or () if not name.startswith("*")}
        return positional, named

    def loss_of(
        self, module: nn.Module, state: State, frozen_inputs: bool
    ) -> tuple[Any, torch.Tensor | None, list[torch.Tensor]]:
        """Forward and the stand-in loss: output, loss (``None`` where no output carries gradient), inputs that require grad."""
        positional, named = self.fed(state)
        watched: list[torch.Tensor] = []
        if not frozen_inputs:
            for tensor in tensors_in([positional, named]):
                if tensor.is_floating_point() or tensor.is_complex():
                    watched.append(tensor.requires_grad_())
        torch.manual_seed(self.seed)
        output = module(*positional, **named)
        return output, projection(float_outputs(output), self.seed), watched

    def _limits(self) -> Limits:
        """For one build or one forward and backward: at most a part of the time that is left for all."""
        left = max(self.deadline - self.clock.now(), 0.01)
        seconds = min(max(left / 3, min(left, 2.5)), self.slice)
        return Limits(self.clock, seconds, total=self.elements, uninitialized=self.device == "meta")

    def fitting(self, seeds: Iterable[State], *, builds: int, forwards: int) -> State | None:
        """The first state whose forward goes through; no backward, so that it works on the meta device too.

        Raises:
            OutOfTime: the deadline has passed.
        """
        for state, outcome in self._explore(seeds, goal="forward", builds=builds, forwards=forwards):
            assert isinstance(outcome, Trial)
            return state
        return None

    def attempt(self, module: nn.Module, state: State, *, backward: bool = True) -> Trial | Failure:
        """One forward and backward."""
        self.attempts += 1
        stage = "forward"
        trainable = any(parameter.requires_grad for parameter in module.parameters())
        try:
            with torch.enable_grad(), self._limits():
                module.zero_grad(set_to_none=True)
                output, loss, watched = self.loss_of(module, state, trainable)
                found = float_outputs(output)
                if not found:
                    return Failure("output", "", f"forward returned no floating-point tensor ({describe_output(output)})")
                if not backward:
                    return Trial(state, "", 0.0, (), (), "", True, trainable)
                stage = "backward"
                if loss is not None:
                    loss.backward()
        except OutOfTime:
            return Failure(stage, "TooBig", "it takes too long for a trial")
        except TooBig as error:
            return Failure(stage, "TooBig", f"it is too large for a trial ({error})")
        except (Exception, SystemExit) as error:
            return from_exception(stage, error)
        given = gradients_of(module)
        inputs = tuple(
            Gradient(f"input {index}", tensor.numel(), _state_of(tensor.grad)) for index, tensor in enumerate(watched)
        )
        degenerate = degenerate_of(found, loss, given, inputs)
        value = float(loss.detach()) if loss is not None else 0.0
        return Trial(state, describe_output(output), value, given, inputs, degenerate, loss is not None, trainable)

    # --- the loop ----------------------------------------------------------------------------------------------------------

    def _explore(
        self, seeds: Iterable[State], *, goal: str, builds: int = _BUILDS, forwards: int = _FORWARDS
    ) -> Iterator[tuple[State, nn.Module | Trial]]:
        heap: list[tuple[float, int, State, str, int]] = []
        order = itertools.count()
        seen: set[State] = set()

        def push(price: float, state: State, signature: str = "", progress: int = 0) -> None:
            if state not in seen and price < 14:
                seen.add(state)
                heapq.heappush(heap, (price, next(order), state, signature, progress))

        for rank, state in enumerate(seeds):
            push(0.3 * rank, state)
        builds += self.builds
        forwards += self.attempts
        while heap and self.builds < builds and self.attempts < forwards:
            if self.clock.now() > self.deadline:
                raise OutOfTime
            price, _, state, signature, progress = heapq.heappop(heap)
            if state.elements() > _ELEMENTS:
                continue
            module = self.build(state)
            if isinstance(module, nn.Module) and self.kind is nn.Module:
                self.kind = type(module)  # a factory: only now it is known what it makes
                self.home = inspect.getmodule(self.kind)
            if isinstance(module, Failure):
                failure = module
            elif goal == "construct":
                yield state, module
                return
            elif state.inputs is None:
                self._note(1, progress, None, state)
                for extra, inputs in itertools.islice(guesses(module, self.guesser), 90):
                    push(price + extra, replace(state, inputs=inputs), progress=progress)
                continue
            else:
                outcome = self.attempt(module, state, backward=goal == "backward")
                if isinstance(outcome, Trial):
                    yield state, outcome
                    for extra, changed in _livelier(state, outcome):
                        push(price + extra, changed)
                    continue
                failure = outcome
            self.overran = self.overran or failure.kind == "TooBig"
            if self.overran and goal == "forward":
                return
            progress += failure.signature != signature
            self._note({"construct": 0, "forward": 2, "output": 3, "backward": 4}[failure.stage], progress, failure, state)
            stuck = 1.5 if failure.signature == signature else 0.0
            built = module if isinstance(module, nn.Module) else None
            inward = outward = 0
            for extra, changed in _cheapest(repairs(state, failure, self, built)):
                if changed.inputs is None and state.inputs is not None:
                    outward += 1
                    if outward > _REBUILDS_OF_A_FAILURE:
                        continue
                else:
                    inward += 1
                    if inward > _STATES_OF_A_FAILURE:
                        continue
                push(price + extra + stuck + 0.01 * (inward + outward), changed, failure.signature, progress)

    def _note(self, stage: int, progress: int, failure: Failure | None, state: State) -> None:
        """Remember the attempt that came furthest: by stage, then by how many obstacles lie behind it."""
        best_stage, best_progress, _, best_state = self.furthest
        if best_state is None or (stage, progress) > (best_stage, best_progress):
            kept = None if failure is None else replace(failure, frames=(), clashes=(), error=None)
            self.furthest = (stage, progress, kept, state)

    def run(self, seeds: Iterable[State], *, builds: int = _BUILDS, forwards: int = _FORWARDS) -> Trial | None:
        """The best trial that the search finds; it stops at the first that nothing is wrong with.

        A trial that leaves parameters without a gradient, or is degenerate, is kept while some more are looked at.
        """
        patience: int | None = None
        best = self._best
        try:
            for _, outcome in self._explore(seeds, goal="backward", builds=builds, forwards=forwards):
                assert isinstance(outcome, Trial)
                outcome = self._awake(outcome)
                if best is None or outcome.quality > best.quality:
                    best = outcome
                if outcome.carries and not outcome.degenerate:
                    break
                patience = 30 if patience is None else patience - 1
                if patience <= 0:
                    break
            if best is not None and best.carries and any(item.state in {"missing", "zero"} for item in best.gradients):
                best = self._fuller(best)
        except OutOfTime:
            pass
        self._best = best
        return best

    def _awake(self, best: Trial) -> Trial:
        """The same with closed gates opened, if that brings gradient to more parameters."""
        shut = best.degenerate in _SHUT or any(item.state == "zero" for item in best.gradients)
        module = self._modules.get(best.state.building)
        if best.state.stirred or not shut or not isinstance(module, nn.Module):
            return best
        if not _stir(module):
            return best
        del self._modules[best.state.building]
        state = replace(best.state, stirred=True)
        self._modules[f"stir {state.building}"] = module
        outcome = self.attempt(module, state)
        return outcome if isinstance(outcome, Trial) and outcome.quality > best.quality else best

    def _fuller(self, best: Trial) -> Trial:
        """Give optional arguments as long as that brings gradient to more parameters."""
        module = self.build(best.state)
        if isinstance(module, Failure):
            return best
        tries = 12
        for parameter in parameters_of(module):
            default = parameter.default
            if best.state.input(parameter.name) not in {None, Source("None")} or not (
                default is None or isinstance(default, bool) or default is parameter.empty
            ):
                continue
            candidates = (
                [Source(repr(not default))] if isinstance(default, bool) else self.of_input(module, parameter.name, best.state)
            )
            for candidate in list(candidates)[:4]:
                if candidate == Source("None") or tries <= 0:
                    continue
                tries -= 1
                outcome = self.attempt(module, best.state.with_input(parameter.name, candidate))
                if isinstance(outcome, Trial) and outcome.quality > best.quality:
                    best = outcome
                    break
            if not best.missing:
                break
        return best

    # --- results -----------------------------------------------------------------------------------------------------------

    def finished(self, trial: Trial, origin: str) -> Run | Failure:
        """Build and run once more from nothing, as the source says, and report that."""
        state = trial.state
        module = self.build(state, fresh=True)
        if isinstance(module, Failure):
            return module
        again = self.attempt(module, state)
        if isinstance(again, Failure):
            return again
        module.zero_grad(set_to_none=True)
        notes = []
        if not again.carries:
            notes.append("no output carries gradient")
        if state.stirred:
            notes.append("parameters that start at zero were given small random values")
        if not trial.frozen_inputs:
            notes.append("nothing in it trains: gradient was followed to its inputs")
        return Run(
            module=module,
            description=state.shown,
            source=self.source(state, again.frozen_inputs),
            origin=origin,
            outputs=again.output,
            loss=again.loss,
            gradients=again.gradients,
            input_gradients=again.input_gradients,
            degenerate=again.degenerate,
            notes=tuple(notes),
            attempts=self.attempts,
            seconds=self.clock.now(),
            _loss=functools.partial(_step, self, module, state, again.frozen_inputs),
            objects={"model": module, "self": module, self.kind.__name__: module},
        )

    def source(self, state: State, frozen_inputs: bool) -> str:
        """A program that repeats the run."""
        texts = [render(spec) for _, spec in state.inputs or ()]
        names = [name.lstrip("*") for name, _ in state.inputs or ()]
        lines = self.scope.imports(state.building, *texts)
        lines += ["", f"torch.manual_seed({self.seed})"]
        if self.device != "cpu":
            lines.insert(len(lines) - 1, f"torch.set_default_device({self.device!r})")
        lines += [f"module = {state.building}", f"module.to({self.device!r}).train()"]
        if state.stirred:
            lines += [
                "with torch.no_grad():",
                "    for parameter in module.parameters():",
                "        if parameter.is_floating_point() and not parameter.any():",
                "            parameter.normal_(std=0.1)",
            ]
        lines += [f"torch.manual_seed({self.seed})"]
        given = []
        for (name, spec), text, plain in zip(state.inputs or (), texts, names, strict=True):
            variable = f"input_{plain}"
            lines.append(f"{variable} = {text}")
            if not frozen_inputs and isinstance(spec, Tensor) and spec.floating:
                lines[-1] += ".requires_grad_()"
            given.append(variable if name.startswith("*") else f"{name}={variable}")
        lines += [f"torch.manual_seed({self.seed})", f"output = module({', '.join(given)})"]
        lines += ["from gradlint.verify.drive.outputs import float_outputs, projection"]
        lines += [f"loss = projection(float_outputs(output), {self.seed})", "loss.backward()"]
        return "\n".join(lines) + "\n"

    def failed(self) -> Undriven:
        """Why nothing was found, from the attempt that came furthest."""
        stage, _, failure, state = self.furthest
        seconds = self.clock.now()
        tried = state.shown if state else ""
        late = " (time was up)" if self.clock.now() > self.deadline else ""
        if failure is None:
            return Undriven(f"no attempt got as far as an error message{late}", "construct", self.attempts, seconds, tried)
        word = {0: "construct", 1: "construct", 2: "forward", 3: "forward", 4: "backward"}[stage]
        what = {
            "construct": f"it could not be built with made-up arguments; the closest attempt, {state.building if state else ''}, raised",
            "forward": "it was built, but made-up inputs did not get through forward; the closest attempt raised",
            "backward": "forward went through, but backward raised",
        }[word]
        if stage == 3:
            return Undriven(f"forward went through, but {failure.message}{late}", "forward", self.attempts, seconds, tried)
        return Undriven(f"{what} {failure.summary}{late}", word, self.attempts, seconds, tried)


def _step(search: Search, module: nn.Module, state: State, frozen_inputs: bool) -> torch.Tensor:
    output, loss, _ = search.loss_of(module, state, frozen_inputs)
    if loss is None:
        # Nothing carries gradient: the same projection of constants, so that the caller sees a loss without a graph.
        with torch.no_grad():
            total = sum(
                (item.double().sum() if not item.is_complex() else item.abs().sum().double()) for item in float_outputs(output)
            )
        return torch.as_tensor(total)
    return loss


def _state_of(grad: torch.Tensor | None) -> str:
    if grad is None:
        return "missing"
    if not bool(torch.isfinite(grad).all()):
        return "nonfinite"
    return "live" if bool((grad != 0).any()) else "zero"


def degenerate_of(
    found: list[torch.Tensor], loss: torch.Tensor | None, given: tuple[Gradient, ...], inputs: tuple[Gradient, ...]
) -> str:
    """Why a run shows nothing, empty when it does."""
    solid = [tensor.detach() for tensor in found if tensor.numel()]
    if not solid:
        return "every output is empty"
    solid = [tensor.to_dense() if tensor.layout is not torch.strided else tensor for tensor in solid]
    if not all(bool(torch.isfinite(tensor).all()) for tensor in solid):
        if loss is None or not bool(torch.isfinite(loss.detach()).all()):
            return "outputs are not finite"
    if all(not bool((tensor != 0).any()) for tensor in solid):
        return "every output is zero"
    if loss is None:
        return "" if any(item.state != "frozen" for item in given) else "no output carries gradient"
    wanting = [item for item in given if item.state != "frozen"] or list(inputs)
    if any(item.state == "nonfinite" for item in wanting):
        return "a gradient is not finite"
    if wanting and not any(item.state == "live" for item in wanting):
        return "every gradient is zero"
    return ""


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if not is_lazy(parameter))


_SHUT = {"every output is zero", "every gradient is zero"}


def _stir(module: nn.Module) -> bool:
    """Give parameters that start at zero small random values: behind a closed gate every gradient is zero.

    Returns:
        Whether there were any.
    """
    found = False
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point() and not is_lazy(parameter) and not parameter.any():
                parameter.normal_(std=0.1)
                found = True
    return found


def _livelier(state: State, trial: Trial) -> Iterator[tuple[float, State]]:
    """What to change about the inputs of a run that went through and shows nothing."""
    if not trial.degenerate:
        return
    for kind, extra in (("unit", 0.5), ("float", 0.7)):
        changed = state
        for name, spec in state.inputs or ():
            changed = changed.with_input(
                name.lstrip("*"),
                map_leaves(spec, lambda leaf: replace(leaf, kind=kind) if isinstance(leaf, Tensor) and leaf.floating else leaf),  # noqa: B023
            )
        yield extra, changed
    for name, spec in state.inputs or ():
        for kind in ("unit", "sign"):
            yield (
                0.9,
                state.with_input(
                    name.lstrip("*"),
                    map_leaves(
                        spec, lambda leaf: replace(leaf, kind=kind) if isinstance(leaf, Tensor) and leaf.floating else leaf
                    ),  # noqa: B023
                ),
            )


def _cheapest(priced: Iterable[tuple[float, State]]) -> Iterator[tuple[float, State]]:
    """By price; the same state once."""
    found: dict[State, float] = {}
    for price, state in itertools.islice(priced, 4000):
        if price < found.get(state, 1e9):
            found[state] = price
    yield from sorted(((price, state) for state, price in found.items()), key=lambda item: item[0])


_Builder = Callable[[type[nn.Module]], Spec | None]
_ = types, Unrenderable
