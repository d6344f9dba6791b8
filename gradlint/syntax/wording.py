"""Phrases that several rules share, so that the same thing is always said the same way."""

from __future__ import annotations

from collections.abc import Sequence

from gradlint.core import Claim, Span
from gradlint.flow.facts import Severed
from gradlint.survey.source import SourceFile

MOST = 3
"""How many names a message spells out before it counts the rest."""


def code(text: str) -> str:
    """A piece of code in a sentence."""
    return f"`{' '.join(text.split())}`"


def expression(name: str) -> str:
    """A module's name as code would have it: ``layers.0.norm`` is reached as ``layers[0].norm``."""
    parts = (f"[{'i' if part == '?' else part}]" if part == "?" or part.isdigit() else f".{part}" for part in name.split("."))
    return "".join(parts).removeprefix(".")


def names(subjects: Sequence[str], otherwise: str = "the parameters behind it") -> str:
    """The things that a sentence is about: ``a``, ``b`` and 4 more; ``otherwise`` when none is known by name."""
    unique = list(dict.fromkeys(subjects))
    if not unique:
        return otherwise
    shown = [code(name) for name in unique[:MOST]]
    if len(unique) > MOST:
        shown.append(f"{len(unique) - MOST} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def agree(subjects: Sequence[str], one: str = "is", many: str = "are") -> str:
    """The verb that fits the number of subjects."""
    return one if len(set(subjects)) == 1 else many


def place(span: Span, source: SourceFile) -> str:
    """A place in a sentence: ``train.py:88``; in a notebook of its own, ``cell 3, line 5``."""
    if source.notebook is not None and span.file == source.path:
        cell, line = source.notebook.place(span.line)
        return f"cell {cell}, line {line}"
    return f"{span.file}:{span.line}"


def starvation(fact: Severed, source: SourceFile, cutter: str) -> str:
    """What a cut does, as a sentence.

    Args:
        fact: the cut.
        source: the file that it is in.
        cutter: the part of the sentence before "cuts", such as ``the call``.
    """
    subjects, loss = names(fact.starved), place(fact.loss, source)
    them = agree(fact.starved, "it", "them")
    if fact.scope == "term":
        return f"One term of the loss at {loss} trains nothing: {cutter} cuts it off from {subjects}."
    if fact.scope == "loss":
        return f"No gradient reaches {subjects}: {cutter} cuts the whole loss at {loss} off from {them}."
    return f"No gradient reaches {subjects}: {cutter} cuts {them} off from the loss at {loss}."


def starved(fact: Severed) -> Claim:
    """The claim that a cut makes about the running program."""
    kind = {"loss": "severed", "term": "inert"}.get(fact.scope, "starved")
    return Claim("flow", kind, fact.starved, fact.span)


def meant_frozen(subjects: Sequence[str]) -> str:
    """What to do when the starved parts are not meant to train."""
    if not subjects:
        return "If that is meant, freeze what should stay as it is."
    if len(set(subjects)) == 1:
        return f"If {names(subjects)} is meant to stay as it is, freeze it."
    return f"If {names(subjects)} are meant to stay as they are, freeze them."
