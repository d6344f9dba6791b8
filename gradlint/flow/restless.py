"""Frozen networks that do not stand still: dropout goes on dropping, and buffers are written in ``forward``."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

from gradlint.core import Confidence, Step
from gradlint.flow import facts
from gradlint.flow.heap import Obj, source_sort
from gradlint.flow.lattice import Site, Value

if TYPE_CHECKING:
    from gradlint.flow.run import Run
    from gradlint.flow.verdicts import Judgement
    from gradlint.flow.watch import Path, Root

# Names that say that units are to be dropped whatever the mode.
ON_PURPOSE = re.compile(
    r"(?:\b|_)mc(?:\b|_)|mc_?drop|monte|bayes|uncert|stochastic|noisy|perturb|self_?train|pseudo|mean_?teacher|ensembl", re.I
)
# Methods that put something else in place of what was there.
FILLS = frozenset(
    "copy_ fill_ zero_ normal_ uniform_ set_ resize_ requires_grad_ detach_ share_memory_ bernoulli_ random_".split()
)


class Dropping(NamedTuple):
    """A layer that drops units in a frozen network."""

    layer: Obj
    network: Obj
    path: Path


class Using(NamedTuple):
    """A network that runs without gradient and drops units."""

    site: Site
    network: Obj
    layers: tuple[Obj, ...]
    path: Path


class Writing(NamedTuple):
    """A buffer of a frozen module that ``forward`` updates."""

    site: Site
    buffer: str
    module: Obj
    network: Obj
    freeze: Site
    path: Path


class Restless:
    """What one run observes of them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.dropping: dict[int, Dropping] = {}
        self.writing: dict[int, Writing] = {}
        self.using: dict[int, Using] = {}
        self.dropped: dict[int, tuple[Dropping, Root]] = {}
        self.used: dict[int, tuple[Using, Root]] = {}
        self.written: dict[int, tuple[Writing, Root]] = {}

    # -- dropout -------------------------------------------------------------------------------------------------------

    def drops(self, layer: Obj, inputs: list[Value]) -> None:
        """A dropout layer runs."""
        from gradlint.flow import modules
        from gradlint.flow.modules import frozen, mode_of

        if (
            layer.attrs.get("%inert")
            or (layer.attrs.get("%open_rate") and not layer.attrs.get("%rates"))
            or mode_of(layer) != "train"
        ):
            return
        if layer.attrs.get("%reset_at") is not None:
            return  # that its eval mode was undone is a fault of its own kind
        if any(value.opaque or any(frozen(source) is not True for source in value.live) for value in inputs):
            return  # gradient goes through, to something that trains
        network = self._frozen_network(layer)
        if network is not None and len({entry.owner for entry in modules.parameters(self.run, network)}) > 1:
            self.dropping.setdefault(id(layer), Dropping(layer, network, self.run.watch.here()))

    def has_rate(self, layer: Obj) -> bool:
        """Whether a layer, or one that it was made from, was told to drop units."""
        from gradlint.flow import modules

        known = layer.attrs.get("%rates")
        if known is None:
            known = layer.attrs["%rates"] = any(part.attrs.get("%rate") for _, part in modules.walk(self.run, layer))
        return bool(known)

    def evaluated(self, network: Obj, random: set[Obj], node: ast.AST) -> None:
        """A module ran without gradient; ``random``: the layers in it that did what they do in training."""
        layers = tuple(
            layer
            for layer in source_sort(random)
            if layer.kind == "library"
            and layer.row is not None
            and (self.has_rate(layer) if layer.row.get("parameters") else layer.row.get("dropout") is True)
            and layer.attrs.get("%mode") is None
            and (not layer.attrs.get("%open_rate") or layer.attrs.get("%rates"))
        )
        if layers:
            site, path = self.run.site(node), self.run.watch.here()
            self.using.setdefault(id(node), Using(site, network, layers, path))

    def _frozen_network(self, part: Obj) -> Obj | None:
        """The largest module around a part that is frozen as a whole; None where it is a piece of a stack that trains."""
        from gradlint.flow import modules

        found: Obj | None = None
        here = part
        own = {entry.owner for entry in modules.parameters(self.run, part)}
        if own:
            if not all(modules.frozen(owner) is True for owner in own):
                return None
            found = part
        for _ in range(30):
            if here.owner is None or not modules.is_module(self.run, here.owner[0]):
                break
            here = here.owner[0]
            owners = {entry.owner for entry in modules.parameters(self.run, here)}
            if owners and not all(modules.frozen(owner) is True for owner in owners):
                piece = "%items" in here.attrs or here.kind in ("list", "tuple", "dict")
                return None if piece else found
            if owners:
                found = here
        return found

    # -- buffers -------------------------------------------------------------------------------------------------------

    def registered(self, module: Obj, name: str) -> None:
        """A module registers a buffer."""
        module.attrs["%buffers"] = module.attrs.get("%buffers", frozenset()) | {name}

    def stored(self, module: Obj, name: str, value: Value, node: ast.AST, *, augmented: bool) -> None:
        """An attribute of a module gets a new value."""
        if name not in module.attrs.get("%buffers", ()) or not isinstance(node, ast.Assign | ast.AugAssign):
            return
        source = node.value
        reads = any(isinstance(part, ast.Attribute) and part.attr == name for part in ast.walk(source))
        if (augmented or reads) and not isinstance(source, ast.Constant) and not value.is_const and not _counts(source, name):
            self._writes(module, name, node)

    def mutated(self, node: ast.Call) -> None:
        """A method whose name says that it works in place is called."""
        from gradlint.flow.expressions import evaluate

        target: ast.expr = node
        moves = False
        while True:
            if isinstance(target, ast.Call) and isinstance(target.func, ast.Attribute):
                name = target.func.attr
                if not name.endswith("_") or name.startswith("_"):
                    return
                if name not in FILLS and any(not isinstance(given, ast.Constant) for given in target.args):
                    moves = moves or not all(_plain(given) for given in target.args)
                target = target.func.value
            elif isinstance(target, ast.Attribute) and target.attr == "data":
                target = target.value
            else:
                break
        if not moves or not isinstance(target, ast.Attribute) or not isinstance(target.value, ast.Name):
            return
        for item in evaluate(self.run, target.value).refs:
            if isinstance(item, Obj) and target.attr in item.attrs.get("%buffers", ()):
                self._writes(item, target.attr, node)

    def _writes(self, module: Obj, name: str, node: ast.AST) -> None:
        from gradlint.flow import modules
        from gradlint.flow.watch import Note

        run = self.run
        if not run.watch.inside_forward or self._guarded(module, node):
            return
        network: Obj | None = module
        owners = {entry.owner for entry in modules.parameters(run, module)}
        for _ in range(30):
            if owners or network is None or network.owner is None:
                break
            network = network.owner[0] if modules.is_module(run, network.owner[0]) else None
            owners = {entry.owner for entry in modules.parameters(run, network)} if network is not None else set()
        if network is None or not owners or not all(modules.frozen(owner) is True for owner in owners):
            return
        note = next((owner.attrs["%froze_at"] for owner in owners if isinstance(owner.attrs.get("%froze_at"), Note)), None)
        if note is not None:
            site = run.site(node)
            self.writing.setdefault(id(node), Writing(site, f"self.{name}", module, network, note.site, run.watch.here()))

    def _guarded(self, module: Obj, node: ast.AST) -> bool:
        """Whether the class knows about modes, or the write stands under a condition."""
        frame = self.run.frame
        if module.cls is None or frame.info is None:
            return True
        lines = "\n".join(module.cls.file.lines[module.cls.node.lineno - 1 : module.cls.node.end_lineno])
        if ".training" in lines:
            return True
        return any(
            isinstance(part, ast.If) and any(inner is node for inner in ast.walk(part)) for part in ast.walk(frame.info.node)
        )

    # -- back-propagation ----------------------------------------------------------------------------------------------

    def backward(self, root: Root) -> None:
        """A loss is back-propagated: what it was computed from has been used to train something."""
        from gradlint.flow import modules

        if not self.dropping and not self.writing and not self.using:
            return
        watch = self.run.watch
        used = {s for term in root.value.summands() for s in (*term.live, *(d for d, _ in term.dead))}
        trains = any(root.frozen.get(s) is False for term in root.value.summands() for s in term.live)
        if not trains:
            return
        for key, dropping in list(self.dropping.items()):
            owners = {entry.owner for entry in modules.parameters(self.run, dropping.network)}
            if owners & used and watch.compatible(dropping.path, root.path):
                self.dropped.setdefault(key, (dropping, root))
        for key, writing in list(self.writing.items()):
            owners = {entry.owner for entry in modules.parameters(self.run, writing.network)}
            if owners & used and watch.compatible(writing.path, root.path):
                self.written.setdefault(key, (writing, root))
        for key, using in list(self.using.items()):
            owners = {entry.owner for entry in modules.parameters(self.run, using.network)}
            if owners & used and watch.compatible(using.path, root.path):
                self.used.setdefault(key, (using, root))
        self.dropping, self.writing, self.using = {}, {}, {}

    # -- verdicts ------------------------------------------------------------------------------------------------------

    def judge(self, judgement: Judgement) -> None:
        """What one run says at its end."""
        from gradlint.flow import modules
        from gradlint.flow.verdicts import _is_copy, span_of
        from gradlint.flow.watch import Note

        run = self.run
        told = {fact.span for fact in judgement.facts if isinstance(fact, facts.FrozenNormTraining)}
        by_freeze: dict[int, tuple[Note, Obj, Root, list[Obj]]] = {}
        for dropping, root in self.dropped.values():
            network = dropping.network
            owners = {entry.owner for entry in modules.parameters(run, network)}
            notes = [owner.attrs.get("%froze_at") for owner in owners]
            note = next((note for note in notes if isinstance(note, Note)), None)
            if note is None or owners & run.watch.unfrozen or any(_is_copy(owner, run.watch.copies) for owner in owners):
                continue
            if ON_PURPOSE.search(f"{network.name()} {network.cls.name if network.cls else ''}"):
                continue
            by_freeze.setdefault(id(note.site.node), (note, network, root, []))[3].append(dropping.layer)
        for note, network, root, layers in by_freeze.values():
            where, loss = span_of(note.site), span_of(root.site)
            if where in told:
                continue
            name = _name(network)
            path = (
                Step(loss, "something else trains on what it computes"),
                Step(where, f"`{name}` is frozen here, its parameters only"),
                *(Step(span_of(layer.site), "these units are dropped") for layer in layers[:2] if layer.site is not None),
            )
            names = tuple(dict.fromkeys(layer.name() for layer in layers))
            judgement.facts.append(
                facts.FrozenDropoutTraining(where, Confidence.HIGH, path, form="freeze", module=name, layers=names, loss=loss)
            )
        for using, root in self.used.values():
            fact = self._teacher(using, root)
            if fact is not None:
                judgement.facts.append(fact)
        for writing, root in self.written.values():
            owners = {entry.owner for entry in modules.parameters(run, writing.network)}
            if owners & run.watch.unfrozen or any(_is_copy(owner, run.watch.copies) for owner in owners):
                continue
            where, freeze, loss = span_of(writing.site), span_of(writing.freeze), span_of(root.site)
            name = _name(writing.network)
            path = (
                Step(loss, "something else trains on what it computes"),
                Step(where, f"`{writing.buffer}` is written in each forward"),
                Step(freeze, f"`{name}` is frozen here, its parameters only"),
            )
            judgement.facts.append(
                facts.FrozenBufferUpdated(where, Confidence.HIGH, path, buffer=writing.buffer, module=name, freeze=freeze)
            )

    def _teacher(self, using: Using, root: Root) -> facts.Fact | None:
        """A network that was loaded, that nothing trains, and that runs without gradient as in training."""
        from gradlint.flow import modules
        from gradlint.flow.verdicts import _is_copy, span_of

        run, network = self.run, using.network
        states = [optimizer.attrs["%optimizer"] for optimizer in run.watch.optimizers]
        owners = {entry.owner for entry in modules.parameters(run, network)}
        if not states or any(state.opaque for state in states) or run.watch.opaque_optimizers or run.watch.symbolic:
            return None
        if network not in run.watch.loaded_into or any(_is_copy(owner, run.watch.copies) for owner in owners):
            return None
        if any(run.watch.holds(state, owner) for state in states for owner in owners):
            return None
        if any(modules.frozen(owner) is not False for owner in owners):
            return None  # told where it is frozen
        if ON_PURPOSE.search(f"{network.name()} {network.cls.name if network.cls else ''}"):
            return None
        where, loss, name = span_of(using.site), span_of(root.site), _name(network)
        path = (
            Step(loss, "something else trains on what it computes"),
            Step(where, f"`{name}` runs as in training, without gradient"),
            *(Step(span_of(layer.site), "these units are dropped") for layer in using.layers[:2] if layer.site is not None),
        )
        layers = tuple(dict.fromkeys(layer.name() for layer in using.layers))
        return facts.FrozenDropoutTraining(where, Confidence.HIGH, path, form="use", module=name, layers=layers, loss=loss)


def _name(module: Obj) -> str:
    from gradlint.flow.verdicts import common_holder

    return module.name() or common_holder([module])


def _plain(node: ast.expr) -> bool:
    """Whether an argument is a setting rather than data: a constant, or an attribute of the object."""
    if isinstance(node, ast.UnaryOp | ast.BinOp):
        parts = [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]
        return all(_plain(part) for part in parts)
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    )


def _counts(node: ast.expr, name: str) -> bool:
    """``self.steps + 1``: a count, or a schedule, of itself."""
    if isinstance(node, ast.BinOp):
        return _counts(node.left, name) and _counts(node.right, name)
    return _plain(node)
