"""Objects and their attributes, and what makes a module a module: its parts, their freezing, their modes, its forward."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradlint.flow import calls, containers, library
from gradlint.flow.heap import (
    ClassRef,
    DataOf,
    FileRef,
    FunctionRef,
    Items,
    LibRef,
    NameOf,
    Obj,
    Parameter,
    ParamSet,
    SuperRef,
)
from gradlint.flow.hooks import Hook, meet
from gradlint.flow.lattice import (
    CONST,
    FALSE,
    TENSOR,
    TRUE,
    UNKNOWN,
    UNKNOWN_VALUE,
    Trait,
    Value,
    const,
    join,
    ref,
)

if TYPE_CHECKING:
    from gradlint.flow.classes import FunctionInfo
    from gradlint.flow.run import Run

MODULE = "torch.nn.Module"
OPTIMIZER = "torch.optim.Optimizer"
TENSOR_CLASS = "torch.Tensor"


# -- what an object is ---------------------------------------------------------------------------------------------------


def is_module(run: Run, obj: Obj) -> bool:
    """Whether an object is surely an ``nn.Module``."""
    if obj.kind == "library":
        return obj.row is not None and obj.row.effect == "module"
    if obj.kind == "instance" and obj.cls is not None:
        return run.program.is_module_class(run, obj.cls)
    return bool(obj.attrs.get("%module"))


def may_be_module(run: Run, obj: Obj) -> bool:
    """Whether an object is a module or could be one."""
    return obj.kind == "opaque" or is_module(run, obj)


def is_optimizer(run: Run, obj: Obj) -> bool:
    return "%optimizer" in obj.attrs


def library_bases(run: Run, obj: Obj) -> Iterator[str]:
    """The library classes an object inherits from, nearest first."""
    if obj.kind == "library" and obj.row is not None:
        yield obj.row.name
    elif obj.cls is not None:
        for item in run.program.mro(run, obj.cls):
            if isinstance(item, LibRef):
                yield item.name
    if obj.attrs.get("%module") and obj.kind == "opaque":
        yield MODULE


def is_instance(run: Run, item: object, classes: Value) -> bool | None:
    """``isinstance(item, classes)``; None where it is open."""
    options: list[ClassRef | LibRef] = []
    for value in containers.everything(run, classes):
        options.extend(r for r in value.refs if isinstance(r, ClassRef | LibRef))
    if not options:
        return None
    if isinstance(item, ParamSet):
        return None
    if not isinstance(item, Obj):
        return None
    if item.kind == "opaque" or item.kind == "leaf":
        return None
    names = {"list", "tuple", "dict", "set"}
    if item.kind in names:
        return any(isinstance(o, LibRef) and o.name == f"builtins.{item.kind}" for o in options)
    mine: set[object] = set()
    lineage: list[str] = []
    if item.cls is not None:
        for base in run.program.mro(run, item.cls):
            mine.add(base.info if isinstance(base, ClassRef) else base.name)
            if isinstance(base, LibRef):
                lineage.extend(run.program.knowledge.lineage(base.name))
    if item.kind == "library" and item.row is not None:
        lineage.extend(run.program.knowledge.lineage(item.row.name))
    mine.update(lineage)
    if item.kind == "library" or is_module(run, item):
        mine.add(MODULE)
    open_base = item.cls is not None and any(
        isinstance(b, LibRef) and not b.name.startswith(("torch.", "builtins.")) for b in run.program.mro(run, item.cls)
    )
    for option in options:
        wanted = option.info if isinstance(option, ClassRef) else run.program.knowledge.canonical(option.name)
        if wanted in mine:
            return True
        if (
            isinstance(wanted, str)
            and "_BatchNorm" in wanted
            and item.row is not None
            and item.row.get("norm") in ("batch", "sync")
        ):
            return True
    return None if open_base else False


# -- attributes ----------------------------------------------------------------------------------------------------------


def child(run: Run, obj: Obj, name: str | Value, node: ast.AST) -> Value:
    """A part of an object that the analysis cannot see into, the same each time it is asked for."""
    if isinstance(name, Value):
        name = str(name.const) if name.is_const and isinstance(name.const, str | int) else "?"
    if name == "?" or (obj.kind not in ("opaque", "instance", "library")):
        flow = obj.attrs.get("%flow")
        return flow if isinstance(flow, Value) else Value(UNKNOWN)
    key = f"%child.{name}"
    found = obj.attrs.get(key)
    if found is None:
        part = Obj("opaque", (*obj.key, name), label=name, parent=obj, serial=obj.serial)
        for note in ("%norm", "%pretrained"):
            if note in obj.attrs:
                part.attrs[note] = obj.attrs[note]
        found = obj.attrs[key] = Value(UNKNOWN, refs=(part,), opaque=True)
    return found


def find_method(run: Run, obj: Obj, name: str) -> FunctionInfo | None:
    """A method of the project's classes, along the order of bases."""
    if obj.cls is None:
        return None
    return run.program.find_method(run, obj.cls, name)


