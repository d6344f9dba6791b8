"""Executing statements abstractly: control flow, assignments, grad-mode regions."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from gradlint.flow import containers, expressions, modules
from gradlint.flow.calls import enter_context, iterate_generator, make_function
from gradlint.flow.conditions import decide, narrow, narrow_attribute, splits
from gradlint.flow.frame import BREAK, CONTINUE, DONE, FALL, RAISE, RETURN, branch, guarded, join_envs
from gradlint.flow.heap import ClassRef, LibRef, Obj
from gradlint.flow.lattice import FALSE, NONE, TRUE, UNKNOWN_VALUE, Value, ref
from gradlint.flow.reading import words
from gradlint.survey.project import import_bindings, is_main_guard

if TYPE_CHECKING:
    from gradlint.flow.run import Run

MAX_UNROLL = 6
CHANCE = re.compile(r"\brand(?:om|int|n|perm)?\b|bernoulli|uniform\(")
SAYS_FREEZING = re.compile(
    r"freez|frozen|isolat|detach|stop_?grad|no_?grad|train|finetun|fine_tun|unlock|lock|tune|learn|updat", re.I
)


def execute(run: Run, body: Sequence[ast.stmt]) -> int:
    """Run statements in order; say how they end."""
    for node in body:
        run.tick()
        handler = HANDLERS.get(type(node))
        status = handler(run, node) if handler else FALL
        if status:
            return status
    return FALL


def _expr(run: Run, node: ast.Expr) -> int:
    run.watch.statement(node)
    call = node.value
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "detach" and not call.args:
        run.watch.leaks.dropped(expressions.evaluate(run, call.func.value))
    expressions.evaluate(run, call)
    return FALL


def _assign(run: Run, node: ast.Assign) -> int:
    if isinstance(node.value, ast.Tuple) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, ast.Tuple) and len(target.elts) == len(node.value.elts):
            if not any(isinstance(e, ast.Starred) for e in (*target.elts, *node.value.elts)):
                values = [expressions.evaluate(run, item) for item in node.value.elts]
                for place, value in zip(target.elts, values, strict=True):
                    assign(run, place, value, node)
                return FALL
    if len(node.targets) == 1 and isinstance(node.targets[0], ast.Attribute) and node.targets[0].attr == "requires_grad":
        if isinstance(node.value, ast.Compare | ast.Call | ast.BoolOp | ast.UnaryOp) and splits(run, node.value):
            return branch(run, run.frame, [partial(_flagged, run, node, truth) for truth in (True, False)], split=True)
    value = expressions.evaluate(run, node.value)
    if isinstance(node.value, ast.Attribute) and node.value.attr == "training" and not value.is_const:
        value = TRUE  # a mode is remembered to go back to it, and nobody goes back to evaluation
    if value.live and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.Add) and len(node.targets) == 1:
        value = _sum_kept(run, node.targets[0], node.value, value, node)
    for place in node.targets:
        assign(run, place, value, node)
    return FALL


def _flagged(run: Run, node: ast.Assign, truth: bool) -> int:
    """``p.requires_grad = "head" in name``, for the parameters of which the test has this truth."""
    if not narrow(run, node.value, truth):
        return RAISE
    assign(run, node.targets[0], TRUE if truth else FALSE, node)
    return FALL


def _sum_kept(run: Run, target: ast.expr, total: ast.BinOp, value: Value, node: ast.AST) -> Value:
    """``total = total + loss`` keeps what it adds, like ``total += loss``."""
    name = ast.unparse(target)
    for old, new in ((total.left, total.right), (total.right, total.left)):
        if isinstance(old, ast.Name | ast.Attribute) and isinstance(new, ast.Name | ast.Attribute) and ast.unparse(old) == name:
            added = expressions.evaluate(run, new)
            return run.watch.leaks.added(node, target, expressions.evaluate(run, old), added, value)
    return value


def _ann_assign(run: Run, node: ast.AnnAssign) -> int:
    if node.value is not None:
        assign(run, node.target, expressions.evaluate(run, node.value), node)
    return FALL


def _aug_assign(run: Run, node: ast.AugAssign) -> int:
    load = _as_load(node.target)
    old = expressions.evaluate(run, load)
    new = expressions.evaluate(run, node.value)
    value = expressions.binary(run, node.op, old, new, node)
    if isinstance(node.op, ast.Add) and any(
        isinstance(r, Obj) and (r.kind == "list" or "%container" in r.attrs) for r in old.refs
    ):
        containers.extend(run, old, new, node)
        return FALL
    if isinstance(node.op, ast.Add):
        value = run.watch.leaks.added(node, node.target, old, new, value)
    if old.live or old.refs:
        value = run.watch.mutations.augmented(node, old, new, value)
    if run.regions and old.live:
        value = old  # a write that autograd does not see leaves it what it was
    assign(run, node.target, value, node, augmented=True)
    return FALL


def _as_load(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.copy_location(ast.Name(target.id, ast.Load()), target)
    return target


def assign(run: Run, target: ast.expr, value: Value, node: ast.AST, *, augmented: bool = False) -> None:
    """Bind ``value`` to an assignment target."""
    kind = type(target)
    if (value.live or value.dead) and kind in (ast.Name, ast.Attribute, ast.Subscript):
        value = run.watch.autograd.bound(target, value, node)
    if kind is ast.Name:
        value = run.leave(value, node, f"assigned to `{target.id}`")  # type: ignore[attr-defined]
        for item in value.refs:
            if isinstance(item, Obj) and item.owner is None and not item.label and item.kind != "list":
                item.label = target.id  # type: ignore[attr-defined]
        if run.watch.leaks.kept and not augmented and target.id in run.frame.env:  # type: ignore[attr-defined]
            run.watch.leaks.rebound(run.frame.env[target.id], value)  # type: ignore[attr-defined]
        run.frame.env[target.id] = value  # type: ignore[attr-defined]
        if value.live or value.refs:
            run.frame.places[target.id] = run.site(node)  # type: ignore[attr-defined]
    elif kind is ast.Attribute:
        holder = expressions.evaluate(run, target.value)  # type: ignore[attr-defined]
        value = run.leave(value, node, f"stored in `{words(target)}`") if value.dead else value
        modules.store_attribute(run, holder, target.attr, value, node, augmented=augmented)  # type: ignore[attr-defined]
    elif kind is ast.Subscript:
        holder = expressions.evaluate(run, target.value)  # type: ignore[attr-defined]
        index = expressions.evaluate(run, target.slice)  # type: ignore[attr-defined]
        containers.store(run, holder, index, value, target, node)  # type: ignore[arg-type]
    elif kind in (ast.Tuple, ast.List):
        unpack(run, target.elts, value, node)  # type: ignore[attr-defined]
    elif kind is ast.Starred:
        assign(run, target.value, value, node)  # type: ignore[attr-defined]


def unpack(run: Run, targets: list[ast.expr], value: Value, node: ast.AST) -> None:
    """Bind the parts of ``value`` to several targets."""
    parts = containers.parts(run, value, len(targets), any(isinstance(t, ast.Starred) for t in targets), node)
    for target, part in zip(targets, parts, strict=True):
        assign(run, target, part, node)


def _return(run: Run, node: ast.Return) -> int:
    value = NONE if node.value is None else expressions.evaluate(run, node.value)
    run.frame.give(value)
    run.watch.trace.exit("return")
    return RETURN


def _if(run: Run, node: ast.If) -> int:
    frame = run.frame
    if is_main_guard(node.test) and frame.info is None:
        is_main = run.watch.entry_file is frame.file
        return execute(run, node.body if is_main else node.orelse)
    value = expressions.evaluate(run, node.test)
    known = decide(run, value)
    if known is not None:
        narrow(run, node.test, known)
        said = SAYS_FREEZING.search(words(node.test)) if not isinstance(node.test, ast.Constant) else None
        if said:
            run.guards.append(said.group())
        try:
            return execute(run, node.body if known else node.orelse)
        finally:
            if said:
                run.guards.pop()

    if node.orelse:
        _close(run, node)
    closed = id(node) in run.closed

    def arm(body: list[ast.stmt], truth: bool) -> Callable[[], int]:
        def go() -> int:
            if (closed and not truth) or not narrow(run, node.test, truth):
                return RAISE
            narrow_attribute(run, node.test, truth)
            return execute(run, body)

        return go

    if run.watch.membership.wraps and CHANCE.search(words(node.test)):
        run.watch.membership.chance(run.watch.branches + 1)
    return branch(run, frame, [arm(node.body, True), arm(node.orelse, False)], split=splits(run, node.test))


def _close(run: Run, node: ast.If) -> None:
    """Note the last test of a chain that tells one thing apart by words: that it is yet another word is not meant to happen."""
    first, last = _worded(node.test), node
    while first and len(last.orelse) == 1 and isinstance(inner := last.orelse[0], ast.If):
        last = inner
    if first and last is not node and not last.orelse and _worded(last.test) & first:
        run.closed.add(id(last))


def _worded(test: ast.expr) -> set[str]:
    """What a condition compares with a string."""
    parts = test.values if isinstance(test, ast.BoolOp) else [test]
    return {
        words(part.left)
        for part in parts
        if isinstance(part, ast.Compare)
        and isinstance(part.ops[0], ast.Eq)
        and isinstance(part.comparators[0], ast.Constant)
        and isinstance(part.comparators[0].value, str)
    }


def _loop(run: Run, turn: Callable[[], int], turns: int, *, spelled: bool = False) -> int:
    """Run a loop body ``turns`` times and gather what breaks out of it. ``spelled``: over things written out in the loop."""
    frame = run.frame
    frame.loops.append([])
    broken: list[tuple[dict[str, Value], dict[tuple[Obj, str], object]]] = []
    status = FALL
    try:
        for _ in range(turns):
            outer = run.watch.trace.turn()
            if not spelled:
                run.watch.leaks.turn(frame, sole=turns == 1)
            status = branch(run, frame, [turn])
            if not spelled:
                run.watch.leaks.turn_done()
            run.watch.trace.turn_done(outer)
            here = frame.loops[-1]
            again = [(env, changes) for kind, env, changes in here if kind == CONTINUE]
            broken.extend((env, changes) for kind, env, changes in here if kind == BREAK)
            here.clear()
            if again:
                envs = [env for env, _ in again] + ([frame.env] if status == FALL else [])
                frame.env = join_envs(envs)
                run.heap.merge([changes for _, changes in again] + ([{}] if status == FALL else []))
                status = FALL
            if status != FALL:
                break
    finally:
        frame.loops.pop()
    if broken:
        envs = [env for env, _ in broken] + ([frame.env] if status == FALL else [])
        frame.env = join_envs(envs)
        run.heap.merge([changes for _, changes in broken] + ([{}] if status == FALL else []))
        return FALL
    return status


def _for(run: Run, node: ast.For | ast.AsyncFor) -> int:
    source = expressions.evaluate(run, node.iter)
    run.watch.membership.consumed(source, node.iter, surely=not _breaks(node))
    frame = run.frame
    for item in source.refs:
        if isinstance(item, Obj) and item.kind == "instance":
            method = modules.find_method(run, item, "__iter__")
            if method is not None and method.is_generator and method.node not in run.stack:
                source = modules.call_method(run, ref(item), "__iter__", [], {}, node)
                break
    generators = [r for r in source.refs if isinstance(r, Obj) and "%generator" in r.attrs]
    if generators:
        status = iterate_generator(run, generators[0], lambda item: _one_turn(run, node, item))
        return status if status in (RETURN, DONE) else execute(run, node.orelse)
    items = containers.iteration(run, source, MAX_UNROLL)
    if items is not None and items.unrolled:
        status = FALL
        frame_loops = len(frame.loops)
        run.watch.loop_entered(node, exact=True)
        spelled = isinstance(node.iter, ast.List | ast.Tuple)
        for item in items.values:
            status = _loop(run, lambda item=item: _turn(run, node, item), 1, spelled=spelled)  # type: ignore[misc]
            if status in (RETURN, DONE, RAISE):
                break
        run.watch.loop_left(node)
        assert len(frame.loops) == frame_loops
        if status == RAISE and items.values:
            status = FALL
    else:
        item = containers.element(run, source, node)
        turns = 1 if (items is not None and items.every) or len(frame.loops) >= 2 else 2
        run.watch.loop_entered(node)
        status = _loop(run, lambda: _turn(run, node, item), turns)
        run.watch.loop_left(node)
        if status == RAISE:
            status = FALL
    if status == FALL and node.orelse:
        return execute(run, node.orelse)
    return status


def _breaks(node: ast.For | ast.AsyncFor) -> bool:
    """Whether a loop may leave some of what it is over."""
    return any(isinstance(part, ast.Break | ast.Return) for statement in node.body for part in ast.walk(statement))


def _one_turn(run: Run, node: ast.For | ast.AsyncFor, item: Value) -> int:
    run.watch.loop_entered(node, exact=True)
    status = _loop(run, lambda: _turn(run, node, item), 1)
    run.watch.loop_left(node)
    return status


def _turn(run: Run, node: ast.For | ast.AsyncFor, item: Value) -> int:
    assign(run, node.target, item, node)
    return execute(run, node.body)


def _while(run: Run, node: ast.While) -> int:
    test = expressions.evaluate(run, node.test)
    known = decide(run, test)
    if known is False:
        return execute(run, node.orelse)
    narrow(run, node.test, True)
    turns = 1 if len(run.frame.loops) >= 2 else 2

    def turn() -> int:
        status = execute(run, node.body)
        if status == FALL:
            expressions.evaluate(run, node.test)
        return status

    run.watch.loop_entered(node)
    status = _loop(run, turn, turns)
    run.watch.loop_left(node)
    return FALL if status == RAISE else status


def _with(run: Run, node: ast.With | ast.AsyncWith) -> int:
    regions = run.regions
    status = _with_items(run, node, 0)
    run.regions = regions
    return status


def _with_items(run: Run, node: ast.With | ast.AsyncWith, index: int) -> int:
    if index == len(node.items):
        return execute(run, node.body)
    item = node.items[index]
    before = run.regions
    manager = expressions.evaluate(run, item.context_expr)
    if any(isinstance(r, LibRef) and r.name.startswith("%scope") for r in manager.refs):
        run.regions = before
    outcome: list[int] = []

    def body(value: Value) -> None:
        if item.optional_vars is not None:
            assign(run, item.optional_vars, value, node)
        outcome.append(_with_items(run, node, index + 1))

    enter_context(run, manager, item, node, body)
    return outcome[-1] if outcome else FALL


def _try(run: Run, node: ast.Try | ast.TryStar) -> int:
    if not node.finalbody:
        return _tried(run, node)
    status, final = guarded(run, lambda: _tried(run, node), lambda: execute(run, node.finalbody))
    return final or status


def _tried(run: Run, node: ast.Try | ast.TryStar) -> int:
    """All but the ``finally`` of a ``try``."""
    frame = run.frame
    exits = len(frame.exits)
    status = execute(run, node.body)
    if status == RAISE and node.handlers:
        status = branch(run, frame, [partial(_handler, run, handler) for handler in node.handlers])
    elif status == FALL and node.handlers and len(frame.exits) == exits:
        if _is_import_fallback(node):
            return execute(run, node.orelse)
        if not any(_leaves(handler.body) for handler in node.handlers):
            status = branch(run, frame, [lambda: FALL, *(partial(_handler, run, handler) for handler in node.handlers)])
    if status == FALL:
        status = execute(run, node.orelse)
    return status


def _is_import_fallback(node: ast.Try | ast.TryStar) -> bool:
    return all(isinstance(s, ast.Import | ast.ImportFrom | ast.Pass) for s in node.body)


def _leaves(body: list[ast.stmt]) -> bool:
    return any(isinstance(s, ast.Raise | ast.Return | ast.Break | ast.Continue) for s in body)


def _handler(run: Run, handler: ast.ExceptHandler) -> int:
    if handler.name:
        run.frame.env[handler.name] = UNKNOWN_VALUE
    run.handling += 1
    try:
        return execute(run, handler.body)
    finally:
        run.handling -= 1


def _function(run: Run, node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    frame = run.frame
    info = run.program.function(node, frame.file)
    run.frame.env[node.name] = make_function(run, info, frame if frame.info is not None else None)
    return FALL


def _class(run: Run, node: ast.ClassDef) -> int:
    info = run.program.class_info(node, run.frame.file)
    if info.bases is None and run.frame.info is not None:
        info.bases = tuple(
            item for base in node.bases for item in expressions.evaluate(run, base).refs if isinstance(item, ClassRef | LibRef)
        )
    run.frame.env[node.name] = ref(ClassRef(info))
    return FALL


def _import(run: Run, node: ast.Import | ast.ImportFrom) -> int:
    for name, binding in import_bindings(node):
        if name == "*":
            continue
        run.frame.env[name] = run.program.imported(run, run.frame.file, binding)
    return FALL


def _raise(run: Run, node: ast.Raise) -> int:
    return RAISE


def _break(run: Run, node: ast.Break) -> int:
    run.watch.trace.exit("break")
    return BREAK if run.frame.loops else FALL


def _continue(run: Run, node: ast.Continue) -> int:
    run.watch.trace.exit("continue")
    return CONTINUE if run.frame.loops else FALL


def _delete(run: Run, node: ast.Delete) -> int:
    for target in node.targets:
        if isinstance(target, ast.Name):
            run.frame.env.pop(target.id, None)
    return FALL


def _assert(run: Run, node: ast.Assert) -> int:
    expressions.evaluate(run, node.test)
    narrow(run, node.test, True)
    return FALL


def _match(run: Run, node: ast.Match) -> int:
    subject = expressions.evaluate(run, node.subject)

    def arm(case: ast.match_case) -> Callable[[], int]:
        def go() -> int:
            for pattern in ast.walk(case.pattern):
                if isinstance(pattern, ast.MatchAs | ast.MatchStar) and pattern.name:
                    run.frame.env[pattern.name] = subject if pattern is case.pattern else UNKNOWN_VALUE
            return execute(run, case.body)

        return go

    if subject.is_const:
        for case in node.cases:
            match = _matches(case.pattern, subject.const)
            if match and case.guard is None:
                return arm(case)()
            if match is None:
                break
    return branch(run, run.frame, [*map(arm, node.cases), lambda: FALL])


def _matches(pattern: ast.pattern, value: object) -> bool | None:
    if isinstance(pattern, ast.MatchValue) and isinstance(pattern.value, ast.Constant):
        return bool(pattern.value.value == value)
    if isinstance(pattern, ast.MatchSingleton):
        return pattern.value is value
    if isinstance(pattern, ast.MatchAs) and pattern.pattern is None:
        return True
    if isinstance(pattern, ast.MatchOr):
        results = [_matches(p, value) for p in pattern.patterns]
        return True if True in results else None if None in results else False
    return None


def _nothing(run: Run, node: ast.stmt) -> int:
    return FALL


HANDLERS: dict[type[ast.stmt], Callable[..., int]] = {
    ast.Expr: _expr,
    ast.Assign: _assign,
    ast.AnnAssign: _ann_assign,
    ast.AugAssign: _aug_assign,
    ast.Return: _return,
    ast.If: _if,
    ast.For: _for,
    ast.AsyncFor: _for,
    ast.While: _while,
    ast.With: _with,
    ast.AsyncWith: _with,
    ast.Try: _try,
    ast.TryStar: _try,
    ast.FunctionDef: _function,
    ast.AsyncFunctionDef: _function,
    ast.ClassDef: _class,
    ast.Import: _import,
    ast.ImportFrom: _import,
    ast.Raise: _raise,
    ast.Break: _break,
    ast.Continue: _continue,
    ast.Delete: _delete,
    ast.Assert: _assert,
    ast.Match: _match,
    ast.Pass: _nothing,
    ast.Global: _nothing,
    ast.Nonlocal: _nothing,
}
