"""The abstract domain: what the analysis knows about a value.

A ``Value`` stands for every run-time value an expression may have.  What matters about it is which sources of gradient (modules
with parameters, parameters, leaf tensors) it can still reach, and from which it was cut off, by what.  Values are immutable;
joining two of them unions what they can reach, so that a live path always outweighs a severed one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gradlint.flow.heap import Obj
    from gradlint.flow.hooks import Hook
    from gradlint.survey.source import SourceFile


class Site(NamedTuple):
    """A place in the program: a file and a syntax node in it."""

    file: SourceFile
    node: ast.AST


class Cut:
    """One construct that stops gradient: which kind, where, in whose words.

    ``guarded``: the program chose to cut here through a flag that says so.  ``correction``: the cut difference of a
    straight-through expression ``x + (y - x).detach()``, which changes a value and means to leave its gradient alone.
    ``hook``: the forward hook that was running.  ``higher``: a derivative of a derivative.
    """

    __slots__ = ("api", "construct", "correction", "differentiable", "function", "guarded", "higher", "hook", "kind", "site")

    def __init__(self, kind: str, construct: str, api: str, site: Site, *, differentiable: str = "") -> None:
        self.kind = kind
        self.construct = construct
        self.api = api
        self.site = site
        self.differentiable = differentiable
        self.guarded = False
        self.correction = False
        self.function: ast.AST | None = None
        self.hook: Hook | None = None
        self.higher = False

    @property
    def is_region(self) -> bool:
        """Whether this is a stretch of code with gradient off rather than a single operation."""
        return self.kind in ("no-grad", "inference-mode")


class Trail(NamedTuple):
    """Where a value went after it was cut: a list linked from the latest place back to the cut."""

    site: Site
    text: str
    before: Trail | None


class Trait(NamedTuple):
    """What was done to a value just now, gone with the next operation that changes it.

    ``kind``: ``scaled`` (by a gradient scaler, the ``subject``), ``open`` (scaled or not), ``softmax``,
    ``sigmoid`` or ``moved`` (a leaf, copied to where it is used: nothing is saved for its backward).
    ``site``: where.
    """

    kind: str
    site: Site
    subject: Obj | None = None


# The cuts that one path from a source meets, in order: all of them must go before gradient flows on that path.
Cuts = tuple[Cut, ...]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()
NOTHING: frozenset[Obj] = frozenset()
NO_CUTS: Mapping[tuple[Obj, Cuts], Trail | None] = {}
NO_MARKS: frozenset[Cut] = frozenset()
NO_TAGS: frozenset[object] = frozenset()

TENSOR, NUMBER, ARRAY, UNKNOWN, CONST, OBJECT = "tensor", "number", "array", "unknown", "const", "object"


class Value:
    """An abstract value.

    ``kind``: tensor, number (a Python number), array (numpy and the like), const, object or unknown.
    ``live``: sources whose gradient reaches this value.  ``dead``: sources it was computed from but is cut off from, each with
    the cuts of one path and the way from there.  ``refs``: the heap objects or callables it may be.
    ``const``: its value if it is one constant.
    ``terms``: the summands, where the value is a sum whose summands are still worth telling apart.
    ``marks``: round trips through the CPU on the way here.  ``region``: the no-grad stretch in which it was computed.
    ``opaque``: gradient may reach something here that the analysis cannot see.  ``trait``: what was done to it last.
    ``tags``: what has happened to the graph behind it, handed on to all that is computed from it with gradient.
    ``saved``: the operation that made it and needs it unchanged for the backward.
    """

    __slots__ = ("const", "dead", "kind", "live", "marks", "opaque", "refs", "region", "saved", "tags", "terms", "trait")

    def __init__(
        self,
        kind: str = UNKNOWN,
        live: frozenset[Obj] = NOTHING,
        dead: Mapping[tuple[Obj, Cuts], Trail | None] = NO_CUTS,
        refs: tuple[object, ...] = (),
        const: object = MISSING,
        terms: tuple[Value, ...] = (),
        marks: frozenset[Cut] = NO_MARKS,
        region: Cut | None = None,
        opaque: bool = False,
        trait: Trait | None = None,
        tags: frozenset[object] = NO_TAGS,
        saved: Site | None = None,
    ) -> None:
        self.kind = kind
        self.live = live
        self.dead = dead
        self.refs = refs
        self.const = const
        self.terms = terms
        self.marks = marks
        self.region = region
        self.opaque = opaque
        self.trait = trait
        self.tags = tags
        self.saved = saved

    @property
    def is_const(self) -> bool:
        return self.const is not MISSING

    @property
    def depends(self) -> bool:
        """Whether any source of gradient is known behind this value, live or cut."""
        return bool(self.live) or bool(self.dead)

    def summands(self) -> tuple[Value, ...]:
        """The terms this value is a sum of; itself where it is no sum."""
        return self.terms or (self,)

    def replace(self, **changes: object) -> Value:
        """A copy with some fields changed."""
        fields = {name: getattr(self, name) for name in Value.__slots__}
        fields.update(changes)
        return Value(**fields)

    def __repr__(self) -> str:
        parts = [self.kind]
        if self.is_const:
            parts.append(repr(self.const))
        if self.refs:
            parts.append(f"refs={self.refs!r}")
        if self.live:
            parts.append(f"live={sorted(str(o) for o in self.live)}")
        if self.dead:
            parts.append(f"dead={sorted((str(o), [c.api for c in cuts]) for o, cuts in self.dead)}")
        return f"<{' '.join(parts)}>"


UNKNOWN_VALUE = Value()
NONE = Value(CONST, const=None)
TRUE = Value(CONST, const=True)
FALSE = Value(CONST, const=False)
CONSTANT_TENSOR = Value(TENSOR)
CONSTANT_NUMBER = Value(NUMBER)


def const(value: object) -> Value:
    """The abstract value of one Python constant."""
    if value is None:
        return NONE
    if value is True:
        return TRUE
    if value is False:
        return FALSE
    return Value(CONST, const=value)


def ref(obj: object) -> Value:
    """The abstract value that is exactly one heap object or callable."""
    return Value(OBJECT, refs=(obj,))


def union_dead(
    first: Mapping[tuple[Obj, Cuts], Trail | None], second: Mapping[tuple[Obj, Cuts], Trail | None]
) -> Mapping[tuple[Obj, Cuts], Trail | None]:
    """Both sets of severed sources; where both know one, the first's story is kept."""
    if not second or first is second:
        return first
    if not first:
        return second
    return {**second, **first}