def load_attribute(run: Run, value: Value, name: str, node: ast.AST) -> Value:
    """``value.name``."""
    found: Value | None = None
    plain = not value.refs
    for item in value.refs:
        part: Value | None
        if isinstance(item, Obj):
            if item.kind == "leaf":
                plain = True
                continue
            part = _object_attribute(run, item, name, node)
        elif isinstance(item, LibRef):
            part = library.attribute(run, item, name, node)
        elif isinstance(item, FileRef):
            part = run.program.global_value(run, item.file, name)
        elif isinstance(item, ClassRef):
            part = _class_attribute(run, item, name, node)
        elif isinstance(item, SuperRef):
            info = run.program.find_method(run, item.cls, name, after=True, start=_class_of(run, item.receiver))
            part = ref(FunctionRef(info, None, item.receiver)) if info else Value(UNKNOWN)
        elif isinstance(item, ParamSet | DataOf):
            plain = True
            continue
        elif isinstance(item, FunctionRef):
            part = Value(UNKNOWN)
        else:
            part = Value(UNKNOWN)
        if part is not None:
            found = part if found is None else join(found, part)
    if plain or (value.depends and found is None):
        part = library.tensor_attribute(run, value, name, node)
        found = part if found is None else join(found, part)
    return UNKNOWN_VALUE if found is None else found


def _class_of(run: Run, value: Value) -> object:
    for item in value.refs:
        if isinstance(item, Obj):
            return item.cls
    return None


