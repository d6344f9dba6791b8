"""Python's own functions on abstract values."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

from gradlint.flow import calls, containers, modules
from gradlint.flow.heap import ClassRef, FunctionRef, Items, LibRef, NameOf, Obj, ParamSet, PartialRef
from gradlint.flow.lattice import (
    CONST,
    CONSTANT_NUMBER,
    FALSE,
    NONE,
    NUMBER,
    TENSOR,
    TRUE,
    UNKNOWN,
    UNKNOWN_VALUE,
    Value,
    const,
    join,
    join_all,
    ref,
)

if TYPE_CHECKING:
    from gradlint.flow.run import Run

Args = list[Value]
Kwargs = dict[str, Value]


def _len(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if args:
        items = containers.contents(run, args[0])
        if items is not None and items.rest is None:
            return const(len(items.known))
    return CONSTANT_NUMBER


def _range(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    bounds = [a.const for a in args if isinstance(a.const, int)]
    if args and len(bounds) == len(args):
        numbers = range(*bounds)
        if 0 < len(numbers) <= 3:
            return run.container("list", Items(tuple(const(i) for i in numbers)), node)
    return run.container("list", Items((), CONSTANT_NUMBER), node)


def _enumerate(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return _zip(run, [run.container("list", Items((), CONSTANT_NUMBER), node), *args[:1]], {}, node, counted=True)


def _zip(run: Run, args: Args, kwargs: Kwargs, node: ast.AST, *, counted: bool = False) -> Value:
    values = args[1:] if counted else args
    exact = [containers.iteration(run, v, 16) for v in values]
    if exact and all(e is not None and e.unrolled for e in exact):
        length = min(len(e.values) for e in exact)  # type: ignore[union-attr]
        rows = []
        for i in range(length):
            row = [e.values[i] for e in exact]  # type: ignore[union-attr]
            if counted:
                row.insert(0, const(i))
            rows.append(run.container("tuple", Items(tuple(row)), node))
        return run.container("list", Items(tuple(rows)), node)
    parts = [containers.element(run, v, node) for v in values]
    if counted:
        parts.insert(0, CONSTANT_NUMBER)
    return run.container("list", Items((), run.container("tuple", Items(tuple(parts)), node)), node)


def _map(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if len(args) < 2:
        return UNKNOWN_VALUE
    items = containers.iteration(run, args[1], 8) if len(args) == 2 else None
    if items is not None and items.unrolled:
        return run.container("list", Items(tuple(calls.call_value(run, args[0], [v], {}, node) for v in items.values)), node)
    parts = [containers.element(run, v, node) for v in args[1:]]
    return run.container("list", Items((), calls.call_value(run, args[0], parts, {}, node)), node)


def _filter(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if len(args) < 2:
        return UNKNOWN_VALUE
    for item in args[1].refs:
        if isinstance(item, ParamSet):
            run.watch.membership.consumed(args[1], node)
            kept = _filter_parameters(run, args[0], item)
            made = next((r for r in kept.refs if isinstance(r, ParamSet)), None)
            return kept if made is None else kept.replace(refs=(run.watch.membership.iterator(made, node),))
    return args[1]


def _filter_parameters(run: Run, test: Value, params: ParamSet) -> Value:
    """``filter(lambda p: p.requires_grad, params)``."""
    from gradlint.flow.conditions import narrow
    from gradlint.flow.frame import Frame

    for item in test.refs:
        if isinstance(item, FunctionRef) and isinstance(item.info.node, ast.Lambda) and item.info.node.args.args:
            caller = run.frame
            run.frame = Frame(item.info.file, item.info, item.closure)
            name = item.info.node.args.args[0].arg
            run.frame.env[name] = ref(params)
            try:
                if not narrow(run, item.info.node.body, True):
                    return ref(ParamSet((), params.root))
                return run.frame.env[name]
            finally:
                run.frame = caller
    return ref(ParamSet(tuple(e._replace(certain=False) for e in params.entries), params.root))


def _list(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if not args:
        return run.container("list", Items(()), node)
    value = args[0]
    if any(isinstance(r, ParamSet | NameOf) for r in value.refs):
        run.watch.membership.consumed(value, node)
        return value.replace(refs=tuple(ParamSet(r.entries, r.root) if isinstance(r, ParamSet) else r for r in value.refs))
    items = containers.contents(run, value)
    if items is not None:
        known = tuple(const(k) for k in items.known) if isinstance(items.known, dict) else items.known
        return run.container("list", Items(known, items.rest if not isinstance(items.known, dict) else None), node)
    return run.container("list", Items((), containers.element(run, value, node)), node)


def _tuple(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    made = _list(run, args, kwargs, node)
    for item in made.refs:
        if isinstance(item, Obj) and item.kind == "list":
            return run.container("tuple", item.attrs["%items"], node)
    return made


def _dict(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    known: dict[object, Value] = {}
    rest: Value | None = None
    for value in args:
        items = containers.contents(run, value)
        if items is not None and isinstance(items.known, dict):
            known.update(items.known)
            rest = items.rest
        else:
            rest = containers.element(run, value, node)
    known.update({k: v for k, v in kwargs.items() if k != "**"})
    return run.container("dict", Items(known, rest), node)


def _set(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    made = _list(run, args, kwargs, node)
    for item in made.refs:
        if isinstance(item, Obj) and item.kind == "list":
            return run.container("set", item.attrs["%items"], node)
    return made


def _sum(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if not args:
        return CONSTANT_NUMBER
    value = args[0]
    items = containers.contents(run, value)
    if items is None:
        return run.flow([containers.element(run, value, node), *args[1:2]], TENSOR if value.kind == TENSOR else UNKNOWN)
    if isinstance(items.known, dict):
        return CONSTANT_NUMBER
    if any(isinstance(r, Obj) and r.kind in ("list", "tuple") for v in items.known[:1] for r in v.refs):
        joined = run.container("list", Items((), join_all(items.known)), node)
        return containers.element(run, joined, node)
    values = [*items.known, *([items.rest] if items.rest is not None else []), *args[1:2]]
    return containers.summed(run, values)


def _pick(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """min, max, abs, pow, divmod: gradient flows through."""
    if len(args) == 1:
        if args[0].refs:
            return containers.element(run, args[0], node)
        return run.flow(args, args[0].kind)
    if all(a.is_const for a in args) and not kwargs:
        return CONSTANT_NUMBER
    return run.flow(args, TENSOR if any(a.kind == TENSOR for a in args) else NUMBER)


def _abs(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return run.flow(args, args[0].kind if args and args[0].kind != CONST else NUMBER)


def _isinstance(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if len(args) == 2 and len(args[0].refs) >= 1 and not args[0].depends:
        verdicts = {modules.is_instance(run, item, args[1]) for item in args[0].refs}
        if len(verdicts) == 1:
            verdict = verdicts.pop()
            if verdict is not None:
                return TRUE if verdict else FALSE
    if len(args) == 2 and not args[0].refs:
        names = {r.name for v in containers.everything(run, args[1]) for r in v.refs if isinstance(r, LibRef)}
        if names:
            if args[0].kind == TENSOR:
                if names <= {"torch.Tensor"}:
                    return TRUE
                if all(n.startswith("builtins.") for n in names):
                    return FALSE
            if args[0].is_const:
                here = f"builtins.{type(args[0].const).__name__}"
                if here in names:
                    return TRUE
                if all(n.startswith(("builtins.", "torch.")) for n in names):
                    return FALSE
    return UNKNOWN_VALUE


def _hasattr(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if len(args) == 2 and args[1].is_const and len(args[0].refs) == 1:
        item, name = args[0].refs[0], str(args[1].const)
        if isinstance(item, Obj) and item.kind == "instance":
            if name in item.attrs or modules.find_method(run, item, name) is not None:
                return TRUE
            if item.cls is not None and run.program.class_value(run, item.cls, name) is not None:
                return TRUE
            if not any(True for _ in modules.library_bases(run, item)):
                return FALSE
            if (
                modules.is_module(run, item)
                and run.program.knowledge.member(modules.MODULE, name) is None
                and name not in ("device", "dtype")
            ):
                return FALSE
    return UNKNOWN_VALUE


def _getattr(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if len(args) >= 2 and args[1].is_const and isinstance(args[1].const, str):
        if len(args) == 3:
            present = _hasattr(run, args[:2], {}, node)
            if present is FALSE:
                return args[2]
        value = modules.load_attribute(run, args[0], args[1].const, node)
        if len(args) == 3 and args[2].is_const and args[2].const is not None and not value.refs and not value.is_const:
            return join(value, args[2])
        return value
    if args:
        for item in args[0].refs:
            if isinstance(item, Obj) and item.kind == "instance":
                held = [v for k, v in item.attrs.items() if isinstance(v, Value) and not k.startswith("%")]
                flow = run.flow([w for v in held for w in containers.everything(run, v)], UNKNOWN)
                return Value(UNKNOWN, flow.live, flow.dead, opaque=True)
            if isinstance(item, LibRef) and run.program.knowledge.canonical(item.name) == modules.OPTIMIZER.rpartition(".")[0]:
                return ref(LibRef(modules.OPTIMIZER))  # one of them, whichever
            if isinstance(item, LibRef):
                found = run.allocate("opaque", node, tag="getattr")
                found.attrs["%chosen_from"] = item.name
                return Value(UNKNOWN, refs=(found,), opaque=True)
        return run.flow((args[0],), UNKNOWN)
    return UNKNOWN_VALUE


def _setattr(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if len(args) == 3:
        name = args[1].const if args[1].is_const and isinstance(args[1].const, str) else None
        if name is not None:
            modules.store_attribute(run, args[0], name, args[2], node)
        for item in args[1].refs:
            if isinstance(item, NameOf):
                _set_each(run, args[0], item, args[2], node)
    return NONE


def _set_each(run: Run, holders: Value, names: NameOf, value: Value, node: ast.AST) -> None:
    """``setattr(parent, name, …)`` for the names and parts an iteration yields: each part is replaced where it sits."""
    for name, part in names.group:
        if isinstance(part, Obj) and part.owner is not None and any(part.owner[0] is h for h in holders.refs):
            holder = part.owner[0]
            items = holder.attrs.get("%items")
            if isinstance(items, Items):
                run.watch.part_stored(holder, name, value, node)
                known = items.known if isinstance(items.known, dict) else {str(i): v for i, v in enumerate(items.known)}
                run.heap.write(holder, "%items", Items({**known, name.rpartition(".")[2]: value}, items.rest))
            else:
                modules.store_attribute(run, ref(holder), name.rpartition(".")[2], value, node)


def _to_number(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if not args:
        return CONSTANT_NUMBER
    value = args[0]
    if value.is_const:
        return value if isinstance(value.const, int | float) else Value(CONST)
    result = run.flow((value,), NUMBER)
    if result.live:
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else "float"
        result = run.sever(result, run.cut("python", "call", f"{name}()", node), NUMBER)
    return result.replace(opaque=False, kind=NUMBER)


def _bool(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    from gradlint.flow.conditions import decide

    if args:
        known = decide(run, args[0])
        if known is not None:
            return TRUE if known else FALSE
    return UNKNOWN_VALUE


def _round(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    result = run.flow(args[:1], args[0].kind if args and args[0].kind != CONST else NUMBER)
    if result.live:
        return run.sever(result, run.cut("nondifferentiable", "call", "round()", node))
    return result


def _partial(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return ref(PartialRef(args[0], tuple(args[1:]), tuple(kwargs.items()))) if args else UNKNOWN_VALUE


def _chain(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    params = [r for v in args for w in containers.everything(run, v) for r in w.refs if isinstance(r, ParamSet)]
    if params:
        for value in args:
            run.watch.membership.consumed(value, node)
        joined = ParamSet(tuple(dict.fromkeys(e for p in params for e in p.entries)), params[0].root)
        return ref(run.watch.membership.iterator(joined, node))
    known: list[Value] = []
    for value in args:
        items = containers.iteration(run, value, 16)
        if items is not None and items.unrolled:
            known.extend(items.values)
        else:
            return run.container("list", Items((), join_all([*known, *(containers.element(run, v, node) for v in args)])), node)
    return run.container("list", Items(tuple(known)), node)


def _same(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return args[0] if args else UNKNOWN_VALUE


def _next(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if not args:
        return UNKNOWN_VALUE
    for item in args[0].refs:
        if isinstance(item, ParamSet):
            # next(model.parameters()) is asked for its device or dtype
            return Value(TENSOR, frozenset(e.owner for e in item.entries[:1]), refs=(ParamSet(item.entries[:1], item.root),))
    return containers.element(run, args[0], node)


def _type(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    for item in args[0].refs if args else ():
        if isinstance(item, Obj) and item.cls is not None:
            return ref(ClassRef(item.cls))
        if isinstance(item, Obj) and item.kind == "library" and item.row is not None:
            return ref(LibRef(item.row.name))
    return UNKNOWN_VALUE


def _constant(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return Value(CONST)


def _unknown(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return UNKNOWN_VALUE


def _nothing(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return NONE


def _reduce(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    if len(args) < 2:
        return UNKNOWN_VALUE
    items = containers.iteration(run, args[1], 8)
    if items is not None and items.unrolled and items.values:
        values = [*args[2:3], *items.values]
        result = values[0]
        for value in values[1:]:
            result = calls.call_value(run, args[0], [result, value], {}, node)
        return result
    return containers.element(run, args[1], node)


def _operator_add(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return containers.summed(run, args[:2])


def _any(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return UNKNOWN_VALUE


def _object_setattr(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """``object.__setattr__(module, name, part)``: the part is kept out of what the module registers."""
    if len(args) == 3 and args[1].is_const:
        for item in args[0].refs:
            if isinstance(item, Obj):
                run.heap.write(item, f"%hidden.{args[1].const}", True)
                run.heap.write(item, str(args[1].const), args[2])
    return NONE


def _defaultdict(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    rest = calls.call_value(run, args[0], [], {}, node) if args and args[0].refs else None
    return run.container("dict", Items({}, rest), node)


def _identity_decorator(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    return args[0] if args else UNKNOWN_VALUE


def _namedtuple(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    """``namedtuple("Step", "state reward")``: what it makes are tuples whose items have names."""
    fields = args[1] if len(args) > 1 else kwargs.get("field_names", UNKNOWN_VALUE)
    if fields.is_const and isinstance(fields.const, str):
        names: list[str] | None = fields.const.replace(",", " ").split()
    else:
        names = containers.strings(run, fields)
    if names is None:
        return UNKNOWN_VALUE
    return ref(PartialRef(ref(LibRef("builtins.%record")), (const(tuple(names)),), ()))


def _record(run: Run, args: Args, kwargs: Kwargs, node: ast.AST) -> Value:
    names = args[0].const if args and args[0].is_const else ()
    if not isinstance(names, tuple):
        return UNKNOWN_VALUE
    given = dict(zip(names, args[1:], strict=False)) | kwargs
    made = run.container("tuple", Items(tuple(given.get(name, UNKNOWN_VALUE) for name in names)), node)
    obj = made.refs[0]
    assert isinstance(obj, Obj)
    obj.attrs.update(given)
    return made


BUILTINS: dict[str, Callable[[Run, Args, Kwargs, ast.AST], Value]] = {
    "builtins.len": _len,
    "builtins.range": _range,
    "builtins.enumerate": _enumerate,
    "builtins.zip": _zip,
    "builtins.map": _map,
    "builtins.filter": _filter,
    "builtins.list": _list,
    "builtins.tuple": _tuple,
    "builtins.dict": _dict,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.sorted": _list,
    "builtins.reversed": _list,
    "builtins.iter": _same,
    "builtins.next": _next,
    "builtins.sum": _sum,
    "builtins.min": _pick,
    "builtins.max": _pick,
    "builtins.abs": _abs,
    "builtins.pow": _pick,
    "builtins.divmod": _pick,
    "builtins.isinstance": _isinstance,
    "builtins.issubclass": _unknown,
    "builtins.hasattr": _hasattr,
    "builtins.getattr": _getattr,
    "builtins.setattr": _setattr,
    "builtins.float": _to_number,
    "builtins.int": _to_number,
    "builtins.bool": _bool,
    "builtins.round": _round,
    "builtins.str": _constant,
    "builtins.repr": _constant,
    "builtins.format": _constant,
    "builtins.print": _nothing,
    "builtins.id": _constant,
    "builtins.hash": _constant,
    "builtins.callable": _unknown,
    "builtins.type": _type,
    "builtins.open": _unknown,
    "builtins.vars": _unknown,
    "builtins.any": _any,
    "builtins.all": _any,
    "builtins.object": _unknown,
    "builtins.object.__setattr__": _object_setattr,
    "builtins.%identity": _identity_decorator,
    "functools.partial": _partial,
    "functools.reduce": _reduce,
    "operator.add": _operator_add,
    "itertools.chain": _chain,
    "itertools.chain.from_iterable": _chain,
    "itertools.cycle": _same,
    "itertools.islice": _same,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _defaultdict,
    "collections.deque": _list,
    "collections.namedtuple": _namedtuple,
    "builtins.%record": _record,
}
