"""What library code does, as the knowledge rows tell it: the only place that turns rows into effects on the run."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gradlint.flow import calls, containers, modules
from gradlint.flow.autograd import REBOUND, VIEWS
from gradlint.flow.heap import (
    ClassRef,
    DataOf,
    FunctionRef,
    Items,
    LibRef,
    NameOf,
    Obj,
    Parameter,
    ParamSet,
)
from gradlint.flow.hooks import asked_by
from gradlint.flow.lattice import (
    ARRAY,
    CONST,
    CONSTANT_TENSOR,
    FALSE,
    MISSING,
    NONE,
    NUMBER,
    OBJECT,
    TENSOR,
    TRUE,
    UNKNOWN,
    UNKNOWN_VALUE,
    Cut,
    Trait,
    Value,
    const,
    ref,
)
from gradlint.flow.leaks import GUESSED, Spent
from gradlint.flow.mutations import SAME_MEMORY, Damaged
from gradlint.flow.reading import words
from gradlint.flow.run import shown
from gradlint.flow.watch import OptimizerState

if TYPE_CHECKING:
    from gradlint.flow.classes import ClassInfo
    from gradlint.flow.run import Run
    from gradlint.knowledge import Row

# The mark of what is computed from a derivative that has a graph.
DERIVED = "derived"

Args = list[Value]
Kwargs = dict[str, Value]


# -- arguments ---------------------------------------------------------------------------------------------------------


def argument(args: Args, kwargs: Kwargs, position: int, *names: str) -> Value | None:
    """An argument by position or by one of its names."""
    if position < len(args):
        return args[position]
    for name in names:
        if name in kwargs:
            return kwargs[name]
    return None


def _inputs(run: Run, row: Row | None, args: Args, kwargs: Kwargs, receiver: Value | None = None) -> list[Value]:
    """The values whose gradient reaches the result: all that is handed over, less what only selects."""
    skip: set[str] = set(row.get("selectors", ())) if row is not None else set()
    names = row.get("positional", ()) if row is not None else ()
    found: list[Value] = [] if receiver is None else [receiver]
    for i, value in enumerate(args):
        if not (skip and i < len(names) and names[i] in skip):
            found.extend(containers.everything(run, value))
    for name, value in kwargs.items():
        if name not in skip:
            found.extend(containers.everything(run, value))
    return found


def _name_of(node: ast.AST) -> str:
    """What a call is called in the words of the source."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):
            base = node.func.value
            root = base
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and isinstance(base, ast.Name | ast.Attribute):
                text = words(node.func)
                return text if len(text) < 40 else f".{node.func.attr}()"
            return f".{node.func.attr}()"
        return words(node.func)
    return words(node)


def _method_name(node: ast.AST, name: str) -> str:
    if isinstance(node, ast.Call) and name in ("to", "type") and node.args:
        return f".{name}({words(node.args[0])})"
    return f".{name}()"


# -- library functions and classes ---------------------------------------------------------------------------------------


def attribute(run: Run, item: LibRef, name: str, node: ast.AST) -> Value:
    """``library.thing.name``."""
    qualified = f"{item.name}.{name}"
    if item.receiver is None:
        row = run.program.knowledge.get(qualified)
        if row is not None and row.get("attribute") and row.effect == "constant":
            return Value(CONST)
    return ref(LibRef(qualified, item.receiver if isinstance(item.receiver, Value) and not _is_class(item.receiver) else None))


def _is_class(value: Value) -> bool:
    return any(isinstance(r, ClassRef) for r in value.refs)


