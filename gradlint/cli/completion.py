"""``gradlint completion``: what a shell needs to complete gradlint's command line, made from the parsers themselves."""

from __future__ import annotations

import argparse
import re
from typing import NamedTuple

from gradlint.cli.parser import COMMANDS, parsers
from gradlint.cli.terminal import write


class Option(NamedTuple):
    """One option of a command.

    ``words``: its spellings. ``takes``: the kind of its value: ``choice``, ``rule``, ``file``, ``folder`` or ``other``; empty
    for none. ``values``: what the value may be.
    """

    words: tuple[str, ...]
    help: str
    takes: str
    values: tuple[str, ...]


class Command(NamedTuple):
    """One command. ``values``: the words that may stand first after it; ``paths``: files may stand there; ``rules``: a rule."""

    name: str
    help: str
    options: tuple[Option, ...]
    values: tuple[str, ...]
    paths: bool
    rules: bool


def run(options: argparse.Namespace) -> int:
    """Print the script of a shell; the exit code."""
    write({"bash": bash, "zsh": zsh, "fish": fish}[options.shell]())
    return 0


def commands() -> tuple[Command, ...]:
    """All commands, as the parsers know them."""
    return tuple(_command(name, parser) for name, parser in parsers().items())


def _command(name: str, parser: argparse.ArgumentParser) -> Command:
    options: list[Option] = []
    values: tuple[str, ...] = ()
    paths = rules = False
    for action in parser._actions:
        if action.option_strings:
            takes, choices = _value(action)
            options.append(Option(tuple(action.option_strings), _short(action.help or ""), takes, choices))
        elif action.choices:
            values = tuple(map(str, action.choices))
        elif action.metavar == "RULE":
            rules = True
        elif action.metavar in ("PATH", "SCRIPT"):
            paths = True
        elif action.metavar == "KEY":
            from gradlint.session.config import key_of, settings

            values = tuple(key_of(setting.name) for setting in settings())
    return Command(name, COMMANDS[name], tuple(options), values, paths, rules)


def _value(action: argparse.Action) -> tuple[str, tuple[str, ...]]:
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return "", ()
    if action.choices:
        return "choice", tuple(map(str, action.choices))
    metavar = str(action.metavar or "")
    if metavar == "RULES":
        return "rule", _rules()
    if metavar == "VERDICTS":
        return "choice", ("confirmed", "refuted", "inconclusive")
    kind = {"FILE": "file", "FILE|KEY=VALUE": "file", "PATH": "file", "FOLDER": "folder"}
    return kind.get(metavar, "other"), ()


def _rules() -> tuple[str, ...]:
    from gradlint.rules import specs

    return ("ALL", *(word for spec in specs() for word in (spec.code, spec.name)))


def _short(help: str) -> str:
    """A line that says what an option is for, without what shells would take for more than text."""
    return re.sub(r"[`'\"\[\]:\\$]", "", help.split(";")[0].split(" (default")[0]).replace("%%", "%").strip()


# bash ----------------------------------------------------------------------------------------------------------------

_BASH = r"""# bash completion for gradlint. Made by `gradlint completion bash`.
_gradlint() {
    local cur prev command="check" word
    cur="${COMP_WORDS[COMP_CWORD]}"
    prev="${COMP_WORDS[COMP_CWORD-1]}"
    COMPREPLY=()
    if (( COMP_CWORD > 1 )); then
        case "${COMP_WORDS[1]}" in
            %(names)s) command="${COMP_WORDS[1]}" ;;
        esac
    fi
    case "$command $prev" in
%(values)s
    esac
    local words="" paths="" first=2
    case "$command" in
%(commands)s
    esac
    if (( COMP_CWORD == 1 )); then
        words="$words %(plain)s"
    fi
    if [[ "$cur" == -* ]]; then
        local options=""
        for word in $words; do
            [[ "$word" == -* ]] && options="$options $word"
        done
        COMPREPLY=( $(compgen -W "$options" -- "$cur") )
        return
    fi
    local plain=""
    for word in $words; do
        [[ "$word" != -* ]] && plain="$plain $word"
    done
    COMPREPLY=( $(compgen -W "$plain" -- "$cur") )
    if [[ -n "$paths" ]]; then
        COMPREPLY+=( $(compgen -f -- "$cur") )
        compopt -o filenames 2>/dev/null
    fi
}
complete -F _gradlint gradlint
"""


