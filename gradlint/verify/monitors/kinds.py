"""What a parameter is for, told by its name: a low-rank adaptation, an adapter, a projection head, a head."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from gradlint.verify.monitors.selection import fits

Kinds = Mapping[str, str | Sequence[str]]
"""By the title of a kind, the names or patterns of its parameters. The first that fits counts."""

_LORA = re.compile(r"(^|_)(lora|dora|vera|lokr|loha|hada|randlora)(_|$)|^lora", re.IGNORECASE)
_ADAPTER = re.compile(
    r"adapter|^ia3_|^oft_|^boft_|^prompt_(encoder|embeddings?|tokens?)$|^(prefix|prompt)_tuning", re.IGNORECASE
)
_PROJECTION = re.compile(r"(^|_)(projection|projector|proj_head|projhead|head_proj)(_|$|\d)", re.IGNORECASE)
_PROJ = re.compile(r"(^|_)proj$", re.IGNORECASE)
_HEAD = re.compile(r"(^|_)(head|heads|classifier|fc|logits)\d*$", re.IGNORECASE)
_INNER = re.compile(r"attn|attention|embed|mlp|ffn|^\d+$", re.IGNORECASE)


def kind_of(name: str, kinds: Kinds | None = None) -> str:
    """``"LoRA"``, ``"adapter"``, ``"projection head"``, ``"head"``, a title of ``kinds``, or ``"base"`` for all else."""
    for title, patterns in (kinds or {}).items():
        if any(fits(pattern, name) for pattern in ([patterns] if isinstance(patterns, str) else patterns)):
            return title
    parts = name.split(".")
    if any(_LORA.search(part) for part in parts):
        return "LoRA"
    if any(_ADAPTER.search(part) for part in parts):
        return "adapter"
    # A `proj` within a layer, as in `blocks.3.attn.proj`, is a part of attention and no head.
    outer = parts[: next((place for place, part in enumerate(parts) if _INNER.search(part)), len(parts))]
    if any(_PROJECTION.search(part) for part in parts) or any(_PROJ.search(part) for part in outer):
        return "projection head"
    return "head" if any(_HEAD.search(part) for part in outer) else "base"


def components(names: Iterable[str]) -> dict[str, str]:
    """For each name the part of the model it belongs to: as far as all names agree, and one word more."""
    split = {name: name.split(".")[:-1] for name in names}
    shared = 0
    while split and all(len(parts) > shared + 1 for parts in split.values()):
        if len({parts[shared] for parts in split.values()}) > 1:
            break
        shared += 1
    return {name: ".".join(parts[: shared + 1]) or name for name, parts in split.items()}


def covering(names: Iterable[str], universe: Iterable[str]) -> list[str]:
    """Names in few words: ``"encoder.*"`` stands for all names below it, where all of them are meant."""
    wanted = set(names)

    def within(prefix: str, below: list[str]) -> list[str]:
        if not wanted.intersection(below):
            return []
        if prefix and len(below) > 1 and wanted.issuperset(below):
            return [f"{prefix}.*"]
        start = len(prefix) + 1 if prefix else 0
        children: dict[str, list[str]] = {}
        for name in below:
            children.setdefault(name[start:].partition(".")[0], []).append(name)
        found: list[str] = []
        for child, members in children.items():
            path = f"{prefix}.{child}" if prefix else child
            if path in members:
                found += [path] if path in wanted else []
                members = [name for name in members if name != path]
            found += within(path, members) if members else []
        return found

    return within("", list(dict.fromkeys(universe)))
