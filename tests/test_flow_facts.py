"""Facts are values: equal when their fields are, with all fields given and none but those."""

from __future__ import annotations

import pytest

from gradlint.core import Confidence, Span
from gradlint.flow import facts

HERE = Span("a.py", 1, 1, 1, 5)


def severed(**changes: object) -> facts.Severed:
    fields = {"cut": "detach", "construct": "call", "api": ".detach()", "starved": ("net",), "scope": "loss", "loss": HERE}
    return facts.Severed(HERE, Confidence.HIGH, (), **(fields | changes))  # type: ignore[arg-type]


def test_fields_and_defaults() -> None:
    fact = severed()
    assert (fact.span, fact.cut, fact.differentiable) == (HERE, "detach", "")
    assert fact.fields[:3] == ("span", "confidence", "path")
    assert facts.DeviceRoundTrip.fields[3:] == ("api", "loss")
    assert "differentiable=''" in repr(fact)


def test_equality() -> None:
    assert severed() == severed()
    assert hash(severed()) == hash(severed())
    assert severed() != severed(cut="data")
    assert severed().replaced(cut="data") == severed(cut="data")
    trip = facts.DeviceRoundTrip(HERE, Confidence.HIGH, (), ".cpu()", HERE)
    assert trip != severed()
    assert trip != 1


def test_a_fact_stays_as_it_is() -> None:
    with pytest.raises(AttributeError):
        severed().span = HERE  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ((HERE, Confidence.HIGH, (), ".cpu()"), {}),
        ((HERE, Confidence.HIGH, (), ".cpu()", HERE, 1), {}),
        ((HERE, Confidence.HIGH, (), ".cpu()", HERE), {"api": "x"}),
        ((HERE, Confidence.HIGH, (), ".cpu()", HERE), {"other": "x"}),
    ],
)
def test_wrong_fields_are_refused(values: tuple[object, ...], named: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        facts.DeviceRoundTrip(*values, **named)  # type: ignore[arg-type]


def test_every_kind_is_listed() -> None:
    kinds = [kind for kind in vars(facts).values() if isinstance(kind, type) and issubclass(kind, facts.Fact)]
    assert set(facts.FACTS) == set(kinds) - {facts.Fact}
