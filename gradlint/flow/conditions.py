"""Deciding conditions and learning from them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

from gradlint.flow.heap import ClassRef, FunctionRef, LibRef, NameOf, Obj, Parameter, ParamSet
from gradlint.flow.lattice import OBJECT, UNKNOWN, Value, const
from gradlint.flow.reading import names_in, words

if TYPE_CHECKING:
    from gradlint.flow.run import Run

# Whether a dotted name passes a test; None where that is open.
Predicate = Callable[[str], bool | None]

TENSOR_CLASS = "torch.Tensor"
TENSORS = {TENSOR_CLASS, "torch.nn.Parameter", "torch.nn.parameter.Parameter"}
PLAIN = {"builtins.int", "builtins.float", "builtins.str", "builtins.bool"}


def decide(run: Run, value: Value) -> bool | None:
    """The truth of a value, None where it is open."""
    if value.is_const:
        try:
            return bool(value.const)
        except Exception:
            return None
    if value.refs and value.kind == OBJECT and not value.opaque:
        truths = {_truth(item) for item in value.refs}
        if len(truths) == 1:
            return truths.pop()
    return None


def _truth(item: object) -> bool | None:
    if isinstance(item, Obj):
        if item.kind in ("list", "tuple", "dict", "set"):
            items = item.attrs.get("%items")
            if items is None or (items.rest is not None and not items.known):
                return None
            return bool(items.known)
        return True if item.kind in ("instance", "library", "leaf") and not _has_len(item) else None
    return True if isinstance(item, FunctionRef | ClassRef) else None


def _has_len(item: Obj) -> bool:
    return item.kind == "leaf" or (
        item.cls is not None and ("__len__" in item.cls.functions or "__bool__" in item.cls.functions)
    )


def narrow(run: Run, test: ast.expr, truth: bool) -> bool:
    """Learn from a condition that is taken to be ``truth``; False if it cannot be.

    Understood: ``isinstance``, tests on names that come with parameters or modules, ``p.requires_grad``, ``x is None``,
    ``not``, ``and``, ``or`` (as far as all parts must hold), and bare names.
    """
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return narrow(run, test.operand, not truth)
    if isinstance(test, ast.BoolOp):
        if isinstance(test.op, ast.And) is truth:
            return all(narrow(run, part, truth) for part in test.values)
        if truth and isinstance(test.op, ast.Or):
            return _narrow_any(run, test.values)
        if not truth and isinstance(test.op, ast.And):
            return _narrow_not_all(run, test.values)
        return True
    if isinstance(test, ast.Name):
        return True
    names = _name_test(run, test)
    if names is not None:
        variable, keep = names
        return _keep(run, variable, keep, truth)
    for name in names_in(test):
        if _is_names(run, name):
            return _keep(run, name, lambda name: None, truth)
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.left, ast.Name):
        other = test.comparators[0]
        if isinstance(other, ast.Constant) and other.value is None and isinstance(test.ops[0], ast.Is | ast.IsNot):
            is_none = isinstance(test.ops[0], ast.Is) is truth
            value = run.frame.env.get(test.left.id)
            if value is not None and not value.is_const:
                if is_none:
                    run.frame.env[test.left.id] = const(None)
            return True
        if isinstance(test.ops[0], ast.Eq) and truth and isinstance(other, ast.Constant):
            value = run.frame.env.get(test.left.id)
            if value is not None and not value.is_const and not value.refs and not value.depends:
                run.frame.env[test.left.id] = const(other.value)
    if isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.func.id == "isinstance" and len(test.args) == 2:
        return _narrow_isinstance(run, test, truth)
    if isinstance(test, ast.Attribute) and test.attr == "requires_grad" and isinstance(test.value, ast.Name):
        return _narrow_requires_grad(run, test.value.id, truth)
    return True


def splits(run: Run, test: ast.expr) -> bool:
    """Whether a condition tells apart the objects that one loop variable stands for, rather than two ways the run may go."""
    for name in names_in(test):
        value = run.frame.env.get(name)
        if value is None or not value.refs:
            continue
        if any(isinstance(item, NameOf) for item in value.refs):
            return True
        if len(value.refs) > 1 and isinstance(test, ast.Call | ast.BoolOp | ast.UnaryOp) and "isinstance" in words(test):
            return True
        if any(isinstance(item, ParamSet) for item in value.refs) and "requires_grad" in words(test):
            return True
    return False


def _narrow_any(run: Run, parts: list[ast.expr]) -> bool:
    """``a or b`` holds: for tests on names, keep what passes one of them."""
    together = _one_variable(run, parts)
    if together is not None:
        variable, keeps = together
        return _keep(run, variable, lambda name: _any_of([keep(name) for keep in keeps]), True)
    calls = [p for p in parts if isinstance(p, ast.Call) and isinstance(p.func, ast.Name) and p.func.id == "isinstance"]
    if len(calls) == len(parts):
        first = calls[0]
        if isinstance(first.args[0], ast.Name) and all(ast.dump(p.args[0]) == ast.dump(first.args[0]) for p in calls):
            merged = ast.Tuple([p.args[1] for p in calls], ast.Load())
            call = ast.copy_location(ast.Call(first.func, [first.args[0], merged], []), first)
            return _narrow_isinstance(run, call, True)
    return True


def _narrow_not_all(run: Run, parts: list[ast.expr]) -> bool:
    together = _one_variable(run, parts)
    if together is None:
        return True
    variable, keeps = together

    def every(name: str) -> bool | None:
        results = [keep(name) for keep in keeps]
        return False if False in results else None if None in results else True

    return _keep(run, variable, every, False)


def _one_variable(run: Run, parts: list[ast.expr]) -> tuple[str, list[Predicate]] | None:
    """The predicates of several tests on names; None unless all of them test the same variable."""
    tests = [test for part in parts if (test := _name_test(run, part)) is not None]
    if len(tests) < len(parts) or len({variable for variable, _ in tests}) > 1:
        return None
    return tests[0][0], [keep for _, keep in tests]


def _any_of(results: list[bool | None]) -> bool | None:
    return True if True in results else None if None in results else False


def _name_test(run: Run, test: ast.expr) -> tuple[str, Predicate] | None:
    """A test on the name that comes with a parameter: the variable and the predicate."""
    from gradlint.flow.expressions import evaluate

    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _name_test(run, test.operand)
        if inner is None:
            return None
        keep = inner[1]
        return inner[0], lambda name: None if keep(name) is None else not keep(name)
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        op, left, right = test.ops[0], test.left, test.comparators[0]
        if isinstance(op, ast.In | ast.NotIn):
            positive = isinstance(op, ast.In)
            if isinstance(right, ast.Name) and _is_names(run, right.id):
                needle = evaluate(run, left)
                if isinstance(needle.const, str):
                    text = needle.const
                    return right.id, _matcher(lambda name: text in name, positive)
                return right.id, lambda name: None
            if isinstance(left, ast.Name) and _is_names(run, left.id):
                from gradlint.flow.containers import strings

                options = strings(run, evaluate(run, right))
                if options is None:
                    return left.id, lambda name: None
                return left.id, _matcher(tuple(options).__contains__, positive)
        if isinstance(op, ast.Eq | ast.NotEq) and isinstance(left, ast.Name) and _is_names(run, left.id):
            value = evaluate(run, right)
            if value.is_const and isinstance(value.const, str):
                return left.id, _matcher(lambda name: name == value.const, isinstance(op, ast.Eq))
    if isinstance(test, ast.Call) and isinstance(test.func, ast.Attribute) and isinstance(test.func.value, ast.Name):
        variable, method = test.func.value.id, test.func.attr
        if method in ("startswith", "endswith") and _is_names(run, variable) and test.args:
            from gradlint.flow.containers import strings

            value = evaluate(run, test.args[0])
            options = [value.const] if value.is_const and isinstance(value.const, str) else strings(run, value)
            if options is None:
                return variable, lambda name: None
            return variable, _affix(method, options)
    if isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.func.id == "any" and len(test.args) == 1:
        generator = test.args[0]
        if isinstance(generator, ast.GeneratorExp | ast.ListComp) and len(generator.generators) == 1:
            element = generator.elt
            if (
                isinstance(element, ast.Call)
                and isinstance(element.func, ast.Attribute)
                and element.func.attr in ("startswith", "endswith")
                and isinstance(element.func.value, ast.Name)
                and _is_names(run, element.func.value.id)
            ):
                from gradlint.flow.containers import strings

                options = strings(run, evaluate(run, generator.generators[0].iter))
                variable, method = element.func.value.id, element.func.attr
                if options is None:
                    return variable, lambda name: None
                return variable, _affix(method, options)
            if (
                isinstance(element, ast.Compare)
                and len(element.ops) == 1
                and isinstance(element.ops[0], ast.In)
                and isinstance(element.comparators[0], ast.Name)
                and _is_names(run, element.comparators[0].id)
            ):
                from gradlint.flow.containers import strings

                options = strings(run, evaluate(run, generator.generators[0].iter))
                variable = element.comparators[0].id
                if options is None:
                    return variable, lambda name: None
                parts = tuple(options)
                return variable, _matcher(lambda name: any(part in name for part in parts), True)
    return None


def _is_names(run: Run, variable: str) -> bool:
    value = run.frame.env.get(variable)
    return value is not None and any(isinstance(item, NameOf) for item in value.refs)


def _affix(method: str, options: list[str]) -> Predicate:
    """``startswith`` or ``endswith`` with any of several strings."""
    affixes = tuple(options)
    if method == "startswith":
        return _matcher(lambda name: name.startswith(affixes), True)
    return _matcher(lambda name: name.endswith(affixes), True)


def _matcher(test: Callable[[str], bool], positive: bool) -> Predicate:
    """A predicate over dotted names in which ``?`` stands for a part that is not known."""

    def keep(name: str) -> bool | None:
        matched = test(name)
        if "?" in name and not matched:
            return None
        return matched is positive

    return keep


def _keep(run: Run, variable: str, keep: Predicate, truth: bool) -> bool:
    """Keep, of the objects that an iteration yields with their names, those whose name passes."""
    env = run.frame.env
    value = env[variable]
    group = NameOf(tuple(pair for item in value.refs if isinstance(item, NameOf) for pair in item.group))
    kept: list[tuple[str, object]] = []
    for name, item in group.group:
        verdict = keep(name)
        if verdict is None:
            kept.append((name, item._replace(certain=False) if isinstance(item, Parameter) else item))
        elif bool(verdict) is truth:
            kept.append((name, item))
    if not kept:
        return False
    allowed = {name for name, _ in kept}
    env[variable] = Value(OBJECT, refs=(NameOf(tuple(kept)),))
    certain = dict(kept)
    for other, bound in list(env.items()):
        for item in bound.refs:
            if isinstance(item, ParamSet) and any(e.name in dict(group.group) for e in item.entries):
                entries = tuple(certain[e.name] for e in item.entries if e.name in allowed)
                env[other] = Value(OBJECT, refs=(ParamSet(entries, item.root),))  # type: ignore[arg-type]
                break
            if isinstance(item, Obj) and all(any(r is known for _, known in group.group) for r in bound.refs):
                objects = tuple(known for _, known in kept if isinstance(known, Obj))
                env[other] = Value(OBJECT, refs=objects)
                break
    return True


def _narrow_isinstance(run: Run, test: ast.Call, truth: bool) -> bool:
    from gradlint.flow.expressions import evaluate
    from gradlint.flow.modules import is_instance, may_be_module

    subject = test.args[0]
    value = evaluate(run, subject)
    classes = evaluate(run, test.args[1])
    verdicts = [(item, is_instance(run, item, classes)) for item in value.refs]
    if not verdicts:
        if isinstance(subject, ast.Name) and value.depends and _no_tensor(run, classes, truth):
            run.frame.env[subject.id] = Value(UNKNOWN)
        return True
    kept = tuple(item for item, verdict in verdicts if verdict is None or verdict is truth)
    if truth and isinstance(subject, ast.Name) and _all_tensors(run, classes):
        kept = tuple(item for item in kept if not (isinstance(item, Obj) and may_be_module(run, item)))
        if not kept:
            run.frame.env[subject.id] = Value(UNKNOWN, value.live, value.dead, opaque=True)
            return True
    if not kept:
        return value.opaque
    if isinstance(subject, ast.Name) and len(kept) != len(value.refs):
        run.frame.env[subject.id] = value.replace(refs=kept)
    return True


def _all_tensors(run: Run, classes: Value) -> bool:
    """Whether these classes are tensors, and no modules among them."""
    names = [run.program.knowledge.canonical(item.name) for item in classes.refs if isinstance(item, LibRef)]
    return bool(names) and len(names) == len(classes.refs) and all(name in TENSORS for name in names)


def _no_tensor(run: Run, classes: Value, truth: bool) -> bool:
    """Whether a value that is (``truth``), or is not, of these classes can be no tensor."""
    from gradlint.flow.containers import everything

    found = [item for value in everything(run, classes) for item in value.refs if not isinstance(item, Obj)]
    names = {run.program.knowledge.canonical(item.name) for item in found if isinstance(item, LibRef)}
    if truth:
        return bool(names) and len(names) == len(found) and names <= PLAIN
    return TENSOR_CLASS in names


def narrow_attribute(run: Run, test: ast.expr, truth: bool) -> None:
    """Learn from ``isinstance(a.b, …)``, for the statements of an arm: what is written here is taken back with it."""
    from gradlint.flow.expressions import evaluate
    from gradlint.flow.modules import is_instance

    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        narrow_attribute(run, test.operand, not truth)
    if not (isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.func.id == "isinstance"):
        return
    if len(test.args) != 2 or not isinstance(subject := test.args[0], ast.Attribute):
        return
    holders = evaluate(run, subject.value).refs
    if len(holders) != 1 or not isinstance(holder := holders[0], Obj):
        return
    value = holder.attrs.get(subject.attr)
    if not isinstance(value, Value):
        return
    classes = evaluate(run, test.args[1])
    kept = tuple(item for item in value.refs if is_instance(run, item, classes) in (None, truth))
    if kept and len(kept) != len(value.refs):
        run.heap.write(holder, subject.attr, value.replace(refs=kept))


def _narrow_requires_grad(run: Run, variable: str, truth: bool) -> bool:
    from gradlint.flow.modules import frozen

    value = run.frame.env.get(variable)
    if value is None:
        return True
    for item in value.refs:
        if isinstance(item, ParamSet):
            kept = []
            for entry in item.entries:
                state = frozen(entry.owner)
                if state == "maybe":
                    kept.append(entry._replace(certain=False))
                elif bool(state) is not truth:
                    kept.append(entry)
            if not kept:
                return False
            run.frame.env[variable] = Value(OBJECT, refs=(ParamSet(tuple(kept), item.root),))
    return True
