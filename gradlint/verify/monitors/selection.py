"""Names of parameters, buffers and modules, and choosing among them."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Iterator

from torch import Tensor, nn

Selection = str | nn.Module | Iterable[str | nn.Module]
"""A dotted name (``"host"``, everything below it included), a pattern (``"*.lora_A.*"``), a module, or several of these."""

_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def clean(name: str) -> str:
    """A name without what ``torch.compile``, FSDP and checkpoint wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module that data-parallel wrappers hold, whose names are the ones people know."""
    while isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        model = model.module
    return model


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Each parameter once, by its first name."""
    return {clean(name): parameter for name, parameter in unwrapped(model).named_parameters()}


def named_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Each buffer once, by its first name."""
    return {clean(name): buffer for name, buffer in unwrapped(model).named_buffers()}


def named_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Each module once, by its first name; the model itself has the empty name."""
    return {clean(name): module for name, module in unwrapped(model).named_modules()}


class Selected:
    """What a selection chooses in a model.

    Raises:
        ValueError: a part of the selection fits nothing in the model.
        TypeError: a part is neither a name nor a module.
    """

    def __init__(self, model: nn.Module, selection: Selection) -> None:
        self.words = tuple(_words(selection))
        if not self.words:
            raise ValueError("The selection is empty: name a module, a parameter or a pattern")
        self._model = model
        # A parameter shared by two modules has two names, and either may be the one that is meant.
        inner = unwrapped(model)
        aliases = {clean(name): parameter for name, parameter in inner.named_parameters(remove_duplicate=False)}
        stores = {clean(name): buffer for name, buffer in inner.named_buffers(remove_duplicate=False)}
        modules = {clean(name): module for name, module in inner.named_modules(remove_duplicate=False)}
        names = [*aliases, *stores, *modules]
        parameters: set[int] = set()
        buffers: set[int] = set()
        chosen: dict[int, nn.Module] = {}
        for word in self.words:
            if isinstance(word, nn.Module):
                parameters |= {id(each) for each in word.parameters()}
                buffers |= {id(each) for each in word.buffers()}
                chosen[id(word)] = word
                if not any(word is module for module in modules.values()):
                    raise ValueError(f"The given {type(word).__name__} is not a part of the model")
                continue
            if not any(fits(word, name) for name in names if name):
                raise ValueError(_unknown(word, names))
            parameters |= {id(each) for name, each in aliases.items() if fits(word, name)}
            buffers |= {id(each) for name, each in stores.items() if fits(word, name)}
            chosen |= {id(each): each for name, each in modules.items() if name and matches(word, name)}
        self.parameters = {name for name, each in named_parameters(model).items() if id(each) in parameters}
        self.buffers = {name for name, each in named_buffers(model).items() if id(each) in buffers}
        self.modules = list(chosen.values())

    def __str__(self) -> str:
        names = {id(module): name for name, module in named_modules(self._model).items()}
        return ", ".join(
            f"`{names.get(id(word), type(word).__name__) if isinstance(word, nn.Module) else word}`" for word in self.words
        )


def matches(word: str, name: str) -> bool:
    """Whether a word is this very name, or a pattern that fits it."""
    return name == word or fnmatch.fnmatchcase(name, word)


def fits(word: str, name: str) -> bool:
    """Whether a word names this, or something that this is a part of."""
    parts = name.split(".")
    return any(matches(word, ".".join(parts[:end])) for end in range(1, len(parts) + 1))


def _words(selection: Selection) -> Iterator[str | nn.Module]:
    if isinstance(selection, str | nn.Module):
        selection = [selection]
    for word in selection:
        if isinstance(word, str):
            yield clean(word.removesuffix(".*")) if word != "*" else word
        elif isinstance(word, nn.Module):
            yield word
        else:
            raise TypeError(f"A selection consists of names and modules, not of {type(word).__name__}")


def _unknown(word: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, [name for name in names if name], n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""
    return f"The model has no parameter, buffer or module that `{word}` names{hint}"
