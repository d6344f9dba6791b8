"""The command line. Nothing heavy is imported before it is known to be needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

OK, FAILED = 0, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run gradlint with ``arguments`` (the process's own without) and return the exit code.

    Never raises: what goes wrong is told in one line on stderr.
    """
    from gradlint.cli.parser import UsageError, parse
    from gradlint.cli.terminal import forsake, prepare

    prepare()
    verbose = False
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        verbose = options.verbose
        code = _run(options.command, options)
        sys.stdout.flush()
    except SystemExit as exit:  # --help and --version
        sys.stdout.flush()
        return exit.code if isinstance(exit.code, int) else OK
    except UsageError as error:
        return _fail(str(error))
    except BrokenPipeError:
        forsake(sys.stdout)
        return OK
    except KeyboardInterrupt:
        return _fail("interrupted")
    except Exception as error:
        if verbose:
            import traceback

            traceback.print_exc()
        hint = "" if verbose else " (--verbose shows where)"
        return _fail(f"an error in gradlint itself stopped the run: {type(error).__name__}: {error}{hint}")
    return code


def _run(command: str, options: object) -> int:
    from importlib import import_module

    code: int = import_module(f"gradlint.cli.{command}").run(options)
    return code


def _fail(message: str) -> int:
    print(f"gradlint: {' '.join(message.split())}", file=sys.stderr)
    return FAILED
