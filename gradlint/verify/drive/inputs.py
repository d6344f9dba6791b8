"""First guesses for the arguments of a built module's forward."""

from __future__ import annotations

import collections.abc
import inspect
import itertools
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from gradlint.verify.drive.guesses import BATCH, LENGTH, SIDE, Guesser, annotations_of, signature_of
from gradlint.verify.drive.layers import by_layer, for_parameter, from_shape, layouts, width_of
from gradlint.verify.drive.reading import documented, parts_of
from gradlint.verify.drive.values import Group, Source, Spec, Tensor

__all__ = ["Inputs", "argument", "guesses", "parameters_of"]

Inputs = tuple[tuple[str, Spec], ...]

_IDS = re.compile(
    r"(.*_)?(input_?)?(ids?|idx|indexes|indices|index|tokens?|token_ids|text|words?|captions?|labels?|class_labels|sentences?|word_ids|position_ids|user|item|seqs?_ids|tgt_tokens|users|items|chars?|edges|edge_index)",
    re.IGNORECASE,
)
_TARGET = re.compile(r"(.*_)?(targets?|y_?true|gt|ground_truth|labels?|gts|y)", re.IGNORECASE)
_MASK = re.compile(r"(.*_)?masks?(_.*)?|.*padding.*|.*_mask|valid.*", re.IGNORECASE)
_TIME = re.compile(
    r"t|time|times|timesteps?|time_?steps?|sigmas?|noise_levels?|gammas?|noise_labels?|t_?step|timestep_tensor|step|steps",
    re.IGNORECASE,
)
_EMBEDDED = re.compile(
    r"t_?emb|temb|time_emb(ed(ding)?)?|emb|cond_emb|style|styles|w|z|latents?|noise|c|conditioning|conditioning_embedding|condition|vec|pooled.*|global_cond|g|gate_msa",
    re.IGNORECASE,
)
_SIZES = re.compile(
    r"(hw|size|shape|x_size|spatial_shapes?|(input|img|image|target|feat|original|orig|output)_?(size|shape|hw|resolution)|hw_shape|grid_size|resolution)",
    re.IGNORECASE,
)
_NUMBERS = re.compile(
    r"h|w|height|width|n|k|l|num_.*|.*_len(gth)?|seq_len|size|len|length|d|batch_size|bsz|h_?\d?|w_?\d?|kv_seq_len|shift|dim|axis|level|layer_idx|layer_id|index|step|epoch|max_.*|start_pos",
    re.IGNORECASE,
)
_LENGTHS = re.compile(r".*(lengths?|lens)|sizes", re.IGNORECASE)
_SEQUENCES = re.compile(
    r"(context|memory|encoder_hidden_states|cond|src|encoder_out(puts?)?|key|value|query|q|k|v|queries|keys|values|tgt|text_emb.*|encoder_states|hidden_states|tokens?_emb|x_kv|kv|x_?q|inputs_embeds|features?|hidden|enc_out.*)",
    re.IGNORECASE,
)
_LISTS = re.compile(
    r"xs|feats|features|inputs|feature_maps?|feat_list|x_list|tensors|outputs|hidden_states_list|pyramid|features_list|skips?|imgs|res_stack|.*_list|list_.*|.*_tuple",
    re.IGNORECASE,
)
_CHOICE_BOOL = re.compile(
    r"(use|is|return|with|do|need|output|only|training|train|causal|inverse|reverse|log|compute|force|sample|deterministic|normalize|eval)(_.*)?|.*_(only|first)",
    re.IGNORECASE,
)
_PLACE = re.compile(
    r"(.*_)?(pos|pos_embed|position(s|al)?(_emb(edding)?s?)?|freqs?|rope|rotary.*|cos|sin|pos_emb.*|freqs_cis|bias|attn_bias)",
    re.IGNORECASE,
)
_BOXES = re.compile(r"(.*_)?(boxes|bboxes|rois|box|bbox)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Same:
    """The same as the first tensor argument, or of its shape and another kind."""

    kind: str = ""

    def of(self, base: Tensor) -> Tensor:
        """The tensor meant, given the first."""
        return replace(base, kind=self.kind) if self.kind else base


SAME = Same()
Candidate = Spec | Same


def parameters_of(module: nn.Module) -> list[inspect.Parameter]:
    """The parameters of forward without ``self``."""
    signature = signature_of(type(module).forward)
    if signature is None:
        return []
    return list(signature.parameters.values())[1:]


def argument(module: nn.Module, parameter: inspect.Parameter, guesser: Guesser, *, first: bool) -> list[Candidate]:
    """Candidates for one argument of forward, the likeliest first."""
    return _ranked(module, parameter, guesser, first=first)[0]


def _ranked(module: nn.Module, parameter: inspect.Parameter, guesser: Guesser, *, first: bool) -> tuple[list[Candidate], int]:
    """The same, and how many of them something speaks for."""
    annotation = annotations_of(type(module).forward).get(parameter.name, inspect.Parameter.empty)
    typed = _by_annotation(annotation, parameter.name, module, guesser, first)
    if typed is not None:
        return list(dict.fromkeys(typed)), len(typed)
    found: list[Candidate] = []
    name = parameter.name
    kind, parts = parts_of(type(module).forward, name)
    if kind:
        found.append(_taken_apart(module, name, kind, parts))
        found += [option for option in _by_name(name, module, width_of(module), first) if option == Source("None")]
    known = for_parameter(module, name, first=first)
    width = width_of(module)
    own_first = by_layer(module) if first else None
    if _LISTS.fullmatch(name) and not known:
        base = own_first if isinstance(own_first, Tensor) else Tensor((BATCH, width, SIDE, SIDE))
        found += [Group("list", (base, base)), *_pyramids(module)]
    found += known
    found += _by_name(name, module, width, first)
    if not found and not first:
        for shape in itertools.islice(documented(type(module), name, first=False), 2):
            found += from_shape(shape, width)
    if first:
        found += [] if own_first is None else [own_first]
        found = _images(module, found)
        backed = len(dict.fromkeys(found))
        found += _usual(module, width)
    else:
        backed = len(dict.fromkeys(found)) + 1
        found += [SAME, *layouts(2, width), *layouts(3, width), Source("None")]
    return list(dict.fromkeys(found)), backed


def _taken_apart(module: nn.Module, name: str, kind: str, parts: tuple[str, ...]) -> Spec:
    """A dictionary or an object with the parts that forward asks for."""
    width = width_of(module)
    values: list[Spec] = []
    for part in parts:
        text = f"{name}[{part!r}]" if kind == "dict" else f"{name}.{part}"
        found: list[Candidate] = [*for_parameter(module, text), *_by_name(part, module, width, first=False)]
        solid = next((item for item in found if not isinstance(item, Same)), None)
        values.append(solid if solid is not None else (by_layer(module) or Tensor((BATCH, LENGTH, width))))
    return Group("dict" if kind == "dict" else "types.SimpleNamespace", tuple(values), parts)


def _images(module: nn.Module, found: list[Candidate]) -> list[Candidate]:
    """Images in the sizes that the module names, then in the usual ones, right behind the first guess if that is an image."""
    match found[:1]:
        case [Tensor((batch, channels, high, wide), kind)] if channels in {1, 3} and high == wide:
            sizes = dict.fromkeys([*_named_sizes(module), (64, 64), (224, 224), (32, 32), (256, 256), (28, 28)])
            return [*(Tensor((batch, channels, *size), kind) for size in sizes), *found]
        case _:
            return found


def _named_sizes(module: nn.Module) -> Iterator[tuple[int, int]]:
    for part in itertools.islice(module.modules(), 12):
        for name in ("img_size", "image_size", "input_size", "input_resolution"):
            value = getattr(part, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and 4 <= value <= 1024:
                yield value, value
            elif isinstance(value, tuple | list) and len(value) >= 2 and all(isinstance(item, int) for item in value[-2:]):
                yield value[-2], value[-1]


def _by_name(name: str, module: nn.Module, width: int, first: bool) -> list[Candidate]:
    ids = _embedding_size(module)
    if _LENGTHS.fullmatch(name):
        return [Tensor((BATCH,), "length", LENGTH)]
    if _BOXES.fullmatch(name):
        return [Tensor((BATCH, 4), "unit"), Tensor((BATCH, LENGTH, 4), "unit")]
    if first and ids is None:
        if _TIME.fullmatch(name):
            return [Tensor((BATCH,)), Tensor((BATCH, 1))]
        return [Tensor((BATCH, LENGTH), "long", 10)] if _IDS.fullmatch(name) else []
    if _MASK.fullmatch(name):
        return [
            Source("None"),
            Tensor((BATCH, LENGTH), "bool"),
            Tensor((LENGTH, LENGTH), "bool"),
            Tensor((BATCH, 1, LENGTH, LENGTH), "bool"),
            SAME,
        ]
    if _TARGET.fullmatch(name) and not first:
        return [
            SAME,
            Tensor((BATCH,), "long", min(width, 4)),
            Tensor((BATCH, LENGTH), "long", ids or 4),
            Tensor((BATCH, SIDE, SIDE), "long", min(width, 4)),
        ]
    if _IDS.fullmatch(name):
        return [
            Tensor((BATCH, LENGTH), "long", ids or 10),
            Tensor((BATCH,), "long", ids or 10),
            *([SAME, Same("long")] if not first else []),
        ]
    if _TIME.fullmatch(name):
        return [Tensor((BATCH,)), Tensor((BATCH,), "long", 10), Tensor((BATCH, width)), SAME]
    if _PLACE.fullmatch(name):
        return [Source("None"), SAME, Tensor((LENGTH, width)), Tensor((BATCH, LENGTH, width))]
    if _EMBEDDED.fullmatch(name) and not first:
        return [Tensor((BATCH, width)), SAME, Tensor((BATCH, LENGTH, width))]
    if _SIZES.fullmatch(name):
        return [Source(f"({SIDE}, {SIDE})"), Source("(4, 4)"), Source(f"torch.Size([{BATCH}, {width}, {SIDE}, {SIDE}])")]
    if _NUMBERS.fullmatch(name) and not first:
        small = [Source("4"), Source(str(SIDE)), Source(str(LENGTH))]
        return small if len(name) == 1 or name.lower().startswith(("h", "w")) else small[::-1]
    if _CHOICE_BOOL.fullmatch(name) and not first:
        return [Source("False"), Source("True")]
    if _SEQUENCES.fullmatch(name):
        return [SAME, Tensor((BATCH, LENGTH, width))] if not first else [Tensor((BATCH, LENGTH, width))]
    return []


def _embedding_size(module: nn.Module) -> int | None:
    sizes = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)]
    return min(sizes) if sizes else None


