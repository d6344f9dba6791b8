"""What a built module wants to be fed: read off its layers and off what its forward does with each argument."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gradlint.verify.drive.guesses import BATCH, LENGTH, SIDE, WIDTH
from gradlint.verify.drive.reading import Shape, documented, first_use, shapes
from gradlint.verify.drive.values import Group, Spec, Tensor

__all__ = ["by_layer", "channels_of", "for_parameter", "from_shape", "layouts", "width_of"]

_SPATIAL = {1: (LENGTH,), 2: (SIDE, SIDE), 3: (8, 8, 8)}


def by_layer(module: nn.Module, depth: int = 0) -> Spec | None:
    """What a layer takes as its first argument; for containers, what their first layer takes."""
    match module:
        case nn.modules.conv._ConvNd():
            side = _SPATIAL[len(module.kernel_size)]
            reach = max(
                (size - 1) * step + 1 - 2 * (0 if isinstance(module.padding, str) else pad)
                for size, step, pad in zip(
                    module.kernel_size,
                    module.dilation,
                    (module.padding if isinstance(module.padding, tuple) else (0,) * 3),
                    strict=False,
                )
            )
            if module.in_channels in {1, 3} and len(side) == 2:
                side = (64, 64)
            return Tensor((BATCH, module.in_channels or WIDTH, *(max(length, reach) for length in side)))
        case nn.Linear():
            return Tensor((BATCH, LENGTH, module.in_features or WIDTH))
        case nn.Bilinear():
            return Tensor((BATCH, module.in1_features))
        case nn.Embedding() | nn.EmbeddingBag():
            return Tensor((BATCH, LENGTH), "long", module.num_embeddings)
        case nn.RNNBase():
            size = (BATCH, LENGTH) if module.batch_first else (LENGTH, BATCH)
            return Tensor((*size, module.input_size))
        case nn.RNNCellBase():
            return Tensor((BATCH, module.input_size))
        case nn.MultiheadAttention():
            return (
                Tensor((LENGTH, BATCH, module.embed_dim))
                if not module.batch_first
                else Tensor((BATCH, LENGTH, module.embed_dim))
            )
        case nn.modules.batchnorm._NormBase():
            name = type(module).__name__
            rank = 3 if "3d" in name else 2 if "2d" in name else 1
            return Tensor((BATCH, module.num_features or WIDTH, *_SPATIAL[rank]))
        case nn.LayerNorm() | nn.RMSNorm():
            shape = tuple(module.normalized_shape)
            return Tensor((BATCH, LENGTH, *shape) if len(shape) == 1 else (BATCH, *shape))
        case nn.GroupNorm():
            return Tensor((BATCH, module.num_channels, SIDE, SIDE))
        case nn.Identity() | nn.Dropout() | nn.ModuleList() | nn.ModuleDict() if not list(module.children()):
            return None
        case _:
            return None if depth > 6 else _of_children(module, depth)


def _of_children(module: nn.Module, depth: int) -> Spec | None:
    if type(module) not in {nn.Sequential, nn.ModuleList, nn.ModuleDict}:
        try:
            parameters = [item for item in inspect.signature(type(module).forward).parameters.values()][1:]
        except (TypeError, ValueError):
            parameters = []
        if parameters:
            found = for_parameter(module, parameters[0].name, depth + 1)
            if found:
                return found[0]
    for child in module.children():
        found_in = by_layer(child, depth + 1)
        if found_in is not None:
            return found_in
    return None


def for_parameter(module: nn.Module, parameter: str, depth: int = 0, *, first: bool = False) -> list[Spec]:
    """Guesses for one argument of forward from what forward does with it, the likeliest first; empty where nothing is known."""
    if depth > 6:
        return []
    forward = type(module).forward
    found: list[Spec] = []
    width = width_of(module)
    for shape in shapes(forward, parameter):
        found.extend(from_shape(shape, width))
    if not found and first:
        for shape in itertools.islice(documented(type(module), parameter, first=True), 2):
            found.extend(item for item in from_shape(shape, width) if len(item.shape) <= 5)
    use = first_use(forward, parameter)
    if use is not None:
        try:
            target: Any = _reach(module, use.path)
        except (AttributeError, KeyError, IndexError, TypeError):
            target = None
        if isinstance(target, nn.Module):
            spec = _of_call(target, use.position, use.keyword, depth)
            if spec is not None:
                found = _agreeing(found, spec)
        elif isinstance(target, torch.Tensor) and not is_lazy(target) and target.dim():
            spec = _of_weight(target, use.function)
            if spec is not None:
                found = _agreeing(found, spec)
    return list(dict.fromkeys(found))


def _agreeing(found: list[Spec], spec: Spec) -> list[Spec]:
    """Put what a layer wants first, unless the source says that the rank is another."""
    ranks = {len(item.shape) for item in found[:1] if isinstance(item, Tensor)}
    if isinstance(spec, Tensor) and ranks and len(spec.shape) not in ranks:
        channels = channels_of(spec)
        refit = [item for rank in ranks for item in layouts(rank, channels)]
        same = [item for item in found if item in refit]
        return [*same, *refit, spec, *found]
    return [spec, *found]


def _reach(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = (
            module[int(part)]
            if part.isdigit()
            else module[part]
            if isinstance(module, nn.ModuleDict)
            else getattr(module, part)
        )
    return module


def _of_call(target: nn.Module, position: int, keyword: str, depth: int) -> Spec | None:
    own = by_layer(target, depth + 1)
    if type(target).__module__.startswith("torch.nn") and not list(target.children()):
        return own
    try:
        parameters = list(inspect.signature(type(target).forward).parameters)[1:]
    except (TypeError, ValueError):
        return own
    name = keyword or (parameters[position] if position < len(parameters) else "")
    found = for_parameter(target, name, depth + 1) if name else []
    return found[0] if found else own


def _of_weight(weight: torch.Tensor, function: str) -> Spec | None:
    rank = weight.dim()
    if function == "linear" and rank == 2:
        return Tensor((BATCH, LENGTH, weight.shape[1]))
    if function in {"matmul", "mm", "bmm"} and rank >= 2:
        return Tensor((BATCH, weight.shape[-2])) if rank == 2 else Tensor((*weight.shape[:-2], LENGTH, weight.shape[-2]))
    if function.startswith("conv") and rank >= 3:
        return Tensor((BATCH, weight.shape[1], *_SPATIAL[rank - 2]))
    if function == "embedding" and rank == 2:
        return Tensor((BATCH, LENGTH), "long", weight.shape[0])
    if function in {"layer_norm", "rms_norm"}:
        return Tensor((BATCH, LENGTH, weight.shape[-1]))
    return None


def width_of(module: nn.Module) -> int:
    """The width that a module works in: of its first layer that has one, else of its first parameter."""
    for part in module.modules():
        for name in ("in_features", "in_channels", "embed_dim", "num_features", "embedding_dim", "input_size", "num_channels"):
            value = getattr(part, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 100_000:
                return value
        shape = getattr(part, "normalized_shape", None)
        if isinstance(shape, tuple) and shape and isinstance(shape[-1], int):
            return shape[-1]
    for parameter in module.parameters():
        if not is_lazy(parameter) and parameter.dim() and max(parameter.shape) > 1:
            return int(max(parameter.shape))
    return WIDTH


def channels_of(spec: Tensor) -> int:
    """Which number of a tensor's shape stands for its channels, as far as shapes made here are concerned."""
    match spec.shape:
        case (_, channels, _, _) | (_, channels, _, _, _):
            return channels
        case (*_, last):
            return last
        case _:
            return WIDTH


