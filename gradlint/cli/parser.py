"""The command line's words: commands, options, and what to say when one is not known."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NoReturn

from gradlint import __version__
from gradlint.reporters import FORMATS

COMMANDS = {
    "check": "check files and folders (this is what happens without a command)",
    "verify": "check, then run the code: which findings are true?",
    "trace": "run a script for a few steps and show where gradient stops",
    "rule": "explain a rule",
    "config": "list the settings, or explain one",
    "baseline": "accept what is found now (write), or drop what is no longer found (prune)",
    "clean": "remove the cache",
    "server": "serve an editor over the language server protocol",
    "completion": "print the completions of a shell",
}

SHELLS = ("bash", "zsh", "fish")


class UsageError(Exception):
    """The command line cannot be understood; the message is one line that says what to do."""


class _Parser(argparse.ArgumentParser):
    """A parser that answers a mistake with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the arguments after the program's name; ``command`` says which command they are for.

    Raises ``UsageError`` for what is not understood, and ``SystemExit(0)`` after ``--help`` and ``--version``.
    """
    command = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    parser = _PARSERS[command or "check"]()
    words = list(arguments[1:] if command else arguments)
    split = words.index("--") if "--" in words else len(words)
    words, literal = words[:split], words[split + 1 :]
    # Intermixed: paths may stand before, between and after options.
    options, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        raise UsageError(_unknown(unknown[0], parser))
    if command == "trace":
        options.arguments = literal
    elif literal:
        options.paths = [*getattr(options, "paths", ()), *literal]
    options.command = command or "check"
    return options


def nearest(word: str, known: Sequence[str]) -> str:
    """`` (did you mean …?)`` with the known word that looks most like ``word``, or nothing."""
    from difflib import get_close_matches

    matches = get_close_matches(word, known, 1, 0.6)
    return f"; did you mean {matches[0]}?" if matches else ""


def _unknown(argument: str, parser: argparse.ArgumentParser) -> str:
    if not argument.startswith("-"):
        return f"unexpected argument {argument}"
    option = argument.partition("=")[0]
    known = [name for action in parser._actions for name in action.option_strings]
    return f"there is no option {option}" + (nearest(option, known) or f"; {parser.prog} --help lists them")


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(0)
        if not 0 < value < 1e9:
            raise argparse.ArgumentTypeError(f"{text} is not a positive number")
        return value

    return number


def _jobs(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of processes")
    return number


def _new(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    return _Parser(
        prog=f"gradlint {command}".strip(),
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        add_help=False,
        formatter_class=_Formatter,
    )


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help with room for long option names."""

    def __init__(self, prog: str) -> None:
        # A formatter is made for every option that is added; left to itself it imports all of shutil to learn the width.
        super().__init__(prog, max_help_position=30, width=_width())


@cache
def _width() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns):
        return max(int(columns), 40) - 2
    try:
        return max(min(os.get_terminal_size(1).columns, 120), 40) - 2
    except OSError:
        return 98


def _general(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("general")
    group.add_argument("-h", "--help", action="help", help="show this and leave")
    group.add_argument("--version", action="version", version=f"gradlint {__version__}", help="show the version and leave")
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing but the findings and what went wrong")
    group.add_argument("-v", "--verbose", action="store_true", help="say more about the run")
    group.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour the output; auto does on a terminal and minds NO_COLOR and FORCE_COLOR",
    )


def _settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE|KEY=VALUE",
        help="read this file instead of the nearest one, or set one option (TOML); may be repeated",
    )
    group.add_argument("--isolated", action="store_true", help="read no configuration file")
    group.add_argument("--no-cache", action="store_true", help="neither read nor write the cache")
    group.add_argument("--cache-dir", metavar="FOLDER", help="where the cache lives")


