"""``gradlint server``: the language server."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from gradlint.cli.parser import UsageError


def run(_: argparse.Namespace) -> int:
    """Serve until the client is done; the exit code.

    Raises:
        UsageError: pygls is not installed.
    """
    if find_spec("pygls") is None:
        raise UsageError("the language server needs pygls, which is not installed: pip install 'torch-gradlint[lsp]'")
    from gradlint.server.server import serve

    return serve()
