"""Lists, tuples, dicts and sets: what is in them, and what iterating, indexing and changing them gives."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from gradlint.flow.heap import ClassRef, Items, LibRef, NameOf, Obj, ParamSet
from gradlint.flow.lattice import (
    CONST,
    CONSTANT_NUMBER,
    MAX_TERMS,
    MISSING,
    NONE,
    OBJECT,
    TENSOR,
    UNKNOWN,
    UNKNOWN_VALUE,
    Value,
    const,
    join,
    join_all,
    join_loose,
    ref,
    same_flow,
)
from gradlint.flow.leaks import GUESSED
from gradlint.flow.mutations import views

if TYPE_CHECKING:
    from gradlint.flow.run import Run

CONTAINERS = ("list", "tuple", "dict", "set")


class Iteration(NamedTuple):
    """The values a loop variable takes: one by one (``unrolled``), or one that stands for each (``every``)."""

    values: list[Value]
    unrolled: bool
    every: bool = False


def hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def contents(run: Run, value: Value) -> Items | None:
    """The items of a value that is one known container."""
    if len(value.refs) == 1 and isinstance(value.refs[0], Obj):
        items = value.refs[0].attrs.get("%items")
        if isinstance(items, Items):
            return items
    if value.is_const and isinstance(value.const, str | tuple | range) and len(value.const) <= 16:
        return Items(tuple(const(item) for item in value.const))
    return None


def strings(run: Run, value: Value) -> list[str] | None:
    """The strings of a container of known strings."""
    items = contents(run, value)
    if value.is_const and isinstance(value.const, str):
        return None
    if items is None or items.rest is not None:
        return None
    values = items.known if isinstance(items.known, tuple) else tuple(const(k) for k in items.known)
    found = [v.const for v in values if v.is_const and isinstance(v.const, str)]
    return found if len(found) == len(values) else None


def iteration(run: Run, value: Value, limit: int) -> Iteration | None:
    """How a loop over ``value`` goes; None where nothing is known of it."""
    if any(isinstance(r, ParamSet) for r in value.refs):
        return Iteration(
            [value.replace(refs=(ParamSet(r.entries, r.root),)) for r in value.refs if isinstance(r, ParamSet)][:1], False, True
        )
    items = contents(run, value)
    if items is None:
        if len(value.refs) == 1 and isinstance(value.refs[0], Obj) and "%each" in value.refs[0].attrs:
            return Iteration([], False, True)
        return None
    if isinstance(items.known, dict):
        values = [const(key) for key in items.known]
    else:
        values = list(items.known)
    if values and all(v.is_const and isinstance(v.const, str) for v in values):
        limit = max(limit, 24)
    if values and _all_modules(values):
        limit = max(limit, 16)
    if items.rest is not None or len(values) > limit:
        return None if not value.refs or not _all_modules(values) else Iteration([], False)
    return Iteration(values, True)


def _all_modules(values: list[Value]) -> bool:
    return bool(values) and all(
        any(isinstance(r, Obj) and r.kind in ("instance", "library", "opaque") for r in v.refs) for v in values
    )


def one_of(value: Value, several: bool) -> Value:
    """Remember of objects that each may be another one the next time it is asked for."""
    if several:
        for item in value.refs:
            if isinstance(item, Obj):
                item.attrs["%one_of"] = True
    return value


def element(run: Run, value: Value, node: ast.AST) -> Value:
    """One value that stands for every item of ``value``."""
    found: Value | None = None
    extra = False
    for item in value.refs:
        if isinstance(item, Obj):
            each = item.attrs.get("%each")
            if each is not None:
                part: Value = each
            elif "%generator" in item.attrs:
                from gradlint.flow.calls import drain

                part = drain(run, item, node)
            elif "%items" in item.attrs:
                items = item.attrs["%items"]
                if isinstance(items.known, dict):
                    part = join_all([const(k) for k in items.known]) if items.known else Value(UNKNOWN)
                else:
                    parts = [*items.known, *([items.rest] if items.rest is not None else [])]
                    part = one_of(join_all(parts), len(parts) > 1 or items.rest is not None) if parts else Value(UNKNOWN)
            elif item.kind == "instance" and item.cls is not None and "__iter__" in item.cls.functions:
                from gradlint.flow.modules import call_method

                produced = call_method(run, ref(item), "__iter__", [], {}, node)
                part = element(run, produced, node) if produced is not value else Value(UNKNOWN)
            elif item.kind == "instance" and item.cls is not None and "__getitem__" in item.cls.functions:
                from gradlint.flow.modules import call_method

                part = call_method(run, ref(item), "__getitem__", [Value(CONST)], {}, node)
            else:
                part = Value(UNKNOWN)
        elif isinstance(item, ParamSet):
            part = Value(OBJECT, refs=(ParamSet(item.entries, item.root) if item.generator is not None else item,))
        elif isinstance(item, NameOf):
            part = Value(OBJECT, refs=(item,))
        else:
            part = Value(UNKNOWN)
            extra = True
        found = part if found is None else join(found, part)
    if found is None or value.depends or extra:
        loose = run.flow((value,), value.kind if value.kind in (TENSOR, "array") else UNKNOWN)
        loose = Value(loose.kind, loose.live, loose.dead, marks=loose.marks, tags=loose.tags)
        found = loose if found is None else join(found, loose)
    return found


def parts(run: Run, value: Value, count: int, starred: bool, node: ast.AST) -> list[Value]:
    """What ``count`` targets get when ``value`` is unpacked."""
    if len(value.refs) >= 1 and not starred:
        tuples = [r.attrs["%items"] for r in value.refs if isinstance(r, Obj) and "%items" in r.attrs]
        fitting = [t for t in tuples if isinstance(t.known, tuple) and len(t.known) == count and t.rest is None]
        if fitting:
            result = list(fitting[0].known)
            for other in fitting[1:]:
                result = [join(a, b) for a, b in zip(result, other.known, strict=True)]
            if value.depends:
                loose = run.flow((value,), UNKNOWN)
                result = [join(v, loose) for v in result]
            return result
    if value.refs and starred:
        found = [r.attrs["%items"] for r in value.refs if isinstance(r, Obj) and isinstance(r.attrs.get("%items"), Items)]
        exact = [i.known for i in found if isinstance(i.known, tuple) and i.rest is None and len(i.known) >= count - 1]
        lengths = {len(known) for known in exact}
        if len(lengths) == 1:
            # exact only for one starred name at the end
            items = [join_all(column) for column in zip(*exact, strict=True)]
            return [*items[: count - 1], run.container("list", Items(tuple(items[count - 1 :])), node)]
    if len(value.refs) == 1 and isinstance(value.refs[0], Obj) and "%fields" in value.refs[0].attrs:
        fields = value.refs[0].attrs["%fields"]
        if len(fields) == count:
            return list(fields)
    if any(isinstance(r, ParamSet) for r in value.refs):
        named = next(r for r in value.refs if isinstance(r, ParamSet))
        if count == 2:
            group = tuple((entry.name, entry) for entry in named.entries)
            return [Value(OBJECT, refs=(NameOf(group),)), value]
    item = element(run, value, node)
    return [item if item.refs else item.replace() for _ in range(count)]  # each is a value of its own


def item(run: Run, holder: Value, index: Value, node: ast.AST) -> Value:
    """``holder[index]``."""
    from gradlint.flow import modules

    found: Value | None = None
    loose = not holder.refs
    for target in holder.refs:
        part: Value | None = None
        if isinstance(target, Obj):
            items = target.attrs.get("%items")
            if isinstance(items, Items):
                part = _pick(run, target, items, index, node)
            elif target.kind == "instance" and target.cls is not None and modules.find_method(run, target, "__getitem__"):
                part = modules.call_method(run, ref(target), "__getitem__", [index], {}, node)
            else:
                part = modules.child(run, target, index, node)
        elif isinstance(target, ParamSet):
            word = index.const if index.is_const and isinstance(index.const, str) else "params"
            setting = word != "params" and word.isidentifier() and not any(e.name == word for e in target.entries)
            part = Value(CONST) if setting else ref(target)
        elif isinstance(target, ClassRef | LibRef):
            part = ref(target) if not (isinstance(target, LibRef) and target.receiver is not None) else None
        if part is None:
            loose = True
        else:
            found = part if found is None else join(found, part)
    if loose or holder.depends:
        plain = Value(holder.kind, holder.live, holder.dead, marks=holder.marks, tags=holder.tags)
        values = (plain, index) if holder.kind == TENSOR or holder.depends else (plain,)
        taken = run.flow(values, holder.kind if holder.kind in (TENSOR, "array") else UNKNOWN)
        taken.trait = holder.trait
        named = (index.live or index.kind != TENSOR) and not (index.is_const and isinstance(index.const, int | slice))
        if named and taken.live and (holder.kind == UNKNOWN or all(source.kind == "opaque" for source in taken.live)):
            taken.tags = taken.tags | {GUESSED}  # what lies under a name may be a number as well
        if holder.saved is not None and taken.live:
            taken.saved = views(holder, node)
        found = taken if found is None else join(found, taken)
    assert found is not None
    if index.dead and not found.depends and not loose:
        # what is looked up by a number that was computed depends on what it was computed from
        found = found.replace(dead=index.dead, const=MISSING)
    return found


def _pick(run: Run, target: Obj, items: Items, index: Value, node: ast.AST) -> Value | None:
    if index.is_const:
        key = index.const
        if isinstance(items.known, dict):
            if hashable(key) and key in items.known:
                return items.known[key]
            return items.rest if items.rest is not None else (UNKNOWN_VALUE if items.known else None)
        if isinstance(key, int) and not isinstance(key, bool):
            if -len(items.known) <= key < len(items.known) and (items.rest is None or key >= 0):
                return items.known[key]
        elif isinstance(key, slice):
            if items.rest is None and all(b is None or isinstance(b, int) for b in (key.start, key.stop, key.step)):
                return run.container(target.kind, Items(tuple(items.known[key])), node)
            return ref(target)
    elif isinstance(getattr(node, "slice", None), ast.Slice):
        values = [*(items.known if isinstance(items.known, tuple) else items.known.values())]
        rest = (
            join_all([*values, *([items.rest] if items.rest is not None else [])]) if values or items.rest is not None else None
        )
        return run.container(target.kind, Items((), rest), node)
    values = list(items.known.values()) if isinstance(items.known, dict) else list(items.known)
    if items.rest is not None:
        values.append(items.rest)
    return one_of(join_all(values), len(values) > 1 or items.rest is not None) if values else Value(UNKNOWN)


def store(run: Run, holder: Value, index: Value, value: Value, target: ast.Subscript, node: ast.AST) -> None:
    """``holder[index] = value``."""
    from gradlint.flow import modules

    if holder.live and holder.refs:
        run.watch.mutations.stored(holder, target, holder, node)
    for place in holder.refs:
        if not isinstance(place, Obj):
            continue
        items = place.attrs.get("%items")
        if isinstance(items, Items):
            if "%container" in place.attrs:
                name = str(index.const) if index.is_const else "?"
                run.watch.part_stored(place, name, value, node)
                for item in value.refs:
                    if isinstance(item, Obj) and item.owner is None:
                        item.owner = (place, name)
            run.heap.write(place, "%items", _stored(items, index, value))
        elif place.kind == "instance" and place.cls is not None and modules.find_method(run, place, "__setitem__"):
            modules.call_method(run, ref(place), "__setitem__", [index, value], {}, node)
        elif index.is_const and isinstance(index.const, str | int):
            modules.store_attribute(run, ref(place), str(index.const), value, node)
        elif value.depends:
            run.heap.write(place, "%flow", join(place.attrs.get("%flow", Value(UNKNOWN)), value))
    if not holder.refs and isinstance(target.value, ast.Name) and holder.kind != CONST:
        # writing into a tensor: its later uses depend on what was written
        merged = run.flow((holder, value), TENSOR if value.kind == TENSOR or holder.kind == TENSOR else holder.kind)
        run.frame.env[target.value.id] = run.watch.mutations.stored(holder, target, merged, node)
    elif not holder.refs and isinstance(target.value, ast.Attribute) and value.depends:
        merged = run.flow((holder, value), TENSOR if value.kind == TENSOR or holder.kind == TENSOR else holder.kind)
        from gradlint.flow.expressions import evaluate

        modules.store_attribute(run, evaluate(run, target.value.value), target.value.attr, merged, node, quiet=True)


def _stored(items: Items, index: Value, value: Value) -> Items:
    if isinstance(items.known, dict):
        if index.is_const and hashable(index.const):
            return Items({**items.known, index.const: value}, items.rest)
        return Items(items.known, value if items.rest is None else join_loose(items.rest, value))
    if index.is_const and isinstance(index.const, int) and -len(items.known) <= index.const < len(items.known):
        known = list(items.known)
        known[index.const] = value
        return Items(tuple(known), items.rest)
    return Items(items.known, value if items.rest is None else join_loose(items.rest, value))


def extend(run: Run, target: Value, more: Value, node: ast.AST) -> None:
    """``target += more`` of lists."""
    for place in target.refs:
        if isinstance(place, Obj) and isinstance(place.attrs.get("%items"), Items):
            items = place.attrs["%items"]
            inner = contents(run, more)
            if "%container" in place.attrs:
                for part in everything(run, more):
                    for item in part.refs:
                        if isinstance(item, Obj) and item.owner is None and item.kind not in CONTAINERS:
                            item.owner = (place, "?")
            if isinstance(items.known, dict):
                continue
            if (
                inner is not None
                and isinstance(inner.known, tuple)
                and inner.rest is None
                and items.rest is None
                and len(items.known) < 64
            ):
                run.heap.write(place, "%items", Items(items.known + inner.known))
            elif any(isinstance(r, ParamSet) for r in more.refs):
                run.heap.write(place, "%items", Items((*items.known, more), items.rest))
            else:
                part = element(run, more, node)
                run.heap.write(
                    place, "%items", Items(items.known, part if items.rest is None else join_loose(items.rest, part))
                )


def append(run: Run, place: Obj, value: Value, node: ast.AST) -> None:
    """``place.append(value)``: exact for a few items, then one value for all further ones."""
    items = place.attrs.get("%items")
    if not isinstance(items, Items) or isinstance(items.known, dict):
        return
    value = run.watch.leaks.collected(node, place, value)
    grown = run.frame.loops and any(run.frame.loops)
    in_loop = bool(run.frame.loops)
    if items.rest is None and not in_loop and len(items.known) < 32:
        run.heap.write(place, "%items", Items((*items.known, value)))
    elif (
        items.rest is None
        and in_loop
        and len(items.known) < 8
        and not grown
        and any(r for r in value.refs if isinstance(r, Obj) and r.kind != "list")
    ):
        if not any(v.refs == value.refs for v in items.known):
            run.heap.write(place, "%items", Items((*items.known, value)))
    else:
        run.heap.write(place, "%items", Items(items.known, value if items.rest is None else join_loose(items.rest, value)))


def concatenation(run: Run, op: ast.operator, left: Value, right: Value, node: ast.AST) -> Value | None:
    """``list + list``, ``params + params``, ``[x] * n``; None where it is not about containers."""
    params = [r for side in (left, right) for r in side.refs if isinstance(r, ParamSet)]
    if isinstance(op, ast.Add):
        lists = [contents(run, side) for side in (left, right)]
        if all(item is not None and isinstance(item.known, tuple) for item in lists) and (left.refs or right.refs):
            first, second = lists
            assert first is not None and second is not None and isinstance(first.known, tuple)
            rest = first.rest if second.rest is None else second.rest if first.rest is None else join(first.rest, second.rest)
            if first.rest is None:
                return run.container("list", Items((*first.known, *second.known), second.rest), node)
            return run.container("list", Items(first.known, join_all([*second.known, *([rest] if rest else [])])), node)
        if params:
            known: list[Value] = []
            for side in (left, right):
                items = contents(run, side)
                if items is not None and isinstance(items.known, tuple):
                    known.extend(items.known)
                else:
                    known.append(side)
            return run.container("list", Items(tuple(known)), node)
    if isinstance(op, ast.Mult):
        for side in (left, right):
            if side.refs and isinstance(side.refs[0], Obj) and side.refs[0].kind in ("list", "tuple"):
                items = side.refs[0].attrs["%items"]
                rest = join_all([*items.known, *([items.rest] if items.rest else [])]) if items.known or items.rest else None
                return run.container(side.refs[0].kind, Items((), rest), node)
    if isinstance(op, ast.BitOr) and left.refs and right.refs:
        first, second = contents(run, left), contents(run, right)
        if first is not None and second is not None and isinstance(first.known, dict) and isinstance(second.known, dict):
            return run.container("dict", Items({**first.known, **second.known}, first.rest or second.rest), node)
    return None


def contains(run: Run, holder: Value, needle: Value) -> bool | None:
    """``needle in holder``; None where it is open."""
    if holder.is_const and needle.is_const:
        try:
            return needle.const in holder.const  # type: ignore[operator]
        except TypeError:
            return None
    if len(holder.refs) != 1 or holder.opaque:
        return None
    items = contents(run, holder)
    if items is None or not needle.is_const:
        return None
    if isinstance(items.known, dict):
        if hashable(needle.const) and needle.const in items.known:
            return True
        return False if items.rest is None else None
    if any(v.is_const and v.const == needle.const for v in items.known):
        return True
    if items.rest is None and all(v.is_const for v in items.known):
        return False
    return None


def method(run: Run, target: Obj, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
    """A method of a built-in container."""
    items = target.attrs.get("%items")
    if not isinstance(items, Items):
        return Value(UNKNOWN)
    if name == "append" or name == "add":
        if args:
            append(run, target, args[0], node)
        return NONE
    if name in ("extend", "update") and isinstance(items.known, tuple):
        if args:
            extend(run, ref(target), args[0], node)
        return NONE
    if name == "insert":
        if len(args) == 2:
            run.heap.write(target, "%items", Items((args[1], *items.known), items.rest))
        return NONE
    if name == "clear":
        run.heap.write(target, "%items", Items({} if isinstance(items.known, dict) else ()))
        return NONE
    if name == "copy":
        return run.container(target.kind, items, node)
    if name in ("pop", "popleft", "popitem"):
        if isinstance(items.known, dict) and args and args[0].is_const and hashable(args[0].const):
            if args[0].const in items.known:
                left = {k: v for k, v in items.known.items() if k != args[0].const}
                run.heap.write(target, "%items", Items(left, items.rest))
                return items.known[args[0].const]
            return args[1] if len(args) > 1 else items.rest or Value(UNKNOWN)
        return element(run, ref(target), node) if not isinstance(items.known, dict) else join_all(items.known.values())
    if isinstance(items.known, dict):
        return _dict_method(run, target, items, name, args, kwargs, node)
    if name in ("index", "count"):
        return CONSTANT_NUMBER
    if name in ("union", "intersection", "difference"):
        return ref(target)
    return NONE if name in ("sort", "reverse", "remove", "discard") else Value(UNKNOWN)


def _dict_method(
    run: Run, target: Obj, items: Items, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
) -> Value:
    assert isinstance(items.known, dict)
    if name == "items":
        pairs = tuple(run.container("tuple", Items((const(k), v)), node) for k, v in items.known.items())
        rest = run.container("tuple", Items((Value(CONST), items.rest)), node) if items.rest is not None else None
        return run.container("list", Items(pairs, rest), node)
    if name == "values":
        return run.container("list", Items(tuple(items.known.values()), items.rest), node)
    if name == "keys":
        return run.container("list", Items(tuple(const(k) for k in items.known), Value(CONST) if items.rest else None), node)
    if name in ("get", "setdefault") and args:
        key = args[0]
        default = args[1] if len(args) > 1 else NONE
        if key.is_const and hashable(key.const):
            if key.const in items.known:
                return items.known[key.const]
            if name == "setdefault":
                run.heap.write(target, "%items", Items({**items.known, key.const: default}, items.rest))
                return default
            return default if items.rest is None else join_loose(items.rest, default)
        if name == "setdefault":
            run.heap.write(
                target, "%items", Items(items.known, default if items.rest is None else join_loose(items.rest, default))
            )
        return join_all([*items.known.values(), *([items.rest] if items.rest is not None else []), default])
    if name == "update":
        known, rest = dict(items.known), items.rest
        for arg in args:
            other = contents(run, arg)
            if other is not None and isinstance(other.known, dict):
                known.update(other.known)
                if other.rest is not None:
                    rest = other.rest if rest is None else join(rest, other.rest)
            else:
                loose = element(run, arg, node)
                rest = loose if rest is None else join_loose(rest, loose)
        known.update(kwargs)
        run.heap.write(target, "%items", Items(known, rest))
        return NONE
    return Value(UNKNOWN)


def everything(run: Run, value: Value, depth: int = 0) -> list[Value]:
    """``value`` and, where it is a container, all that is in it."""
    found = [value]
    if depth > 3:
        return found
    for target in value.refs:
        if isinstance(target, Obj) and isinstance(target.attrs.get("%items"), Items):
            items = target.attrs["%items"]
            inner = list(items.known.values()) if isinstance(items.known, dict) else list(items.known)
            if items.rest is not None:
                inner.append(items.rest)
            for item in inner[:32]:
                found.extend(everything(run, item, depth + 1))
        elif isinstance(target, Obj) and isinstance(target.attrs.get("%flow"), Value):
            found.append(target.attrs["%flow"])
    return found


def summed(run: Run, values: Iterable[Value]) -> Value:
    """The sum of values, its terms kept apart."""
    listed = list(values)
    result = run.flow(
        listed,
        TENSOR
        if any(v.kind == TENSOR for v in listed)
        else "number"
        if listed and all(v.kind in ("number", CONST) for v in listed)
        else UNKNOWN,
    )
    unique: list[Value] = []
    for value in listed:
        for term in value.summands():
            if (term.depends or term.opaque) and not any(same_flow(term, other) for other in unique):
                unique.append(term)
    if 1 < len(unique) <= MAX_TERMS and not run.regions:
        result.terms = tuple(unique)
    return result