def _usual(module: nn.Module, width: int) -> list[Candidate]:
    """The usual layouts, in an order that the class's name and layers suggest."""
    name = type(module).__name__.lower()
    parts = list(itertools.islice(module.modules(), 200))
    order = [3, 4, 2]
    if "loss" in name or "criterion" in name:
        order = [2, 4, 3]
    elif "3d" in name or any(isinstance(part, nn.Conv3d) for part in parts):
        order = [5, 4, 3, 2]
    elif "2d" in name or any(isinstance(part, nn.Conv2d | nn.BatchNorm2d | nn.ConvTranspose2d) for part in parts):
        order = [4, 3, 2]
    elif "1d" in name or any(isinstance(part, nn.Conv1d) for part in parts):
        return [Tensor((BATCH, width, LENGTH)), *layouts(3, width), *layouts(2, width), *layouts(4, width)]
    found = [item for rank in order for item in layouts(rank, width)]
    extra = [item for rank in (5, 1, 0) for item in layouts(rank, width)]
    return [*found, Tensor((BATCH, 3, 64, 64)), *extra]


def _pyramids(module: nn.Module) -> list[Spec]:
    """Feature maps of falling size with the channels of the first convolutions, as necks and decoders take them."""
    channels: list[int] = []
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict | nn.Sequential) and name:
            found = []
            for inner in child.children():
                spec = by_layer(inner)
                if isinstance(spec, Tensor) and len(spec.shape) == 4:
                    found.append(spec.shape[1])
            if len(found) >= 2:
                channels = found
                break
    width = width_of(module)
    columns = [channels] if channels else [[width] * 2, [width] * 4, [width] * 3]
    result: list[Spec] = []
    for column in columns:
        result.append(
            Group(
                "list",
                tuple(
                    Tensor((BATCH, count, max(SIDE * 2 >> step, 1), max(SIDE * 2 >> step, 1)))
                    for step, count in enumerate(column)
                ),
            )
        )
        result.append(Group("list", tuple(Tensor((BATCH, count, SIDE, SIDE)) for count in column)))
        result.append(Group("list", tuple(Tensor((BATCH, LENGTH, count)) for count in column)))
    return result


