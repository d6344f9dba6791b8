"""``gradlint baseline``: accept what is found now, or drop what is no longer found."""

from __future__ import annotations

import argparse

from gradlint.cli.check import BASELINE, accept
from gradlint.cli.parser import UsageError
from gradlint.cli.settings import STDIN, config_of
from gradlint.cli.terminal import progress, say
from gradlint.session import Config, ConfigError, MissingPath, prune_baseline


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit code.

    Raises:
        UsageError: what is asked for cannot be done.
    """
    if STDIN in options.paths or options.stdin_filename:
        raise UsageError("a baseline needs files, not standard input")
    try:
        config = config_of(options, options.paths)
        return accept(options, options.paths, config) if options.action == "write" else _prune(options, config)
    except (MissingPath, ConfigError) as error:
        raise UsageError(str(error)) from None


def _prune(options: argparse.Namespace, config: Config) -> int:
    file = config.baseline or config.root / BASELINE
    try:
        with progress("gradlint reads the project"):
            gone = prune_baseline(options.paths, config, file)
    except OSError as error:
        raise UsageError(f"{file}: the baseline cannot be written: {error.strerror or error}") from None
    if not options.quiet:
        for entry in gone:
            say(f"  {entry}")
        say(f"{len(gone)} {'entry' if len(gone) == 1 else 'entries'} dropped from {file}.")
    return 0