_CHANNELS = {
    "c",
    "ch",
    "chan",
    "channel",
    "channels",
    "dim",
    "d",
    "e",
    "emb",
    "embed_dim",
    "feat",
    "features",
    "f",
    "hidden",
    "hidden_size",
    "cin",
    "d_model",
    "n_embd",
    "in_channels",
    "c_in",
    "num_channels",
    "hidden_dim",
    "in_c",
    "nc",
    "embedding_dim",
    "width",
}
_SEQUENCE = {
    "t",
    "l",
    "s",
    "seq",
    "n",
    "len",
    "length",
    "seq_len",
    "seq_length",
    "tgt_len",
    "src_len",
    "time",
    "q_len",
    "num_tokens",
    "tokens",
    "num_patches",
    "p",
    "k",
    "sequence_length",
    "num_nodes",
    "v",
    "j",
    "m",
}
_SIDES = {
    "h",
    "w",
    "height",
    "width",
    "x",
    "y",
    "hh",
    "ww",
    "h_in",
    "w_in",
    "in_h",
    "in_w",
    "h1",
    "w1",
    "rows",
    "cols",
    "hi",
    "wi",
}


def from_shape(shape: Shape, width: int) -> Iterator[Tensor]:
    """Tensors for dimensions with these names."""
    names = [name.lower().strip("_") for name in shape.names]
    rank = len(names)
    fixed = {index: int(name) for index, name in enumerate(names) if name.isdigit()}
    if fixed:
        for guess in itertools.islice(
            from_shape(Shape(tuple("" if name.isdigit() else name for name in shape.names)), width), 2
        ):
            yield Tensor(tuple(fixed.get(index, size) for index, size in enumerate(guess.shape)))
        return
    if not any(name in _CHANNELS | _SIDES for name in names) or len([name for name in names if name]) < rank - 1:
        yield from layouts(rank, width)
        return
    sizes: list[int] = []
    for index, name in enumerate(names):
        spatial = rank >= 4
        if index == 0 and name not in _CHANNELS and not (rank <= 2 and name in _SIDES):
            sizes.append(BATCH)
        elif name in _CHANNELS and not (name == "width" and "height" in names):
            sizes.append(width)
        elif name in _SIDES:
            sizes.append(SIDE)
        elif name in {"t", "n", "d", "depth", "f", "frames"} and spatial:
            sizes.append(8)
        elif name in _SEQUENCE:
            sizes.append(LENGTH)
        else:
            sizes.append(LENGTH if rank <= 3 else SIDE)
    if rank == 4 and names[1:] in (["t", "h", "w"], ["n", "h", "w"]):
        sizes[1] = width
    if sum(1 for size in sizes if size == width) > 1 and rank == 5 and names[-3:-2] == ["d"]:
        sizes[2] = 8
    yield Tensor(tuple(sizes))
    yield from layouts(rank, width)


def layouts(rank: int, width: int) -> list[Tensor]:
    """The usual layouts of a rank, the commonest first."""
    match rank:
        case 0:
            return [Tensor(())]
        case 1:
            return [Tensor((BATCH,)), Tensor((width,))]
        case 2:
            return [Tensor((BATCH, width)), Tensor((BATCH, LENGTH), "long"), Tensor((LENGTH, width))]
        case 3:
            return [Tensor((BATCH, LENGTH, width)), Tensor((BATCH, width, LENGTH)), Tensor((width, SIDE, SIDE))]
        case 4:
            return [Tensor((BATCH, width, SIDE, SIDE)), Tensor((BATCH, SIDE, SIDE, width)), Tensor((BATCH, 4, LENGTH, width))]
        case 5:
            return [
                Tensor((BATCH, width, 8, 8, 8)),
                Tensor((BATCH, 4, width, SIDE, SIDE)),
                Tensor((BATCH, 4, 8, 8, width)),
            ]
        case _:
            return [Tensor((BATCH, *(4 for _ in range(rank - 2)), width))]


def as_group(spec: Spec, length: int) -> Group:
    """A list of the same thing."""
    return Group("list", (spec,) * length)