def _object_attribute(run: Run, obj: Obj, name: str, node: ast.AST) -> Value:
    found = obj.attrs.get(name)
    if found is not None:
        return found if isinstance(found, Value) else Value(UNKNOWN)
    if name == obj.attrs.get("%holds"):
        return ref(obj)
    if "%flow_attrs" in obj.attrs:
        return obj.attrs["%flow_attrs"]  # type: ignore[no-any-return]
    info = find_method(run, obj, name)
    if info is not None:
        if info.decorated_with("property", "cached_property"):
            return calls.call_function(run, FunctionRef(info, None, ref(obj)), [], {}, node)
        if info.decorated_with("staticmethod"):
            return ref(FunctionRef(info))
        return ref(FunctionRef(info, None, ref(obj)))
    if obj.cls is not None:
        value = run.program.class_value(run, obj.cls, name)
        if value is not None:
            return value
    if name == "training" and is_module(run, obj):
        mode = obj.attrs.get("%mode", "train" if "%symbolic" not in obj.attrs else None)
        return TRUE if mode == "train" else FALSE if mode == "eval" else UNKNOWN_VALUE
    if name in ("device", "dtype", "__class__", "__dict__"):
        return Value(CONST) if name != "__class__" or obj.cls is None else ref(ClassRef(obj.cls))
    if obj.kind == "library" and obj.row is not None:
        if obj.row.effect == "module":
            items = obj.attrs.get("%items")
            if isinstance(items, Items) and isinstance(items.known, dict) and name in items.known:
                return items.known[name]
            weights = obj.row.get("weights", ("weight", "bias"))
            if name in weights:
                return Value(TENSOR, frozenset((obj,)), refs=(ParamSet((Parameter(obj, name),), obj),))
            member = run.program.knowledge.member(obj.row.name, name)
            if member is None:
                return Value(CONST)
            return ref(LibRef(member.name, ref(obj)))
        member = run.program.knowledge.member(obj.row.name, name)
        if member is not None and member.get("attribute"):
            flow = obj.attrs.get("%flow", Value(UNKNOWN))
            return run.flow((flow,)) if member.effect == "flow" else Value(CONST)
        if name in ("param_groups", "state") and is_optimizer(run, obj):
            entries = obj.attrs["%optimizer"].params
            return ref(ParamSet(entries)) if entries else Value(UNKNOWN)
    if obj.kind in containers.CONTAINERS:
        items = obj.attrs.get("%items")
        if isinstance(items, Items) and isinstance(items.known, dict) and name in items.known:
            return items.known[name]
        return Value(UNKNOWN)
    if name == "param_groups" and is_optimizer(run, obj):
        return ref(ParamSet(obj.attrs["%optimizer"].params))
    for base in library_bases(run, obj):
        member = run.program.knowledge.member(base, name)
        if member is not None and not member.get("attribute"):
            return ref(LibRef(member.name, ref(obj)))
        if member is not None and member.effect == "constant":
            return Value(CONST)
    getter = find_method(run, obj, "__getattr__")
    if getter is not None and not name.startswith("__") and getter.node not in run.stack:
        return calls.call_function(run, FunctionRef(getter, None, ref(obj)), [const(name)], {}, node)
    flow = obj.attrs.get("%flow")
    if isinstance(flow, Value) and flow.depends:
        return run.flow((flow,), UNKNOWN)
    return child(run, obj, name, node)


def _class_attribute(run: Run, item: ClassRef, name: str, node: ast.AST) -> Value:
    info = run.program.find_method(run, item.info, name)
    if info is not None:
        return ref(FunctionRef(info, None, ref(item) if info.decorated_with("classmethod") else None))
    value = run.program.class_value(run, item.info, name)
    if value is not None:
        return value
    if name in ("__name__", "__qualname__"):
        return const(item.info.name)
    for base in run.program.mro(run, item.info):
        if isinstance(base, LibRef):
            return library.attribute(run, LibRef(base.name, ref(item)), name, node)
    return Value(UNKNOWN)


def store_attribute(
    run: Run, holder: Value, name: str, value: Value, node: ast.AST, *, augmented: bool = False, quiet: bool = False
) -> None:
    """``holder.name = value``, with what it means on parameters, modules and optimizers."""
    if not quiet:
        run.watch.attribute_stored(holder, name, value, node)
        if name == "grad":
            run.watch.gradient_stored(holder, value, node)
    if name == "data" and value.region is not None and value.region.kind == "inference-mode":
        run.watch.autograd.given_data(holder, value.region)
    for item in holder.refs:
        if isinstance(item, ParamSet):
            if name == "requires_grad":
                set_frozen(run, item.entries, _flag(value), node)
            elif (name == "data" and any(isinstance(r, ParamSet | DataOf) for r in value.refs)) or (
                name == "data" and value.dead
            ):
                run.watch.copied_into(item)
            elif name == "grad" and value.is_const and value.const is None:
                run.watch.gradients_cleared(item.entries, node)
        elif isinstance(item, Obj):
            if item.kind == "leaf":
                _store_on_leaf(run, item, holder, name, value, node)
            elif item.kind in ("instance", "opaque", "library"):
                _store_on_object(run, item, name, value, node, len(holder.refs) == 1, augmented=augmented)
        elif isinstance(item, FileRef):
            run.program.file_frame(run, item.file).env[name] = value
    if not holder.refs and holder.kind in (TENSOR, UNKNOWN):
        if name == "requires_grad" and _flag(value) is True and not holder.live:
            library.revive_in_place(run, holder, node)


