"""``gradlint clean``: remove the cache."""

from __future__ import annotations

import argparse

from gradlint.cli.parser import UsageError
from gradlint.cli.settings import config_of
from gradlint.cli.terminal import say
from gradlint.session import ConfigError
from gradlint.session.cache import clean


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit code.

    Raises:
        UsageError: the cache cannot be removed.
    """
    try:
        removed = clean(config_of(options, options.paths))
    except ConfigError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"the cache cannot be removed: {error.filename}: {error.strerror or error}") from None
    if not options.quiet:
        say("".join(f"Removed {folder}." for folder in removed) or "There is no cache.")
    return 0
