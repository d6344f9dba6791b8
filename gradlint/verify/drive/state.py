"""A point of the search: with what a module is built and what its forward is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gradlint.verify.drive.inputs import Inputs
from gradlint.verify.drive.values import Group, Source, Spec, Tensor, call, describe, is_int, leaves

__all__ = ["State", "map_leaves"]

Arguments = tuple[tuple[str, Spec], ...]


@dataclass(frozen=True, slots=True)
class State:
    """``maker``: the expression that is called to build the module, or is the module where ``called`` is false.

    ``arguments``: of the call.  ``inputs``: of forward, ``None`` as long as no module was built to look at.
    ``stirred``: parameters that start at zero get small random values.
    """

    maker: str
    arguments: Arguments = ()
    inputs: Inputs | None = None
    called: bool = True
    stirred: bool = False

    @property
    def building(self) -> str:
        """The expression that builds the module."""
        return call(self.maker, self.arguments) if self.called else self.maker

    @property
    def shown(self) -> str:
        """One line for people: ``Net(in_dim=8), forward(x=float32[4, 8])``."""
        made = f"{self.maker}({_listed(self.arguments)})" if self.called else self.maker
        return f"{made}, forward({_listed(self.inputs or ())})"

    def argument(self, name: str) -> Spec | None:
        """A constructor argument, by position or keyword."""
        return next((spec for key, spec in self.arguments if key.lstrip("*") == name), None)

    def input(self, name: str) -> Spec | None:
        """An argument of forward, by position or keyword."""
        return next((spec for key, spec in self.inputs or () if key.lstrip("*") == name), None)

    def with_argument(self, name: str, spec: Spec) -> State:
        """The same with another constructor argument; what forward is given has to be guessed anew."""
        if self.argument(name) is None:
            return replace(self, arguments=(*self.arguments, (name, spec)), inputs=None)
        changed = tuple((key, spec if key.lstrip("*") == name else old) for key, old in self.arguments)
        return replace(self, arguments=changed, inputs=None)

    def without_argument(self, name: str) -> State:
        """The same without a constructor argument."""
        return replace(self, arguments=tuple(item for item in self.arguments if item[0].lstrip("*") != name), inputs=None)

    def with_input(self, name: str, spec: Spec) -> State:
        """The same with another argument of forward."""
        inputs = self.inputs or ()
        if self.input(name) is None:
            return replace(self, inputs=(*inputs, (name, spec)))
        return replace(self, inputs=tuple((key, spec if key.lstrip("*") == name else old) for key, old in inputs))

    def numbers(self) -> Iterator[int]:
        """The whole numbers among the constructor arguments, nested ones too."""
        for _, spec in self.arguments:
            for leaf in leaves(spec):
                value = is_int(leaf)
                if value is not None:
                    yield value

    def elements(self) -> int:
        """How many numbers forward is given in all."""
        return sum(leaf.elements for _, spec in self.inputs or () for leaf in leaves(spec) if isinstance(leaf, Tensor))

    def renumbered(self, old: int, new: int, names: frozenset[str] | None = None) -> State:
        """The same with one whole number replaced everywhere in the constructor arguments, or in those of ``names`` alone."""
        before, after = Source(str(old)), Source(str(new))
        changed = tuple(
            (
                key,
                map_leaves(spec, lambda leaf: after if leaf == before else leaf)
                if names is None or key.lstrip("*") in names
                else spec,
            )
            for key, spec in self.arguments
        )
        return replace(self, arguments=changed, inputs=None)


def _listed(arguments: Arguments) -> str:
    return ", ".join(
        f"{name.lstrip('*')}={describe(spec)}" if not name.startswith("**") and not name[1:2].isdigit() else describe(spec)
        for name, spec in arguments
    )


def map_leaves(spec: Spec, change: object) -> Spec:
    """``spec`` with every leaf replaced by what ``change`` makes of it."""
    if isinstance(spec, Group):
        return Group(spec.kind, tuple(map_leaves(item, change) for item in spec.items), spec.names)
    result = change(spec)  # type: ignore[operator]
    assert isinstance(result, Source | Tensor | Group)
    return result
