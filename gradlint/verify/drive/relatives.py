"""Larger models that contain a class: what they pass to it when they build and run shows how it is meant to be used.

A whole model is built on the meta device where that works, which costs neither memory nor arithmetic, and run there. Each
instance of the class inside it then has constructor arguments and input shapes that are known to fit together.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from gradlint.verify.drive.failures import Failure
from gradlint.verify.drive.guesses import module_classes, required_parameters, signature_of
from gradlint.verify.drive.limits import Clock, Limits, OutOfTime, TooBig
from gradlint.verify.drive.reading import parsed
from gradlint.verify.drive.search import Search
from gradlint.verify.drive.state import Arguments, State, map_leaves
from gradlint.verify.drive.values import Scope, Spec, Tensor, Unrenderable

__all__ = ["states_seen"]

_SMALL = re.compile(
    r"(^|_)(tiny|nano|atto|femto|pico|zepto|micro|mini|small|xxs|xs|s|t|n|18|10|14|test|base|b0|lite|small_\w+|\d{1,2}m)(_|$|\d)",
    re.IGNORECASE,
)
_LARGE = re.compile(
    r"(^|_)(large|huge|giant|gigantic|xl|xxl|xlarge|enormous|l|h|g|[2-9]\d\d|so400m|[1-9]b|full)(_|$)", re.IGNORECASE
)
_NOT_A_MODEL = re.compile(
    r"^(main|test|train|eval|load|save|download|parse|get_args|setup|cli|export|convert|run|demo|benchmark|plot)(_|$)",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Seen:
    """An instance inside a whole model: its path, how it was built, what it was called with."""

    path: str
    module: nn.Module
    built: Arguments | None = None
    inputs: tuple[tuple[str, Spec], ...] | None = None


_Seeds = Callable[[Search], Iterator[State]]


def states_seen(
    cls: type[nn.Module], scope: Scope, clock: Clock, *, seed: int, deadline: float, share: float
) -> Iterator[tuple[str, State]]:
    """States for a class with the name of the whole model that each was seen in.

    ``share``: the seconds that one whole model may take.
    """
    for name, kind, seed_states in _wholes(cls, scope, lambda: clock.now() > deadline):
        if clock.now() > deadline:
            return
        device = _holding(
            cls,
            seed_states,
            Search(kind, scope, clock, device="meta", seed=seed, deadline=min(deadline, clock.now() + share), depth=1),
        )
        if not device:
            continue
        for device in dict.fromkeys((device, "meta")):
            search = Search(kind, scope, clock, device=device, seed=seed, deadline=min(deadline, clock.now() + share), depth=1)
            if device == "cpu":
                search.slice, search.elements = 0.7, _SMALL_MODEL
            try:
                found = search.fitting(list(seed_states(search)), builds=24, forwards=100)
                if found is None:
                    if search.overran:
                        continue
                    break
                seen = list(_watched(cls, search, found))
            except OutOfTime:
                break
            for state in _states(found, seen):
                yield name, state
            break


_SMALL_MODEL = 15_000_000  # parameters of a model that is run for real; larger ones run on the meta device


def _holding(cls: type[nn.Module], seed_states: _Seeds, search: Search) -> str:
    """Where to run a model that holds an instance of the class; empty where it holds none."""
    try:
        for _, module in search.built(list(seed_states(search)), builds=12):
            if not any(type(part) is cls for part in module.modules()):
                return ""
            return "cpu" if sum(parameter.numel() for parameter in module.parameters()) <= _SMALL_MODEL else "meta"
    except OutOfTime:
        return ""
    return "cpu"  # some models cannot be built on the meta device


# --- which models ---------------------------------------------------------------------------------------------------------------


def _wholes(cls: type[nn.Module], scope: Scope, late: Callable[[], bool]) -> Iterator[tuple[str, type[nn.Module], _Seeds]]:
    for home in _homes(cls, late):
        graph = _mentions(home)
        local = next((name for name, value in list(vars(home).items()) if value is cls), cls.__name__)
        distance = _distances(graph, local)
        factories = [
            (_rank(name, distance[name]), name)
            for name in distance
            if isinstance(vars(home).get(name), types.FunctionType) and _callable_bare(vars(home)[name], home)
        ]
        for _, name in _varied(sorted(factories))[:10]:
            with contextlib.suppress(Unrenderable):
                maker = scope.name(inspect.unwrap(vars(home)[name]) if not _reachable(vars(home)[name]) else vars(home)[name])
                yield name, nn.Module, functools.partial(_only, State(maker))
        users = [
            user
            for user in module_classes(home)
            if user is not cls and distance.get(user.__name__, 0) > 0 and _has_forward(user)
        ]
        for user in sorted(users, key=lambda user: distance[user.__name__])[:5]:
            with contextlib.suppress(Unrenderable):
                scope.name(user)
                yield user.__name__, user, _own


def _varied(ranked: list[tuple[tuple[int, int, int, str], str]]) -> list[tuple[tuple[int, int, int, str], str]]:
    """The same, with factories of one family (``net_s0``, ``net_s1``) spread out."""
    families: dict[str, int] = {}
    turns = []
    for place, item in enumerate(ranked):
        family = re.split(r"[_\d]", item[1])[0]
        families[family] = families.get(family, 0) + 1
        turns.append((families[family], place, item))
    return [item for _, _, item in sorted(turns)]


def _only(state: State, search: Search) -> Iterator[State]:
    yield state


def _own(search: Search) -> Iterator[State]:
    yield from search.seeds()


def _reachable(value: Any) -> bool:
    home = sys.modules.get(getattr(value, "__module__", "") or "")
    return home is not None and getattr(home, getattr(value, "__qualname__", "?"), None) is value


def _has_forward(cls: type[nn.Module]) -> bool:
    return getattr(cls.forward, "__name__", "") != "_forward_unimplemented"


def _callable_bare(function: Any, home: types.ModuleType) -> bool:
    """Whether a function can be called without arguments and may return a model."""
    if function.__module__ != home.__name__ or _NOT_A_MODEL.search(function.__name__) or function.__name__.startswith("_"):
        return False
    signature = signature_of(function)
    if signature is None or required_parameters(function, skip_self=False):
        return False
    returned = signature.return_annotation
    if isinstance(returned, type) and not issubclass(returned, nn.Module):
        return False
    return returned is not None


def _rank(name: str, distance: int) -> tuple[int, int, int, str]:
    small = 0 if _SMALL.search(name) else 2 if _LARGE.search(name) else 1
    return small, distance, len(name), name


def _mentions(home: types.ModuleType) -> dict[str, set[str]]:
    """For each top-level definition of a file, the names that it uses."""
    tree = parsed(getattr(home, "__file__", "") or "")
    graph: dict[str, set[str]] = {}
    for node in tree.body if tree else []:
        names = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            graph[node.name] = names - {node.name}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    graph.setdefault(target.id, set()).update(names - {target.id})
    return graph


def _distances(graph: dict[str, set[str]], goal: str) -> dict[str, int]:
    """How many steps of use each definition is away from the goal."""
    users: dict[str, set[str]] = {}
    for name, used in graph.items():
        for item in used:
            users.setdefault(item, set()).add(name)
    distance = {goal: 0}
    todo = [goal]
    for name in todo:
        for user in sorted(users.get(name, ())):
            if user not in distance:
                distance[user] = distance[name] + 1
                todo.append(user)
    return distance


def _homes(cls: type[nn.Module], late: Callable[[], bool]) -> Iterator[types.ModuleType]:
    """The file of a class; then files of the same package that hold the class; then such that mention it and have to be imported."""
    own = sys.modules.get(cls.__module__)
    if own is not None:
        yield own
    top = cls.__module__.split(".")[0]
    loaded = [
        module
        for name, module in sorted(sys.modules.items())
        if (name == top or name.startswith(f"{top}."))
        and module is not None
        and module is not own
        and not hasattr(module, "__path__")
        and vars(module).get(cls.__name__) is cls
    ]
    yield from loaded[:6]
    if loaded:
        return
    count = 0
    for name, path in _files(cls, own):
        if late() or count >= 3:
            return
        if name in sys.modules or not re.search(rf"\b{re.escape(cls.__name__)}\b", _text(path)) or not _only_definitions(path):
            continue
        count += 1
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit):
            continue
        if any(value is cls for value in list(vars(module).values())):
            yield module


def _files(cls: type[nn.Module], own: types.ModuleType | None) -> Iterator[tuple[str, Path]]:
    """Importable files around a class: of its top package, or beside a file that is in no package."""
    parts = cls.__module__.split(".")
    top = sys.modules.get(parts[0])
    if len(parts) == 1:
        file = getattr(own, "__file__", None)
        if file:
            yield from ((path.stem, path) for path in sorted(Path(file).parent.glob("*.py")) if path.stem.isidentifier())
        return
    for folder in list(getattr(top, "__path__", []))[:1]:
        root = Path(folder)
        for path in sorted(root.rglob("*.py"))[:3000]:
            relative = path.relative_to(root).with_suffix("").parts
            if all(part.isidentifier() for part in relative) and relative[-1] not in {
                "__init__",
                "__main__",
                "setup",
                "conftest",
            }:
                yield ".".join([parts[0], *relative]), path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _only_definitions(path: Path) -> bool:
    """Whether importing a file only defines things, as far as its top level shows."""
    try:
        tree = ast.parse(_text(path))
    except (SyntaxError, ValueError):
        return False
    return not any(
        isinstance(node, ast.For | ast.While | ast.With) or isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        for node in tree.body
    )


# --- watching -------------------------------------------------------------------------------------------------------------------


def _watched(cls: type[nn.Module], search: Search, state: State) -> Iterator[_Seen]:
    """Build and run a whole model once more and look at the instances of the class."""
    recorded: dict[int, Arguments | None] = {}
    with _recording(cls, search.scope, recorded):
        whole = search.build(state, fresh=True)
    if isinstance(whole, Failure):
        return
    seen: dict[int, _Seen] = {}
    handles = []

    def hook(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        entry = seen[id(module)]
        if entry.inputs is None:
            with contextlib.suppress(Unrenderable):
                positional = _named_positionally(module, given, search.scope)
                keywords = [(name, search.scope.capture(value)) for name, value in named.items() if value is not None]
                entry.inputs = (*positional, *keywords)

    for path, module in whole.named_modules():
        if type(module) is cls and len(seen) < 64:
            seen[id(module)] = _Seen(path, module, recorded.get(id(module)))
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        with Limits(search.clock, max(search.deadline - search.clock.now(), 0.5)), contextlib.suppress(Exception, TooBig):
            positional, named = search.fed(state)
            whole(*positional, **named)
    finally:
        for handle in handles:
            handle.remove()
    yield from seen.values()


def _named_positionally(module: nn.Module, given: tuple[Any, ...], scope: Scope) -> list[tuple[str, Spec]]:
    signature = signature_of(type(module).forward)
    names = (
        [
            item.name
            for item in list(signature.parameters.values())[1:]
            if item.kind in {item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD}
        ]
        if signature
        else []
    )
    return [(f"*{names[index] if index < len(names) else index}", scope.capture(value)) for index, value in enumerate(given)]


@contextlib.contextmanager
def _recording(cls: type[nn.Module], scope: Scope, recorded: dict[int, Arguments | None]) -> Iterator[None]:
    original = cls.__init__
    own = "__init__" in vars(cls)

    @functools.wraps(original)
    def recording(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        if type(self) is cls and id(self) not in recorded:
            try:
                recorded[id(self)] = _bound(original, self, args, kwargs, scope)
            except (Unrenderable, TypeError):
                recorded[id(self)] = None
        original(self, *args, **kwargs)

    cls.__init__ = recording  # type: ignore[method-assign]
    try:
        yield
    finally:
        if own:
            cls.__init__ = original  # type: ignore[method-assign]
        else:
            del cls.__init__


def _bound(function: Any, self: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], scope: Scope) -> Arguments:
    signature = inspect.signature(function)
    bound = signature.bind(self, *args, **kwargs)
    found: list[tuple[str, Spec]] = []
    variadic = any(
        item.kind is item.VAR_POSITIONAL and bound.arguments.get(name) for name, item in signature.parameters.items()
    )
    for index, (name, value) in enumerate(bound.arguments.items()):
        parameter = signature.parameters[name]
        if index == 0:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            found += [(f"*{place}", scope.capture(item)) for place, item in enumerate(value)]
        elif parameter.kind is parameter.VAR_KEYWORD:
            found += [(key, scope.capture(item)) for key, item in value.items()]
        elif parameter.kind is parameter.POSITIONAL_ONLY or variadic and parameter.kind is not parameter.KEYWORD_ONLY:
            found.append((f"*{name}", scope.capture(value)))
        elif not _same(value, parameter.default):
            found.append((name, scope.capture(value)))
    return tuple(found)


def _same(value: Any, default: Any) -> bool:
    if value is default:
        return True
    try:
        return type(value) is type(default) and bool(value == default)
    except Exception:
        return False


def _states(whole: State, seen: list[_Seen]) -> Iterator[State]:
    """States to try: built from the arguments seen, else taken out of the whole model; small and different ones first."""
    usable = [entry for entry in seen if entry.inputs is not None]
    usable.sort(key=lambda entry: _elements(entry))
    done: set[Any] = set()
    for entry in usable:
        inputs = tuple((name, _solid(spec, entry.module)) for name, spec in entry.inputs or ())
        if entry.path == "":
            yield replace(whole, inputs=inputs)
            continue
        if entry.built is not None and (entry.built, inputs) not in done and len(done) < 6:
            done.add((entry.built, inputs))
            yield State("", entry.built, inputs)
        if len(done) < 8 and entry.path not in done:
            done.add(entry.path)
            yield State(f"{whole.building}.get_submodule({entry.path!r})", (), inputs, called=False)
    for entry in seen:
        if entry.inputs is None and entry.built is not None and entry.built not in done and len(done) < 10:
            done.add(entry.built)
            yield State("", entry.built, None)


def _elements(entry: _Seen) -> int:
    total = sum(parameter.numel() for parameter in entry.module.parameters())
    for _, spec in entry.inputs or ():
        total += spec.elements if isinstance(spec, Tensor) else 0
    return total


def _solid(spec: Spec, module: nn.Module) -> Spec:
    """Whole numbers seen on the meta device have no values: stay below what the module can look up."""
    sizes = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding)]

    def change(leaf: Spec) -> Spec:
        if isinstance(leaf, Tensor) and leaf.kind == "long" and sizes:
            return replace(leaf, high=min(sizes))
        return leaf

    return map_leaves(spec, change)
