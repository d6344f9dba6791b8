"""First guesses for constructor arguments: from annotation, name and default, the likeliest first."""

from __future__ import annotations

import ast
import collections.abc
import enum
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import torch
from torch import nn

from gradlint.verify.drive.reading import choices
from gradlint.verify.drive.values import Group, Scope, Source, Spec, Tensor, Unrenderable

__all__ = ["BATCH", "LENGTH", "SIDE", "WIDTH", "Guesser", "annotations_of", "required_parameters", "signature_of"]

WIDTH = 32  # one width everywhere: what is added, multiplied or compared then fits by itself
BATCH = 2
LENGTH = 16
SIDE = 16

_W = str(WIDTH)

# Names of constructor parameters, the first pattern that matches whole wins. Values are expressions, the likeliest first.
_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(spatial|n|num|space|conv|no|image|input|data)_?dims?|ndims?|dimensions?|dimensionality|rank", ("2", "3", "1")),
    (
        r"(num|n|nb)_?(attention_|attn_|kv_|query_)?heads?|heads?|nheads?|nhead|(attn|attention)_heads|.*_num_heads",
        ("4", "1", "8"),
    ),
    (r"(dim|d)_?(per_)?head|head_?(dim|size|width|channels?)|attention_head_dim|d_[kvq]|dim_(k|v|key|value)", ("8", _W)),
    (r"kernel_?(size|width)?s?|ks|k|filter_size|.*_kernel(_size)?", ("3", "(3, 3)", "1", "[3, 3]")),
    (r"padding|pad|p", ("1", "0", "(1, 1)", "0.5")),
    (r"strides?|s|dilations?|groups?|g|cardinality|.*_stride|.*_groups", ("1", "2", "[1, 1]", "(1, 1)")),
    (
        r"(down|up)?_?scale(_factor)?|upscale(_factor)?|downsample(_factor)?|scales?|r|factor|.*_factor|upscale",
        ("2", "1", "0.5"),
    ),
    (r"window(_?size)?|ws|.*window_size", ("4", "(4, 4)", "8")),
    (r"patch_?size|.*patch_size", ("4", "(4, 4)", "8")),
    (
        r"(img|image|input|in)_?(size|resolution|res|shape|dims?_hw)|resolution|feat(ure)?_?size|fmap_size|spatial_(size|shape|dims)",
        ("16", "(16, 16)", "32", "(32, 32)", "[16, 16]", "(3, 32, 32)", "32"),
    ),
    (r"(grid|token|map|pool|output|out|target)_?(size|shape|hw|resolution)|size|hw|input_hw", ("4", "(4, 4)", "(16, 16)", _W)),
    (r"(h|height|w|width)_?(in|out|size)?|img_[hw]|image_(height|width)", ("16", _W)),
    (
        r"depths|blocks|layers|num_blocks|num_layers_list|stages|layer_sizes?|block_?(counts?|nums?)|n_blocks",
        ("[2, 2, 2, 2]", "2", "[1, 1, 1, 1]", "[1, 1]", "(2, 2)"),
    ),
    (
        r"(num|n|nb|no)_?(hidden_|encoder_|decoder_|res_|residual_|transformer_|conv_|rnn_)?(layers?|blocks?|stages?|levels?|convs?|units?|cells?)"
        r"|depth|n?_?layers?|repeats?|nl|num_(modules|stacks|steps|iters|iterations|scales|flows|hiddens_layers)|n_(steps|flows|iter)",
        ("2", "1", "4", "[2, 2]"),
    ),
    (
        r"(num|n)_?(classes|class|labels|actions|outputs|categories|tags|targets)|classes|n?class|nc|num_cls|ncls|nclass|n_out|out|action_(dim|size)|numclass|labels",
        ("10", "2", _W),
    ),
    (
        r"vocab(ulary)?_?(size|len)?|.*vocab(_size)?|num_embeddings|n_(vocab|tokens?|words|items|users|emb|e|codes)|num_(tokens?|words|items|users|codes|entities|embeds?)|ntokens?|vocabsize|codebook_size|dictionary_size|(input|output|src|trg|tgt)_vocab.*",
        ("50", "64"),
    ),
    (
        r"max_?(seq_?)?(len(gth)?|positions?|seq|length_seq|tokens|size|t)|seq_?(len(gth)?|size)|sequence_length|block_size|context_?(length|size|window|len)"
        r"|n_(positions|ctx|seq)|num_(positions|patches|frames|queries|points|nodes|query)|.*(seq_len|max_len|max_length|block_size|sequence_length)|length|input_length|window_len|horizon|pred_len|T|L|num_?samples|time_?steps",
        ("16", "64", "4"),
    ),
    (
        r".*drop(_?out|_?path)?(_?(rate|prob|p|ratio))?|.*_dropout|.*(drop|dropout)_(rate|prob|p)|dropout_?p|pdrop|survival_prob|keep_prob",
        ("0.0", "0.1", "0"),
    ),
    (r"eps(ilon)?|.*_eps(ilon)?|tol(erance)?|.*init_values?|layer_scale.*|init_scale", ("1e-05", "1e-6")),
    (r"momentum|decay|ema_decay|rho|.*_decay|m|beta_?[12]?|discount|tau", ("0.9", "0.1", "0.5")),
    (
        r"(mlp|expansion|expand|hidden|ffn?|rd|squeeze|reduction|se|compress(ion)?|bottleneck|growth|exp|dim|channel|width|depth|ratio).*_?(ratio|factor|mult(iplier)?|multiple)"
        r"|expansion|mult|expand|ratio|multiplier|growth_rate|growth|expand_ratio|t",
        ("2", "2.0", "1", "0.5"),
    ),
    (r"reduction(_ratio)?|squeeze|rd_ratio|r_ratio|reduce", ("4", "'mean'", "2", "1")),
    (
        r"temperature|temp|lambda_?.*|lamb?d?a?|alpha.*|gamma.*|scale|margin|weight|.*_weight|sigma.*|std|stddev|lr|learning_rate|threshold|thresh|slope|negative_slope|kappa|delta|theta|coeff?|.*_scale|.*_coeff?|value|theta0|min_.*|smooth(ing)?|label_smoothing",
        ("0.5", "1.0", "2"),
    ),
    (
        r"act(ivation)?(_?(fn|func(tion)?|layer|cls|type|class|name|mode))?|nonlinear(ity)?|non_linearity|hidden_act|.*_activation|.*_act(_layer|_fn)?",
        ("nn.ReLU", "nn.ReLU()", "'relu'", "torch.nn.functional.relu", "'gelu'"),
    ),
    (
        r"norm(alization)?(_?(fn|func|layer|cls|type|class|name|mode))?|.*_norm(_layer|_type)?|bn_layer|norm_.*",
        ("nn.BatchNorm2d", "nn.LayerNorm", "'batch'", "'layer'", "nn.Identity", "nn.BatchNorm1d", "'bn'", "'none'", "None"),
    ),
    (r"conv(_?(layer|cls|op|type|class))?|conv_.*|default_conv", ("nn.Conv2d", "nn.Conv1d")),
    (r"rnn_?type|rnn_cell|cell_type", ("'LSTM'", "'GRU'", "nn.LSTM", "'lstm'", "'gru'")),
    (r"linear(_layer|_cls)?|.*linear_layer", ("nn.Linear",)),
    (r"pool(ing)?(_?(type|mode|layer))?", ("'avg'", "'max'", "'mean'", "nn.AvgPool2d")),
    (r"downsample(_layer)?|shortcut(_layer)?", ("None", "False")),
    (
        r"(use|is|with|has|do|add|apply|return|enable|learn|should|no|share|include|concat|norm|normalize|output)_.*|bias|.*_bias|affine|bidirectional|causal|residual|inplace|training|train|pretrained|verbose|.*_first|debug|shortcut|last|first|bn|use.*|flag|trainable|freeze|cls_token|downsampling|upsampling|upsample|downsample|transpose|relu|skip",
        ("False", "True"),
    ),
    (r"device|dev|.*_device", ("torch.device('cpu')", "'cpu'")),
    (r"dtype|.*_dtype", ("torch.float32",)),
    (
        r"(seed|idx|index|.*_id|.*_idx|.*_index|rank|level|layer_(num|number|idx|id)|stage|i|pos|start|offset|block_index)",
        ("0", "1"),
    ),
    (r"path|.*_path|.*_dir|.*_file|filename|checkpoint|weights|.*weights?_path|ckpt|save_.*|load_.*", ("None", "''")),
    (
        r"name|.*_name|mode|type|kind|.*_type|.*_mode|variant|arch|version|method|task|strategy|style|.*version",
        ("''", "'default'", "'base'"),
    ),
    (
        r"(in|inp|input|img|image|im|num|n|color)_?(ch|chan|chans|channel|channels|chs|c)|in_?(c|ch|chns|planes|dim|dims|features|feats|size|filters)|nin|inp|cin|c_?in|num_input.*|ninput|input_(dim|size|nc|features|channels|c)",
        (_W, "3", "1", f"[{_W}, {_W}]", f"[{_W}, {_W}, {_W}, {_W}]"),
    ),
    (
        r"dims|channels|chs|widths|hidden_(dims|sizes|channels|units|features)|.*(channels|dims|sizes|planes|filters|features|widths|units|chs|chans)_?list|embed_dims|num_features|filters|features|num_filters|num_channels|planes_list|sizes|layer_dims|units|.*_(dims|widths|sizes)|num_chs|feature_dims|nodes|nb_filter",
        (_W, f"[{_W}, {_W}]", f"[{_W}, {_W}, {_W}, {_W}]", f"({_W}, {_W})", f"[{_W}, {_W}, {_W}]"),
    ),
)
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), values) for pattern, values in _NAMES)
_MODULE = re.compile(
    r"(.*_)?(model|module|net|network|backbone|encoder|decoder|layer|fn|func|base|base_model|student|teacher|generator|discriminator|block|embed(der|ding)?"
    r"|attn|attention|mlp|ffn?|feed_?forward|head|trunk|body|stem|branch|wrapped|inner|actor|critic|policy|projector|predictor|features|transformer|"
    r"online|target|submodule|unet|vae|classifier|main|submodel|blk|mod|m|denoise_fn|core|backend|feature_extractor|(en|de)coder_layer|lm|op|g|f)(_?(net|model|module))?",
    re.IGNORECASE,
)
_CONFIG = re.compile(
    r"(.*_)?(config|cfg|conf|args|opts?|hparams|hps?|params|options|settings|hyper_?params|configuration|flags)(_.*)?",
    re.IGNORECASE,
)
_BLOCK = re.compile(r"(.*_)?(block|bottleneck|layer|cell|unit)(_?(type|cls|class|fn|layer))?s?", re.IGNORECASE)