def bash() -> str:
    """The script for bash."""
    values, bodies = [], []
    for command in commands():
        for option in command.options:
            if option.takes:
                pattern = "|".join(f'"{command.name} {word}"' for word in option.words)
                values.append(f"        {pattern}) {_bash_values(option)}; return ;;")
        words = [word for option in command.options for word in option.words]
        plain = [*command.values, *(_rules()[1:] if command.rules else ())]
        body = f'words="{" ".join(words)}"'
        if plain:
            body += f'; (( COMP_CWORD == 2 )) && words="$words {" ".join(plain)}"'
        if command.paths:
            body += "; paths=1"
        bodies.append(f"        {command.name}) {body} ;;")
    names = "|".join(COMMANDS)
    return _BASH % {"names": names, "values": "\n".join(values), "commands": "\n".join(bodies), "plain": " ".join(COMMANDS)}


def _bash_values(option: Option) -> str:
    if option.takes == "file":
        return 'COMPREPLY=( $(compgen -f -- "$cur") ); compopt -o filenames 2>/dev/null'
    if option.takes == "folder":
        return 'COMPREPLY=( $(compgen -d -- "$cur") ); compopt -o filenames 2>/dev/null'
    return f'COMPREPLY=( $(compgen -W "{" ".join(option.values)}" -- "$cur") )'


# zsh -----------------------------------------------------------------------------------------------------------------


def zsh() -> str:
    """The script for zsh."""
    lines = ["#compdef gradlint", "# Made by `gradlint completion zsh`.", ""]
    for command in commands():
        lines += [f"_gradlint_{command.name}() {{", "    _arguments -s \\"]
        lines += [f"        {_zsh_option(option)} \\" for option in command.options]
        if command.values:
            lines.append(f"        '1:{command.name}:({' '.join(command.values)})' \\")
        if command.rules:
            lines.append(f"        '1:rule:({' '.join(_rules()[1:])})' \\")
        if command.paths:
            lines.append("        '*:path:_files' \\")
        lines[-1] = lines[-1].removesuffix(" \\")
        lines += ["}", ""]
    described = " ".join(f"'{name}:{_short(text)}'" for name, text in COMMANDS.items())
    cases = [f"            {name}) shift words; (( CURRENT-- )); _gradlint_{name} ;;" for name in COMMANDS]
    lines += [
        "_gradlint() {",
        f"    local -a commands=({described})",
        "    if (( CURRENT == 2 )); then",
        "        [[ $words[2] != -* ]] && _describe command commands",
        "        _gradlint_check",
        "    else",
        "        case $words[2] in",
        *cases,
        "            *) _gradlint_check ;;",
        "        esac",
        "    fi",
        "}",
        "",
        'if [ "$funcstack[1]" = "_gradlint" ]; then _gradlint "$@"; else compdef _gradlint gradlint; fi',
        "",
    ]
    return "\n".join(lines)


def _zsh_option(option: Option) -> str:
    kinds = {"file": "file:_files", "folder": "folder:_files -/", "other": "value: "}
    action = kinds.get(option.takes, f"value:({' '.join(option.values)})")
    value = f":{action}" if option.takes else ""
    help = f"[{option.help}]"
    if len(option.words) == 1:
        return f"'{option.words[0]}{help}{value}'"
    return f"{{{','.join(option.words)}}}'{help}{value}'"


# fish ----------------------------------------------------------------------------------------------------------------


def fish() -> str:
    """The script for fish."""
    lines = ["# fish completion for gradlint. Made by `gradlint completion fish`.", "complete -c gradlint -f"]
    for name, text in COMMANDS.items():
        lines.append(f"complete -c gradlint -n __fish_use_subcommand -a {name} -d '{_short(text)}'")
    for command in commands():
        where = f"__fish_seen_subcommand_from {command.name}"
        if command.name == "check":
            others = " ".join(name for name in COMMANDS if name != "check")
            where = f"not __fish_seen_subcommand_from {others}"
        condition = f"-n '{where}'"
        for option in command.options:
            lines.append(f"complete -c gradlint {condition} {_fish_option(option)}")
        words = [*command.values, *(_rules()[1:] if command.rules else ())]
        if words:
            once = f"-n '{where}; and not __fish_seen_subcommand_from {' '.join(words)}'"
            lines.append(f"complete -c gradlint {once} -a '{' '.join(words)}'")
        if command.paths:
            lines.append(f"complete -c gradlint {condition} -F")
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    parts = [f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" for word in option.words]
    values = {
        "file": "-r -F",
        "folder": "-x -a '(__fish_complete_directories)'",
        "other": "-x",
    }
    if option.takes:
        parts.append(values.get(option.takes, f"-x -a '{' '.join(option.values)}'"))
    return " ".join([*parts, f"-d '{option.help}'"])
