"""One training step of a model: from a batch, or as a function of the user's."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradlint.verify.monitors.outputs import tensors

Loss = Callable[[Any, Any], Tensor]
"""From the model's output and the target to the loss, as ``torch.nn.functional.cross_entropy`` is."""


class TrainingStep:
    """Runs one training step.

    A function is called with no arguments and does the whole step itself: clear the gradients, compute the loss, go backward,
    step the optimizer; what it returns is taken for the loss.  Anything else is a batch: a mapping is passed to the model as
    keywords, a list or tuple as positional arguments, a tensor alone.  With ``loss``, the last element of the list or tuple is
    the target and is kept from the model (a mapping is passed to both).  Without it, the loss is the output itself where it is
    a single number, its ``loss`` entry or attribute, or its first element; failing these, a random projection of the output,
    which tells as well as any loss which parameters gradient can reach.

    Raises:
        TypeError: ``batch_or_step`` is a module, or a loss is given along with a function.
        ValueError: nothing can be computed from the batch, such as a list of one element together with ``loss``.
    """

    def __init__(self, model: nn.Module, batch_or_step: Any, optimizers: Sequence[Any], loss: Loss | None = None) -> None:
        if isinstance(batch_or_step, nn.Module):
            raise TypeError("A module is neither a batch nor a training step; pass the input, or a function that does a step")
        self._model = model
        self._optimizers = optimizers
        self._loss = loss
        self.function: Callable[[], Any] | None = None
        if is_step(batch_or_step):
            if loss is not None:
                raise TypeError("A step computes its own loss: loss= goes with a batch")
            self.function = batch_or_step
        self.batch = batch_or_step
        self.loss_value: Tensor | None = None
        self.loss_source = "the training step"
        self.backward_ran = True

    def __call__(self, batch: Any = None) -> None:
        """Do the step, with another batch than the given one where there is one."""
        with eager(), torch.enable_grad():
            if self.function is not None:
                returned = self.function()
                found = next((each for each in tensors(returned) if each.numel() == 1), None)
                self.loss_value = found.detach().clone() if found is not None else None
                return
            for optimizer in self._optimizers:
                optimizer.zero_grad()
            if not self._optimizers:
                self._model.zero_grad()
            loss = self._forward(self.batch if batch is None else batch)
            self.loss_value = loss.detach().clone()
            self.backward_ran = loss.requires_grad
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in self._optimizers:
                optimizer.step()

    def varied(self, generator: torch.Generator) -> Any:
        """The batch with new numbers of the same kind in it, or None where there is none to be had."""
        if self.function is not None:
            return None
        return _varied(self.batch, generator)

    def _forward(self, batch: Any) -> Tensor:
        if isinstance(batch, Mapping):
            output = self._model(**batch)
            target: Any = batch
        elif isinstance(batch, (list, tuple)):
            if self._loss is not None and len(batch) < 2:
                raise ValueError("With loss=, a batch holds the model's inputs and then the target: (x, target)")
            inputs, target = (batch, None) if self._loss is None else (batch[:-1], batch[-1])
            output = self._model(*inputs)
        else:
            if self._loss is not None:
                raise ValueError("With loss=, a batch holds the model's inputs and then the target: (x, target)")
            output, target = self._model(batch), None
        if self._loss is not None:
            self.loss_source = getattr(self._loss, "__name__", type(self._loss).__name__)
            return self._loss(output, target)
        loss, self.loss_source = _loss_of(output)
        return loss


def is_step(batch_or_step: Any) -> bool:
    """Whether this is a function that does a step.

    A batch may be callable too, as those of graph libraries are; but what can be moved to a device is no function.
    """
    return callable(batch_or_step) and not isinstance(batch_or_step, Mapping) and not hasattr(batch_or_step, "to")


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Keep compiled code from running: it passes over hooks that were added after it was compiled."""
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _loss_of(output: Any) -> tuple[Tensor, str]:
    named = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    candidates = [(named, "the output's `loss`"), (output, "the model's output")]
    if isinstance(output, (list, tuple)) and output:
        candidates.append((output[0], "the first element of the output"))
    for candidate, source in candidates:
        if isinstance(candidate, Tensor) and candidate.numel() == 1 and candidate.is_floating_point():
            return candidate.sum(), source
    found = [each for each in tensors(output) if each.is_floating_point() and each.numel()]
    if not found:
        raise ValueError("The model's output holds no floating-point tensor to compute a loss from; pass loss= or a step")
    connected = [each for each in found if each.requires_grad]
    return _projection(connected or found), "a random projection of the output"


def _projection(found: Sequence[Tensor]) -> Tensor:
    """A sum with random weights: unlike a plain sum, it has a gradient through softmax and normalisation too."""
    generator = torch.Generator().manual_seed(0)
    total: Tensor | None = None
    for each in found:
        weights = torch.randn(each.shape, generator=generator).to(each.device, each.dtype)
        term = (each * weights).sum() / each.numel() ** 0.5
        total = term if total is None else total + term.to(total.device)
    assert total is not None
    return total


def _varied(value: Any, generator: torch.Generator) -> Any:
    if isinstance(value, Tensor):
        return _varied_tensor(value, generator)
    if isinstance(value, Mapping):
        return {key: _varied(each, generator) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_varied(each, generator) for each in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_varied(each, generator) for each in value)
    return value


def _varied_tensor(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Another tensor of the same shape within the range of the values: what was a valid index or a probability stays one."""
    if not tensor.numel() or tensor.layout != torch.strided or tensor.is_complex() or tensor.dtype == torch.bool:
        return tensor
    values = tensor.detach()
    if not tensor.is_floating_point():
        return torch.randint(int(values.min()), int(values.max()) + 1, tensor.shape, generator=generator).to(
            tensor.device, tensor.dtype
        )
    low, high = values.min(), values.max()
    share = torch.rand(tensor.shape, generator=generator).to(tensor.device, tensor.dtype)
    return (low + (high - low) * share).requires_grad_(tensor.requires_grad)