def _by_annotation(annotation: Any, name: str, module: nn.Module, guesser: Guesser, first: bool) -> list[Candidate] | None:
    """What an annotation says, ``None`` where it says no more than that this is a tensor."""
    if annotation in {inspect.Parameter.empty, Any, torch.Tensor} or isinstance(annotation, str):
        return None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    width = width_of(module)
    if origin in {typing.Union, types.UnionType}:
        kinds = [kind for kind in arguments if kind is not type(None)]
        if any(kind is torch.Tensor or getattr(kind, "__name__", "") == "FloatTensor" for kind in kinds):
            return None
        found = [item for kind in kinds for item in _by_annotation(kind, name, module, guesser, first) or []]
        return [*found, Source("None")] if type(None) in arguments else found or None
    if annotation is bool:
        return [Source("False"), Source("True")]
    if annotation is int:
        return [Source("4"), Source(str(SIDE)), Source("1"), Source("0"), Source(str(LENGTH))]
    if annotation is float:
        return [Source("0.5"), Source("1.0")]
    if annotation is str:
        return [Source("''")]
    match getattr(annotation, "__name__", ""):
        case "LongTensor" | "IntTensor":
            high = _embedding_size(module) or 10
            return [Tensor((BATCH, LENGTH), "long", high), Tensor((BATCH,), "long", high)]
        case "BoolTensor":
            return [Tensor((BATCH, LENGTH), "bool"), Tensor((LENGTH, LENGTH), "bool")]
        case "FloatTensor" | "HalfTensor" | "DoubleTensor":
            return None
    if annotation is torch.device:
        return [Source("torch.device('cpu')")]
    if annotation is torch.dtype:
        return [Source("torch.float32")]
    if origin is typing.Literal:
        return [Source(repr(value)) for value in arguments]
    if annotation is torch.Size or origin is tuple and arguments and all(kind in {int, Ellipsis} for kind in arguments):
        count = len([kind for kind in arguments if kind is int]) if arguments and Ellipsis not in arguments else 2
        if annotation is torch.Size:
            return [Source(f"torch.Size([{BATCH}, {width}, {SIDE}, {SIDE}])"), Source(f"torch.Size([{SIDE}, {SIDE}])")]
        return [Group("tuple", (Source(str(side)),) * count) for side in (SIDE, 4, 8)]
    if origin in {list, tuple, collections.abc.Sequence, collections.abc.Iterable} or annotation in {list, tuple}:
        kinds = [kind for kind in arguments if kind is not Ellipsis]
        if origin is tuple and kinds and Ellipsis not in arguments and all(_is_tensor(kind) for kind in kinds):
            return [Group("tuple", (base,) * len(kinds)) for base in _bases(module)]
        if not kinds or _is_tensor(kinds[0]):
            kind = "tuple" if origin is tuple or annotation is tuple else "list"
            pyramids = [Group(kind, item.items) for item in _pyramids(module) if isinstance(item, Group)]
            return [
                *pyramids[:1],
                *(Group(kind, (base,) * count) for base in _bases(module) for count in (2, 3, 4, 1)),
                *pyramids[1:],
            ]
        if kinds[0] is int:
            return [Group("list", (Source(str(LENGTH)),) * BATCH), Group("list", (Source("4"), Source("4")))]
        return None
    if origin in {dict, collections.abc.Mapping} or annotation is dict:
        return [Group("dict", ())]
    if isinstance(annotation, type) and not issubclass(annotation, torch.Tensor | nn.Module):
        spec = guesser.instance(annotation)
        return None if spec is None else [spec]
    return None


