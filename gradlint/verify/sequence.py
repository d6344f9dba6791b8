"""The order of backward, clip, step and zero_grad as it happens, and what it means for the gradients at hand.

A gradient is *fresh* from the backward that computes it until a step uses it or it is cleared, and *scaled* while it carries a
gradient scaler's factor.  On a CPU a scaler that needs a GPU switches itself off; the order is followed all the same.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch

from gradlint.verify.marks import bits


class Sequence:
    """What happened at the lines of claims.

    ``mask``: turns tensors into a set of leaves.  ``here``: the claims whose lines are on the stack.
    ``facts``: by claim, how often something was the case when its line ran.  ``optimizers``: by claim, those that
    stepped there.  ``accumulated``: by optimizer, backwards that added to gradients which a step had used already.
    ``leaked``: by claim, the leaves that have a gradient which came through its line.
    """

    def __init__(self, mask: Callable[[Iterable[Any]], int], here: Callable[[], set[int]]) -> None:
        self.mask = mask
        self.here = here
        self.facts: dict[int, Counter[str]] = defaultdict(Counter)
        self.optimizers: dict[int, dict[int, Any]] = defaultdict(dict)
        self.accumulated: Counter[int] = Counter()
        self.leaked: dict[int, int] = {}
        self.fresh = 0
        self.scaled = 0
        self.used: dict[int, Any] = {}
        self.scalers: dict[int, bool] = {}
        self.updates = 0
        self._scaled_losses: list[Any] = []
        self._dropped: list[tuple[int, set[int]]] = []
        self._unscaled_at: set[int] = set()
        self._since_update: Counter[int] = Counter()
        self._in_scaler = 0

    def note(self, what: str) -> None:
        """Count something for every claim whose line is on the stack."""
        for number in self.here():
            self.facts[number][what] += 1

    def watch(self) -> None:
        """Hook into clipping and scaling. For the rest of the process."""
        utils = torch.nn.utils
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            setattr(utils, name, self._clipping(getattr(utils, name)))
        import torch.nn.utils.clip_grad as clipping

        for name in ("clip_grad_norm_", "clip_grad_value_"):
            setattr(clipping, name, getattr(utils, name))
        from torch.amp import GradScaler

        scaler_class: Any = GradScaler
        initialise, scale, unscale = scaler_class.__init__, scaler_class.scale, scaler_class.unscale_
        step, update = scaler_class.step, scaler_class.update
        log = self

        @functools.wraps(initialise)
        def __init__(scaler: Any, *args: Any, **kwargs: Any) -> None:
            initialise(scaler, *args, **kwargs)
            asked = kwargs.get("enabled", args[5] if len(args) > 5 else True)
            log.scalers[id(scaler)] = bool(asked)

        @functools.wraps(scale)
        def scaled(scaler: Any, outputs: Any) -> Any:
            result = scale(scaler, outputs)
            if log.scalers.get(id(scaler), True):
                log._scaled_losses += [result] if isinstance(result, torch.Tensor) else list(result)
            return result

        @functools.wraps(unscale)
        def unscaled(scaler: Any, optimizer: Any) -> None:
            unscale(scaler, optimizer)
            log.scaled &= ~log._of(optimizer)

        @functools.wraps(step)
        def stepped(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            if log.scalers.get(id(scaler), True):
                log._scaler_steps(scaler, optimizer)
            log._in_scaler += 1
            try:
                return step(scaler, optimizer, *args, **kwargs)
            finally:
                log._in_scaler -= 1

        @functools.wraps(update)
        def updated(scaler: Any, *args: Any, **kwargs: Any) -> None:
            log.updates += 1
            log._since_update.pop(id(scaler), None)
            update(scaler, *args, **kwargs)

        scaler_class.__init__ = __init__
        scaler_class.scale = scaled
        scaler_class.unscale_ = unscaled
        scaler_class.step = stepped
        scaler_class.update = updated

    def _of(self, optimizer: Any) -> int:
        return self.mask(tensor for group in optimizer.param_groups for tensor in group["params"])

    def _scaler_steps(self, scaler: Any, optimizer: Any) -> None:
        mine = self._of(optimizer)
        if self.fresh & mine and not self.scaled & mine:
            for number in self._unscaled_at:
                self.facts[number]["scaler steps with gradients that were not scaled"] += 1
        if self._since_update[id(scaler)]:
            self.note("scaler steps again without an update")
        self._since_update[id(scaler)] += 1
        self.scaled &= ~mine

    def _clipping(self, original: Any) -> Any:
        @functools.wraps(original)
        def clip(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            given = [parameters] if isinstance(parameters, torch.Tensor) else list(parameters)
            mine = self.mask(given)
            self.note("clipped")
            if not mine & self.fresh:
                self.note("clipped nothing fresh")
            if mine & self.scaled:
                self.note("clipped scaled")
            return original(given, *args, **kwargs)

        return clip

    # Told by the recorder --------------------------------------------------------------------------------------------

    def backward(self, losses: Iterable[Any], got: int, before: dict[int, Any], holders: Iterable[Any]) -> None:
        """A backward computed gradients for the leaves ``got``; ``before``: what was there, as ``used`` has it."""
        scaled = any(loss is other for loss in losses for other in self._scaled_losses)
        self._scaled_losses.clear()
        stale = sum(1 << number for number, old in self.used.items() if got >> number & 1 and before.get(number) == old)
        if stale:
            for optimizer in holders:
                if self._of(optimizer) & stale:
                    self.accumulated[id(optimizer)] += 1
        if got & self.fresh:
            divided = all(type(loss.grad_fn).__name__ in ("DivBackward0", "MulBackward0") for loss in losses)
            self.note("backward adds to fresh gradients" + (" of a divided loss" if divided else ""))
        self.fresh |= got
        if scaled:
            self.scaled |= got
        else:
            self.scaled &= ~got
            self._unscaled_at |= self.here()
        self.note("backward")
        for number in bits(got):
            self.used.pop(number, None)

    def zero_grad(self, tensors: Iterable[Any]) -> None:
        """The gradients of some tensors are about to be cleared."""
        mine = self.mask(tensors)
        if self.fresh & mine and (numbers := self.here()):
            self._dropped.append((mine, numbers))
        self.fresh &= ~mine
        self.scaled &= ~mine
        self._clear_leaked(mine)

    def _clear_leaked(self, mine: int) -> None:
        for number, leaves in self.leaked.items():
            self.leaked[number] = leaves & ~mine

    def before_step(self, optimizer: Any, present: int) -> None:
        """An optimizer is about to step; ``present``: the leaves among its own that have a gradient."""
        mine = self._of(optimizer)
        self.fresh &= ~(mine & ~present)
        for number, leaves in self.leaked.items():
            if leaves & mine & present:
                self.facts[number]["stepped with leaked gradients"] += 1
        numbers = self.here()
        for number in numbers:
            self.optimizers[number][id(optimizer)] = optimizer
            self.facts[number]["stepped"] += 1
            if not self.fresh & mine:
                self.facts[number]["stepped without fresh gradients"] += 1
            if self.scaled & mine and not self._in_scaler:
                self.facts[number]["stepped with scaled gradients"] += 1
        if not self.fresh & mine:
            for dropped, guilty in self._dropped:
                if dropped & mine:
                    for number in guilty:
                        self.facts[number]["step found nothing"] += 1

    def after_step(self, optimizer: Any, versions: dict[int, Any]) -> None:
        """An optimizer stepped; ``versions``: the gradients that it used, by leaf."""
        mine = self._of(optimizer)
        self.fresh &= ~mine
        self.used.update(versions)
        self._dropped = [(dropped, guilty) for dropped, guilty in self._dropped if not dropped & mine]
