"""What the flow analysis knows about places in the source: the only thing rules read.

Every fact names its place with a ``Span`` that equals the position of exactly one syntax node (said per fact), so that a rule
finds the node again in the concrete syntax tree.  ``path`` explains the fact from the loss back to the place.  ``confidence``
is what the analysis can vouch for; a rule may lower it, never raise it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, dataclass_transform

from gradlint.core import Confidence, Span, Step


@dataclass_transform(frozen_default=True)
@dataclass(frozen=True, init=False, repr=False, eq=False)
class Fact:
    """A fact about the syntax node at ``span``. Subclasses are dataclasses to those who read and use them.

    They share what ``dataclass`` would write for each: there are many, and it takes longer than checking a small file does.
    ``fields``: the fields of a fact, in order.
    """

    fields: ClassVar[tuple[str, ...]] = ("span", "confidence", "path")

    span: Span
    confidence: Confidence
    path: tuple[Step, ...]

    def __init_subclass__(cls) -> None:
        own = (name for name in cls.__annotations__ if name not in cls.fields)
        cls.fields = (*cls.fields, *own)

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self.fields, values, strict=False)) | named
        if len(values) > len(self.fields) or len(given) < len(values) + len(named) or not given.keys() <= set(self.fields):
            raise TypeError(f"{type(self).__name__} takes {', '.join(self.fields)}, each once")
        for name in self.fields:
            if name in given:
                object.__setattr__(self, name, given[name])
            elif not hasattr(type(self), name):  # a default is an attribute of the class
                raise TypeError(f"{type(self).__name__} lacks {name}")

    def values(self) -> tuple[Any, ...]:
        """The values of the fields, in order."""
        return tuple(getattr(self, name) for name in self.fields)

    def replaced(self, **changes: Any) -> Self:
        """The same fact with other values for some fields."""
        return type(self)(**(dict(zip(self.fields, self.values(), strict=True)) | changes))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Fact) and other.values() == self.values()

    def __hash__(self) -> int:
        return hash(self.values())

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(self.fields, self.values(), strict=True))
        return f"{type(self).__name__}({shown})"


class Severed(Fact):
    """Gradient stops here although something that should train sits behind it.

    ``cut`` is one of ``no-grad``, ``inference-mode``, ``detach``, ``data``, ``python``, ``nondifferentiable``.
    ``span``: the call (detach, item, float, argmax, …), the attribute access (``x.data``), the comparison or binary operation,
    the ``with`` statement (from ``with`` to the end of its header's last item), or the decorator's expression (without ``@``).
    ``construct`` says which: ``call``, ``attribute``, ``operator``, ``with``, ``decorator``.
    ``api``: what cuts, in the words of the source (``.detach()``, ``torch.argmax``, ``>``, ``@torch.no_grad()``).
    ``starved``: dotted names of the modules or parameters that get no gradient.
    ``scope``: ``loss`` (the whole loss is severed), ``term`` (one summand is), ``module`` (the loss lives, a module starves).
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


class DeviceRoundTrip(Fact):
    """A live tensor moves to the CPU and goes on to the loss. ``span``: the call. ``api``: ``.cpu()``, ``.to("cpu")``."""

    api: str
    loss: Span


class Revived(Fact):
    """A severed value is made a leaf again and then back-propagated.

    ``span``: the call (``loss.requires_grad_()``, ``torch.tensor(…, requires_grad=True)``) or the assignment statement
    ``loss.requires_grad = True``.  ``starved``: what gets no gradient.  ``cut``: where the graph was really cut, which may be
    ``span``.
    """

    starved: tuple[str, ...]
    cut: Span
    loss: Span


class BackwardDisabled(Fact):
    """A loss is computed, or ``backward`` runs, with gradient switched off.

    ``span``: the ``with`` statement header or the decorator, as in ``Severed``; ``construct`` likewise.
    ``backward``: the call.
    """

    construct: str
    api: str
    backward: Span


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


class UnfrozenAfterOptimizer(Fact):
    """Parameters are unfrozen after an optimizer without them was built. ``span``: the unfreezing expression or assignment."""

    optimizer: Span
    step: Span
    parts: tuple[str, ...]


class ReplacedAfterOptimizer(Fact):
    """A submodule or parameter is replaced or added after the optimizer took the parameters.

    ``span``: the assignment statement or the call.  ``parts``: the dotted name of what changed.
    """

    optimizer: Span
    step: Span
    parts: tuple[str, ...]


class ModuleFlagAssigned(Fact):
    """``module.requires_grad = …`` on a module: a plain attribute.

    ``span``: the assignment.  ``value``: the assigned bool or None.
    """

    module: str
    value: bool | None


class MisspelledGradAttribute(Fact):
    """A gradient attribute that does not exist, or the method ``requires_grad_`` assigned to, or ``==`` for ``=``.

    ``span``: the whole statement.  ``written``: what stands there.  ``right``: the attribute that is meant.
    ``form``: ``attribute`` (wrong name), ``method`` (``x.requires_grad_ = False``), ``comparison``
    (``x.requires_grad == False``).
    ``on_module``: the receiver is a module (then the right spelling is the call ``.requires_grad_(…)``).
    """

    written: str
    right: str
    form: str
    on_module: bool


class UncalledMethod(Fact):
    """``model.eval`` as a statement.

    ``span``: the attribute expression.  ``receiver``: module, optimizer, tensor, scheduler, unknown.
    """

    receiver: str
    method: str


class FrozenNormTraining(Fact):
    """A frozen module has (or may have) running statistics and runs in train mode while something else trains.

    ``span``: the freezing expression or assignment statement.  ``module``: its name.  ``norms``: the layers known to drift.
    ``certain``: the layers are known, not inferred from a factory.
    """

    module: str
    norms: tuple[str, ...]
    certain: bool


class FrozenModeReset(Fact):
    """A frozen part is put into eval mode, then a ``train()`` on a parent puts it back. ``span``: the eval call."""

    module: str
    train: Span


class GradientNotCleared(Fact):
    """A step in a loop uses the gradients of all turns before.

    ``span``: the step's call.  ``backward``: the call that adds to them.
    """

    optimizer: str
    backward: Span


class ZeroGradBeforeStep(Fact):
    """Gradients are cleared between backward and the step that should use them.

    ``span``: the call (or assignment) that clears.
    """

    optimizer: str
    backward: Span
    step: Span


class StepBeforeBackward(Fact):
    """In each turn of a loop the step comes before the gradient is computed. ``span``: the step's call."""

    optimizer: str
    backward: Span


class WrongOptimizerStep(Fact):
    """A loss is back-propagated, and an optimizer steps that holds nothing the loss reaches; the one that does never steps.

    ``span``: the step's call; or, where it was given to a function as the wrong argument, that argument (``argument``).
    ``stepped``, ``meant``: the two optimizers.
    """

    stepped: str
    meant: str
    backward: Span
    argument: str


class ClipMisplaced(Fact):
    """Gradients are clipped ``before`` they are computed or ``after`` the step has used them. ``span``: the clip's call.

    ``other``: the backward, or the step.
    """

    optimizer: str
    when: str
    other: Span


class SchedulerBeforeOptimizer(Fact):
    """A learning-rate scheduler steps in each turn of a loop before its optimizer does. ``span``: the scheduler's call."""

    optimizer: str
    step: Span


class ScalerMisused(Fact):
    """Gradients meet a gradient scaler half-way.

    ``form``: ``step`` (they carry its factor, and the optimizer steps directly; ``span``: that step's call), ``update`` (the
    scaler steps and is never updated; ``span``: its step's call) or ``backward`` (the scaler steps, the loss was not scaled;
    ``span``: the backward's call).  ``scaler``: its name.
    """

    optimizer: str
    form: str
    backward: Span
    scaler: str


class ScaledClip(Fact):
    """Gradients are clipped with a scaler's factor still in them.

    ``span``: the clip's call.  ``step``: the scaler's step.  ``scaler``: its name.
    """

    optimizer: str
    step: Span
    scaler: str


class MissedByOptimizer(Fact):
    """What a loss gives gradient to is in no optimizer, although it should train. ``span``: the call that builds the optimizer.

    ``parts``: the modules or parameters that are left out.  ``copied``: the optimizer holds a copy of them instead.
    """

    parts: tuple[str, ...]
    loss: Span
    copied: bool


class IteratorExhausted(Fact):
    """An iterator over parameters is used up, and used again. ``span``: the second use, an expression or a call.

    ``first``: the first use.  ``made``: the expression that makes the iterator.  ``again``: both uses are the same place,
    in a loop.
    """

    first: Span
    made: Span
    again: bool


class UnregisteredModule(Fact):
    """Modules are kept where the module that owns them does not register them. ``span``: the assignment statement.

    ``attribute``: the name in the source, ``self.layers``.  ``parts``: what is in it, by class.  ``kept``: ``list``, ``tuple``,
    ``dict``, ``set``, or ``object`` (something that is no module).
    """

    attribute: str
    parts: tuple[str, ...]
    kept: str


class UnregisteredParameter(Fact):
    """A tensor that should train is an attribute of a module and not one of its parameters. ``span``: the assignment statement.

    ``form``: ``tensor`` (it only requires gradient), ``derived`` (the result of an operation on a parameter) or ``container``.
    ``operation``: what was done to the parameter, in the words of the source.
    """

    attribute: str
    form: str
    operation: str


class ModuleMadeInForward(Fact):
    """A layer with parameters is made each time ``function`` runs, and used. ``span``: the call that makes it."""

    module: str
    function: str


class ToggledAfterWrap(Fact):
    """Parameters are frozen or unfrozen after a wrapper has noted which of them train.

    ``span``: as in ``FrozenAfterOptimizer``.
    """

    wrap: Span
    api: str
    parts: tuple[str, ...]
    trains: bool
    loss: Span


class SharedParameterFrozen(Fact):
    """One of two layers that share a parameter is frozen, and so is the other. ``span``: as in ``FrozenAfterOptimizer``.

    ``part``: the frozen layer.  ``other``: the one that is frozen with it.  ``tie``: where they were tied.
    """

    part: str
    other: str
    tie: Span


class UnusedUnderWrap(Fact):
    """Parameters of a wrapped module get no gradient, and the wrapper waits for it. ``span``: the call that wraps.

    ``parts``: which.  ``skipped``: they are used in some iterations only.
    """

    api: str
    parts: tuple[str, ...]
    skipped: bool
    loss: Span


class ModeNotRestored(Fact):
    """A module is put into eval mode in a training loop and trains on in it.

    ``span``: the eval call.  ``backward``: the next one.
    """

    module: str
    backward: Span


class EvalMissing(Fact):
    """A module is evaluated without gradient and in train mode. ``span``: the call of the module.

    ``layers``: those that act otherwise in training.  ``region``: what switches gradient off.
    """

    module: str
    layers: tuple[str, ...]
    region: Span


class DropoutIgnoresMode(Fact):
    """Dropout acts whatever the mode of the module around it. ``span``: the call.

    ``form``: ``function`` (a function that is not told), ``always`` (it is told to), ``rate`` (a rate that ignores the mode) or
    ``layer`` (a layer made where it is used).  ``switch``: the argument that tells the function.
    """

    form: str
    switch: str


class GradDisabled(Fact):
    """Gradient is switched off by a statement, stays off, and a loss is computed after it. ``span``: the call."""

    api: str
    backward: Span


class NoGradWithoutEffect(Fact):
    """A stretch without gradient that is never entered. ``span``: the call or the name.

    ``form``: ``dropped`` (called and thrown away), ``named`` (not even called) or ``uncalled`` (``with torch.no_grad:``).
    """

    form: str


class DoubleSoftmax(Fact):
    """Scores are normalised before a loss that does so itself.

    ``span``: the inner call, or the loss where the inner one is in another function.  ``squash``: ``softmax`` or ``sigmoid``.
    """

    squash: str
    inner: Span
    loss: Span


class GraphRetained(Fact):
    """The graph of a loss is kept in a loop and nothing uses it again. ``span``: the backward's call."""

    carried: bool


class AccumulationNotScaled(Fact):
    """Gradients of several batches are summed for one step, of a loss that is a mean.

    ``span``: the backward.  ``every``: how many.
    """

    every: str
    step: Span


class GraphKept(Fact):
    """A value that has a graph is added to a total or collected, outlives its iteration, and is never back-propagated.

    ``span``: the statement that adds, or the call that collects.  ``backward``: the back-propagation of the same iteration.
    """

    backward: Span


class StateCarried(Fact):
    """A value is carried into the next iteration with a graph that backward has gone through. ``span``: the assignment.

    ``name``: what carries it.
    """

    name: str
    backward: Span


class ContractBroken(Fact):
    """A contract of the settings is not kept. ``span``: what cuts the part off, or else the back-propagation.

    ``module``: the contract's module.  ``word``: ``trains`` or ``frozen``, and ``part`` what it says that of.  ``how``:
    ``cut``, ``frozen``, ``no optimizer`` or ``trained``.  ``parts``: what is concerned, as the code names it.
    """

    module: str
    word: str
    part: str
    how: str
    parts: tuple[str, ...]
    loss: Span

    def with_parts(self, parts: tuple[str, ...]) -> ContractBroken:
        """The same of more parts."""
        return self.replaced(parts=parts)


class ResultDropped(Fact):
    """A method that leaves a tensor as it is stands as a statement, and what it returns is thrown away.

    ``span``: the call; of a method that is only named, the attribute.  ``method``: its name.
    ``form``: ``detach``, ``move`` (a new tensor elsewhere or of another kind) or ``uncalled``.
    ``each``: what it is called on is the variable of a loop, so that assigning it would not help either.
    """

    method: str
    form: str
    each: bool


class LeafRebound(Fact):
    """A name is given a computed tensor where the program goes on to treat it as a leaf. ``span``: the assignment statement.

    ``name``: the name.  ``form``: ``update`` (computed from its own gradient), ``replaced`` (computed from the leaf that it
    held), ``derived`` (computed from a leaf made in the same expression), ``listed`` (a list of updated tensors takes the place
    of the list of leaves) or ``lost`` (an update that nobody reads).
    ``used``: what shows that a leaf is meant, ``grad``, ``optimizer`` or ``loss``; ``use``: where.
    ``off``: gradient is switched off there.  ``cleared``: the program clears the gradient of that name.
    """

    name: str
    form: str
    used: str
    use: Span
    off: bool
    cleared: bool


class InferenceTensorUsed(Fact):
    """Something made in inference mode is used where autograd records.

    ``span``: the use, an expression; where parameters were made in inference mode, the region, as in ``Severed``.
    ``parts``: those parameters, by name.  ``region``: what switched to inference mode, ``api`` in the words of the source.
    ``use``: the operation that saves the tensor, or the back-propagation that reaches the parameters.
    """

    parts: tuple[str, ...]
    region: Span
    api: str
    construct: str
    use: Span


class CheckpointSevered(Fact):
    """A reentrant checkpoint is given inputs none of which requires gradient. ``span``: the call.

    ``parts``: what gets no gradient.  ``switch``: the argument that chooses the implementation.
    """

    parts: tuple[str, ...]
    switch: str
    loss: Span


class FrozenDropoutTraining(Fact):
    """A frozen network drops units while something else trains on what it computes.

    ``form``: ``freeze`` (``span``: the freezing expression or assignment statement) or ``use`` (it was loaded, is in no
    optimizer and runs without gradient; ``span``: its call).  ``module``: its name.  ``layers``: what drops.
    """

    form: str
    module: str
    layers: tuple[str, ...]
    loss: Span


class FrozenBufferUpdated(Fact):
    """The forward of a frozen module goes on updating a buffer. ``span``: the statement, or the call that changes it in place.

    ``buffer``: the attribute as the source spells it.  ``module``: the frozen module.  ``freeze``: where it was frozen.
    """

    buffer: str
    module: str
    freeze: Span


class TargetNotDetached(Fact):
    """A loss also pulls the target that it compares with towards the prediction. ``span``: the expression of the target.

    ``form``: ``bootstrap`` (a reward and the discounted value of what follows) or ``teacher`` (the output of another network).
    ``parts``: the networks that the target comes from.
    """

    form: str
    parts: tuple[str, ...]
    loss: Span


class GeneratorNotDetached(Fact):
    """The step of one network back-propagates into another that made its input, and that gradient, or the graph, is used again.

    ``span``: the call of the network on what the other made.  ``argument``: which argument that is, where it can be detached.
    ``form``: ``gradient`` (it is still there when the other's optimizer steps), ``graph`` (the graph is gone when the other's
    own loss needs it) or ``freed`` (it was gone already, that loss came first).  ``network``, ``made_by``: the two networks.
    ``backward``: the back-propagation that goes too far.
    ``other``: the step, or the back-propagation, that meets what it left.
    """

    argument: str
    form: str
    network: str
    made_by: str
    backward: Span
    other: Span


class LeafChanged(Fact):
    """A leaf that requires gradient is changed in place where autograd records. ``span``: the assignment statement or the call.

    ``leaf``: what is changed, in the words of the source.  ``api``: how (``-=``, ``.mul_()``, ``[…] =``).
    """

    leaf: str
    api: str


class SavedChanged(Fact):
    """A result that its operation keeps for the backward is changed in place. ``span``: the assignment statement or the call.

    ``api``: how it is changed.  ``made``: the operation that keeps it, and ``by`` what it is called.
    """

    api: str
    made: Span
    by: str
    backward: Span


class GradientCount(Fact):
    """The ``backward`` of a custom function returns fewer gradients than its ``forward`` takes arguments.

    ``span``: the return statement.  ``function``: its class.  ``returned``, ``wanted``: how many.
    """

    function: str
    returned: int
    wanted: int
    forward: Span


class FunctionMisused(Fact):
    """A custom autograd function is used in a way that autograd does not see.

    ``form``: ``direct`` (``Scale.forward(…)`` is called; ``span``: the call), ``instance`` (one is made and called; ``span``:
    the call that makes it), ``method`` (``forward`` is not static; ``span``: its name), ``result`` (``forward`` keeps its own
    output on the context) or ``between`` (something it computed, in a program that differentiates twice; ``span`` of both:
    the assignment).  ``function``: the class.  ``name``: what is kept, ``ctx.gate``.
    """

    form: str
    function: str
    name: str


class HookClosure(Fact):
    """A hook made in a loop looks up variables of the loop when it runs. ``span``: the lambda, or the name of the function.

    ``names``: those variables.  ``api``: what registers it.
    """

    names: tuple[str, ...]
    api: str


class HookCutsGraph(Fact):
    """What a forward hook returns in place of a module's output is cut off from it.

    ``span``: the return statement, or the body of the lambda.  ``api``: what cuts, ``cut``: where.  ``starved``, ``scope``,
    ``loss``: as in ``Severed``; ``scope`` may be ``kept``: the hook keeps it for a layer that also gets what it was cut off
    from (``span``: the call that has the hook registered from another file, or what cuts).
    """

    api: str
    cut: Span
    starved: tuple[str, ...]
    scope: str
    loss: Span


class DerivativeWithoutGraph(Fact):
    """A derivative that a loss is computed from has no graph of its own. ``span``: the call that computes it.

    ``api``: what it is called.  ``starved``, ``scope``, ``loss``: as in ``Severed``.
    """

    api: str
    starved: tuple[str, ...]
    scope: str
    loss: Span


class HookMaskType(Fact):
    """A gradient hook multiplies by a tensor of another type than the gradient has. ``span``: that tensor, in the hook.

    ``mask``: what it is called.  ``gradient``: the name of the gradient in the hook.  ``kept``: the type of the tensor.
    """

    mask: str
    gradient: str
    kept: str
    tensor: Span


FACTS: tuple[type[Fact], ...] = (
    ContractBroken,
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
    GradientNotCleared,
    ZeroGradBeforeStep,
    StepBeforeBackward,
    WrongOptimizerStep,
    ClipMisplaced,
    SchedulerBeforeOptimizer,
    ScalerMisused,
    ScaledClip,
    ModeNotRestored,
    EvalMissing,
    DropoutIgnoresMode,
    GradDisabled,
    NoGradWithoutEffect,
    DoubleSoftmax,
    GraphRetained,
    AccumulationNotScaled,
    MissedByOptimizer,
    IteratorExhausted,
    UnregisteredModule,
    UnregisteredParameter,
    ModuleMadeInForward,
    ToggledAfterWrap,
    SharedParameterFrozen,
    UnusedUnderWrap,
    GraphKept,
    StateCarried,
    ResultDropped,
    LeafRebound,
    InferenceTensorUsed,
    CheckpointSevered,
    FrozenDropoutTraining,
    FrozenBufferUpdated,
    TargetNotDetached,
    GeneratorNotDetached,
    LeafChanged,
    SavedChanged,
    GradientCount,
    FunctionMisused,
    HookClosure,
    HookCutsGraph,
    DerivativeWithoutGraph,
    HookMaskType,
)
