"""Calling: project functions are executed in place, classes instantiated, everything else answered from knowledge."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from gradlint.flow import containers, library, modules
from gradlint.flow.classes import FunctionInfo
from gradlint.flow.frame import DONE, FALL, RAISE, RETURN, Frame, guarded
from gradlint.flow.heap import (
    ClassRef,
    FunctionRef,
    Items,
    LibRef,
    Obj,
    ParamSet,
    PartialRef,
    SuperRef,
)
from gradlint.flow.lattice import (
    CONST,
    NONE,
    OBJECT,
    UNKNOWN,
    UNKNOWN_VALUE,
    Value,
    join,
    ref,
)
from gradlint.flow.run import shown

if TYPE_CHECKING:
    from gradlint.flow.run import Run

MAX_DEPTH = 40


def call_expression(run: Run, node: ast.Call) -> Value:
    """The value of a call expression."""
    from gradlint.flow.expressions import evaluate

    func = node.func
    if isinstance(func, ast.Name) and func.id == "super" and "super" not in run.frame.env:
        return _super(run, node)
    if isinstance(func, ast.Attribute):
        receiver = evaluate(run, func.value)
        args, kwargs = arguments(run, node)
        if func.attr in ("zero_", "fill_"):
            run.watch.written_in_place(func.value, node)
        elif func.attr.endswith("_") and run.watch.inside_forward:
            run.watch.restless.mutated(node)
        elif func.attr == "backward":
            run.watch.loss = receiver
        elif func.attr == "zero_grad" and not receiver.refs:
            run.watch.gradients_cleared((), node)
        return modules.call_method(run, receiver, func.attr, args, kwargs, node)
    target = evaluate(run, func)
    args, kwargs = arguments(run, node)
    return call_value(run, target, args, kwargs, node)


def arguments(run: Run, node: ast.Call) -> tuple[list[Value], dict[str, Value]]:
    """The evaluated arguments, with known ``*`` and ``**`` spread out."""
    from gradlint.flow.expressions import evaluate

    args: list[Value] = []
    kwargs: dict[str, Value] = {}
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            value = evaluate(run, argument.value)
            items = containers.contents(run, value)
            if items is not None and isinstance(items.known, tuple):
                args.extend(items.known)
                if items.rest is not None:
                    args.append(items.rest)
            elif any(isinstance(r, Obj) and "%generator" in r.attrs for r in value.refs):
                args.append(containers.element(run, value, node))
            else:
                args.append(value if any(isinstance(r, ParamSet) for r in value.refs) else containers.element(run, value, node))
        else:
            args.append(evaluate(run, argument))
    for keyword in node.keywords:
        value = evaluate(run, keyword.value)
        if keyword.arg is not None:
            kwargs[keyword.arg] = value
            continue
        items = containers.contents(run, value)
        if items is not None and isinstance(items.known, dict):
            kwargs.update({str(k): v for k, v in items.known.items()})
            if items.rest is not None:
                kwargs["**"] = items.rest
        else:
            kwargs["**"] = value
    return args, kwargs


def _super(run: Run, node: ast.Call) -> Value:
    from gradlint.flow.expressions import evaluate

    if node.args:
        cls = evaluate(run, node.args[0])
        receiver = evaluate(run, node.args[1]) if len(node.args) > 1 else UNKNOWN_VALUE
        for item in cls.refs:
            if isinstance(item, ClassRef):
                return ref(SuperRef(item.info, receiver))
        return UNKNOWN_VALUE
    frame: Frame | None = run.frame
    while frame is not None:
        if frame.info is not None and frame.info.cls is not None and not isinstance(frame.info.node, ast.Lambda):
            names = frame.info.node.args.posonlyargs + frame.info.node.args.args
            if names:
                return ref(SuperRef(frame.info.cls, frame.env.get(names[0].arg, UNKNOWN_VALUE)))
        frame = frame.outer
    return UNKNOWN_VALUE


def call_value(run: Run, target: Value, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """Call whatever ``target`` may be."""
    found: Value | None = None
    fresh = run.watch.membership.unused([*args, *kwargs.values()]) if len(target.refs) > 1 else ()
    for item in target.refs:
        part = _call_one(run, item, args, kwargs, node)
        for iterator in fresh:  # what one function takes, the other would have found
            run.heap.write(iterator, "%used", False)
        found = part if found is None else join(found, part)
    if found is None:
        return library.unknown_call(run, target, args, kwargs, node)
    return found


def _call_one(run: Run, item: object, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    if isinstance(item, FunctionRef):
        return call_function(run, item, args, kwargs, node)
    if isinstance(item, ClassRef):
        return instantiate(run, item, args, kwargs, node)
    if isinstance(item, LibRef):
        return library.call(run, item, args, kwargs, node)
    if isinstance(item, Obj):
        if item.kind == "instance":
            if modules.is_module(run, item):
                override = modules.find_method(run, item, "__call__")
                if override is not None and override.node not in run.stack:
                    return call_function(run, FunctionRef(override, None, ref(item)), args, kwargs, node)
                return modules.call_module(run, item, args, kwargs, node)
            info = modules.find_method(run, item, "__call__")
            if info is not None:
                return call_function(run, FunctionRef(info, None, ref(item)), args, kwargs, node)
            run.watch.handed([*args, *kwargs.values()], node)
            return modules.call_opaque(run, item, args, kwargs, node)
        if item.kind in ("library", "opaque"):
            if item.kind == "opaque" and item.parent is not None and item.label and "%module" not in item.attrs:
                held = modules.find_method(run, item.parent, item.label)
                if held is None and library.known_method(run, item.parent, item.label):
                    return modules.call_method(run, ref(item.parent), item.label, args, kwargs, node)
            return modules.call_module(run, item, args, kwargs, node)
        return run.flow(args, UNKNOWN)
    if isinstance(item, PartialRef):
        merged = {**dict(item.kwargs), **kwargs}
        return call_value(run, item.target, [*item.args, *args], merged, node)
    return run.flow(args, UNKNOWN)


def make_function(run: Run, info: FunctionInfo, outer: Frame | None) -> Value:
    """The value of a function definition, its decorators applied."""
    plain = ref(FunctionRef(info, outer))
    value = plain
    for decorator in reversed(info.decorators):
        value = _decorated(run, value, info, decorator)
    return value


def _decorated(run: Run, value: Value, info: FunctionInfo, decorator: ast.expr) -> Value:
    """Apply a decorator of the project's own; those of libraries are handled where the function is called."""
    from gradlint.flow.expressions import evaluate

    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    if not isinstance(target, ast.Name | ast.Attribute):
        return value
    name = target.id if isinstance(target, ast.Name) else target.attr
    if name in ("property", "staticmethod", "classmethod", "setter", "wraps", "contextmanager", "abstractmethod", "overload"):
        return value
    callee = evaluate(run, target)
    if not any(isinstance(r, FunctionRef) for r in callee.refs):
        return value
    applied = evaluate(run, decorator)
    result = call_value(run, applied, [value], {}, decorator)
    return result if any(isinstance(r, FunctionRef | PartialRef) for r in result.refs) else value


