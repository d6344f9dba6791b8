"""``gradlint config``: which settings there are and what they mean."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from gradlint.cli.parser import UsageError, nearest
from gradlint.cli.terminal import style
from gradlint.reporters.style import Style, wrap
from gradlint.session.config import schema


def run(options: argparse.Namespace) -> int:
    """Print all settings in short, or one of them in full.

    Raises:
        UsageError: there is no such setting.
    """
    look = style(sys.stdout, options.color)
    known: Mapping[str, Mapping[str, Any]] = schema()["properties"]
    key = options.key.replace("_", "-") if options.key else None
    if key and key not in known:
        raise UsageError(f"there is no setting {options.key}{nearest(key, list(known))}")
    if options.output_format == "json":
        print(json.dumps(known[key] if key else schema(), indent=2, ensure_ascii=not look.unicode))
    elif key:
        _explain(key, known[key], look)
    else:
        for name, setting in known.items():
            print(look.paint(name, "cyan", "bold"))
            for line in wrap(setting["description"], look.width - 4):
                print(f"    {line}")
    return 0


def _explain(key: str, setting: Mapping[str, Any], look: Style) -> None:
    print(look.paint(key, "cyan", "bold"))
    print("\n".join(wrap(setting["description"], look.width)))
    print(f"\n  kind      {_kind(setting)}")
    if "enum" in setting:
        print(f"  one of    {', '.join(setting['enum'])}")
    if "default" in setting:
        print(f"  default   {toml(setting['default'])}")
    example = setting.get("default")
    if not example:
        example = {"array": ["…"], "object": {"…": "…"}, "string": "…"}.get(setting["type"], example)
    print(f"\n  [tool.gradlint]\n  {key} = {toml(example)}")


def _kind(setting: Mapping[str, Any]) -> str:
    kinds = {"string": "string", "boolean": "true or false", "object": "table", "integer": "number"}
    if setting["type"] == "array":
        return f"list of {kinds.get(setting['items']['type'], 'value')}s"
    return kinds.get(setting["type"], str(setting["type"]))


def toml(value: Any) -> str:
    """``value`` as it would stand in a TOML file, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
