"""Evaluating expressions abstractly."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradlint.flow import calls, containers, modules
from gradlint.flow.conditions import decide, narrow
from gradlint.flow.frame import Frame
from gradlint.flow.heap import ClassRef, FunctionRef, Items, LibRef, Obj, ParamSet
from gradlint.flow.lattice import (
    ARRAY,
    CONST,
    CONSTANT_NUMBER,
    CONSTANT_TENSOR,
    FALSE,
    MAX_TERMS,
    NONE,
    NUMBER,
    OBJECT,
    TENSOR,
    TRUE,
    UNKNOWN,
    UNKNOWN_VALUE,
    Trait,
    Value,
    const,
    join,
    join_all,
    ref,
    same_flow,
)
from gradlint.flow.reading import names_in

if TYPE_CHECKING:
    from gradlint.flow.run import Run

TEXT = Value(CONST)


def evaluate(run: Run, node: ast.expr) -> Value:
    """The abstract value of an expression, with its effects on the run."""
    return HANDLERS[type(node)](run, node)


def _constant(run: Run, node: ast.Constant) -> Value:
    return const(node.value)


def _name(run: Run, node: ast.Name) -> Value:
    name = node.id
    frame: Frame | None = run.frame
    file_frame = run.frame
    while frame is not None:
        value = frame.env.get(name)
        if value is not None:
            return value
        file_frame = frame
        frame = frame.outer
    return run.program.global_value(run, file_frame.file, name)


def _attribute(run: Run, node: ast.Attribute) -> Value:
    holder = evaluate(run, node.value)
    if node.attr == "grad":
        run.watch.gradient_touched(holder, node)
    return modules.load_attribute(run, holder, node.attr, node)


def _subscript(run: Run, node: ast.Subscript) -> Value:
    holder = evaluate(run, node.value)
    index = evaluate(run, node.slice)
    return containers.item(run, holder, index, node)


def _slice(run: Run, node: ast.Slice) -> Value:
    bounds: list[object] = []
    for part in (node.lower, node.upper, node.step):
        if part is None:
            bounds.append(None)
            continue
        value = evaluate(run, part)
        if not value.is_const:
            return Value(NUMBER)
        bounds.append(value.const)
    try:
        return const(slice(*bounds))
    except TypeError:
        return Value(NUMBER)


def _tuple(run: Run, node: ast.Tuple | ast.List | ast.Set) -> Value:
    known: list[Value] = []
    rest: Value | None = None
    for element in node.elts:
        if isinstance(element, ast.Starred):
            value = evaluate(run, element.value)
            inner = containers.contents(run, value)
            if inner is not None and rest is None and isinstance(inner.known, tuple):
                known.extend(inner.known)
                rest = inner.rest
            elif any(isinstance(r, ParamSet) for r in value.refs):
                known.append(value)
            else:
                item = containers.element(run, value, node)
                rest = item if rest is None else join(rest, item)
        else:
            value = evaluate(run, element)
            if rest is None:
                known.append(value)
            else:
                rest = join(rest, value)
    kind = "tuple" if isinstance(node, ast.Tuple) else "list" if isinstance(node, ast.List) else "set"
    return run.container(kind, Items(tuple(known), rest), node)


def _dict(run: Run, node: ast.Dict) -> Value:
    known: dict[object, Value] = {}
    rest: Value | None = None
    for key, item in zip(node.keys, node.values, strict=True):
        value = evaluate(run, item)
        if key is None:
            inner = containers.contents(run, value)
            if inner is not None and isinstance(inner.known, dict):
                known.update(inner.known)
                if inner.rest is not None:
                    rest = inner.rest if rest is None else join(rest, inner.rest)
            else:
                rest = value if rest is None else join(rest, value)
            continue
        name = evaluate(run, key)
        if name.is_const and containers.hashable(name.const):
            known[name.const] = value
        else:
            rest = value if rest is None else join(rest, value)
    return run.container("dict", Items(known, rest), node)


ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
SYMBOLS = {ast.FloorDiv: "//", ast.Mod: "%"}
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Gt: ">",
    ast.Lt: "<",
    ast.GtE: ">=",
    ast.LtE: "<=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


def _binop(run: Run, node: ast.BinOp) -> Value:
    return binary(run, node.op, evaluate(run, node.left), evaluate(run, node.right), node)


def binary(run: Run, op: ast.operator, left: Value, right: Value, node: ast.AST) -> Value:
    """The result of a binary operator; sums keep their terms apart, scaling by a constant keeps the terms of what is scaled."""
    if left.is_const and right.is_const:
        act = ARITHMETIC.get(type(op))
        if act is None:
            return CONSTANT_NUMBER
        try:
            result = act(left.const, right.const)
        except Exception:
            return CONSTANT_NUMBER
        return const(result) if not isinstance(result, str | list) or len(result) < 200 else TEXT
    combined = containers.concatenation(run, op, left, right, node)
    if combined is not None:
        return combined
    left, right = as_tensor(left), as_tensor(right)
    kind = _kind_of(left, right)
    if kind == TENSOR and isinstance(op, ast.FloorDiv):
        result = run.flow((left, right))
        if result.live:
            return run.sever(result, run.cut("nondifferentiable", "operator", SYMBOLS[type(op)], node))
        return result
    result = run.flow((left, right), kind)
    if isinstance(op, ast.Add | ast.Sub):
        if left.depends or right.depends or left.opaque or right.opaque:
            terms = [t for side in (left, right) for t in side.summands() if t.depends or t.opaque]
            unique: list[Value] = []
            for term in terms:
                if not any(same_flow(term, other) for other in unique):
                    unique.append(term)
            if not run.regions and 1 < len(unique) <= MAX_TERMS:
                result.terms = tuple(unique)
    elif isinstance(op, ast.Mult | ast.Div | ast.MatMult) and (left.region is not None or right.region is not None):
        run.watch.autograd.recorded((left, right), result, node)
    if result.live and (left.tags or right.tags or (left.trait is not None and right.trait is not None)):
        run.watch.crossings.combined(op, left, right, result, node)
    if isinstance(op, ast.Mult | ast.Div):
        scaled = left if not (right.depends or right.opaque) else right if not (left.depends or left.opaque) else None
        result.trait = _still_scaled(left, right) or result.trait
        if scaled is not None and scaled.terms and not run.regions:
            result.terms = scaled.terms
    return result


def _still_scaled(left: Value, right: Value) -> Trait | None:
    return next(
        (side.trait for side in (left, right) if side.trait is not None and side.trait.kind in ("scaled", "open")), None
    )


def as_tensor(value: Value) -> Value:
    """A parameter taken from an iterator, as the tensor it is."""
    if value.live or not any(isinstance(item, ParamSet) for item in value.refs):
        return value
    owners = frozenset(entry.owner for item in value.refs if isinstance(item, ParamSet) for entry in item.entries)
    return Value(TENSOR, owners)


def _kind_of(left: Value, right: Value) -> str:
    for kind in (TENSOR, ARRAY):
        if left.kind == kind or right.kind == kind:
            return kind
    if left.kind in (NUMBER, CONST) and right.kind in (NUMBER, CONST):
        return NUMBER
    return TENSOR if left.live or right.live else UNKNOWN


def _unary(run: Run, node: ast.UnaryOp) -> Value:
    value = evaluate(run, node.operand)
    if isinstance(node.op, ast.Not):
        known = decide(run, value)
        return UNKNOWN_VALUE if known is None else FALSE if known else TRUE
    if value.is_const:
        try:
            return const(-value.const if isinstance(node.op, ast.USub) else +value.const)  # type: ignore[operator]
        except TypeError:
            return CONSTANT_NUMBER
    if isinstance(node.op, ast.Invert):
        return value.replace(terms=())
    result = run.flow((value,), value.kind)
    result.terms = value.terms if not run.regions else ()
    return result


def _boolop(run: Run, node: ast.BoolOp) -> Value:
    is_and = isinstance(node.op, ast.And)
    result: Value | None = None
    env = run.frame.env
    wide: dict[str, Value] = {}  # what the names stood for before a part was taken to hold
    for part in node.values:
        value = evaluate(run, part)
        known = decide(run, value)
        if known is not None and known is not is_and:
            result = value if result is None else join(result, value)
            break
        if known is None or part is node.values[-1]:
            result = value if result is None else join(result, value)
        for name in names_in(part):
            if name in env:
                wide.setdefault(name, env[name])
        if not narrow(run, part, is_and):
            break
    env.update(wide)
    return TRUE if result is None else result


def _compare(run: Run, node: ast.Compare) -> Value:
    left = evaluate(run, node.left)
    if len(node.ops) == 1:
        right = evaluate(run, node.comparators[0])
        return compare(run, node.ops[0], left, right, node)
    values = [left, *(evaluate(run, c) for c in node.comparators)]
    return _severed_comparison(run, values, node, COMPARISONS.get(type(node.ops[0]), "in"))


def compare(run: Run, op: ast.cmpop, left: Value, right: Value, node: ast.Compare) -> Value:
    """A comparison: decided where both sides are known, severed where tensors are compared."""
    if isinstance(op, ast.Is | ast.IsNot):
        same = _identical(left, right)
        if same is None:
            return UNKNOWN_VALUE
        return TRUE if same is isinstance(op, ast.Is) else FALSE
    if isinstance(op, ast.In | ast.NotIn):
        found = containers.contains(run, right, left)
        if found is None:
            return UNKNOWN_VALUE
        return TRUE if found is isinstance(op, ast.In) else FALSE
    if left.is_const and right.is_const:
        try:
            return const(bool(_COMPARE[type(op)](left.const, right.const)))
        except Exception:
            return UNKNOWN_VALUE
    if isinstance(op, ast.Eq | ast.NotEq):
        same = _identical(left, right) if not (left.depends or right.depends) else None
        if same is not None and (left.is_const or right.is_const or same):
            return TRUE if same is isinstance(op, ast.Eq) else FALSE
    return _severed_comparison(run, [left, right], node, COMPARISONS.get(type(op), "=="))


_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def _severed_comparison(run: Run, values: list[Value], node: ast.AST, symbol: str) -> Value:
    result = run.flow(values, _kind_of(values[0], values[-1]))
    if result.live:
        return run.sever(result, run.cut("nondifferentiable", "operator", symbol, node))
    return result.replace(opaque=False) if result.depends else UNKNOWN_VALUE if result.kind != TENSOR else CONSTANT_TENSOR


def _identical(left: Value, right: Value) -> bool | None:
    """Whether two values are the same object; None where that is open."""
    if left.is_const and right.is_const:
        return left.const is right.const or left.const == right.const
    for one, other in ((left, right), (right, left)):
        if one.is_const and not other.is_const:
            if one.const is None:
                if other.refs or other.kind in (TENSOR, NUMBER, ARRAY) or other.live:
                    # an object, or the join of an object with something the analysis lost
                    return None if other.opaque or (other.refs and _may_be_none(other)) else False
                return None
            return False if other.refs and other.kind == OBJECT and not other.opaque else None
    if left.refs and right.refs and len(left.refs) == len(right.refs) == 1:
        a, b = left.refs[0], right.refs[0]
        if a == b if not isinstance(a, Obj) else a is b:
            return True
        if (
            isinstance(a, Obj)
            and isinstance(b, Obj)
            and a.kind != "opaque"
            and b.kind != "opaque"
            and not left.opaque
            and not right.opaque
        ):
            return False
        if type(a) is type(b) and isinstance(a, ClassRef | LibRef | FunctionRef):
            return False
    return None


def _may_be_none(value: Value) -> bool:
    return value.kind != OBJECT or any(isinstance(r, Obj) and r.kind == "opaque" for r in value.refs)


def _ifexp(run: Run, node: ast.IfExp) -> Value:
    known = decide(run, evaluate(run, node.test))
    if known is not None:
        return evaluate(run, node.body if known else node.orelse)
    env = run.frame.env
    values = []
    trace = run.watch.trace
    choice = trace.choice()
    for part, truth in ((node.body, True), (node.orelse, False)):
        run.frame.env = dict(env)
        if narrow(run, node.test, truth):
            outer = trace.arm(choice)
            values.append(evaluate(run, part))
            trace.arm_done(choice, outer, raised=False)
    trace.choice_done(choice)
    run.frame.env = env
    return join_all(values)


def _call(run: Run, node: ast.Call) -> Value:
    run.tick()
    return calls.call_expression(run, node)


def _lambda(run: Run, node: ast.Lambda) -> Value:
    info = run.program.function(node, run.frame.file)
    return ref(FunctionRef(info, run.frame))


def _joined(run: Run, node: ast.JoinedStr) -> Value:
    parts: list[str] = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            parts.append(str(part.value))
        elif isinstance(part, ast.FormattedValue):
            value = evaluate(run, part.value)
            if not value.is_const or part.format_spec is not None:
                parts = []
                break
            parts.append(str(value.const))
    return const("".join(parts)) if parts and len(parts) == len(node.values) else TEXT


def _comprehension(run: Run, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Value:
    frame = run.frame
    saved = dict(frame.env)
    known: list[tuple[Value, Value]] = []
    loose: list[tuple[Value, Value]] = []

    def produce(exact: bool) -> None:
        if isinstance(node, ast.DictComp):
            entry = (evaluate(run, node.key), evaluate(run, node.value))
        else:
            entry = (NONE, evaluate(run, node.elt))
        (known if exact else loose).append(entry)

    def generate(index: int, exact: bool) -> None:
        if index == len(node.generators):
            produce(exact)
            return
        generator = node.generators[index]
        source = evaluate(run, generator.iter)
        run.watch.membership.consumed(source, generator.iter)
        items = containers.iteration(run, source, 8)
        unrolled = items is not None and items.unrolled
        values = items.values if unrolled and items is not None else [containers.element(run, source, generator.iter)]
        for value in values:
            from gradlint.flow.statements import assign

            assign(run, generator.target, value, generator.iter)
            exact_here, passes = exact and unrolled, True
            for test in generator.ifs:
                truth = decide(run, evaluate(run, test))
                if truth is False or not narrow(run, test, True):
                    passes = False
                    break
                exact_here = exact_here and truth is True
            if passes:
                generate(index + 1, exact_here)

    run.frame.env = dict(saved)
    try:
        generate(0, True)
    finally:
        run.frame.env = saved
    if isinstance(node, ast.DictComp):
        table: dict[object, Value] = {}
        rest: Value | None = None
        for key, value in known:
            if key.is_const and containers.hashable(key.const):
                table[key.const] = value
            else:
                rest = value if rest is None else join(rest, value)
        for _, value in loose:
            rest = value if rest is None else join(rest, value)
        return run.container("dict", Items(table, rest), node)
    params = [r for _, value in (*known, *loose) for r in value.refs if isinstance(r, ParamSet)]
    if params and all(any(isinstance(r, ParamSet) for r in value.refs) for _, value in (*known, *loose)):
        chosen = ParamSet(tuple(dict.fromkeys(e for p in params for e in p.entries)), params[0].root)
        return ref(run.watch.membership.iterator(chosen, node) if isinstance(node, ast.GeneratorExp) else chosen)
    kind = "set" if isinstance(node, ast.SetComp) else "list"
    rest = join_all(value for _, value in loose) if loose else None
    return run.container(kind, Items(tuple(value for _, value in known), rest), node)


def _starred(run: Run, node: ast.Starred) -> Value:
    return evaluate(run, node.value)


def _named(run: Run, node: ast.NamedExpr) -> Value:
    from gradlint.flow.statements import assign

    value = evaluate(run, node.value)
    assign(run, node.target, value, node)
    return value


def _await(run: Run, node: ast.Await) -> Value:
    return evaluate(run, node.value)


def _yield(run: Run, node: ast.Yield) -> Value:
    value = NONE if node.value is None else evaluate(run, node.value)
    return _yielded(run, value, node)


def _yielded(run: Run, value: Value, node: ast.AST) -> Value:
    frame = run.frame
    frame.yielded = value if frame.yielded is None else join(frame.yielded, value)
    if frame.on_yield is not None:
        frame.on_yield(value, node)
    return UNKNOWN_VALUE


def _yield_from(run: Run, node: ast.YieldFrom) -> Value:
    return _yielded(run, containers.element(run, evaluate(run, node.value), node), node)


def _formatted(run: Run, node: ast.FormattedValue) -> Value:
    evaluate(run, node.value)
    return TEXT


HANDLERS: dict[type[ast.expr], Callable[..., Value]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.Slice: _slice,
    ast.Tuple: _tuple,
    ast.List: _tuple,
    ast.Set: _tuple,
    ast.Dict: _dict,
    ast.BinOp: _binop,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolop,
    ast.Compare: _compare,
    ast.IfExp: _ifexp,
    ast.Call: _call,
    ast.Lambda: _lambda,
    ast.JoinedStr: _joined,
    ast.FormattedValue: _formatted,
    ast.ListComp: _comprehension,
    ast.SetComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.DictComp: _comprehension,
    ast.Starred: _starred,
    ast.NamedExpr: _named,
    ast.Await: _await,
    ast.Yield: _yield,
    ast.YieldFrom: _yield_from,
}
