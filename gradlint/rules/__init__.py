"""The rules, one module each. Whatever module of the right name lies in this package is a rule; nothing lists them by hand.

Rules are LibCST visitors, and importing LibCST takes longer than checking a clean project.  ``specs`` therefore reads the
metadata off the modules' source without importing them; ``all_rules`` imports.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradlint.core import Group, RuleSpec, Safety, Severity

if TYPE_CHECKING:
    from gradlint.syntax.rule import Rule

_MODULE = re.compile(r"grd\d{3}_[a-z0-9_]+")
_WORDS = {"Group": Group, "Severity": Severity, "Safety": Safety}


@cache
def specs() -> tuple[RuleSpec, ...]:
    """The metadata of every rule, by code, without importing LibCST.

    Raises:
        LookupError: a rule's module does not assign ``spec`` a literal ``RuleSpec(…)``.
    """
    return tuple(sorted(map(_spec, _modules()), key=lambda spec: spec.code))


@cache
def all_rules() -> tuple[type[Rule[Any]], ...]:
    """Every rule, by code.

    Raises:
        LookupError: a rule's module does not define exactly one rule.
    """
    return tuple(sorted(map(_rule, _modules()), key=lambda rule: rule.spec.code))


def _modules() -> Iterator[str]:
    for module in pkgutil.iter_modules(__path__):
        if _MODULE.fullmatch(module.name):
            yield f"{__name__}.{module.name}"


def _rule(module: str) -> type[Rule[Any]]:
    from gradlint.syntax.rule import Rule

    defined = [
        thing
        for thing in vars(importlib.import_module(module)).values()
        if isinstance(thing, type) and issubclass(thing, Rule) and thing.__module__ == module
    ]
    if len(defined) != 1:
        raise LookupError(f"{module} defines {len(defined)} rules; it must define one")
    return defined[0]


def _spec(module: str) -> RuleSpec:
    file = Path(__path__[0], module.rpartition(".")[2]).with_suffix(".py")
    for node in ast.walk(ast.parse(file.read_bytes())):
        match node:
            case ast.Assign(
                targets=[ast.Name("spec")], value=ast.Call(func=ast.Name("RuleSpec"), args=args, keywords=keywords)
            ):
                named = {keyword.arg: _literal(keyword.value, module) for keyword in keywords if keyword.arg is not None}
                return RuleSpec(*(_literal(arg, module) for arg in args), **named)
    raise LookupError(f"{module} assigns no literal RuleSpec(…) to spec")


def _literal(node: ast.expr, module: str) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.Attribute(ast.Name(owner), member) if owner in _WORDS:
            return _WORDS[owner][member]
    raise LookupError(f"{module}, line {node.lineno}: the RuleSpec must be written with literals")