def call(run: Run, item: LibRef, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """A call of something a library defines."""
    from gradlint.flow.python import BUILTINS

    if item.name.startswith("%scope"):
        if item.name.endswith(".__enter__"):
            return _entered_by_hand(run, item, node)
        if item.name.endswith(".__exit__"):
            run.regions = run.regions[:-1]
            return NONE
        return _scope_as_decorator(run, item, args)
    if item.receiver is not None:
        row = run.program.knowledge.get(item.name)
        member = item.name.rpartition(".")[2]
        for target in item.receiver.refs:
            if isinstance(target, Obj) and target.kind != "leaf":
                if row is not None:
                    return member_call(run, row, target, args, kwargs, node)
                return unknown_method(run, target, member, args, kwargs, node)
        return tensor_method(run, item.receiver, member, args, kwargs, node)
    handler = BUILTINS.get(item.name)
    if handler is not None:
        return handler(run, args, kwargs, node)
    row = run.program.knowledge.get(item.name)
    if row is None:
        return _unlisted(run, item.name, args, kwargs, node)
    return _by_effect(run, row, item.name, args, kwargs, node)


def _entered_by_hand(run: Run, item: LibRef, node: ast.AST) -> Value:
    """``torch.no_grad().__enter__()``: gradient is off from here on."""
    mode = item.name.removesuffix(".__enter__").split(":")[1]
    if mode == "on":
        run.regions = ()
    elif mode in ("no-grad", "inference-mode"):
        run.regions = (*run.regions, run.cut(mode, "statement", shown(run.frame.file, node), node))
    return NONE


def _scope_as_decorator(run: Run, item: LibRef, args: Args) -> Value:
    return args[0] if args else UNKNOWN_VALUE


def _unlisted(run: Run, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """A library function nothing is known of: torch lets gradient flow; others may do anything with modules they get."""
    root, _, last = name.rpartition(".")
    values = [*args, *kwargs.values()]
    for value in values:
        run.watch.membership.consumed(value, node, surely=name.startswith("torch."))
    if name.startswith("torch.") and last.endswith("_") and not last.endswith("__") and len(args) > 1:
        _written_into(run, args[0], args[1:])
    if name.startswith("torch.") and not (last[:1].isupper()):
        tensor_class = run.program.knowledge.member("torch.Tensor", last)
        if tensor_class is not None and args and not tensor_class.get("attribute"):
            return _tensor_effect(run, tensor_class, last, args[0], args[1:], kwargs, node, _name_of(node))
        return run.flow(_inputs(run, None, args, kwargs))
    for base in (root,):
        member = run.program.knowledge.member(base, last) if base else None
        if member is not None and member.effect != "flow":
            return _by_effect(run, member, name, args, kwargs, node)
    run.watch.handed(values, node)
    params = _parameters_in(run, values)
    found = [m for v in values for m in modules.module_sources(run, v)]
    run.watch.membership.handed(params, found)
    if params or found or last[:1].isupper():
        obj = run.allocate("opaque", node, tag=name)
        obj.attrs["%type"] = name
        obj.label = ""
        flow = run.flow([*found, *_tensors(run, values)], UNKNOWN)
        obj.attrs["%flow"] = Value(UNKNOWN, flow.live, flow.dead, tags=guessed(flow))
        if params:
            obj.attrs["%candidate"] = params
        obj.attrs["%held"] = tuple(
            r for v in values for w in containers.everything(run, v) for r in w.refs if isinstance(r, Obj)
        )
        return Value(
            UNKNOWN,
            flow.live if not last[:1].isupper() else frozenset(),
            flow.dead if not last[:1].isupper() else {},
            refs=(obj,),
            opaque=True,
        )
    return _loose(run, values)


def _written_into(run: Run, target: Value, sources: Args) -> None:
    """A function that writes into what it is given: parameters get the values of other parameters."""
    held = [r for v in containers.everything(run, target) for r in v.refs if isinstance(r, ParamSet)]
    if any(isinstance(r, ParamSet) for source in sources for v in containers.everything(run, source) for r in v.refs):
        for params in held:
            run.watch.copied_into(params)


def _tensors(run: Run, values: Iterable[Value]) -> list[Value]:
    return [w for v in values for w in containers.everything(run, v) if w.kind not in (NUMBER, ARRAY) or w.live]


def _loose(run: Run, values: Iterable[Value]) -> Value:
    """The result of unknown code: gradient may flow through tensors; numbers and arrays handed over become its own data."""
    flow = run.flow(_tensors(run, values), UNKNOWN)
    return Value(UNKNOWN, flow.live, flow.dead, marks=flow.marks, opaque=not flow.live, tags=guessed(flow))


def guessed(flow: Value) -> frozenset[object]:
    """The tags of what unknown code made: it may have taken a value out of its graph."""
    return frozenset(tag for tag in flow.tags if not isinstance(tag, Spent | Damaged)) | {GUESSED}


def _parameters_in(run: Run, values: Iterable[Value]) -> tuple[Parameter, ...]:
    found: dict[Parameter, None] = {}
    for value in values:
        for inner in containers.everything(run, value):
            for item in inner.refs:
                if isinstance(item, ParamSet):
                    found.update(dict.fromkeys(item.entries))
                elif isinstance(item, Obj) and item.kind == "leaf" and ("%parameter" in item.attrs or "%leaf" in item.attrs):
                    found[Parameter(item, item.name())] = None
                elif isinstance(item, Obj) and "%generator" in item.attrs:
                    drained = calls.drain(run, item, None)  # type: ignore[arg-type]
                    found.update(dict.fromkeys(_parameters_in(run, [drained])))
    return tuple(found)


def _by_effect(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    effect = EFFECTS.get(row.effect)
    if effect is not None:
        return effect(run, row, name, args, kwargs, node)
    return _flow(run, row, name, args, kwargs, node)


def _flow(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    result = run.flow(_inputs(run, row, args, kwargs))
    if row.get("keeps"):
        run.watch.autograd.recorded([*args, *kwargs.values()], result, node)
    if row.get("targets"):
        run.watch.crossings.loss(row, args, kwargs, node)
    if row.get("logits"):
        run.watch.scored(str(row.get("logits")), argument(args, kwargs, 0, "input"), node)
    if row.get("squash"):
        result.trait = Trait(str(row.get("squash")), run.site(node))
    elif name.rpartition(".")[2] in RESHAPES and args:
        result.trait = _kept(args[0].trait)
    result = _saved(run, row, result, args[0] if args else kwargs.get("input"), kwargs, node)
    if row.get("device") == "cpu" or (row.get("device") == "argument" and _to_cpu(args, kwargs) and _spelled_out(node)):
        result = _mark_cpu(run, result, node)
    results = row.get("results")
    if isinstance(results, tuple):
        return _results(run, row, result, node, bool(args[1:]) or bool(kwargs))
    if name.rpartition(".")[2] in KEEPS_TERMS and len(args) == 1 and not run.regions:
        inner = containers.contents(run, args[0])
        if inner is not None and isinstance(inner.known, tuple):
            total = containers.summed(run, [*inner.known, *([inner.rest] if inner.rest is not None else [])])
            return total.replace(region=None) if total.region is not None else total
        result.terms = args[0].terms
    return result


def _kept(trait: Trait | None) -> Trait | None:
    """What a tensor of another shape or place keeps of what was done to it; it is no name's own any more."""
    return None if trait is not None and trait.kind == REBOUND else trait


def _saved(run: Run, row: Row, result: Value, value: Value | None, kwargs: Kwargs, node: ast.AST) -> Value:
    """The result of an operation that may work in place, and may need its result for the backward."""
    flag = kwargs.get("inplace")
    if flag is not None and flag.is_const and flag.const:
        result = run.watch.mutations.called(value, result, node)
    if row.get("saves") and result.live:
        result.saved = run.site(node)
    return result


def _results(run: Run, row: Row, result: Value, node: ast.AST, has_dim: bool) -> Value:
    """A tuple result, some elements of which have no derivative."""
    if row.get("when_dim") and not has_dim:
        return result
    effects = row.get("results")
    parts = []
    for effect in effects:
        if effect == "flow" or not result.live:
            parts.append(result)
        else:
            parts.append(run.sever(result, run.cut("nondifferentiable", "call", _name_of(node), node)))
    packed = run.container("tuple", Items(tuple(parts)), node)
    obj = packed.refs[0]
    assert isinstance(obj, Obj)
    for field, part in zip(row.get("fields", ()), parts, strict=False):
        obj.attrs[field] = part
    return packed


def _nondifferentiable(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    result = run.flow(_inputs(run, row, args, kwargs))
    if result.depends:
        result = run.sever(result, run.cut("nondifferentiable", "call", _name_of(node), node))
    return result.replace(opaque=False)


def _cut(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    result = run.flow(_inputs(run, row, args[:1], {}))
    return run.sever(result, run.cut(row.get("kind", "detach"), "call", _name_of(node), node))


def _python(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    kind = ARRAY if row.get("numpy") or not name.startswith(("builtins.", "math.")) else NUMBER
    result = run.flow(_inputs(run, row, args, kwargs), kind)
    if result.depends:
        result = run.sever(result, run.cut("python", "call", _name_of(node), node), kind)
    return result.replace(opaque=False, kind=kind)


def _constant(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if _requires_grad(kwargs):
        return _new_leaf(run, node)
    return _fresh(run) if name.startswith("torch.") else Value(UNKNOWN)


def _fresh(run: Run) -> Value:
    """A new tensor without a graph, which may be an inference tensor."""
    return Value(TENSOR, region=run.regions[-1]) if run.regions else CONSTANT_TENSOR


def _requires_grad(kwargs: Kwargs) -> bool:
    flag = kwargs.get("requires_grad")
    return flag is not None and flag.is_const and bool(flag.const)


def _new_leaf(run: Run, node: ast.AST, note: str = "%leaf") -> Value:
    obj = run.allocate("leaf", node, tag=note)
    obj.attrs[note] = True
    return Value(TENSOR, frozenset((obj,)), refs=(obj,))


def _leaf(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """A new tensor; one that copies its data leaves their gradient behind."""
    if not row.get("copies"):
        return _new_leaf(run, node) if _requires_grad(kwargs) else _fresh(run)
    data = run.flow(_inputs(run, row, args[:1], {k: v for k, v in kwargs.items() if k == "data"}))
    given = args[0] if args else kwargs.get("data", UNKNOWN_VALUE)
    if row.get("copies") == "lists" and given.kind in (TENSOR, UNKNOWN) and not _requires_grad(kwargs):
        return data  # a tensor is handed on as it is
    if data.depends:
        data = run.sever(data, run.cut("python", "call", _name_of(node), node))
    if _requires_grad(kwargs):
        if data.dead:
            return _revived(run, data, node)
        return _new_leaf(run, node)
    return Value(TENSOR, data.live, data.dead, region=data.region)


def _revived(run: Run, severed: Value, node: ast.AST) -> Value:
    leaf = run.allocate("leaf", node, tag="%revived")
    leaf.attrs["%revived"] = run.site(node)
    return Value(TENSOR, frozenset((leaf,)), severed.dead, refs=(leaf,))


def revive_in_place(run: Run, holder: Value, node: ast.AST) -> None:
    """``loss.requires_grad = True`` on a severed value, or on one that never had a graph."""
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        run.frame.env[target.value.id] = _revived(run, holder, node) if holder.dead else _new_leaf(run, node, "%input")


def _parameter(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    value = _new_leaf(run, node, "%parameter")
    flag = argument(args, kwargs, 1, "requires_grad")
    leaf = value.refs[0]
    assert isinstance(leaf, Obj)
    if flag is not None and not (flag.is_const and flag.const):
        leaf.attrs["%frozen"] = True if flag.is_const else "maybe"
    return value


def _scope(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    mode = scope_mode(row, args, kwargs)
    if row.get("statement") and mode is not None:
        if mode == "on":
            run.regions = ()
        else:
            run.regions = (*run.regions, run.cut(mode, "statement", shown(run.frame.file, node), node))
    if args and any(isinstance(r, FunctionRef) for r in args[0].refs):
        return args[0]
    return ref(LibRef(f"%scope:{mode or 'open'}{':acts' if row.get('statement') else ''}"))


def scope_mode(row: Row, args: Args, kwargs: Kwargs) -> str | None:
    """The grad mode a scope sets: ``on``, ``no-grad``, ``inference-mode``, or None where its argument is open."""
    mode = row.get("mode")
    if mode == "on":
        return "on"
    off = "inference-mode" if mode == "inference" else "no-grad"
    if mode == "off":
        return off
    flag = args[0] if args else kwargs.get("mode")
    if flag is None or not flag.is_const or not isinstance(flag.const, bool | int):
        if mode == "inference" and flag is None:
            return off
        return None
    if mode == "inference":
        return off if flag.const else "on"
    return "on" if flag.const else off


def _neutral(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return Value(OBJECT, refs=(LibRef("%scope:neutral"),), const=args[0].const if args and args[0].is_const else MISSING)


def _grad_mode(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return FALSE if run.regions else TRUE


def _backward(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    position = row.get("loss", 0)
    loss = argument(args, kwargs, position if isinstance(position, int) else 0, "loss", "tensors")
    if loss is not None:
        for value in containers.everything(run, loss):
            if value.depends or value.opaque or not value.refs:
                run.watch.backward(value, node)
    return NONE


def _gradients(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    run.watch.gradients_asked(node)
    modules.feed([*args, *kwargs.values()])
    for value in args[:1]:
        for inner in containers.everything(run, value):
            run.watch.leaks.use(inner)
    names = row.get("positional", ())
    flag = argument(args, kwargs, names.index("create_graph") if "create_graph" in names else len(args), "create_graph")
    if flag is not None and not (flag.is_const and not flag.const):
        result = run.flow(_inputs(run, None, args[:2], kwargs))
        return result.replace(tags=result.tags | {DERIVED}) if result.live else result
    if row.get("outputs") is None:
        return CONSTANT_TENSOR
    behind = run.flow(_inputs(run, None, args[:1], {k: v for k, v in kwargs.items() if k == "outputs"}))
    if not behind.live or run.regions:
        return CONSTANT_TENSOR
    cut = run.cut("derivative", "call", _name_of(node), node)
    cut.higher = DERIVED in behind.tags
    return run.sever(Value(TENSOR, behind.live), cut)


def _optimizer(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if row.get("from") == "optimizer":
        for value in (*args, *kwargs.values()):
            if any(isinstance(r, Obj) and modules.is_optimizer(run, r) for r in value.refs):
                return value
    obj = run.allocate("library", node, tag=name, row=row)
    make_optimizer(run, obj, [*args, *kwargs.values()], node, row, kwargs)
    return ref(obj)


def make_optimizer(
    run: Run, obj: Obj, values: list[Value], node: ast.AST, row: Row | None, kwargs: Kwargs | None = None
) -> None:
    """Make an object the optimizer over the parameters found in ``values``."""
    for value in values[:1]:
        for inner in containers.everything(run, value):
            run.watch.membership.consumed(inner, node)
        run.watch.autograd.optimized(containers.everything(run, value), node)
    entries = list(_parameters_in(run, values))
    if row is not None and row.get("from") in ("module", "either") and not entries:
        for value in values:
            for item in value.refs:
                if isinstance(item, Obj) and modules.may_be_module(run, item) and not modules.is_optimizer(run, item):
                    entries.extend(modules.parameters(run, item))
    opaque = not entries
    for value in values[:1]:
        for inner in containers.everything(run, value):
            if any(isinstance(r, Obj) and r.kind == "opaque" for r in inner.refs) or (inner.kind == UNKNOWN and not inner.refs):
                opaque = True
    decays = _setting(row, "decays", kwargs or {}, "weight_decay") or _setting(row, "momentum", kwargs or {}, "momentum")
    skips = bool(row.get("skips_none", True)) if row is not None else not _fills_missing_gradients(run, obj)
    obj.attrs["%optimizer"] = OptimizerState(tuple(entries), run.site(node), obj.serial, opaque, decays, skips)
    run.watch.optimizer_built(obj, node)


def _setting(row: Row | None, option: str, kwargs: Kwargs, keyword: str) -> bool:
    if row is None:
        return True
    rule = row.get(option)
    if rule == "always":
        return True
    value = kwargs.get(keyword)
    return rule == "keyword" and value is not None and not (value.is_const and not value.const)


def _fills_missing_gradients(run: Run, obj: Obj) -> bool:
    """Whether a project optimizer's ``step`` goes on for parameters that have no gradient."""
    info = modules.find_method(run, obj, "step")
    if info is None or isinstance(info.node, ast.Lambda):
        return False
    for node in ast.walk(info.node):
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            for statement in node.body:
                if isinstance(statement, ast.If) and "grad is None" in ast.unparse(statement.test):
                    return not any(isinstance(s, ast.Continue | ast.Return) for s in statement.body)
                if _writes(statement, node.target.id):
                    return True
    return "grad is not None" not in ast.unparse(info.node) and "grad is None" not in ast.unparse(info.node)


def _writes(statement: ast.stmt, name: str) -> bool:
    """Whether a statement calls an in-place method of a variable."""
    return any(
        isinstance(part, ast.Call)
        and isinstance(part.func, ast.Attribute)
        and part.func.attr.endswith("_")
        and ast.unparse(part.func.value).split(".")[0] == name
        for part in ast.walk(statement)
    )


def _module(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    obj = run.allocate("library", node, tag=name, row=row)
    if row.get("dropout") is True:
        rate = argument(args, kwargs, 0, "p")
        if rate is not None and rate.is_const and rate.const == 0:
            obj.attrs["%inert"] = True
        elif rate is not None and not rate.is_const:
            obj.attrs["%open_rate"] = True
    if row.get("dropout") and row.get("parameters"):
        # layers that drop on the way: at a rate of their own, unless they are told another or only hold other layers
        holds = any(isinstance(item, Obj) and modules.is_module(run, item) for value in args[:1] for item in value.refs)
        told = kwargs.get("dropout")
        if (told is None and row.get("dropout") is True and not holds) or (told is not None and told.is_const and told.const):
            obj.attrs["%rate"] = True
    inplace = kwargs.get("inplace")
    if inplace is not None and inplace.is_const and inplace.const:
        obj.attrs["%inplace"] = True
    container = row.get("container")
    if container:
        _fill(run, obj, str(container), args, kwargs, node)
    elif row.get("pretrained"):
        obj.attrs["%pretrained"] = True
    else:
        for value in (*args, *kwargs.values()):
            for item in value.refs:
                if isinstance(item, Obj) and modules.is_module(run, item):
                    obj.attrs.setdefault("%wraps", value)
                    obj.attrs[f"part{len(obj.attrs)}"] = value
    return ref(obj)


def _fill(run: Run, obj: Obj, container: str, args: Args, kwargs: Kwargs, node: ast.AST) -> None:
    values = list(args)
    items: Items | None = None
    if container in ("list", "dict", "parameters") or (container == "sequential" and len(values) == 1):
        if values:
            inner = containers.contents(run, values[0])
            if inner is not None:
                items = inner
            elif container in ("list", "parameters"):
                items = Items((), containers.element(run, values[0], node))
            elif values[0].refs and container == "sequential":
                items = Items(tuple(values))
        else:
            items = Items({} if container == "dict" else ())
    if items is None:
        items = Items(tuple(values))
    obj.attrs["%items"] = items
    obj.attrs["%container"] = container
    known = items.known.items() if isinstance(items.known, dict) else enumerate(items.known)
    for key, value in [*known, *([("?", items.rest)] if items.rest is not None else [])]:
        for item in value.refs:
            if isinstance(item, Obj) and item.owner is None:
                item.owner = (obj, str(key))


def _factory(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    obj = run.allocate("opaque", node, tag=name)
    obj.attrs["%module"] = True
    obj.attrs["%evidence"] = True
    is_class = name.rpartition(".")[2][:1].isupper()
    obj.attrs["%norm"] = "none" if is_class and row.get("norm") == "maybe" else row.get("norm", "maybe")
    pretrained = row.get("pretrained")
    if pretrained == "keyword":
        given = [kwargs[k] for k in ("pretrained", "weights") if k in kwargs] + list(args[:1])
        pretrained = any(not (v.is_const and not v.const) for v in given)
    if pretrained:
        obj.attrs["%pretrained"] = True
    obj.attrs["%type"] = row.get("returns", name)
    if row.get("eval"):
        obj.attrs["%mode"] = "eval"
    return ref(obj)


def _wrap(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if row.get("results") == "arguments":
        values = [*args, *kwargs.values()]
        return values[0] if len(values) == 1 else run.container("tuple", Items(tuple(values)), node)
    position = row.get("module", 0)
    value = argument(args, kwargs, position, "module", "model", "fn", "func", "iterable")
    if value is None:
        # a decorator with arguments, such as @wrap(option=…)
        return ref(LibRef("builtins.%identity"))
    for item in value.refs:
        if isinstance(item, Obj):
            run.watch.wrapped(item, row, kwargs, node)
            if row.get("holds") and modules.is_module(run, item):
                run.heap.write(item, "%holds", row.get("holds"))
            if row.get("norm") == "sync":
                pass
    return value


def _peft(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    value = argument(args, kwargs, row.get("module", 0), "model")
    if value is None:
        return UNKNOWN_VALUE
    for item in value.refs:
        if isinstance(item, Obj) and modules.may_be_module(run, item):
            run.watch.parts_injected(item, node)
            for _, part in modules.walk(run, item):
                run.heap.write(part, "%frozen", "maybe")
    return value


def _copy(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return copied(run, args[0], node, {}) if args else UNKNOWN_VALUE


def copied(run: Run, value: Value, node: ast.AST, seen: dict[int, Obj]) -> Value:
    """A deep copy: new objects of the same shape, remembered as copies."""
    refs: list[object] = []
    for item in value.refs:
        if not isinstance(item, Obj):
            refs.append(item)
            continue
        found = seen.get(id(item))
        if found is None:
            if len(seen) > 400:
                return value
            found = Obj(item.kind, ("copy", id(node), *item.key), cls=item.cls, row=item.row, site=run.site(node))
            seen[id(item)] = found
            for key, inner in list(item.attrs.items()):
                found.attrs[key] = _copied_slot(run, inner, node, seen)
            found.attrs["%copy"] = item
            found.attrs.pop("%optimizer", None)
            for part_name, part in list(found.attrs.items()):
                if isinstance(part, Value) and not part_name.startswith("%"):
                    for r in part.refs:
                        if isinstance(r, Obj) and r.owner is None:
                            r.owner = (found, part_name)
            inner_items = found.attrs.get("%items")
            if isinstance(inner_items, Items):
                pairs = inner_items.known.items() if isinstance(inner_items.known, dict) else enumerate(inner_items.known)
                for part_key, part in pairs:
                    for r in part.refs:
                        if isinstance(r, Obj) and r.owner is None:
                            r.owner = (found, str(part_key))
            if item.kind == "opaque":
                found.label = item.label
        refs.append(found)
    live = frozenset(seen.get(id(s), s) for s in value.live)
    return value.replace(refs=tuple(refs), live=live)


def _copied_slot(run: Run, slot: object, node: ast.AST, seen: dict[int, Obj]) -> object:
    if isinstance(slot, Value):
        return copied(run, slot, node, seen)
    if isinstance(slot, Items):
        if isinstance(slot.known, dict):
            known: object = {k: copied(run, v, node, seen) for k, v in slot.known.items()}
        else:
            known = tuple(copied(run, v, node, seen) for v in slot.known)
        return Items(known, None if slot.rest is None else copied(run, slot.rest, node, seen))  # type: ignore[arg-type]
    return slot


def _call_argument(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    position = row.get("function", 0)
    target = argument(args, kwargs, position, "function", "func", "fn")
    if target is None:
        return run.flow(_inputs(run, row, args, kwargs))
    rest = [v for i, v in enumerate(args) if i != position]
    result = calls.call_value(run, target, rest, {}, node)
    if row.get("reentrant"):
        run.watch.autograd.checkpointed(row, target, rest, kwargs, result, node)
    return result


def _distribution(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    obj = run.allocate("library", node, tag=name, row=row)
    flow = run.flow(_inputs(run, row, args, kwargs))
    obj.attrs["%flow"] = Value(TENSOR, flow.live, flow.dead, marks=flow.marks, tags=flow.tags)
    return ref(obj)


def _scheduler(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    obj = run.allocate("library", node, tag=name, row=row)
    position = row.get("optimizer")
    value = argument(args, kwargs, position, "optimizer") if isinstance(position, int) else None
    steps = [item for item in (value.refs if value is not None else ()) if isinstance(item, Obj)]
    obj.attrs["%scheduler"] = steps[0] if len(steps) == 1 else True
    return ref(obj)


def _scaler(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    obj = run.allocate("library", node, tag=name, row=row)
    enabled = kwargs.get("enabled", TRUE)
    obj.attrs["%scaler"] = bool(enabled.const) if enabled.is_const else "maybe"
    return ref(obj)


def _clip(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    position = row.get("parameters")
    for value in (*args, *kwargs.values()):
        run.watch.membership.consumed(value, node)
    run.watch.clipped(argument(args, kwargs, position, "parameters") if isinstance(position, int) else None, node)
    return CONSTANT_TENSOR


def _nothing(run: Run, row: Row, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return NONE


EFFECTS: dict[str, Callable[[Run, Row, str, Args, Kwargs, ast.AST], Value]] = {
    "flow": _flow,
    "cut": _cut,
    "nondifferentiable": _nondifferentiable,
    "python": _python,
    "leaf": _leaf,
    "constant": _constant,
    "parameter": _parameter,
    "buffer": _constant,
    "scope": _scope,
    "neutral-scope": _neutral,
    "grad-mode": _grad_mode,
    "backward": _backward,
    "gradients": _gradients,
    "optimizer": _optimizer,
    "module": _module,
    "factory": _factory,
    "wrap": _wrap,
    "peft": _peft,
    "copy": _copy,
    "call": _call_argument,
    "distribution": _distribution,
    "scheduler": _scheduler,
    "scaler": _scaler,
    "clip": _clip,
}


# -- methods of library objects ------------------------------------------------------------------------------------------


def member_call(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """A method of a module, optimizer, scaler … that a row describes."""
    effect = MEMBER_EFFECTS.get(row.effect)
    if effect is not None:
        return effect(run, row, obj, args, kwargs, node)
    flow = obj.attrs.get("%flow")
    receiver = flow if isinstance(flow, Value) else None
    if row.effect == "nondifferentiable":
        result = run.flow(_inputs(run, row, args, kwargs, receiver))
        if result.live:
            way = str(obj.row.get("differentiable", "")) if obj.row is not None else ""
            api = f".{row.name.rpartition('.')[2]}()"
            result = run.sever(result, run.cut("nondifferentiable", "call", api, node, differentiable=way))
        return result
    if row.effect in EFFECTS and row.effect not in ("flow", "constant", "python"):
        return EFFECTS[row.effect](run, row, row.name, args, kwargs, node)
    if row.effect == "constant":
        return Value(UNKNOWN)
    return run.flow(_inputs(run, row, args, kwargs, receiver))


def _iterate(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    what = row.get("of")
    obj.attrs["%evidence"] = True
    if what in ("parameters", "named_parameters"):
        run.watch.parameters_taken(obj)
        return ref(run.watch.membership.iterator(ParamSet(modules.parameters(run, obj), obj), node))
    if what in ("buffers", "named_buffers"):
        return Value(UNKNOWN)
    named = str(what).startswith("named_")
    pairs = (
        list(modules.walk(run, obj))
        if "modules" in str(what)
        else [(name, part) for name, part in modules.registered(run, obj) if part.kind != "leaf"]
    )
    pairs = [(name, part) for name, part in pairs if part.kind != "leaf"]
    holder = Obj("iterator", ("iterator", id(node)))
    if not pairs or obj.kind == "opaque":
        inner = modules.child(run, obj, "?each", node)
        for item in inner.refs:
            if isinstance(item, Obj):
                item.attrs["%module"] = True
        each = inner
        pairs = [("?", r) for r in inner.refs if isinstance(r, Obj)]
    each = Value(OBJECT, refs=tuple(part for _, part in pairs))
    if named:
        names = Value(OBJECT, refs=(NameOf(tuple(pairs)),))
        each = run.container("tuple", Items((names, each)), node)
    holder.attrs["%each"] = each
    return Value(OBJECT, refs=(holder,))


def _member_requires_grad(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    flag = argument(args, kwargs, 0, "requires_grad")
    trains = True if flag is None else bool(flag.const) if flag.is_const else None
    entries = modules.parameters(run, obj)
    if obj.kind == "opaque":
        obj.attrs["%evidence"] = True
    modules.set_frozen(run, entries, trains, node)
    return ref(obj)


def _member_mode(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    value = row.get("value")
    if value == "argument":
        flag = argument(args, kwargs, 0, "mode")
        trains: bool | None = True if flag is None else bool(flag.const) if flag.is_const else None
    else:
        trains = bool(value)
    obj.attrs["%evidence"] = True
    own = modules.find_method(run, obj, "train")
    if trains is False and own is not None and own.node not in run.stack:
        return modules.call_method(run, ref(obj), "train", [FALSE], {}, node)
    modules.set_mode(run, obj, trains, node)
    return ref(obj)


def _self(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return ref(obj)


def _load(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    obj.attrs["%evidence"] = True
    run.watch.loaded(obj, args[0] if args else UNKNOWN_VALUE)
    run.watch.membership.restored(obj)
    return Value(UNKNOWN)


def _state(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    state = Obj("state", ("state", *obj.key))
    state.attrs["%state_of"] = obj
    return Value(OBJECT, refs=(state,))


def _register(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    name = argument(args, kwargs, 0, "name")
    value = argument(args, kwargs, 1, "module", "param", "tensor")
    if "%type" in obj.attrs or (name is not None and not name.is_const and value is None):
        if row.get("what") != "buffer":
            run.watch.parts_injected(obj, node)
        return NONE
    if name is None or value is None:
        return NONE
    if name.is_const and isinstance(name.const, str):
        if row.get("what") == "buffer":
            value = value if value.is_const else Value(TENSOR)
        modules.store_attribute(run, ref(obj), name.const, value, node)
        if row.get("what") == "buffer":
            run.watch.restless.registered(obj, name.const)
        items = obj.attrs.get("%items")
        if isinstance(items, Items):
            known = items.known if isinstance(items.known, dict) else dict(enumerate(items.known))
            run.heap.write(obj, "%items", Items({**known, name.const: value}, items.rest))
    else:
        for item in value.refs:
            if isinstance(item, Obj) and item.owner is None:
                item.owner = (obj, "?")
        run.heap.write(obj, "?", value)
    return NONE


def _apply(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if args:
        parts = tuple(part for _, part in modules.walk(run, obj) if part.kind != "leaf")
        calls.call_value(run, args[0], [Value(OBJECT, refs=parts)], {}, node)
    return ref(obj)


def _hook(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    key = f"%hooks.{row.get('when')}"
    hook = argument(args, kwargs, 0, "hook")
    if hook is not None:
        present = obj.attrs.get(key, ())
        if hook not in present:
            run.heap.write(obj, key, (*present, hook))
            run.asked[id(hook)] = asked_by(run, hook)
    return Value(UNKNOWN)


def _step(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    target = row.get("optimizer", "self")
    if isinstance(target, int):
        value = argument(args, kwargs, target, "optimizer")
        for item in value.refs if value is not None else ():
            if isinstance(item, Obj):
                run.watch.stepped(item, node, by=obj)
        return NONE
    closure = argument(args, kwargs, 0, "closure")
    result: Value = NONE
    if closure is not None and not closure.is_const:
        result = _with_gradient(run, closure, node)
    run.watch.stepped(obj, node)
    return result


def _with_gradient(run: Run, closure: Value, node: ast.AST) -> Value:
    """What a library's optimizer does with the closure it is given: it switches gradient on and calls it."""
    outer, run.regions = run.regions, ()
    try:
        return calls.call_value(run, closure, [], {}, node)
    finally:
        run.regions = outer


def _zero_grad(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    flag = argument(args, kwargs, 0, "set_to_none")
    run.watch.zeroed(obj, node, keeps=flag is not None and flag.is_const and not flag.const)
    return NONE


def _add_group(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    state = obj.attrs.get("%optimizer")
    entries = _parameters_in(run, [*args, *kwargs.values()])
    if isinstance(state, OptimizerState):
        run.heap.write(obj, "%optimizer", state._replace(params=(*state.params, *entries), opaque=state.opaque or not entries))
        run.watch.group_added(obj)
    return NONE


def _scale(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return args[0].replace(trait=Trait("scaled", run.site(node), obj)) if args else UNKNOWN_VALUE


def _unscale(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    position = row.get("optimizer")
    run.watch.unscaled(obj, argument(args, kwargs, position, "optimizer") if isinstance(position, int) else None, node)
    return NONE


def _scaler_update(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    run.watch.scaler_updated(obj, node)
    return NONE


def _scheduler_step(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    run.watch.scheduled(obj, obj.attrs.get("%scheduler"), node, told=bool(args or kwargs))
    return NONE


def _member(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    name = args[0] if args else UNKNOWN_VALUE
    value: Value = ref(obj)
    if not (name.is_const and isinstance(name.const, str)):
        return modules.child(run, obj, "?", node)
    for part in name.const.split("."):
        value = (
            containers.item(run, value, const(int(part)), node)
            if part.isdigit()
            else modules.load_attribute(run, value, part, node)
        )
    return value


def _fit(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    from gradlint.flow.frameworks import drive

    value = argument(args, kwargs, row.get("module", 0), "model", "module")
    for item in value.refs if value is not None else ():
        if isinstance(item, Obj):
            drive(run, item, node)
    if row.get("on") == "self" or value is None:
        drive(run, obj, node)
    return NONE


def _member_wrap(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return _wrap(run, row, row.name, args, kwargs, node)


def _member_copy(run: Run, row: Row, obj: Obj, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return copied(run, ref(obj), node, {})


MEMBER_EFFECTS: dict[str, Callable[[Run, Row, Obj, Args, Kwargs, ast.AST], Value]] = {
    "iterate": _iterate,
    "requires-grad": _member_requires_grad,
    "mode": _member_mode,
    "move": _self,
    "load": _load,
    "state": _state,
    "register": _register,
    "apply": _apply,
    "hook": _hook,
    "step": _step,
    "zero-grad": _zero_grad,
    "add-param-group": _add_group,
    "scale": _scale,
    "unscale": _unscale,
    "scaler-update": _scaler_update,
    "scheduler-step": _scheduler_step,
    "member": _member,
    "fit": _fit,
    "wrap": _member_wrap,
    "copy": _member_copy,
}


def container_member(run: Run, obj: Obj, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """A list or dict method of ModuleList, ModuleDict, Sequential."""
    for value in args:
        run.watch.part_stored(obj, "?", value, node)
        for item in value.refs:
            if isinstance(item, Obj) and item.owner is None:
                item.owner = (obj, "?")
    return containers.method(run, obj, name, args, kwargs, node)  # type: ignore[arg-type]


# Operations on a sum whose summands are still worth telling apart afterwards.
KEEPS_TERMS = frozenset("sum mean stack squeeze unsqueeze reshape view to float double cuda cpu nanmean cat nansum".split())

# Operations that give a value another shape, place or precision, and leave it what it is.
RESHAPES = frozenset(
    "view reshape squeeze unsqueeze flatten unflatten float double half bfloat16 to type cuda cpu contiguous permute transpose"
    " t expand narrow select index_select masked_select clone".split()
)
# Operations that make a loss of a difference.
MAGNITUDES = frozenset(("pow", "square", "abs", "norm"))
MODULE_WORDS = frozenset(
    "parameters named_parameters train eval requires_grad_ modules named_modules children named_children apply".split()
)
SHARED_WORDS = frozenset(
    "to cuda cpu half float double bfloat16 state_dict load_state_dict register_forward_hook get_submodule zero_grad".split()
)
OPTIMIZER_WORDS = frozenset(("step", "zero_grad", "add_param_group"))
SCALER = "torch.amp.GradScaler"
SCALER_WORDS = frozenset(("scale", "unscale_", "step", "update"))


def known_method(run: Run, obj: Obj, name: str) -> bool:
    """Whether a method of an object nobody can see into is known by its name all the same."""
    return (
        name in MODULE_WORDS
        or name in SHARED_WORDS
        or name in OPTIMIZER_WORDS
        or run.program.knowledge.member("torch.Tensor", name) is not None
    )


def unknown_method(run: Run, obj: Obj, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """A method of an object the analysis cannot see into, understood by its name where only one thing can be meant."""
    kind = obj.attrs.get("%type")
    if isinstance(kind, str):
        member = run.program.knowledge.member(kind, name)
        if member is not None:
            return member_call(run, member, obj, args, kwargs, node)
    if obj.kind == "opaque" and name in MODULE_WORDS and not (name in ("train", "eval") and len(args) > 1):
        member = run.program.knowledge.member(modules.MODULE, name)
        if member is not None and not (name == "train" and kwargs.keys() - {"mode"}):
            return member_call(run, member, obj, args, kwargs, node)
    if obj.kind == "opaque" and name in SCALER_WORDS and "scaler" in obj.name().lower():
        member = run.program.knowledge.member(SCALER, name)
        if member is not None and (name != "step" or args):
            obj.attrs.setdefault("%scaler", "maybe")
            return member_call(run, member, obj, args, kwargs, node)
    if obj.kind == "opaque" and name in OPTIMIZER_WORDS:
        if name == "step":
            closure = args[0] if args else None
            if closure is not None and any(isinstance(r, FunctionRef) for r in closure.refs):
                _with_gradient(run, closure, node)
            run.watch.stepped(obj, node)
        elif name == "zero_grad":
            run.watch.zeroed(obj, node, keeps=False)
        if not args or name != "step":
            return NONE
    if obj.kind == "opaque" and name in SHARED_WORDS:
        member = run.program.knowledge.member(modules.MODULE, name)
        if member is not None:
            return member_call(run, member, obj, args, kwargs, node)
    if obj.kind == "opaque":
        row = run.program.knowledge.member("torch.Tensor", name)
        if row is not None and row.effect == "backward":
            value = argument(args, kwargs, 0)
            if value is not None and value.depends:
                run.watch.backward(value, node)
            else:
                run.watch.backward_unseen(obj, node)
            return NONE
        if row is not None and row.effect in ("cut", "python", "flow", "nondifferentiable", "inplace", "move", "constant"):
            flow = obj.attrs.get("%flow")
            if isinstance(flow, Value) and flow.depends:
                return _tensor_effect(run, row, name, flow, args, kwargs, node, f".{name}()")
            return Value(UNKNOWN, refs=(obj,), opaque=True) if row.effect in ("cut", "move", "flow") else Value(UNKNOWN)
    values = [*args, *kwargs.values()]
    run.watch.handed(values, node, obj)
    if obj.kind == "instance" and not modules.is_module(run, obj):
        return _loose(run, [*values, *(m for v in values for m in modules.module_sources(run, v))])
    inputs = [*_tensors(run, values), *(m for v in values for m in modules.module_sources(run, v))]
    flow = obj.attrs.get("%flow")
    if isinstance(flow, Value):
        inputs.append(flow)
    if modules.is_module(run, obj) and obj.kind != "opaque":
        inputs.append(Value(TENSOR, frozenset(e.owner for e in modules.parameters(run, obj))))
    elif obj.kind == "opaque":
        inputs.append(Value(TENSOR, frozenset((obj,))))
        run.watch.forward(obj, node)
    result = run.flow(inputs, UNKNOWN)
    params = _parameters_in(run, values)
    if params:
        made = run.allocate("opaque", node, tag=name)
        run.watch.membership.handed(params)
        made.attrs["%candidate"] = params
        return result.replace(refs=(made,), opaque=True, tags=guessed(result))
    return result.replace(opaque=True, tags=guessed(result))


def unknown_call(run: Run, target: Value, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """A call of a value that is not known to be anything."""
    values = [*args, *kwargs.values()]
    run.watch.handed(values, node)
    modules.feed(values)
    found = [m for v in values for m in modules.module_sources(run, v)]
    params = _parameters_in(run, values)
    result = _loose(run, [*values, *found])
    if params:
        made = run.allocate("opaque", node, tag="call")
        run.watch.membership.handed(params)
        made.attrs["%candidate"] = params
        return result.replace(refs=(made,), opaque=True)
    return result.replace(opaque=True)


def base_init(run: Run, obj: Obj, base: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """``super().__init__(…)`` reaching a library class."""
    row = run.program.knowledge.get(base)
    if row is None:
        return NONE
    if row.effect == "module" and row.get("container"):
        _fill(run, obj, str(row.get("container")), args, kwargs, node)
    elif row.effect == "optimizer" or modules.OPTIMIZER in run.program.knowledge.lineage(base):
        make_optimizer(run, obj, [*args, *kwargs.values()], node, None)
        obj.attrs["%optimizer"] = obj.attrs["%optimizer"]._replace(skips_none=not _fills_missing_gradients(run, obj))
    elif row.effect == "distribution":
        flow = run.flow(_inputs(run, row, args, kwargs))
        obj.attrs["%flow"] = Value(TENSOR, flow.live, flow.dead)
    elif row.effect == "framework":
        for name, value in kwargs.items():
            modules.store_attribute(run, ref(obj), name, value, node)
    framework = run.program.knowledge.framework(base)
    if framework is not None and row.effect != "module":
        for name, value in kwargs.items():
            if name not in obj.attrs:
                modules.store_attribute(run, ref(obj), name, value, node)
    return NONE


def field_default(run: Run, cls: ClassInfo, default: ast.expr) -> Value:
    """The default of a dataclass field, ``field(default_factory=…)`` included."""
    from gradlint.flow.expressions import evaluate

    caller = run.frame
    run.frame = run.program.file_frame(run, cls.file)
    try:
        if isinstance(default, ast.Call):
            last = default.func.attr if isinstance(default.func, ast.Attribute) else getattr(default.func, "id", "")
            if last in ("field", "Field", "ib", "attrib"):
                for keyword in default.keywords:
                    if keyword.arg == "default":
                        return evaluate(run, keyword.value)
                    if keyword.arg in ("default_factory", "factory"):
                        return calls.call_value(run, evaluate(run, keyword.value), [], {}, default)
                return UNKNOWN_VALUE
        return evaluate(run, default)
    finally:
        run.frame = caller


# -- tensors -------------------------------------------------------------------------------------------------------------


def tensor_attribute(run: Run, value: Value, name: str, node: ast.AST) -> Value:
    """``tensor.name``."""
    leaf = next((r for r in value.refs if isinstance(r, Obj) and r.kind == "leaf"), None)
    params = next((r for r in value.refs if isinstance(r, ParamSet)), None)
    row = run.program.knowledge.member("torch.Tensor", name)
    if row is not None:
        if row.effect == "cut" and row.get("attribute"):
            source = value
            if params is not None and not value.live:
                source = Value(TENSOR, frozenset(e.owner for r in value.refs if isinstance(r, ParamSet) for e in r.entries))
            result = run.sever(source, run.cut(row.get("kind", "data"), "attribute", f".{name}", node))
            return result.replace(refs=(DataOf(params),)) if params is not None else result
        if row.effect == "requires-grad" and row.get("attribute"):
            return _tracked(run, value, leaf)
        if row.effect == "constant":
            return Value(TENSOR) if name == "grad" else Value(CONST)
        if row.get("attribute"):
            return run.flow((value,), value.kind)
    if value.kind in (CONST,) and not value.depends:
        return Value(UNKNOWN)
    if value.depends:
        if value.kind == TENSOR and row is not None and not row.get("attribute"):
            return ref(LibRef(f"torch.Tensor.{name}", Value(value.kind, value.live, value.dead, tags=value.tags)))
        if value.kind == ARRAY:
            return Value(CONST) if name in ("shape", "dtype", "size", "ndim") else run.flow((value,), ARRAY)
        result = run.flow((value,), UNKNOWN if value.kind == UNKNOWN else value.kind)
        return result.replace(terms=value.terms if name in ("T", "mT") else ())
    return Value(UNKNOWN, opaque=value.opaque)


def _tracked(run: Run, value: Value, leaf: Obj | None) -> Value:
    """``tensor.requires_grad``, where it is known."""
    if leaf is not None:
        state = modules.frozen(leaf)
        return UNKNOWN_VALUE if state == "maybe" else const(not state)
    if run.regions and not value.live and value.region is not None:
        return FALSE  # made where gradient is off
    if value.opaque or any(isinstance(r, ParamSet) for r in value.refs):
        return UNKNOWN_VALUE
    if value.live and all(modules.frozen(s) is False for s in value.live if s.kind != "opaque"):
        return TRUE if any(s.kind != "opaque" for s in value.live) else UNKNOWN_VALUE
    return FALSE if value.dead and not value.live else UNKNOWN_VALUE


def tensor_method(run: Run, receiver: Value, name: str, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """``tensor.name(…)``; also of values that are not known to be tensors, where the name is a tensor's."""
    row = run.program.knowledge.member("torch.Tensor", name)
    if not receiver.live and any(isinstance(r, ParamSet) for r in receiver.refs) and not receiver.dead:
        owners = frozenset(e.owner for r in receiver.refs if isinstance(r, ParamSet) for e in r.entries)
        receiver = Value(TENSOR, owners, refs=receiver.refs)
    if receiver.is_const and isinstance(receiver.const, str):
        return _string_method(receiver.const, name, args)
    if name in MAGNITUDES and receiver.live:
        run.watch.crossings.squared(receiver)
    if row is None:
        result = run.flow(
            [receiver, *_inputs(run, None, args, kwargs), *(m for v in args for m in modules.module_sources(run, v))],
            receiver.kind,
        )
        if name in KEEPS_TERMS and not args and not run.regions:
            result.terms = receiver.terms
        if name in RESHAPES:
            result.trait = _kept(receiver.trait)
        if name in VIEWS and not run.regions:
            result.region = receiver.region
        if name in SAME_MEMORY and result.live:
            result.saved = receiver.saved
        if name.endswith("_") and not name.startswith("_"):
            _rebind(run, node, result)
        return result.replace(opaque=result.opaque or (receiver.kind == UNKNOWN and not receiver.depends))
    if receiver.kind == NUMBER and row.effect in ("cut", "python"):
        return receiver
    if receiver.kind == ARRAY and row.effect != "backward":
        return run.flow([receiver, *_inputs(run, row, args, kwargs)], ARRAY)
    return _tensor_effect(run, row, name, receiver, args, kwargs, node, _method_name(node, name))


def _tensor_effect(
    run: Run, row: Row, name: str, receiver: Value, args: Args, kwargs: Kwargs, node: ast.AST, api: str
) -> Value:
    effect = row.effect
    if effect == "backward":
        run.watch.backward(receiver, node)
        return NONE
    if effect == "cut":
        if row.get("kind") == "detach" and not row.get("inplace"):
            run.watch.autograd.detached(receiver, node)
        result = run.flow((receiver,), receiver.kind if receiver.kind != UNKNOWN else TENSOR)
        result = run.sever(result, _correction(run.cut(row.get("kind", "detach"), "call", api, node), node))
        result.terms = ()
        if name in VIEWS and not run.regions:
            result.region = receiver.region
        if row.get("inplace"):
            run.watch.leaks.freed(receiver)
            _rebind(run, node, result)
        return result
    if effect == "requires-grad":
        return _tensor_requires_grad(run, receiver, args, kwargs, node)
    if effect == "python":
        kind = ARRAY if row.get("numpy") else NUMBER if name != "tolist" else ARRAY
        result = run.flow((receiver,), kind)
        if result.depends:
            result = run.sever(result, run.cut("python", "call", api, node), kind)
        return result.replace(opaque=False, kind=kind)
    if effect == "constant":
        if _requires_grad(kwargs):
            return _new_leaf(run, node)
        return Value(TENSOR) if name.startswith("new_") or name.endswith("_like") else Value(CONST)
    inputs = _inputs(run, row, args, kwargs, receiver)
    if effect == "inplace":
        run.watch.written(receiver)
        for item in receiver.refs:
            if isinstance(item, DataOf | ParamSet) and any(isinstance(r, DataOf | ParamSet) for v in args for r in v.refs):
                run.watch.copied_into(item.params if isinstance(item, DataOf) else item)
        result = run.flow(inputs[1:] if row.get("overwrites") else inputs, TENSOR)
        if run.regions and (receiver.live or any(isinstance(r, Obj) for r in receiver.refs)):
            # a write that autograd does not see leaves the receiver what it was
            return receiver
        result = result.replace(refs=tuple(r for r in receiver.refs if isinstance(r, Obj) and r.kind == "leaf"))
        result = run.watch.mutations.method(receiver, result, name, node)
        _rebind(run, node, result)
        return result
    if effect == "nondifferentiable":
        if row.get("when_dim") and isinstance(row.get("results"), tuple) and not args and not kwargs:
            return run.flow(inputs)
        result = run.flow(inputs)
        if result.depends:
            result = run.sever(result, run.cut("nondifferentiable", "call", api, node))
        if row.get("inplace"):
            _rebind(run, node, result)
        return result.replace(opaque=False)
    if effect == "hook":
        return Value(UNKNOWN)
    result = run.flow(inputs)
    if isinstance(row.get("results"), tuple):
        return _results(run, row, result, node, bool(args) or bool(kwargs))
    if row.get("device") == "cpu" or (row.get("device") == "argument" and _to_cpu(args, kwargs) and _spelled_out(node)):
        result = _mark_cpu(run, result, node)
    if name in ("to", "type") and _to_integer(args, kwargs) and result.live:
        return run.sever(result, run.cut("nondifferentiable", "call", api, node))
    if name in KEEPS_TERMS and not run.regions and not any(v.depends for v in args):
        result.terms = receiver.terms
    if row.get("squash"):
        result.trait = Trait(str(row.get("squash")), run.site(node))
    elif name in RESHAPES:
        result.trait = _kept(receiver.trait)
    if name in VIEWS and not run.regions:
        result.region = receiver.region
    result = _saved(run, row, result, receiver, kwargs, node)
    if effect == "move":
        result = result.replace(opaque=receiver.opaque, kind=receiver.kind if receiver.kind != CONST else TENSOR)
    if name in RESHAPES and any(isinstance(r, Obj) and r.kind == "leaf" for r in receiver.refs):
        result.trait = Trait("moved", run.site(node))
    return result


def _correction(cut: Cut, node: ast.AST) -> Cut:
    """Mark the cut of a difference, as in ``x + (y - x).detach()``: it changes a value and leaves its gradient alone."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        inner = node.func.value
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Sub):
            cut.correction = True
    return cut


def _tensor_requires_grad(run: Run, receiver: Value, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    flag = argument(args, kwargs, 0, "requires_grad")
    trains = True if flag is None else bool(flag.const) if flag.is_const else None
    owners = [r for r in receiver.refs if isinstance(r, Obj) and r.kind == "leaf"]
    if owners:
        modules.set_frozen(run, tuple(Parameter(o, o.name()) for o in owners), trains, node)
        return receiver
    if trains is False:
        return receiver
    if receiver.live:
        return receiver
    if receiver.dead:
        value = _revived(run, receiver, node)
    else:
        value = _new_leaf(run, node, "%input")
    _rebind(run, node, value)
    return value


def _rebind(run: Run, node: ast.AST, value: Value) -> None:
    """Give the receiver of an in-place method its new value."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return
    target = node.func.value
    while isinstance(target, ast.Subscript):
        target = target.value
    if isinstance(target, ast.Name):
        if target.id in run.frame.env:
            run.frame.env[target.id] = value
    elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        from gradlint.flow.expressions import evaluate

        holder = evaluate(run, target.value)
        for item in holder.refs:
            if isinstance(item, Obj) and item.kind == "instance" and target.attr in item.attrs:
                old = item.attrs[target.attr]
                if isinstance(old, Value) and not any(isinstance(r, Obj) for r in old.refs):
                    run.heap.write(item, target.attr, value)


def _to_cpu(args: Args, kwargs: Kwargs) -> bool:
    value = argument(args, kwargs, 0, "device")
    return value is not None and value.is_const and value.const == "cpu"


def _spelled_out(node: ast.AST) -> bool:
    """Whether the call itself says which device: a variable that happens to hold "cpu" is a choice, not a detour."""
    return isinstance(node, ast.Call) and not any(
        isinstance(part, ast.Name | ast.Attribute) and not isinstance(part.ctx, ast.Store)
        for argument_node in (*node.args, *(k.value for k in node.keywords))
        for part in ([argument_node] if not isinstance(argument_node, ast.Call) else argument_node.args)
    )


def _to_integer(args: Args, kwargs: Kwargs) -> bool:
    for value in (*args[:1], *(kwargs[k] for k in ("dtype",) if k in kwargs)):
        for item in value.refs:
            if isinstance(item, LibRef) and item.name.rpartition(".")[2] in (
                "long",
                "int",
                "int64",
                "int32",
                "int16",
                "int8",
                "uint8",
                "bool",
                "short",
                "LongTensor",
                "BoolTensor",
                "IntTensor",
            ):
                return True
    return False


def _mark_cpu(run: Run, value: Value, node: ast.AST) -> Value:
    if not run.program.uses_accelerator or not value.depends:
        return value
    name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else "cpu"
    mark = run.cut("cpu", "call", _method_name(node, name), node)
    dead = {(s, cuts if mark in cuts or len(cuts) >= 6 else (*cuts, mark)): trail for (s, cuts), trail in value.dead.items()}
    # what comes from somewhere unknown that no optimizer holds may be data as well
    trains = any(source.kind != "opaque" or "%evidence" in source.attrs or source.parent is not None for source in value.live)
    return value.replace(marks=value.marks | {mark} if trains else value.marks, dead=dead)


def _string_method(text: str, name: str, args: Args) -> Value:
    if all(a.is_const for a in args) and name in (
        "lower",
        "upper",
        "strip",
        "split",
        "replace",
        "startswith",
        "endswith",
        "format",
        "join",
        "removeprefix",
    ):
        try:
            result = getattr(text, name)(*[a.const for a in args])
        except Exception:
            return Value(CONST)
        return const(tuple(result) if isinstance(result, list) else result)
    return Value(CONST)