def _flag(value: Value) -> bool | None:
    return bool(value.const) if value.is_const else None


def _store_on_leaf(run: Run, leaf: Obj, holder: Value, name: str, value: Value, node: ast.AST) -> None:
    if name == "requires_grad":
        set_frozen(run, (Parameter(leaf, leaf.name()),), _flag(value), node)


def _store_on_object(run: Run, obj: Obj, name: str, value: Value, node: ast.AST, sole: bool, *, augmented: bool) -> None:
    setter = find_method(run, obj, f"{name}.setter")
    if setter is not None and setter.node not in run.stack:
        calls.call_function(run, FunctionRef(setter, None, ref(obj)), [value], {}, node)
        return
    override = find_method(run, obj, "__setattr__")
    if override is not None and override.node not in run.stack and not any(n is override.node for n in run.stack):
        calls.call_function(run, FunctionRef(override, None, ref(obj)), [const(name), value], {}, node)
    for item in value.refs:
        if isinstance(item, Obj) and item.owner is None and item is not obj and (not item.label or may_be_module(run, obj)):
            item.owner = (obj, name)
    if name == "requires_grad" and value.is_const:
        if obj.kind == "opaque" and not is_module(run, obj):
            set_frozen(run, (Parameter(obj, obj.name()),), _flag(value), node)
        return
    if may_be_module(run, obj) and not augmented:
        run.watch.part_stored(obj, name, value, node)
    run.watch.leaks.stored(obj, name, value, node)
    run.watch.restless.stored(obj, name, value, node, augmented=augmented)
    run.heap.write(obj, name, value if sole or name not in obj.attrs else join(obj.attrs[name], value))


# -- parts of modules ----------------------------------------------------------------------------------------------------


def registered(run: Run, obj: Obj) -> Iterator[tuple[str, Obj]]:
    """The direct parts of a module that PyTorch registers: submodules and parameters, with their names."""
    items = obj.attrs.get("%items")
    if isinstance(items, Items):
        if isinstance(items.known, dict):
            pairs = [(str(k), v) for k, v in items.known.items()]
        else:
            pairs = [(str(i), v) for i, v in enumerate(items.known)]
        if items.rest is not None:
            pairs.append(("?", items.rest))
        for name, value in pairs:
            for item in value.refs:
                if isinstance(item, Obj) and (may_be_module(run, item) or "%parameter" in item.attrs):
                    yield name, item
        if obj.kind in containers.CONTAINERS:
            return
    for name, value in list(obj.attrs.items()):
        if name.startswith("%") or not isinstance(value, Value) or f"%hidden.{name}" in obj.attrs:
            continue
        for item in value.refs:
            if isinstance(item, Obj) and (
                is_module(run, item) or "%parameter" in item.attrs or (item.kind == "opaque" and item.attrs.get("%evidence"))
            ):
                yield name, item


def walk(run: Run, obj: Obj, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Obj]]:
    """A module and all its parts with their dotted names, parameters included."""
    seen = set() if seen is None else seen
    if id(obj) in seen or len(seen) > 600:
        return
    seen.add(id(obj))
    yield prefix, obj
    for name, part in registered(run, obj):
        yield from walk(run, part, f"{prefix}.{name}" if prefix else name, seen)


def has_own_parameters(obj: Obj) -> bool:
    """Whether an object itself (not its parts) stands for parameters."""
    if obj.kind == "leaf":
        return "%parameter" in obj.attrs
    if obj.kind == "library":
        return obj.row is not None and bool(obj.row.get("parameters")) and "%items" not in obj.attrs
    return obj.kind == "opaque"


