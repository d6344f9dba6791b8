"""The abstract heap: objects by place of allocation, with a journal so that branches can be tried and taken back.

Everything mutable about an object lives in ``Obj.attrs``, attributes under their names and the analysis' own notes under keys
that start with ``%``; all writes go through ``Heap.write``, which is what makes ``rollback`` possible.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlint.flow.lattice import MISSING, Site, Value, join, join_loose

if TYPE_CHECKING:
    from gradlint.flow.classes import ClassInfo, FunctionInfo
    from gradlint.flow.frame import Frame
    from gradlint.knowledge import Row
    from gradlint.survey.source import SourceFile

_serial = itertools.count(1)


class Obj:
    """An object: an instance of a project class, of a library class, a container, a leaf tensor, or one nobody can see into.

    ``kind``: ``instance``, ``library``, ``opaque``, ``leaf``, ``list``, ``tuple``, ``dict``, ``set``.
    ``key`` names the object across runs of the analysis: where it was allocated, or which argument it stands for.
    ``parent`` is the opaque object that this one was read from.  ``serial`` orders objects by age.
    """

    __slots__ = ("attrs", "cls", "key", "kind", "label", "owner", "parent", "row", "serial", "site")

    def __init__(
        self,
        kind: str,
        key: tuple[object, ...],
        *,
        cls: ClassInfo | None = None,
        row: Row | None = None,
        label: str = "",
        site: Site | None = None,
        parent: Obj | None = None,
        serial: int = 0,
    ) -> None:
        self.kind = kind
        self.key = key
        self.cls = cls
        self.row = row
        self.label = label
        self.site = site
        self.parent = parent
        self.owner: tuple[Obj, str] | None = None
        self.serial = serial or next(_serial)
        self.attrs: dict[str, Any] = {}

    def name(self, depth: int = 0) -> str:
        """What the user would call it: ``self.encoder``, ``model.head``."""
        if self.owner is not None and depth < 6:
            holder, attr = self.owner
            prefix = holder.name(depth + 1)
            if prefix in ("", "self"):
                return attr if not prefix else f"self.{attr}"
            return (
                f"{prefix}[{attr}]"
                if holder.kind in ("list", "tuple", "dict") and not attr.isidentifier()
                else f"{prefix}.{attr}"
            )
        if self.parent is not None and self.label:
            return f"{self.parent.name(depth + 1)}.{self.label}"
        return self.label

    def __repr__(self) -> str:
        return f"{self.kind}:{self.name() or self.key}"


class FunctionRef(NamedTuple):
    """A project function or lambda, with the variables it closes over and, for a method, its receiver and defining class."""

    info: FunctionInfo
    closure: Frame | None = None  # the frame it was defined in
    receiver: Value | None = None


class ClassRef(NamedTuple):
    """A project class."""

    info: ClassInfo


class LibRef(NamedTuple):
    """Something a library defines, by qualified name, with the receiver where it was reached through a value."""

    name: str
    receiver: Value | None = None


class FileRef(NamedTuple):
    """A project file used as a module."""

    file: SourceFile


class PartialRef(NamedTuple):
    """A callable with some arguments already given."""

    target: Value
    args: tuple[Value, ...]
    kwargs: tuple[tuple[str, Value], ...]


class SuperRef(NamedTuple):
    """``super()`` of a class for a receiver."""

    cls: ClassInfo
    receiver: Value


class MethodRef(NamedTuple):
    """A method of a built-in container or of an object the analysis models itself, bound to its receiver."""

    name: str
    receiver: Obj
    value: Value


class Parameter(NamedTuple):
    """One entry of a parameter iterator: the module or leaf that owns it and its dotted name, where known."""

    owner: Obj
    name: str
    certain: bool = True


class ParamSet:
    """Parameters of modules as ``parameters()`` and its filters give them; also stands for the loop variable over them."""

    __slots__ = ("entries", "generator", "root")

    def __init__(self, entries: tuple[Parameter, ...], root: Obj | None = None) -> None:
        self.entries = entries
        self.root = root
        self.generator: Obj | None = None  # where these can be taken only once: the state of the iterator

    def __repr__(self) -> str:
        return f"params({', '.join(e.name for e in self.entries)})"


class DataOf(NamedTuple):
    """The storage of parameters, as ``p.data`` gives it: what is written here is written to them."""

    params: ParamSet


class NameOf(NamedTuple):
    """The loop variable that holds a name, tied to the objects the same iteration yields under that name."""

    group: tuple[tuple[str, object], ...]  # (name, Parameter or Obj)


class Heap:
    """Writes with a journal."""

    def __init__(self) -> None:
        self.journal: list[tuple[Obj, str, object]] = []

    def write(self, obj: Obj, key: str, value: object) -> None:
        """Set an attribute or note of an object, remembering what stood there."""
        self.journal.append((obj, key, obj.attrs.get(key, MISSING)))
        obj.attrs[key] = value

    def mark(self) -> int:
        """A point to come back to."""
        return len(self.journal)

    def since(self, mark: int) -> dict[tuple[Obj, str], object]:
        """What was written since ``mark``."""
        return {(obj, key): obj.attrs.get(key, MISSING) for obj, key, _ in self.journal[mark:]}

    def take_back(self, mark: int) -> dict[tuple[Obj, str], object]:
        """Undo everything since ``mark`` and return the values that stood there until now."""
        changes: dict[tuple[Obj, str], object] = {}
        journal = self.journal
        for obj, key, old in reversed(journal[mark:]):
            if (obj, key) not in changes:
                changes[obj, key] = obj.attrs.get(key, MISSING)
            if old is MISSING:
                obj.attrs.pop(key, None)
            else:
                obj.attrs[key] = old
        del journal[mark:]
        return changes

    def merge(self, arms: list[dict[tuple[Obj, str], object]], *, split: bool = False) -> None:
        """Apply what several alternative arms wrote: joined where more than one path leads here.

        ``split``: the arms are not alternatives for one object but what happens to different objects, as in
        ``for name, p in …: if "head" in name: …``; then an arm that did not write has no say.
        """
        if not arms:
            return
        keys: dict[tuple[Obj, str], None] = {}
        for arm in arms:
            keys.update(dict.fromkeys(arm))
        for obj, key in keys:
            base = obj.attrs.get(key, MISSING)
            values = [arm.get((obj, key), MISSING if split else base) for arm in arms]
            if key in UNSET and not split:
                values = [UNSET[key] if value is MISSING else value for value in values]
            known = [value for value in values if value is not MISSING]
            if not known:
                continue
            merged = known[0]
            for value in known[1:]:
                merged = join_slot(key, merged, value)
            if merged is not base:
                self.write(obj, key, merged)


# What the absence of a note means.
UNSET = {"%frozen": False, "%mode": "train", "%used": False}


def join_slot(key: str, a: object, b: object) -> object:
    """Join two contents of one slot: values, the items of containers, or a note of the analysis."""
    if a is b:
        return a
    if isinstance(a, Value) and isinstance(b, Value):
        return join(a, b)
    if key == "%items":
        return _join_items(a, b)
    if type(a) is tuple and type(b) is tuple:  # accumulating notes
        return a + tuple(item for item in b if item not in a)
    if a == b:
        return a
    if key in ("%frozen", "%mode"):
        return "maybe"
    if key == "%used":
        return "maybe" if isinstance(a, bool | str) or isinstance(b, bool | str) else a
    return a if b is None else b


class Items(NamedTuple):
    """The contents of a container: items known one by one (``known``), and what else may be in it (``rest``)."""

    known: tuple[Value, ...] | dict[Any, Value]
    rest: Value | None = None


def _join_items(a: object, b: object) -> object:
    assert isinstance(a, Items) and isinstance(b, Items)
    rest = a.rest if b.rest is None else b.rest if a.rest is None else join_loose(a.rest, b.rest)
    if isinstance(a.known, dict) and isinstance(b.known, dict):
        known = dict(a.known)
        for name, value in b.known.items():
            known[name] = join(known[name], value) if name in known else value
        return Items(known, rest)
    if isinstance(a.known, tuple) and isinstance(b.known, tuple):
        if len(a.known) == len(b.known):
            return Items(tuple(join(x, y) for x, y in zip(a.known, b.known, strict=True)), rest)
        for value in (*a.known, *b.known):
            rest = value if rest is None else join_loose(rest, value)
        return Items((), rest)
    return Items((), rest)


def source_sort(objects: Iterable[Obj]) -> list[Obj]:
    """Objects in a stable order, oldest first."""
    return sorted(objects, key=lambda o: o.serial)


def node_key(file: SourceFile, node: ast.AST) -> tuple[object, ...]:
    """A name for an allocation that is the same in every run."""
    return (file.path, getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