def _selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "rules", "Codes (GRD102), beginnings of codes (GRD1), names (detach-on-loss-path), or ALL."
    )
    for option, text in (
        ("--select", "report these rules instead of the configured ones"),
        ("--ignore", "leave these rules out"),
        ("--extend-select", "report these rules too"),
        ("--extend-ignore", "leave these rules out too"),
    ):
        group.add_argument(option, action="extend", type=_words, metavar="RULES", help=text)
    group.add_argument(
        "--per-file-ignores",
        action="extend",
        type=_patterns,
        metavar="PATTERN:RULE",
        help="leave a rule out in files that match, as in tests/*:GRD102",
    )
    group.add_argument(
        "--min-confidence",
        choices=("high", "medium", "low"),
        help="report findings of this confidence and above (medium unless configured)",
    )
    group.add_argument("--preview", action=argparse.BooleanOptionalAction, default=None, help="include rules that are on trial")


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files and folders, or - for standard input (default: .)")
    group = parser.add_argument_group("files")
    group.add_argument("--stdin-filename", metavar="PATH", help="the name of the text on standard input")
    for option, text in (
        ("--exclude", "leave out what matches these patterns, instead of the configured ones"),
        ("--extend-exclude", "leave out what matches these patterns too"),
    ):
        group.add_argument(option, action="extend", type=_patterns, metavar="PATTERN", help=text)
    group.add_argument(
        "--force-exclude",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="leave excluded files out even when they are named on the command line",
    )
    group.add_argument(
        "--jobs", "-j", type=_jobs, metavar="N", help="how many processes may work at a time; so far one does all the work"
    )


def _patterns(text: str) -> list[str]:
    return [pattern for pattern in text.split(",") if pattern]


def _check() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    parser = _new(
        "",
        "Finds the places where a PyTorch program does not train what it means to train.",
        "exit codes: 0 nothing found, 1 findings, 2 something went wrong",
    )
    parser.usage = f"gradlint [check] [OPTIONS] [PATH ...]\n       gradlint COMMAND --help\n\ncommands:\n{commands}"
    _files(parser)
    _selection(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output-format",
        choices=FORMATS,
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)} (default: full on a terminal with few findings, else concise)",
    )
    group.add_argument("--output-file", "-o", metavar="FILE", help="write the findings to this file")
    group.add_argument("--statistics", action="store_true", help="count the findings of each rule instead of listing them")
    group.add_argument("--show-files", action="store_true", help="list the files that would be checked and leave")
    group.add_argument("--show-settings", action="store_true", help="show the settings in force and leave")
    group.add_argument("--exit-zero", action="store_true", help="leave with 0 even when there are findings")
    group = parser.add_argument_group("fixes")
    group.add_argument("--fix", action="store_true", help="apply the safe fixes")
    group.add_argument("--unsafe-fixes", action="store_true", help="with --fix or --diff: also the fixes that change training")
    group.add_argument(
        "--diff", action="store_true", help="show what --fix would change, change nothing, leave with 1 if there is anything"
    )
    group.add_argument("--fix-only", action="store_true", help="apply the fixes and report nothing")
    group.add_argument("--add-ignore", action="store_true", help="add a suppression comment for every finding")
    group = parser.add_argument_group("baseline")
    group.add_argument("--baseline", metavar="FILE", help="leave out the findings that this file accepts")
    group.add_argument("--write-baseline", action="store_true", help="accept what is found now: write it to the baseline")
    _settings(parser)
    _general(parser)
    return parser


def _running(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "running code", "User code runs in worker processes, without network, in a scratch layer."
    )
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto leaves it to the program; cpu hides all GPUs"
    )
    group.add_argument("--timeout", type=_positive(float), metavar="SECONDS", default=60.0, help="time a program gets (60)")
    group.add_argument("--steps", type=_positive(int), metavar="N", default=12, help="optimizer steps to watch (12)")
    group.add_argument("--memory", type=_positive(float), metavar="GIB", help="memory a program gets (3/4 of the machine's)")


def _verify() -> argparse.ArgumentParser:
    parser = _new(
        "verify",
        "Checks, then runs the programs that were flagged and says of each finding whether it is confirmed, refuted or\n"
        "inconclusive. Runs your code. Needs PyTorch in the same environment.",
        "exit codes: 0 nothing that counts, 1 findings that count (see --fail-on), 2 something went wrong",
    )
    parser.usage = "gradlint verify [OPTIONS] [PATH ...]"
    _files(parser)
    _selection(parser)
    _running(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--only",
        action="extend",
        type=_words,
        metavar="VERDICTS",
        help="show only findings that are confirmed, refuted or inconclusive (several by commas)",
    )
    group.add_argument(
        "--fail-on",
        choices=("confirmed", "unrefuted", "any", "never"),
        default="confirmed",
        help="leave with 1 when a shown finding is confirmed (default), is not refuted, is there at all, or never",
    )
    group.add_argument("--output-format", choices=FORMATS, metavar="FORMAT", help=f"{', '.join(FORMATS)} (default: full)")
    group.add_argument("--output-file", "-o", metavar="FILE", help="write the findings to this file")
    group.add_argument("--baseline", metavar="FILE", help="leave out the findings that this file accepts")
    _settings(parser)
    _general(parser)
    return parser


