"""What the flow analysis knows about places in the source: the only thing rules read.

Every fact names its place with a ``Span`` that equals the position of exactly one syntax node (said per fact), so that a rule
finds the node again in the concrete syntax tree.  ``path`` explains the fact from the loss back to the place.  ``confidence`` is
what the analysis can vouch for; a rule may lower it, never raise it.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradlint.core import Confidence, Span, Step


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact about the syntax node at ``span``."""

    span: Span
    confidence: Confidence
    path: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Severed(Fact):
    """Gradient stops here although something that should train sits behind it.

    ``cut`` is one of ``no-grad``, ``inference-mode``, ``detach``, ``data``, ``python``, ``nondifferentiable``.
    ``span``: the call (detach, item, float, argmax, …), the attribute access (``x.data``), the comparison or binary operation,
    the ``with`` statement (from ``with`` to the end of its header's last item), or the decorator's expression (without ``@``).
    ``construct`` says which: ``call``, ``attribute``, ``operator``, ``with``, ``decorator``.
    ``api``: what cuts, in the words of the source (``.detach()``, ``torch.argmax``, ``>``, ``@torch.no_grad()``).
    ``starved``: dotted names of the modules or parameters that get no gradient.
    ``scope``: ``loss`` (the whole loss is severed), ``term`` (one summand is), ``module`` (the loss lives but a module starves).
    ``loss``: where backward is called or the loss is returned to a framework.
    ``differentiable``: the name of a differentiable replacement method, if the library has one (``rsample``).
    """

    cut: str
    construct: str
    api: str
    starved: tuple[str, ...]
    scope: str
    loss: Span
    differentiable: str = ""


@dataclass(frozen=True, slots=True)
class DeviceRoundTrip(Fact):
    """A live tensor moves to the CPU and goes on to the loss. ``span``: the call. ``api``: ``.cpu()``, ``.to("cpu")``."""

    api: str
    loss: Span


@dataclass(frozen=True, slots=True)
class Revived(Fact):
    """A severed value is made a leaf again and then back-propagated.

    ``span``: the call (``loss.requires_grad_()``, ``torch.tensor(…, requires_grad=True)``) or the assignment statement
    ``loss.requires_grad = True``.  ``starved``: what gets no gradient.  ``cut``: where the graph was really cut (it may be ``span``).
    """

    starved: tuple[str, ...]
    cut: Span
    loss: Span


@dataclass(frozen=True, slots=True)
class BackwardDisabled(Fact):
    """A loss is computed, or ``backward`` runs, with gradient switched off.

    ``span``: the ``with`` statement header or the decorator, as in ``Severed``; ``construct`` likewise.  ``backward``: the call.
    """

    construct: str
    api: str
    backward: Span


@dataclass(frozen=True, slots=True)
class FrozenAfterOptimizer(Fact):
    """Parameters that an optimizer already holds are frozen, and the optimizer steps afterwards.

    ``span``: the freezing expression or assignment statement.  ``optimizer``: where it was built.  ``parts``: what is frozen.
    ``moves``: the frozen part can still be moved (momentum, weight decay, a gradient that is still there).
    ``step``: where the optimizer steps afterwards.
    """

    optimizer: Span
    step: Span
    parts: tuple[str, ...]
    moves: bool


@dataclass(frozen=True, slots=True)
class UnfrozenAfterOptimizer(Fact):
    """Parameters are unfrozen after an optimizer without them was built. ``span``: the unfreezing expression or assignment."""

    optimizer: Span
    step: Span
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReplacedAfterOptimizer(Fact):
    """A submodule or parameter is replaced or added after the optimizer took the parameters.

    ``span``: the assignment statement or the call.  ``parts``: the dotted name of what changed.
    """

    optimizer: Span
    step: Span
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModuleFlagAssigned(Fact):
    """``module.requires_grad = …`` on a module: a plain attribute. ``span``: the assignment. ``value``: the assigned bool or None."""

    module: str
    value: bool | None


@dataclass(frozen=True, slots=True)
class MisspelledGradAttribute(Fact):
    """A gradient attribute that does not exist, or the method ``requires_grad_`` assigned to, or ``==`` for ``=``.

    ``span``: the whole statement.  ``written``: what stands there.  ``right``: the attribute that is meant.
    ``form``: ``attribute`` (wrong name), ``method`` (``x.requires_grad_ = False``), ``comparison`` (``x.requires_grad == False``).
    ``on_module``: the receiver is a module (then the right spelling is the call ``.requires_grad_(…)``).
    """

    written: str
    right: str
    form: str
    on_module: bool


@dataclass(frozen=True, slots=True)
class UncalledMethod(Fact):
    """``model.eval`` as a statement. ``span``: the attribute expression. ``receiver``: module, optimizer, tensor, scheduler, unknown."""

    receiver: str
    method: str


@dataclass(frozen=True, slots=True)
class FrozenNormTraining(Fact):
    """A frozen module has (or may have) running statistics and runs in train mode while something else trains.

    ``span``: the freezing expression or assignment statement.  ``module``: its name.  ``norms``: the layers known to drift.
    ``certain``: the layers are known, not inferred from a factory.
    """

    module: str
    norms: tuple[str, ...]
    certain: bool


@dataclass(frozen=True, slots=True)
class FrozenModeReset(Fact):
    """A frozen part is put into eval mode, then a ``train()`` on a parent puts it back. ``span``: the eval call."""

    module: str
    train: Span


FACTS: tuple[type[Fact], ...] = (
    Severed,
    DeviceRoundTrip,
    Revived,
    BackwardDisabled,
    FrozenAfterOptimizer,
    UnfrozenAfterOptimizer,
    ReplacedAfterOptimizer,
    ModuleFlagAssigned,
    MisspelledGradAttribute,
    UncalledMethod,
    FrozenNormTraining,
    FrozenModeReset,
)
