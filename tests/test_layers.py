"""What imports what: the contracts of pyproject.toml, and what a process has really loaded after common commands."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gradlint"

QUIETLY: dict[str, Any] = {"capture_output": True, "text": True, "encoding": "utf-8"}

HEAVY = {"torch", "libcst", "pygls", "lsprotocol", "numpy"}

CLEAN = """
import torch
from torch import nn

model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).square().mean()
    loss.backward()
    optimizer.step()
"""


def test_import_contracts() -> None:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", program, "--no-cache"], cwd=ROOT, **QUIETLY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def module_level_imports(path: Path) -> Iterator[tuple[int, str]]:
    """The modules that are imported when the file is: not those inside functions or under ``TYPE_CHECKING``."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                todo.extend(node.orelse)
                continue
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                yield node.lineno, "." * node.level + (node.module or "")
        todo.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_of_a_module(path: Path) -> None:
    layer = path.relative_to(PACKAGE).parts[0]
    for line, module in module_level_imports(path):
        place = f"{path.relative_to(ROOT)}:{line} imports {module}"
        top = module.split(".")[0]
        assert not module.startswith("."), f"{place}: imports are absolute"
        assert top != "torch" or layer == "verify", f"{place}: torch belongs to verify"
        assert top != "libcst" or layer in {"syntax", "rules"}, f"{place}: LibCST belongs to syntax and rules"


def test_no_catch_all_modules() -> None:
    names = {path.stem for path in PACKAGE.rglob("*.py")} | {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["check", "--no-cache", "--isolated", "--jobs", "1", "clean.py"]]
)
def test_commands_load_no_heavy_module(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "clean.py").write_text(CLEAN)
    program = (
        "import json, sys\n"
        "from gradlint.cli import main\n"
        "try:\n    status = main(sys.argv[1:])\n"
        "except SystemExit as stop:\n    status = stop.code\n"
        "print(json.dumps([status or 0, sorted({name.split('.')[0] for name in sys.modules})]), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=tmp_path, **QUIETLY)
    assert done.returncode == 0, done.stderr
    status, loaded = json.loads(done.stderr.splitlines()[-1])
    assert status == 0, done.stdout
    assert not HEAVY & set(loaded)
