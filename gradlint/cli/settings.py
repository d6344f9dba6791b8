"""From options to settings: what is said on the command line wins over what stands in a file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradlint.cli.parser import UsageError
from gradlint.core import Confidence
from gradlint.session import Config, ConfigError, load_config
from gradlint.session.config import PerFileIgnore, check_selectors

STDIN = "-"


def config_of(options: argparse.Namespace, paths: Sequence[str | Path]) -> Config:
    """The settings for a run over ``paths``.

    Raises:
        UsageError: the options contradict each other.
        ConfigError: a settings file or a value cannot be used.
    """
    # An existing file may have an equals sign in its name.
    overrides = [given for given in options.config if "=" in given and not Path(given).is_file()]
    files = [given for given in options.config if given not in overrides]
    if len(files) > 1:
        raise UsageError(f"there can be one settings file, not {len(files)}: {', '.join(files)}")
    if files and options.isolated:
        raise UsageError(f"--isolated reads no settings file, so --config {files[0]} has no place beside it")
    file = Path(files[0]) if files else None
    config = load_config(paths, file=file, overrides=overrides, isolated=options.isolated)
    return _overridden(config, options)


def blame_options(error: ConfigError, options: argparse.Namespace) -> ConfigError:
    """``error`` as it should be told: a rule misnamed on the command line is not the settings file's fault."""
    from gradlint.rules import specs

    try:
        check_selectors(_overridden(Config(isolated=True), options), specs())
    except ConfigError as own:
        return own
    return error


def _overridden(config: Config, options: argparse.Namespace) -> Config:
    given: dict[str, Any] = {}
    for name in ("select", "ignore", "exclude"):
        if getattr(options, name, None) is not None:
            given[name] = tuple(getattr(options, name))
    for name in ("extend_select", "extend_ignore", "extend_exclude"):
        if getattr(options, name, None):
            given[name] = (*getattr(config, name), *getattr(options, name))
    for name in ("preview", "force_exclude", "output_format"):
        if getattr(options, name, None) is not None:
            given[name] = getattr(options, name)
    if getattr(options, "min_confidence", None):
        given["min_confidence"] = Confidence(options.min_confidence)
    if getattr(options, "per_file_ignores", None):
        given["per_file_ignores"] = (*config.per_file_ignores, *_per_file(options.per_file_ignores))
    for name in ("baseline", "cache_dir"):
        if getattr(options, name, None):
            given[name] = Path(getattr(options, name)).expanduser().absolute()
    return replace(config, **given)


def _per_file(given: Sequence[str]) -> list[PerFileIgnore]:
    """``tests/*:GRD102,GRD103`` and ``a.py:GRD1``: what has no colon of its own belongs to the pattern before."""
    rules: dict[str, list[str]] = {}
    pattern = ""
    for part in given:
        before, colon, selector = part.rpartition(":")
        pattern = before if colon else pattern
        if not pattern or not selector:
            raise UsageError(f"--per-file-ignores takes PATTERN:RULE, not {part}")
        rules.setdefault(pattern, []).append(selector)
    return [PerFileIgnore(Path.cwd(), pattern, tuple(selectors)) for pattern, selectors in rules.items()]
