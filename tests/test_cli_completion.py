"""Shell completions, asked for as the shells themselves would, and compared with what the parsers know."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from gradlint.cli.parser import COMMANDS, SHELLS, parsers

ROOT = Path(__file__).resolve().parent.parent


@cache
def _script(shell: str) -> str:
    command = [sys.executable, "-m", "gradlint", "completion", shell]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _options(command: str) -> set[str]:
    return {word for action in parsers()[command]._actions for word in action.option_strings}


def _bash(words: list[str], folder: Path) -> set[str]:
    """What bash offers for the last of the words."""
    line = " ".join(words)
    program = f"""{_script("bash")}
COMP_WORDS=({" ".join(repr(word) for word in words)})
COMP_CWORD={len(words) - 1}
COMP_LINE={line!r}
_gradlint
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", program], cwd=folder, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def _fish(words: list[str], folder: Path) -> set[str]:
    program = _script("fish") + f"\ncomplete -C {' '.join(words)!r}\n"
    done = subprocess.run(["fish", "--no-config", "-c", program], cwd=folder, check=True, capture_output=True, text=True)
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


def _zsh(words: list[str], folder: Path) -> set[str]:
    """What zsh offers: a pseudo-terminal, in which Tab is pressed, with a hook that writes the matches down."""
    functions = folder / "functions"
    functions.mkdir(exist_ok=True)
    (functions / "_gradlint").write_text(_script("zsh"))
    program = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1=; fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; cd $2"
zpty -w z 'compadd() { local -a f; builtin compadd -O f "$@"; print -l -- "<${(@)^f}>" >> '"$3"'; builtin compadd "$@" }'
zpty -w z 'bindkey "^I" complete-word; zstyle ":completion:*" insert-tab false; echo rea""dy'
zpty -r z seen '*ready*'
zpty -w -n z "$4"$'\t'
for i in {1..100}; do
    sleep 0.1
    [[ -s $3 ]] && sleep 0.3 && break
done
zpty -d z
"""
    matches = folder / "matches.txt"
    matches.unlink(missing_ok=True)
    command = ["zsh", "-f", "-c", program, "zsh", str(functions), str(folder), str(matches), " ".join(words)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return set(matches.read_text().replace("<", "").replace(">", "").split()) if matches.exists() else set()


ASK = {"bash": _bash, "fish": _fish, "zsh": _zsh}


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_offer_what_the_parsers_know(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    ask = ASK[shell]
    (tmp_path / "model.py").touch()
    assert set(COMMANDS) <= ask(["gradlint", ""], tmp_path)
    for command in ("check", "verify", "rule") if shell != "zsh" else ("check",):
        offered = {word for word in ask(["gradlint", command, "--"], tmp_path) if word.startswith("--")}
        assert offered == {word for word in _options(command) if word.startswith("--")}, command
    assert {"sarif", "github"} <= ask(["gradlint", "check", "--output-format", ""], tmp_path)
    assert "GRD102" in ask(["gradlint", "rule", "GRD10"], tmp_path)
    assert "model.py" in ask(["gradlint", "check", "mod"], tmp_path)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_is_in_the_script(shell: str) -> None:
    script = _script(shell)
    for command in COMMANDS:
        for word in _options(command):
            assert (word if shell != "fish" else word.lstrip("-")) in script, (command, word)


def test_an_unknown_shell_is_named() -> None:
    command = [sys.executable, "-m", "gradlint", "completion", "tcsh"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "tcsh" in done.stderr
    assert done.stderr.count("\n") == 1
