"""What should train, what should stand still and what should not reach what, as one assertion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from gradlint.verify.monitors.audit import Audit, Row, audit, stuck
from gradlint.verify.monitors.gain import backward_in_progress
from gradlint.verify.monitors.kinds import covering
from gradlint.verify.monitors.outputs import tensors
from gradlint.verify.monitors.selection import Selected, Selection, named_parameters
from gradlint.verify.monitors.snapshot import Stateful
from gradlint.verify.monitors.stepping import Loss


class GradientFlowError(AssertionError):
    """Gradient does not flow as was said. ``breaches`` lists what is not so, ``audit`` holds the whole table."""

    def __init__(self, breaches: Sequence[str], audit: Audit) -> None:
        said = "\n".join(f"  {breach}" for breach in breaches)
        super().__init__(f"Gradient does not flow as it should:\n{said}\n\n{audit.render()}")
        self.breaches = tuple(breaches)
        self.audit = audit


def assert_gradients_flow(
    model: nn.Module,
    batch_or_step: Any,
    *,
    trains: Selection | None = None,
    frozen: Selection | None = None,
    isolated: Iterable[tuple[Selection, Selection]] = (),
    optimizer: Any = None,
    loss: Loss | None = None,
    also: Iterable[Stateful] = (),
) -> Audit:
    """Run one training step and assert where gradient goes and where not; everything is put back afterwards.

    Args:
        model: the whole model that trains, or a module that holds all of its parts.
        batch_or_step: a batch for ``model``, or a function without arguments that does a whole step; see `TrainingStep`.
        trains: what must require grad, receive a gradient other than zero and, with an optimizer, be held by it and move.
            Without any of ``trains``, ``frozen`` and ``isolated``, every parameter that requires grad must.
        frozen: what must receive no gradient and not move, buffers included.
        isolated: pairs of a module and a part; no gradient may go from the first module's output back to the second.
        optimizer: the optimizer or optimizers of the step.
        loss: from the model's output and the target to the loss, where the model does not return its loss.
        also: schedulers, gradient scalers and other objects with ``state_dict`` that the step changes, to be put back.

    Returns:
        The audit of the step.

    Raises:
        GradientFlowError: it is not so.  An `AssertionError` that lists each breach and shows the audit.
        ValueError: a selection names nothing in the model, or the first of a pair is no module.
    """
    pairs = [_Pair(model, source, target) for source, target in isolated]
    chosen = None if trains is None else Selected(model, trains)
    still = None if frozen is None else Selected(model, frozen)
    try:
        for pair in pairs:
            pair.watch()
        result = audit(model, optimizer, batch_or_step, loss=loss, also=also)
    finally:
        for pair in pairs:
            pair.close()
    breaches: list[str] = []
    if all(row.seen.gradient == "none" for row in result.rows):
        breaches.append("the step sent no gradient to any parameter, so it shows nothing of what is frozen or isolated")
    if chosen is not None:
        breaches += _untrained(result, chosen.parameters)
    elif still is None and not pairs:
        breaches += _untrained(result, {row.name for row in result.rows if row.seen.trains})
    if still is not None:
        breaches += _unstill(result, still)
    for pair in pairs:
        breaches += pair.breaches()
    if breaches:
        raise GradientFlowError(breaches, result)
    return result


def _untrained(result: Audit, names: set[str]) -> list[str]:
    rows = [row for row in result.rows if row.name in names]
    # Whether an update is too small to show depends on the learning rate, which may well be zero in the first step.
    stepped = any(row.seen.moved for row in result.rows)
    unmoved = {row.name for row in stuck(result.rows)}
    reasons: tuple[tuple[str, Callable[[Row], bool]], ...] = (
        ("is frozen: requires_grad is False", lambda row: not row.seen.trains),
        ("gets no gradient", lambda row: row.unreached),
        ("gets only a gradient of zero", lambda row: row.stays_zero),
        ("has NaN or infinity in its gradient", lambda row: row.seen.trains and row.seen.gradient == "not finite"),
        ("is in no optimizer", lambda row: row.seen.trains and row.seen.held is False),
        ("did not move", lambda row: stepped and row.name in unmoved),
    )
    return [said for text, applies in reasons for said in _say(result, text, [row for row in rows if applies(row)])]


def _unstill(result: Audit, still: Selected) -> list[str]:
    rows = [row for row in result.rows if row.name in still.parameters]
    breaches = _say(result, "is to be frozen and gets a gradient", [row for row in rows if row.seen.gradient_peak != 0])
    breaches += _say(result, "is to be frozen and moved", [row for row in rows if row.seen.moved])
    for buffer in result.buffers:
        if buffer.name in still.buffers and buffer.moved:
            breaches.append(f"`{buffer.name}` is to be frozen and its buffer changed, by up to {buffer.change:.3e}")
    return breaches


def _say(result: Audit, text: str, rows: Sequence[Row]) -> list[str]:
    words = covering((row.name for row in rows), [row.name for row in result.rows])
    counts = {word: sum(row.name == word or row.name.startswith(word.removesuffix("*")) for row in rows) for word in words}
    return [f"`{word}` {f'({counts[word]} tensors) ' if word.endswith('.*') else ''}{text}" for word in words]


class _Pair:
    """Looks, at each call of a module, whether its output hangs together with the parameters of another part."""

    def __init__(self, model: nn.Module, source: Selection, target: Selection) -> None:
        chosen, self.target = Selected(model, source), Selected(model, target)
        if not chosen.modules:
            raise ValueError(f"{chosen} is no module: a pair of isolated= begins with the module whose output is looked at")
        self.source = str(chosen)
        self._modules = chosen.modules
        named = named_parameters(model)
        self._names = {id(named[name]): name for name in self.target.parameters}
        if not self._names:
            raise ValueError(f"{self.target} has no parameters that a gradient could reach")
        self._universe = list(named)
        self._reached: set[str] = set()
        self._called = self._hidden = self._outside = self._inside = False
        self._handles: list[RemovableHandle] = []

    def watch(self) -> None:
        self._handles = [module.register_forward_hook(self._look) for module in self._modules]

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def breaches(self) -> list[str]:
        words = covering(self._reached, self._universe)
        found = [f"gradient goes from {self.source} to `{word}`" for word in words]
        if not self._called:
            return [f"{self.source} was not called in the step, so nothing shows that {self.target} is isolated from it"]
        if not found and (self._hidden or (self._inside and not self._outside)):
            found = [
                f"reentrant checkpointing hides whether gradient goes from {self.source} to {self.target}; "
                "checkpoint with use_reentrant=False to have it seen"
            ]
        return found

    def _look(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self._called = True
        roots = [each for each in tensors(output) if each.requires_grad]
        if roots:  # within a backward, a checkpoint computes anew; a reentrant one shows only the graph of its own part
            self._inside |= backward_in_progress() != -1
            self._outside |= backward_in_progress() == -1
        self._reached |= {self._names[id(each)] for each in roots if id(each) in self._names}
        for node in _graph([each.grad_fn for each in roots]):
            self._hidden |= node.name() == "CheckpointFunctionBackward"
            variable = getattr(node, "variable", None)
            if variable is not None and id(variable) in self._names:
                self._reached.add(self._names[id(variable)])


def _graph(roots: Iterable[torch.autograd.graph.Node | None]) -> Iterator[torch.autograd.graph.Node]:
    """All nodes behind some, each once."""
    waiting = [node for node in roots if node is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