def _join_refs(first: tuple[object, ...], second: tuple[object, ...]) -> tuple[object, ...]:
    if first == second or not second:
        return first
    if not first:
        return second
    merged = first + tuple(item for item in second if not any(item is other for other in first))
    return merged[:24]


def join(a: Value, b: Value) -> Value:
    """The value that is either ``a`` or ``b``.

    A constant that differs becomes unknown.  ``None`` joined with an object keeps the object, no longer certain.
    """
    if a is b:
        return a
    if a.is_const and b.is_const:
        if type(a.const) is type(b.const) and a.const == b.const:
            return a
        return UNKNOWN_VALUE
    if (a.const is None and b.refs) or (b.const is None and a.refs):
        # an object or None: no longer surely an object
        return (b if a.const is None else a).replace(kind=UNKNOWN)
    kind = (
        a.kind
        if a.kind == b.kind
        else b.kind
        if a.kind in (CONST, UNKNOWN)
        else a.kind
        if b.kind in (CONST, UNKNOWN)
        else UNKNOWN
    )
    terms: tuple[Value, ...] = ()
    if a.terms or b.terms:
        terms = _join_terms(a, b)
    return Value(
        kind,
        a.live | b.live if b.live else a.live,
        union_dead(a.dead, b.dead),
        _join_refs(a.refs, b.refs),
        MISSING,
        terms,
        a.marks | b.marks if b.marks else a.marks,
        a.region if a.region is b.region else None,
        a.opaque
        or b.opaque
        or (a.kind == UNKNOWN and not a.depends and not a.refs)
        or (b.kind == UNKNOWN and not b.depends and not b.refs),
        _join_traits(a.trait, b.trait) if a.trait or b.trait else None,
        a.tags if a.tags == b.tags else _join_tags(a, b),
        a.saved if a.saved is b.saved else None,
    )


def _join_tags(a: Value, b: Value) -> frozenset[object]:
    """What holds of either. What is said of a graph for sure must hold of both, where both have one."""
    needed = ("graphs", "paths") if a.live and b.live else ("paths",)
    return frozenset(
        tag for tag in a.tags | b.tags if getattr(tag, "of_all", "") not in needed or (tag in a.tags and tag in b.tags)
    )


def _join_traits(a: Trait | None, b: Trait | None) -> Trait | None:
    if a is not None and b is not None and (a.kind, a.subject) == (b.kind, b.subject):
        return a
    scaled = next((t for t in (a, b) if t is not None and t.kind in ("scaled", "open")), None)
    return scaled._replace(kind="open") if scaled is not None else None


def join_loose(a: Value, b: Value) -> Value:
    """The join of different things kept in one place, such as the items of a list: no longer a sum whose terms are known."""
    if a is b:
        return a
    merged = join(a, b)
    return merged.replace(terms=()) if merged.terms else merged


def _join_terms(a: Value, b: Value) -> tuple[Value, ...]:
    """Terms of an either-or: shared ones stay, those of one side only stay as well (each may be a summand of the loss)."""
    merged = list(a.summands())
    for term in b.summands():
        if term.depends and not any(same_flow(term, other) for other in merged):
            merged.append(term)
    return tuple(merged[:MAX_TERMS])


MAX_TERMS = 24


def same_flow(a: Value, b: Value) -> bool:
    """Whether two values reach and miss exactly the same sources through the same cuts."""
    return a is b or (a.live == b.live and a.dead.keys() == b.dead.keys() and a.opaque == b.opaque)


def join_all(values: Iterable[Value]) -> Value:
    """The join of any number of values; unknown if there is none."""
    result: Value | None = None
    for value in values:
        result = value if result is None else join(result, value)
    return UNKNOWN_VALUE if result is None else result