_MODULES = (
    f"nn.Linear({_W}, {_W})",
    f"nn.Conv2d({_W}, {_W}, 3, padding=1)",
    "nn.Identity()",
    f"nn.Sequential(nn.Linear({_W}, {_W}), nn.ReLU(), nn.Linear({_W}, {_W}))",
    f"nn.Conv1d({_W}, {_W}, 3, padding=1)",
    f"nn.Embedding(50, {_W})",
)


def signature_of(function: Any) -> inspect.Signature | None:
    """The signature, ``None`` where Python knows none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def annotations_of(function: Any) -> dict[str, Any]:
    """Annotations by parameter, evaluated one by one, so that a single unknown name does not lose them all."""
    function = inspect.unwrap(function)
    raw = dict(getattr(function, "__annotations__", {}) or {})
    space = dict(vars(typing)) | {"torch": torch, "nn": nn, "Tensor": torch.Tensor} | getattr(function, "__globals__", {})
    for name, value in raw.items():
        if isinstance(value, str):
            try:
                raw[name] = eval(value, space)
            except Exception:
                raw[name] = _words(value)
    return raw


def _words(text: str) -> Any:
    """A stand-in for an annotation that does not evaluate."""
    for word, kind in (
        ("Tensor", torch.Tensor),
        ("int", int),
        ("float", float),
        ("bool", bool),
        ("str", str),
        ("Module", nn.Module),
    ):
        if re.search(rf"\b{word}\b", text):
            return kind
    return inspect.Parameter.empty


def required_parameters(function: Any, *, skip_self: bool = True) -> list[inspect.Parameter] | None:
    """The parameters without a default; ``None`` where there is no signature."""
    signature = signature_of(function)
    if signature is None:
        return None
    parameters = list(signature.parameters.values())[1 if skip_self else 0 :]
    return [
        parameter
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
    ]


class Guesser:
    """Guesses for the arguments of constructors.

    ``build``: gives an expression that builds an instance of a module class, or ``None``; how module-typed arguments are made.
    """

    def __init__(self, scope: Scope, build: Callable[[type[nn.Module]], Spec | None]) -> None:
        self._scope = scope
        self._build = build

    def values(self, function: Any, parameter: inspect.Parameter, home: types.ModuleType | None, depth: int = 0) -> list[Spec]:
        """Candidates for one parameter of ``function``, the likeliest first; ``home`` is the module that defines it."""
        annotation = annotations_of(function).get(parameter.name, inspect.Parameter.empty)
        if isinstance(annotation, dict | str):
            annotation = inspect.Parameter.empty
        name = parameter.name
        named = self._by_name(function, name, home)
        if annotation is not inspect.Parameter.empty and annotation is not Any:
            typed = self._by_annotation(annotation, name, named, home, depth)
            if typed:
                return _unique(typed)
        default = parameter.default
        if default is not inspect.Parameter.empty and default is not None:
            similar = [spec for spec in named if _type_of(spec) is type(default)]
            if isinstance(default, bool):
                similar = [Source(repr(not default))]
            named = similar or named
        return _unique(named)

    def _by_name(self, function: Any, name: str, home: types.ModuleType | None) -> list[Spec]:
        found: list[Spec] = [Source(repr(choice)) for choice in choices(function, name)]
        plain = name.strip("_")
        if _CONFIG.fullmatch(plain):
            found += self._configurations(function, home)
            found.append(Group("types.SimpleNamespace", ()))
            found.append(Group("dict", ()))
        pool = next((values for pattern, values in _COMPILED if pattern.fullmatch(plain)), ())
        if _BLOCK.fullmatch(plain) and plain not in {"blocks", "layers"}:
            found += [Source(self._scope_name(cls)) for cls in self.classes_named(home, r"block|bottleneck|layer|cell")]
        found += [Source(value) for value in pool]
        if _MODULE.fullmatch(plain):
            found += [Source(value) for value in _MODULES]
        if not found or not pool and not _MODULE.fullmatch(plain) and not _CONFIG.fullmatch(plain):
            found += [Source(value) for value in (_W, f"[{_W}, {_W}]", "0.5", f"({_W}, {_W})", "False")]
            if plain in {"fn", "func", "function", "f"} or plain.endswith(("_fn", "_func")):
                found = [Source("torch.nn.functional.relu"), *found]
        return found

    def _configurations(self, function: Any, home: types.ModuleType | None) -> list[Spec]:
        """Instances of the configuration classes that a file knows, those named like the class at hand first."""
        if home is None:
            return []
        owner = getattr(function, "__qualname__", "").split(".")[0]
        known = [
            value
            for value in dict.fromkeys(item for item in vars(home).values() if isinstance(item, type))
            if re.search(r"(Config|Configuration|Args|Arguments|Options|Params|Settings|Hparams)$", value.__name__)
            and not issubclass(value, nn.Module)
        ]
        known.sort(key=lambda value: -len(os.path.commonprefix([value.__name__, owner])))
        return [spec for spec in (self.instance(value) for value in known[:3]) if spec is not None]

    def classes_named(self, home: types.ModuleType | None, pattern: str) -> list[type[nn.Module]]:
        """Module classes of a file whose name matches."""
        return [cls for cls in module_classes(home) if re.search(pattern, cls.__name__, re.IGNORECASE)][:4]

    def _scope_name(self, value: Any) -> str:
        try:
            return self._scope.name(value)
        except Unrenderable:
            return "nn.Identity"

    def _by_annotation(
        self, annotation: Any, name: str, named: list[Spec], home: types.ModuleType | None, depth: int
    ) -> list[Spec]:
        if depth > 4:
            return []
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        again = lambda kind: self._by_annotation(kind, name, named, home, depth + 1)  # noqa: E731
        if isinstance(annotation, typing.TypeVar):
            return []
        if origin is typing.Annotated:
            return again(arguments[0])
        if origin in {typing.Union, types.UnionType}:
            kinds = [kind for kind in arguments if kind is not type(None)]
            found = [spec for kind in kinds for spec in again(kind)]
            return [*found, Source("None")] if type(None) in arguments else found
        if origin is typing.Literal:
            return [Source(repr(value)) for value in arguments]
        if annotation is bool:
            return [spec for spec in named if _type_of(spec) is bool] or [Source("False"), Source("True")]
        if annotation is int:
            return [spec for spec in named if _type_of(spec) is int] or [Source(_W), Source("1"), Source("2")]
        if annotation is float:
            return [spec for spec in named if _type_of(spec) in {float}] or [Source("0.5"), Source("1.0"), Source("0.0")]
        if annotation is str:
            return [spec for spec in named if _type_of(spec) is str] or [Source("''")]
        if annotation in {torch.device}:
            return [Source("torch.device('cpu')")]
        if annotation is torch.dtype:
            return [Source("torch.float32")]
        if annotation is torch.Tensor or annotation is nn.Parameter:
            return [Tensor((WIDTH,)), Tensor((WIDTH, WIDTH)), Tensor((3,)), Source("torch.tensor(0.5)")]
        if origin in {list, collections.abc.Sequence, collections.abc.Iterable, set} or annotation in {
            list,
            collections.abc.Sequence,
            collections.abc.Iterable,
        }:
            kind = "list"
            parts = again(arguments[0]) if arguments else [spec for spec in named if _type_of(spec) is int] or [Source(_W)]
            whole = [spec for spec in named if _type_of(spec) is list]
            return whole + [Group(kind, (part,) * length) for part in parts[:3] for length in (2, 4, 3, 1)]
        if origin is tuple or annotation is tuple:
            if arguments and arguments[-1] is not Ellipsis:
                columns = [again(kind) for kind in arguments]
                if all(columns):
                    return [Group("tuple", tuple(column[min(row, len(column) - 1)] for column in columns)) for row in range(2)]
                return []
            parts = again(arguments[0]) if arguments else [spec for spec in named if _type_of(spec) is int] or [Source(_W)]
            whole = [spec for spec in named if _type_of(spec) is tuple]
            return whole + [Group("tuple", (part,) * length) for part in parts[:3] for length in (2, 4, 3, 1)]
        if origin in {dict, collections.abc.Mapping} or annotation is dict:
            return [Group("dict", ())]
        if origin in {type, type[Any]} or annotation is type:
            return self._classes(arguments[0] if arguments else Any, name, named, home)
        if origin is collections.abc.Callable or annotation is collections.abc.Callable or annotation is Callable:
            usual = [spec for spec in named if isinstance(spec, Source) and spec.text.startswith(("nn.", "torch."))]
            return [*usual, Source("torch.nn.functional.relu"), Source("nn.Identity"), *map(Source, _MODULES[:2])]
        if isinstance(annotation, type):
            return self._instance(annotation, name, named, home, depth)
        return []

    def _classes(self, kind: Any, name: str, named: list[Spec], home: types.ModuleType | None) -> list[Spec]:
        usual: list[Spec] = [
            spec
            for spec in named
            if isinstance(spec, Source)
            and re.fullmatch(r"[A-Za-z_][\w.]*", spec.text)
            and spec.text not in {"None", "True", "False"}
        ]
        if typing.get_origin(kind) in {typing.Union, types.UnionType}:
            usual = [Source(self._scope_name(item)) for item in typing.get_args(kind) if isinstance(item, type)] + usual
        elif isinstance(kind, type) and kind is not nn.Module and kind is not object:
            usual = [Source(self._scope_name(kind)), *usual]
        return [*usual, Source("nn.Identity")]

    def _instance(self, kind: type, name: str, named: list[Spec], home: types.ModuleType | None, depth: int) -> list[Spec]:
        if issubclass(kind, enum.Enum):
            return [Source(f"{self._scope_name(kind)}.{member.name}") for member in list(kind)[:4]]
        if issubclass(kind, nn.Module):
            if kind in {nn.Module, nn.Sequential}:
                wrapped = _MODULES if kind is nn.Module else tuple(f"nn.Sequential({text})" for text in _MODULES)
                return [Source(text) for text in wrapped]
            if kind is nn.ModuleList:
                return [Source(f"nn.ModuleList([{_MODULES[0]}, {_MODULES[0]}])")]
            built = self._build(kind)
            return [built] if built is not None else []
        spec = self.instance(kind, depth)
        return [spec] if spec is not None else []

    def instance(self, kind: type, depth: int = 0) -> Spec | None:
        """An expression for an instance of a class that is no module: dataclasses, configurations, named tuples."""
        if depth > 3:
            return None
        home = inspect.getmodule(kind)
        text = self._scope_name(kind)
        if text == "nn.Identity":
            return None
        if is_dataclass(kind):
            needed = [
                field for field in fields(kind) if field.init and field.default is MISSING and field.default_factory is MISSING
            ]
            names = [field.name for field in needed]
            function = kind.__init__
        else:
            parameters = required_parameters(kind.__init__) if kind.__init__ is not object.__init__ else []
            if parameters is None:
                return None
            names = [parameter.name for parameter in parameters]
            function = kind.__init__
        signature = signature_of(function)
        specs: list[Spec] = []
        for name in names:
            parameter = signature.parameters[name] if signature else inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
            found = self.values(function, parameter, home, depth + 1)
            if not found:
                return None
            specs.append(found[0])
        return Group(text, tuple(specs), tuple(names))


def module_classes(home: types.ModuleType | None) -> list[type[nn.Module]]:
    """The module classes that a file defines itself, in the order of the file."""
    if home is None:
        return []
    return [
        value
        for value in list(vars(home).values())
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == home.__name__
    ]


def _type_of(spec: Spec) -> type | None:
    if isinstance(spec, Group):
        return {"list": list, "tuple": tuple, "dict": dict}.get(spec.kind)
    if isinstance(spec, Tensor):
        return torch.Tensor
    try:
        return type(ast.literal_eval(spec.text))
    except (ValueError, SyntaxError):
        return None


def _unique(specs: Iterable[Spec]) -> list[Spec]:
    return list(dict.fromkeys(specs))
