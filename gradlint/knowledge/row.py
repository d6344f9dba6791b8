"""A row of knowledge, and the schema every row keeps, ours and the user's alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# What an option may hold: a type, a literal string, or a tuple of either.
Shape = type | str | tuple["Shape", ...]

ANYWHERE: Mapping[str, Shape] = {
    "also": list,
    "bases": list,
    "attribute": bool,
    "results": (list, "arguments"),
    "fields": list,
    "positional": list,
    "selectors": list,
    "targets": list,
    "returns": str,
    "note": str,
    "probe": str,
}

EFFECTS: Mapping[str, Mapping[str, Shape]] = {
    "flow": {
        "loss": bool,
        "when_dim": bool,
        "device": ("cpu", "argument"),
        "dropout": "keyword",
        "switch": str,
        "rate": str,
        "acts": bool,
        "squash": ("softmax", "log-softmax", "sigmoid"),
        "logits": ("softmax", "sigmoid"),
        "severed_by": str,
        "sided": bool,
        "keeps": bool,
        "saves": bool,
    },
    "cut": {"kind": ("detach", "data", "no-grad"), "inplace": bool},
    "nondifferentiable": {"differentiable": str, "gradient": ("zero", "raises"), "when_dim": bool, "inplace": bool},
    "python": {"numpy": bool},
    "leaf": {"copies": (bool, "lists"), "requires_grad": ("keyword", bool), "fills": "float"},
    "constant": {"requires_grad": ("keyword", bool), "dtype": ("integer", "float"), "value": int},
    "inplace": {"overwrites": bool},
    "function-class": {},
    "distribution": {"differentiable": str},
    "parameter": {},
    "buffer": {},
    "requires-grad": {"default": bool, "value": bool, "module": int, "mode": bool},
    "scope": {"mode": ("off", "inference", "on", "argument"), "when": bool, "default": bool, "statement": bool},
    "grad-mode": {},
    "neutral-scope": {"yields": int, "lowers": bool},
    "backward": {"loss": (int, "self", "scaled"), "optimizer": int},
    "gradients": {"outputs": int, "inputs": int},
    "optimizer": {
        "parameters": int,
        "from": ("parameters", "module", "either", "optimizer"),
        "decays": ("always", "keyword", "never"),
        "momentum": ("always", "keyword", "never"),
        "skips_none": bool,
    },
    "step": {"optimizer": (int, "self")},
    "zero-grad": {"on": ("optimizer", "module")},
    "add-param-group": {},
    "clip": {"parameters": int},
    "scaler": {},
    "scale": {},
    "unscale": {"optimizer": int},
    "scaler-update": {},
    "scheduler": {"optimizer": int},
    "scheduler-step": {},
    "module": {
        "parameters": bool,
        "norm": ("batch", "instance", "frozen", "none", "maybe", "sync"),
        "dropout": (bool, "keyword"),
        "neutral": bool,
        "loss": bool,
        "squash": ("softmax", "log-softmax", "sigmoid"),
        "logits": ("softmax", "sigmoid"),
        "sided": bool,
        "keeps": bool,
        "saves": bool,
        "container": ("sequential", "list", "dict", "parameters"),
        "pretrained": bool,
        "weights": list,
        "buffers": list,
    },
    "factory": {
        "norm": ("batch", "none", "maybe"),
        "pretrained": (bool, "keyword"),
        "dropout": bool,
        "eval": bool,
        "batch_names": list,
        "none_names": list,
    },
    "iterate": {
        "of": (
            "parameters",
            "named_parameters",
            "modules",
            "named_modules",
            "children",
            "named_children",
            "buffers",
            "named_buffers",
        ),
    },
    "member": {"of": ("module", "parameter", "buffer")},
    "apply": {},
    "state": {},
    "load": {},
    "register": {"what": ("module", "parameter", "buffer")},
    "hook": {"when": ("forward", "forward-pre", "backward", "backward-pre", "state")},
    "mode": {"value": ("argument", bool), "default": bool},
    "move": {"device": ("cpu", "argument", "cuda")},
    "wrap": {"module": int, "norm": ("sync", "frozen"), "holds": str, "synchronizes": bool, "tolerates": list},
    "peft": {"module": int},
    "copy": {},
    "call": {"function": int, "reentrant": str},
    "fit": {"module": int, "on": str},
    "framework": {
        "returns_loss": list,
        "loss_key": str,
        "loss_index": int,
        "own_backward": list,
        "configures": list,
        "eval": list,
        "no_grad": list,
        "manages_modes": bool,
        "manages_grad": bool,
        "manages_step": bool,
    },
}


class KnowledgeError(ValueError):
    """A knowledge file that cannot be used: says the file, the key in it, and what to do."""

    def __init__(self, file: str, key: str, problem: str, remedy: str) -> None:
        self.file = file
        self.key = key
        self.problem = problem
        self.remedy = remedy
        place = f"{file}: {key}" if key else file
        super().__init__(f"{place}: {problem}. {remedy}")


@dataclass(frozen=True, slots=True)
class Row:
    """What one API does.

    ``name`` is the qualified name (or pattern) the row was found under, ``effect`` one of ``EFFECTS``, ``options`` every other
    key of the row with lists turned into tuples, ``library`` the file's stem.
    """

    name: str
    effect: str
    options: Mapping[str, Any] = field(hash=False)
    library: str

    def get(self, option: str, default: Any = None) -> Any:
        """The value of an option, or ``default`` where the row does not have it."""
        return self.options.get(option, default)

    @property
    def bases(self) -> tuple[str, ...]:
        """Qualified names of the classes a class row inherits members from."""
        return tuple(self.options.get("bases", ()))

    def as_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        options = {key: list(value) if isinstance(value, tuple) else value for key, value in self.options.items()}
        return {"name": self.name, "effect": self.effect, "options": options, "library": self.library}


def check_row(file: str, key: str, table: object, *, framework: bool = False) -> None:
    """Raise ``KnowledgeError`` where a row's table does not keep the schema."""
    if not isinstance(table, dict):
        raise KnowledgeError(file, key, "a row must be a table", f'Write [{key}] and, below it, effect = "…"')
    effect = "framework" if framework else table.get("effect")
    if effect is None:
        raise KnowledgeError(file, key, "the row has no effect", f'Add effect = "…", one of: {", ".join(sorted(EFFECTS))}')
    if not isinstance(effect, str) or effect not in EFFECTS or (effect == "framework" and not framework):
        known = [name for name in EFFECTS if name != "framework"]
        raise KnowledgeError(file, key, f"unknown effect {effect!r}", nearest(str(effect), known))
    options = EFFECTS[effect]
    for option, value in table.items():
        if option == "effect":
            continue
        shape = options.get(option, ANYWHERE.get(option))
        if shape is None:
            known = [*options, *ANYWHERE]
            raise KnowledgeError(file, key, f"unknown option {option!r} for effect {effect!r}", nearest(option, known))
        if not _fits(value, shape):
            problem = f"{option} = {value!r} is not possible here"
            raise KnowledgeError(file, key, problem, f"It must be {_describe(shape)}")


def nearest(word: str, known: list[str]) -> str:
    """A remedy that names the closest known word, or all of them where none is close."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Use one of: {', '.join(sorted(known))}"


def _fits(value: object, shape: Shape) -> bool:
    if isinstance(shape, tuple):
        return any(_fits(value, one) for one in shape)
    if isinstance(shape, str):
        return value == shape
    if shape is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return type(value) is shape  # bool is an int to isinstance, and not one here


def _describe(shape: Shape) -> str:
    if isinstance(shape, tuple):
        return " or ".join(_describe(one) for one in shape)
    if isinstance(shape, str):
        return f'"{shape}"'
    return {bool: "true or false", int: "a number", str: "a text", list: "a list of texts"}[shape]