def call_function(run: Run, target: FunctionRef, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
    """Execute a project function on abstract arguments."""
    info = target.info
    if run.depth >= MAX_DEPTH or run.stack.count(info.node) >= (1 if info.is_generator else 2):
        return run.flow([v for a in (*args, *kwargs.values()) for v in containers.everything(run, a)], UNKNOWN)
    run.tick(2)
    run.watch.entered(info)
    wrapped = run.program.project_decorated(run, info) if info.decorators and target.closure is None else None
    if wrapped is not None and info.node not in run.stack:
        inputs = [target.receiver, *args] if target.receiver is not None else args
        run.stack.append(info.node)
        run.depth += 1
        try:
            return call_value(run, wrapped, list(inputs), kwargs, node)
        finally:
            run.stack.pop()
            run.depth -= 1
    frame = Frame(info.file, info, target.closure)
    if target.receiver is not None:
        args = [target.receiver, *args]
    caller = run.frame
    run.frame = frame
    try:
        _bind(run, frame, info, args, kwargs, node)
        added = run.program.decorator_regions(run, info)
    finally:
        run.frame = caller
    if info.is_generator:
        obj = Obj("generator", ("generator", id(node)))
        obj.attrs["%generator"] = (frame, info, added)
        return Value(OBJECT, refs=(obj,), opaque=False)
    outer_regions = run.regions
    for region in added:
        run.regions = () if region is None else (*run.regions, region)
    opened = run.watch.trace.enter(node, caller.file if caller is not None else None, info.node)
    result = _body(run, frame, info)
    run.watch.trace.leave(opened)
    if added:
        run.regions = outer_regions
    result = result if not result.dead and not result.terms else run.leave(result, node, f"`{info.name}` returns it")
    return result


def _body(run: Run, frame: Frame, info: FunctionInfo) -> Value:
    from gradlint.flow.expressions import evaluate
    from gradlint.flow.statements import execute

    caller, guards = run.frame, run.guards
    run.frame = frame
    run.frames.append(frame)
    run.depth += 1
    run.stack.append(info.node)
    run.guards = list(guards)
    try:
        if isinstance(info.node, ast.Lambda):
            return evaluate(run, info.node.body)
        status = execute(run, info.node.body)
    finally:
        run.frame = caller
        run.frames.pop()
        run.depth -= 1
        run.stack.pop()
        run.guards = guards
    if frame.exits:
        run.heap.merge(frame.exits if status in (DONE, RAISE) else [{}, *frame.exits])
    return NONE if frame.result is None else frame.result


def _bind(run: Run, frame: Frame, info: FunctionInfo, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> None:
    """Bind arguments to parameters; a default is evaluated where it is needed."""
    from gradlint.flow.expressions import evaluate

    spec = info.node.args
    positional = [*spec.posonlyargs, *spec.args]
    env = frame.env
    left = dict(kwargs)
    loose = left.pop("**", None)
    for parameter, value in zip(positional, args, strict=False):
        env[parameter.arg] = value
        for item in value.refs:
            if isinstance(item, Obj) and item.owner is None and not item.label and parameter.arg != "self":
                item.label = parameter.arg
    extra = args[len(positional) :]
    for parameter in (*positional, *spec.kwonlyargs):
        if parameter.arg in left and parameter.arg not in env:
            env[parameter.arg] = left.pop(parameter.arg)
    defaults = dict(zip([p.arg for p in positional][::-1], spec.defaults[::-1], strict=False))
    defaults.update({p.arg: d for p, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if d is not None})
    for parameter in (*positional, *spec.kwonlyargs):
        if parameter.arg in env:
            continue
        if loose is not None:
            env[parameter.arg] = run.watch.argument(info, parameter.arg) if not loose.depends else loose
        elif parameter.arg in defaults:
            env[parameter.arg] = evaluate(run, defaults[parameter.arg])
        else:
            env[parameter.arg] = run.watch.argument(info, parameter.arg)
    if spec.vararg is not None:
        env[spec.vararg.arg] = run.container("tuple", Items(tuple(extra)), node)
    if spec.kwarg is not None:
        env[spec.kwarg.arg] = run.container("dict", Items(dict(left), loose), node)


# -- generators and context managers -----------------------------------------------------------------------------------


def iterate_generator(run: Run, obj: Obj, turn: Callable[[Value], int]) -> int:
    """Run a loop over a project generator: its body runs with the loop's body in place of each yield.

    Gradient switched off inside the generator stays off while the loop's body runs, as it does in Python; a decorator's does
    not.
    """
    frame, info, added = obj.attrs["%generator"]
    outer = run.regions
    status: list[int] = []
    caller = run.frame

    def on_yield(value: Value, node: ast.AST) -> None:
        inside, own = run.frame, run.regions
        if added:
            run.regions = outer
        run.frame = caller
        try:
            status.append(turn(value))
        finally:
            run.frame = inside
            run.regions = own if added or len(run.regions) == len(own) else run.regions

    frame = _again(frame)
    frame.on_yield = on_yield
    for region in added:
        run.regions = () if region is None else (*run.regions, region)
    try:
        opened = run.watch.trace.enter(info.node, info.file, info.node)
        _body(run, frame, info)
        run.watch.trace.leave(opened)
    finally:
        run.regions = outer
    return status[-1] if status and status[-1] in (RETURN, DONE) else FALL


def _again(frame: Frame) -> Frame:
    fresh = Frame(frame.file, frame.info, frame.outer)
    fresh.env = dict(frame.env)
    return fresh


def drain(run: Run, obj: Obj, node: ast.AST) -> Value:
    """One value for all that a generator yields."""
    frame, info, added = obj.attrs["%generator"]
    outer = run.regions
    if info.node in run.stack:
        return UNKNOWN_VALUE
    frame = _again(frame)
    for region in added:
        run.regions = () if region is None else (*run.regions, region)
    try:
        opened = run.watch.trace.enter(info.node, info.file, info.node)
        _body(run, frame, info)
        run.watch.trace.leave(opened)
    finally:
        run.regions = outer
    return frame.yielded if frame.yielded is not None else UNKNOWN_VALUE


def enter_context(
    run: Run, manager: Value, item: ast.withitem, node: ast.With | ast.AsyncWith, body: Callable[[Value], None]
) -> None:
    """Run ``body`` inside a context manager: grad modes, the project's own managers, and everything neutral."""
    regions = run.regions
    scopes = [r for r in manager.refs if isinstance(r, LibRef) and r.name.startswith("%scope")]
    if scopes and len(scopes) == len(manager.refs):
        modes = {scope.name for scope in scopes}
        if len(modes) == 1:
            _in_scope(run, scopes[0], item, node, lambda: body(NONE))
        else:
            body(NONE)
        run.regions = regions
        return
    for target in manager.refs:
        if isinstance(target, Obj) and "%generator" in target.attrs:
            _in_generator(run, target, body)
            run.regions = regions
            return
        if isinstance(target, Obj) and target.kind == "instance":
            enter = modules.find_method(run, target, "__enter__")
            if enter is not None:
                value = call_function(run, FunctionRef(enter, None, ref(target)), [], {}, node)
                leave = modules.find_method(run, target, "__exit__")
                if leave is None:
                    body(value)
                else:
                    left = FunctionRef(leave, None, ref(target))
                    guarded(run, partial(body, value), partial(call_function, run, left, [NONE, NONE, NONE], {}, node))
                run.regions = regions
                return
    body(manager)
    run.regions = regions


def _in_scope(run: Run, scope: LibRef, item: ast.withitem, node: ast.With | ast.AsyncWith, body: Callable[[], None]) -> None:
    mode = scope.name.split(":")[1]
    if mode == "on":
        run.regions = ()
    elif mode in ("no-grad", "inference-mode"):
        cut = run.cut(mode, "with", f"with {shown(run.frame.file, item.context_expr)}", node)
        run.regions = (*run.regions, cut)
    body()


def _in_generator(run: Run, obj: Obj, body: Callable[[Value], None]) -> None:
    frame, info, _ = obj.attrs["%generator"]
    caller = run.frame
    outer = run.regions
    ran: list[bool] = []

    def on_yield(value: Value, node: ast.AST) -> None:
        inside = run.frame
        if ran:
            return
        ran.append(True)
        run.frame = caller
        try:
            body(value)
        finally:
            run.frame = inside

    frame = _again(frame)
    frame.on_yield = on_yield
    opened = run.watch.trace.enter(info.node, info.file, info.node, around=True)
    _body(run, frame, info)
    run.watch.trace.leave(opened)
    run.regions = outer
    if not ran:
        body(NONE)


# -- classes ---------------------------------------------------------------------------------------------------------------


def instantiate(
    run: Run, target: ClassRef, args: list[Value], kwargs: dict[str, Value], node: ast.AST, *, quiet: bool = False
) -> Value:
    """A new object of a project class, its constructor executed."""
    cls = target.info
    if run.program.is_enum(run, cls):
        return Value(CONST)
    obj = run.allocate("instance", node, tag=cls.name, cls=cls)
    obj.attrs["%class"] = cls
    if quiet:
        obj.attrs["%pretrained"] = True
    construct(run, obj, args, kwargs, node)
    return ref(obj)


def construct(run: Run, obj: Obj, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> None:
    """Run the constructor of a freshly allocated object."""
    cls = obj.cls
    assert cls is not None
    new = run.program.find_method(run, cls, "__init__")
    if new is not None:
        call_function(run, FunctionRef(new, None, ref(obj)), args, kwargs, node)
        if run.program.inherits(run, cls, modules.OPTIMIZER) and "%optimizer" not in obj.attrs:
            library.make_optimizer(run, obj, [*args, *kwargs.values()], node, None)
        return
    if cls.is_dataclass or run.program.inherits(run, cls, "typing.NamedTuple"):
        fields = run.program.fields(run, cls)
        for name, default in fields:
            obj.attrs[name] = UNKNOWN_VALUE if default is None else library.field_default(run, cls, default)
        for (name, _), value in zip(fields, args, strict=False):
            modules.store_attribute(run, ref(obj), name, value, node)
        for name, value in kwargs.items():
            modules.store_attribute(run, ref(obj), name, value, node)
        obj.attrs["%fields"] = [obj.attrs[name] for name, _ in fields]
        post = run.program.find_method(run, cls, "__post_init__")
        if post is not None:
            call_function(run, FunctionRef(post, None, ref(obj)), [], {}, node)
        return
    for base in modules.library_bases(run, obj):
        library.base_init(run, obj, base, args, kwargs, node)
        break