def parameters(run: Run, obj: Obj) -> tuple[Parameter, ...]:
    """The parameters of a module as ``named_parameters()`` gives them."""
    entries: list[Parameter] = []
    for name, part in walk(run, obj):
        if not has_own_parameters(part):
            continue
        if part.kind == "leaf":
            entries.append(Parameter(part, name))
        elif part.kind == "opaque":
            entries.append(Parameter(part, f"{name}.?" if name else "?"))
        else:
            weights = part.row.get("weights") if part.row is not None else None
            for weight in weights or ("weight", "bias"):
                entries.append(Parameter(part, f"{name}.{weight}" if name else weight))
    run.tick(1 + len(entries) // 8)
    return tuple(entries)


def frozen(obj: Obj) -> object:
    """True, False or ``"maybe"``; what was read from an opaque object shares its state until told otherwise."""
    here: Obj | None = obj
    while here is not None:
        state = here.attrs.get("%frozen")
        if state is not None:
            return state
        here = here.parent
    return False


def set_frozen(run: Run, entries: tuple[Parameter, ...], trains: bool | None, node: ast.AST) -> None:
    """``requires_grad = trains`` on parameters; a part of an owner's parameters leaves it partly frozen."""
    owners: dict[Obj, list[Parameter]] = {}
    for entry in entries:
        owners.setdefault(entry.owner, []).append(entry)
    state: object = "maybe" if trains is None else not trains
    changed: list[Obj] = []
    for owner, mine in owners.items():
        whole = all(entry.certain for entry in mine) and (owner.kind != "library" or len(mine) > 1 or _single_weight(owner))
        new = state if whole else ("maybe" if frozen(owner) != state else state)
        if frozen(owner) != new or (new is True and "%frozen" not in owner.attrs):
            changed.append(owner)
        run.heap.write(owner, "%frozen", new)
        for key, value in list(owner.attrs.items()):
            if key.startswith("%child."):
                for item in value.refs:
                    if isinstance(item, Obj) and "%frozen" in item.attrs:
                        run.heap.write(item, "%frozen", new)
    run.watch.froze(entries, trains, changed, node)


def _single_weight(owner: Obj) -> bool:
    weights = owner.row.get("weights") if owner.row is not None else None
    return weights is not None and len(weights) == 1


def set_mode(
    run: Run, obj: Obj, trains: bool | None, node: ast.AST, top: Obj | None = None, seen: set[int] | None = None
) -> None:
    """``train()`` or ``eval()`` as nn.Module does it: on the object, then on its parts, through their own overrides."""
    seen = set() if seen is None else seen
    if id(obj) in seen:
        return
    seen.add(id(obj))
    top = obj if top is None else top
    mode = "maybe" if trains is None else "train" if trains else "eval"
    run.watch.mode_set(obj, mode, node, top)
    if obj is top and obj.kind == "library" and mode == "train" and obj.attrs.get("%mode") == "eval":
        obj.attrs["%random"] = True  # a single layer, put back into train mode: it is to be random in evaluation too
    run.heap.write(obj, "%mode", mode)
    for key, value in list(obj.attrs.items()):
        if key.startswith("%child.") and obj.kind == "opaque":
            for item in value.refs:
                if isinstance(item, Obj):
                    set_mode(run, item, trains, node, top, seen)
    for _, part in registered(run, obj):
        if part.kind == "leaf":
            continue
        override = find_method(run, part, "train")
        if override is not None and id(part) not in seen and override.node not in run.stack:
            seen.add(id(part))
            argument = UNKNOWN_VALUE if trains is None else const(trains)
            calls.call_function(run, FunctionRef(override, None, ref(part)), [argument], {}, node)
        else:
            set_mode(run, part, trains, node, top, seen)


def mode_of(obj: Obj) -> str:
    """``train``, ``eval`` or ``maybe``."""
    here: Obj | None = obj
    while here is not None:
        mode = here.attrs.get("%mode")
        if mode is not None:
            return str(mode)
        here = here.parent
    return "train"


# -- calling -------------------------------------------------------------------------------------------------------------


def call_module(run: Run, obj: Obj, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``module(…)``: forward, with its hooks."""
    if obj.row is None or obj.row.get("parameters"):
        feed(args)
        for value in args:
            if value.dead:
                meet(value)
    run.watch.computing()
    for value in _hooks(obj, "%hooks.forward-pre"):
        calls.call_value(run, value, [ref(obj), _pack(run, args, node)], {}, node)
    result = _forward(run, obj, args, kwargs, node)
    for value in _hooks(obj, "%hooks.forward"):
        run.hooks.append(Hook(run.asked.get(id(value))))
        replaced = calls.call_value(run, value, [ref(obj), _pack(run, args, node), result], {}, node)
        if not (replaced.is_const and replaced.const is None) and (replaced.depends or replaced.refs):
            run.hooks[-1].replaced(value, replaced)
            result = replaced
        run.hooks.pop()
    run.watch.computed(obj, node)
    return run.watch.crossings.called(obj, args, kwargs, result, node)


def feed(args: list[Value]) -> None:
    """What goes into a module is an input, whoever made it a leaf."""
    for value in args:
        for source in value.live:
            if "%revived" in source.attrs:
                source.attrs["%fed"] = True


def _hooks(obj: Obj, key: str) -> tuple[Value, ...]:
    found = obj.attrs.get(key)
    return found if isinstance(found, tuple) else ()


def _pack(run: Run, args: list[Value], node: ast.AST) -> Value:
    return run.container("tuple", Items(tuple(args)), node)


def _forward(run: Run, obj: Obj, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    if obj.kind == "instance":
        info = find_method(run, obj, "forward")
        if info is not None:
            return calls.call_function(run, FunctionRef(info, None, ref(obj)), args, kwargs, node)
        for base in library_bases(run, obj):
            row = run.program.knowledge.get(base)
            if row is not None and row.effect == "module":
                if row.get("container") == "sequential":
                    return _sequential(run, obj, args, node)
                run.watch.forward(obj, node)
                return run.flow(
                    [*_spread(run, args, kwargs), Value(TENSOR, frozenset((obj,)) if row.get("parameters") else frozenset())]
                )
        own = [Value(TENSOR, frozenset(e.owner for e in parameters(run, obj)))]
        return run.flow([*_spread(run, args, kwargs), *own])
    if obj.kind == "library" and obj.row is not None:
        if "%items" in obj.attrs:
            return _sequential(run, obj, args, node)
        run.watch.forward(obj, node)
        inputs = _spread(run, args, kwargs)
        if run.watch.restless.has_rate(obj) if obj.row.get("parameters") else obj.row.get("dropout") is True:
            run.watch.restless.drops(obj, inputs)
        if obj.row.get("parameters"):
            inputs.append(Value(TENSOR, frozenset((obj,))))
        result = run.flow(inputs)
        if obj.row.get("keeps") or (obj.row.get("parameters") and frozen(obj) is False):
            run.watch.autograd.recorded(inputs, result, node)
        if obj.row.get("targets"):
            run.watch.crossings.loss(obj.row, args, kwargs, node)
        if obj.row.get("logits"):
            run.watch.scored(str(obj.row.get("logits")), args[0] if args else kwargs.get("input"), node)
        if obj.row.get("squash"):
            result.trait = Trait(str(obj.row.get("squash")), run.site(node), obj)
        if obj.attrs.get("%inplace") and (obj.row.get("dropout") is not True or mode_of(obj) == "train"):
            result = run.watch.mutations.called(args[0] if args else kwargs.get("input"), result, node)
        if obj.row.get("saves") and result.live:
            result.saved = run.site(node)
        return result
    return call_opaque(run, obj, args, kwargs, node)


def _sequential(run: Run, obj: Obj, args: list[Value], node: ast.AST) -> Value:
    items = obj.attrs.get("%items")
    value = args[0] if args else UNKNOWN_VALUE
    if not isinstance(items, Items):
        return run.flow(args)
    known = list(items.known.values()) if isinstance(items.known, dict) else list(items.known)
    for part in known:
        value = calls.call_value(run, part, [value], {}, node)
    if items.rest is not None:
        value = calls.call_value(run, items.rest, [value], {}, node)
    return value


def _spread(run: Run, args: list[Value], kwargs: dict[str, Value]) -> list[Value]:
    found: list[Value] = []
    for value in (*args, *kwargs.values()):
        found.extend(containers.everything(run, value))
    return found


def call_opaque(run: Run, obj: Obj, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """A call of something the analysis cannot see into: it may be a module, and gradient may flow through it."""
    run.watch.forward(obj, node)
    run.watch.opaque_called(obj, len(args) + len(kwargs))
    run.watch.handed([*args, *kwargs.values()], node)
    inputs = _spread(run, args, kwargs)
    for value in (*args, *kwargs.values()):
        inputs.extend(module_sources(run, value))
    inputs.append(Value(TENSOR, frozenset((obj,))))
    inputs.extend(v for v in (obj.attrs.get("%flow"),) if isinstance(v, Value))
    return run.flow(inputs, TENSOR)


def module_sources(run: Run, value: Value) -> list[Value]:
    """The sources of the modules that are handed to code nobody can see: it may call them."""
    owners: set[Obj] = set()
    for inner in containers.everything(run, value):
        for item in inner.refs:
            if isinstance(item, Obj) and item.kind in ("instance", "library") and is_module(run, item):
                owners.update(e.owner for e in parameters(run, item))
            elif isinstance(item, FunctionRef) and item.receiver is not None:
                for target in item.receiver.refs:
                    if isinstance(target, Obj) and is_module(run, target):
                        owners.update(e.owner for e in parameters(run, target))
    return [Value(TENSOR, frozenset(owners))] if owners else []


def call_method(run: Run, receiver: Value, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """``receiver.name(…)``."""
    found: Value | None = None
    plain = not receiver.refs
    run.watch.several = len(receiver.refs) > 1
    for item in receiver.refs:
        part: Value | None = None
        if isinstance(item, Obj):
            if item.kind == "leaf":
                plain = True
                continue
            part = _call_object_method(run, item, name, args, kwargs, node)
        elif isinstance(item, ParamSet):
            if name == "requires_grad_":
                set_frozen(run, item.entries, _flag(args[0] if args else kwargs.get("requires_grad", TRUE)), node)
                part = ref(item)
            else:
                plain = True
                continue
        elif isinstance(item, DataOf):
            plain = True
            continue
        elif isinstance(item, SuperRef):
            part = _call_super(run, item, name, args, kwargs, node)
        elif isinstance(item, LibRef):
            part = calls.call_value(run, library.attribute(run, item, name, node), args, kwargs, node)
        elif isinstance(item, ClassRef):
            part = _call_class_method(run, item, name, args, kwargs, node)
        elif isinstance(item, NameOf):
            part = Value(UNKNOWN)
        else:
            part = calls.call_value(run, load_attribute(run, ref(item), name, node), args, kwargs, node)
        found = part if found is None else join(found, part)
    if plain:
        part = library.tensor_method(run, receiver, name, args, kwargs, node)
        found = part if found is None else join(found, part)
    assert found is not None
    return found


def _call_super(run: Run, item: SuperRef, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    start = _class_of(run, item.receiver) or item.cls
    info = run.program.find_method(run, item.cls, name, after=True, start=start)
    if info is not None:
        return calls.call_function(run, FunctionRef(info, None, item.receiver), args, kwargs, node)
    for target in item.receiver.refs:
        if isinstance(target, Obj):
            for base in library_bases(run, target):
                if name == "__init__":
                    return library.base_init(run, target, base, args, kwargs, node)
                if name == "__call__":
                    return _forward(run, target, args, kwargs, node)
                member = run.program.knowledge.member(base, name)
                if member is not None:
                    return library.member_call(run, member, target, args, kwargs, node)
                if name == "forward":
                    row = run.program.knowledge.get(base)
                    if row is not None and row.effect == "module":
                        run.watch.forward(target, node)
                        own = Value(TENSOR, frozenset((target,)) if row.get("parameters") else frozenset())
                        return run.flow([*_spread(run, args, kwargs), own])
    return run.flow(_spread(run, args, kwargs), UNKNOWN)


def _call_class_method(
    run: Run, item: ClassRef, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST
) -> Value:
    info = run.program.find_method(run, item.info, name)
    if info is not None:
        if info.decorated_with("classmethod"):
            return calls.call_function(run, FunctionRef(info, None, ref(item)), args, kwargs, node)
        if info.decorated_with("staticmethod"):
            return calls.call_function(run, FunctionRef(info), args, kwargs, node)
        if args:
            return calls.call_function(run, FunctionRef(info, None, args[0]), args[1:], kwargs, node)
        return calls.call_function(run, FunctionRef(info), args, kwargs, node)
    if name == "apply" and run.program.inherits(run, item.info, "torch.autograd.Function"):
        return run.flow(_spread(run, args, kwargs))
    for base in run.program.mro(run, item.info):
        if isinstance(base, LibRef):
            if args and isinstance(args[0].refs[0] if args[0].refs else None, Obj):
                member = run.program.knowledge.member(base.name, name)
                target = args[0].refs[0]
                if member is not None and isinstance(target, Obj):
                    return library.member_call(run, member, target, args[1:], kwargs, node)
            if name.startswith(("from_", "load_", "create")):
                return calls.instantiate(run, item, [], {}, node, quiet=True)
    return run.flow(_spread(run, args, kwargs), UNKNOWN)


def _call_object_method(run: Run, obj: Obj, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    if obj.kind in containers.CONTAINERS:
        items = obj.attrs.get("%items")
        if isinstance(items, Items) and isinstance(items.known, dict) and name in items.known and items.known[name].refs:
            return calls.call_value(run, items.known[name], args, kwargs, node)
        return containers.method(run, obj, name, args, kwargs, node)  # type: ignore[arg-type]
    held = obj.attrs.get(name)
    if held is None and isinstance(obj.attrs.get("%items"), Items) and isinstance(obj.attrs["%items"].known, dict):
        held = obj.attrs["%items"].known.get(name)  # a part of a dictionary of modules
    if isinstance(held, Value):
        return calls.call_value(run, held, args, kwargs, node)
    info = find_method(run, obj, name)
    if info is not None:
        if info.decorated_with("property", "cached_property"):
            value = calls.call_function(run, FunctionRef(info, None, ref(obj)), [], {}, node)
            return calls.call_value(run, value, args, kwargs, node)
        receiver = None if info.decorated_with("staticmethod") else ref(obj)
        if name == "forward" and is_module(run, obj):
            run.watch.computing()
            result = calls.call_function(run, FunctionRef(info, None, receiver), args, kwargs, node)
            run.watch.computed(obj, node)
            return run.watch.crossings.called(obj, args, kwargs, result, node)
        result = calls.call_function(run, FunctionRef(info, None, receiver), args, kwargs, node)
        if is_optimizer(run, obj):
            if name == "step":
                run.watch.stepped(obj, node)
            elif name == "zero_grad":
                run.watch.zeroed(obj, node, keeps=False)
        return result
    for base in library_bases(run, obj):
        member = run.program.knowledge.member(base, name)
        if member is not None:
            return library.member_call(run, member, obj, args, kwargs, node)
    if obj.kind == "library" and is_module(run, obj) and name in ("forward", "__call__"):
        return call_module(run, obj, args, kwargs, node)
    if is_module(run, obj):
        member = run.program.knowledge.member(MODULE, name)
        if member is not None:
            return library.member_call(run, member, obj, args, kwargs, node)
        if isinstance(obj.attrs.get("%items"), Items):
            return library.container_member(run, obj, name, args, kwargs, node)
    if obj.cls is not None:
        shared = run.program.class_value(run, obj.cls, name)
        if shared is not None:
            return calls.call_value(run, shared, args, kwargs, node)
    return library.unknown_method(run, obj, name, args, kwargs, node)
