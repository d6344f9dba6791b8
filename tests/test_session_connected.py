"""Which files have to do with which, by their imports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradlint.session.connected import connected


@pytest.mark.parametrize(
    "statement",
    [
        "import pkg.model",
        "import os, pkg.model as m",
        "from pkg import model",
        "from pkg.model import Net",
        "from .model import *",
        "from . import other, model",
        "from . import (\n    other,\n    model,\n)",
        "from pkg import other, \\\n    model",
        "import os, \\\n    pkg.model",
        "def f():\n    from pkg import model",
        "from\tpkg.model\timport\tNet",
    ],
)
def test_an_import_joins_two_files_both_ways(statement: str) -> None:
    model, train, lone = Path("/p/pkg/model.py"), Path("/p/train.py"), Path("/p/lone.py")
    contents = {model: b"x = 1\n", train: statement.encode() + b"\n", lone: b"import os\n"}
    assert connected(contents, [train]) == {model, train}
    assert connected(contents, [model]) == {model, train}
    assert connected(contents, [lone]) == {lone}


def test_packages_are_known_by_their_folder_and_chains_are_followed() -> None:
    init, deep, user, far = (Path(path) for path in ("/p/pkg/__init__.py", "/p/pkg/deep.py", "/p/user.py", "/p/far.py"))
    contents = {init: b"from .deep import f\n", deep: b"", user: b"import pkg\r\n", far: b"import user\n"}
    assert connected(contents, [far]) == {init, deep, user, far}


@pytest.mark.parametrize("source", [["import os\n", "from model import f\n"], "import os\nfrom model import f"])
@pytest.mark.parametrize("indent", [None, 1])
def test_imports_in_notebooks_count(source: object, indent: int | None) -> None:
    book, model = Path("/b.ipynb"), Path("/model.py")
    text = json.dumps({"cells": [{"cell_type": "code", "source": source}]}, indent=indent)
    assert connected({book: text.encode(), model: b""}, [book]) == {book, model}


def test_bytes_that_are_no_python_do_no_harm() -> None:
    a, b = Path("/a.py"), Path("/b.ipynb")
    assert connected({a: b"\xff\0import\nfrom", b: b"{"}, [b]) == {b}