def _trace() -> argparse.ArgumentParser:
    parser = _new(
        "trace",
        "Runs a script until it has taken some optimizer steps, and shows what trained, what did not, and which lines cut the\n"
        "gradient off, whether or not the static analysis saw them.",
        "exit codes: 0 everything that should train got gradient, 1 something did not, 2 something went wrong",
    )
    parser.usage = "gradlint trace [OPTIONS] SCRIPT [-- ARGUMENTS]"
    parser.add_argument("script", metavar="SCRIPT", help="the program to run")
    _running(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--output-format", choices=("text", "json"), default="text", help="default: text")
    group.add_argument("--exit-zero", action="store_true", help="leave with 0 whatever was found")
    _settings(parser)
    _general(parser)
    return parser


def _rule() -> argparse.ArgumentParser:
    parser = _new("rule", "Shows a rule's page: what it finds, why that is bad, examples, and when it stays silent.")
    parser.usage = "gradlint rule [RULE] [OPTIONS]"
    parser.add_argument("rule", nargs="?", metavar="RULE", help="a code (GRD102) or a name (detach-on-loss-path)")
    parser.add_argument("--all", action="store_true", help="show every rule")
    parser.add_argument("--output-format", choices=("text", "json", "markdown"), default="text", help="default: text")
    _general(parser)
    return parser


def _config() -> argparse.ArgumentParser:
    parser = _new("config", "Lists the settings of [tool.gradlint] in pyproject.toml (or gradlint.toml), or explains one.")
    parser.usage = "gradlint config [KEY] [OPTIONS]"
    parser.add_argument("key", nargs="?", metavar="KEY", help="the setting to explain")
    parser.add_argument("--output-format", choices=("text", "json"), default="text", help="default: text")
    _general(parser)
    return parser


def _baseline() -> argparse.ArgumentParser:
    parser = _new(
        "baseline",
        "Keeps the findings that a project has accepted for now.\n\n"
        "write: accept everything that is found now.\nprune: drop the entries that are no longer found.",
    )
    parser.usage = "gradlint baseline write|prune [OPTIONS] [PATH ...]"
    parser.add_argument("action", choices=("write", "prune"), help="what to do")
    _files(parser)
    _selection(parser)
    group = parser.add_argument_group("baseline")
    group.add_argument("--baseline", metavar="FILE", help="the file to write (default: the configured one)")
    _settings(parser)
    _general(parser)
    return parser


def _clean() -> argparse.ArgumentParser:
    parser = _new("clean", "Removes the cache of the project.")
    parser.usage = "gradlint clean [OPTIONS] [PATH ...]"
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a file or folder of the project (default: .)")
    _settings(parser)
    _general(parser)
    return parser


def _server() -> argparse.ArgumentParser:
    parser = _new(
        "server",
        "Serves an editor over the language server protocol, on standard input and output. Editors start it; there is nothing\n"
        "to see when a person does. Needs pygls: pip install 'torch-gradlint[lsp]'.",
    )
    parser.usage = "gradlint server"
    parser.add_argument("--stdio", action="store_true", help="what it does anyway; some clients insist on saying so")
    _general(parser)
    return parser


def _completion() -> argparse.ArgumentParser:
    parser = _new(
        "completion",
        "Prints a script that teaches a shell gradlint's commands and options.\n\n"
        'bash: eval "$(gradlint completion bash)" in ~/.bashrc\n'
        "zsh:  gradlint completion zsh > _gradlint, in a folder of $fpath\n"
        "fish: gradlint completion fish > ~/.config/fish/completions/gradlint.fish",
    )
    parser.usage = "gradlint completion SHELL"
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    _general(parser)
    return parser


def parsers() -> Mapping[str, argparse.ArgumentParser]:
    """The parser of every command, by its name."""
    return {command: make() for command, make in _PARSERS.items()}


_PARSERS = {
    "check": _check,
    "verify": _verify,
    "trace": _trace,
    "rule": _rule,
    "config": _config,
    "baseline": _baseline,
    "clean": _clean,
    "server": _server,
    "completion": _completion,
}