def _is_tensor(kind: Any) -> bool:
    return kind is torch.Tensor or torch.Tensor in typing.get_args(kind)


def _bases(module: nn.Module) -> list[Spec]:
    own = by_layer(module)
    width = width_of(module)
    return list(
        dict.fromkeys(
            [*([own] if own is not None else []), *layouts(4, width)[:1], *layouts(3, width)[:1], *layouts(2, width)[:1]]
        )
    )


def guesses(module: nn.Module, guesser: Guesser) -> Iterator[tuple[float, Inputs]]:
    """Whole sets of arguments for forward's required parameters with a price, lower for the likelier."""
    columns: list[tuple[str, list[Candidate]]] = []
    backed: list[int] = []
    kinds = inspect.Parameter
    for parameter in parameters_of(module):
        if parameter.kind is kinds.VAR_POSITIONAL:
            if not columns:
                first, sure = _ranked(module, parameter.replace(name="x", kind=kinds.POSITIONAL_ONLY), guesser, first=True)
                columns.append(("*0", first))
                backed.append(sure)
            continue
        if parameter.kind is kinds.VAR_KEYWORD:
            continue
        if parameter.default is not kinds.empty and columns:
            continue
        if parameter.default is not kinds.empty and (
            isinstance(parameter.default, bool | int | float | str) or not columns and _all_default(module)
        ):
            if isinstance(parameter.default, bool | int | float | str):
                continue
        found, sure = _ranked(module, parameter, guesser, first=not columns)
        backed.append(sure)
        name = f"*{parameter.name}" if parameter.kind is not kinds.KEYWORD_ONLY else parameter.name
        columns.append((name, found or [Source("None")]))
    seen: set[Inputs] = set()
    for choice in _orders([len(column) for _, column in columns]):
        base: Tensor | None = None
        row: list[tuple[str, Spec]] = []
        for (name, column), pick in zip(columns, choice, strict=True):
            item = column[pick]
            if isinstance(item, Same):
                item = item.of(base if base is not None else Tensor((BATCH, LENGTH, width_of(module))))
            if base is None:
                base = next((leaf for leaf in _leaves(item) if isinstance(leaf, Tensor)), None)
            row.append((name, item))
        inputs = tuple(row)
        if inputs not in seen:
            seen.add(inputs)
            unbacked = sum(0 < sure <= pick for sure, pick in zip(backed, choice, strict=True))
            yield 0.35 * sum(choice) + 0.8 * unbacked, inputs


def _leaves(spec: Spec) -> Iterator[Spec]:
    if isinstance(spec, Group):
        for item in spec.items:
            yield from _leaves(item)
    else:
        yield spec


def _all_default(module: nn.Module) -> bool:
    return all(parameter.default is not inspect.Parameter.empty for parameter in parameters_of(module))


def _orders(lengths: list[int]) -> Iterator[tuple[int, ...]]:
    """All first choices; then one column after another varied; then pairs of columns."""
    zero = (0,) * len(lengths)
    yield zero
    for index, length in enumerate(lengths):
        for pick in range(1, length):
            yield (*zero[:index], pick, *zero[index + 1 :])
    for one, two in itertools.combinations(range(len(lengths)), 2):
        for first in range(1, min(lengths[one], 5)):
            for second in range(1, min(lengths[two], 5)):
                row = list(zero)
                row[one], row[two] = first, second
                yield tuple(row)
