"""What is open in the editor: files and notebooks, as the analysis wants them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from lsprotocol import types
from pygls.uris import to_fs_path, urlparse

from gradlint.server.documents import Document, Documents

NOTEBOOK = ".ipynb"


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file, or an open notebook with its cells. ``path``: where it is, or for an untitled one claims to be."""

    path: Path
    uri: str
    notebook: bool = False

    def text(self, documents: Documents) -> str:
        """The text that counts; for a notebook, the JSON of one with these cells."""
        if not self.notebook:
            return documents.get_text_document(self.uri).source
        cells = [
            {
                "cell_type": "code" if cell.kind is types.NotebookCellKind.Code else "markdown",
                "source": documents.get_text_document(cell.document).source if cell.kind is types.NotebookCellKind.Code else "",
            }
            for cell in self._cells(documents)
        ]
        return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})

    def documents(self, documents: Documents) -> list[Document]:
        """The text documents that findings are shown in: the file itself, or the notebook's code cells."""
        uris = [self.uri]
        if self.notebook:
            uris = [cell.document for cell in self._cells(documents) if cell.kind is types.NotebookCellKind.Code]
        found = (documents.text_documents.get(unquote(uri)) for uri in uris)
        return [document for document in found if isinstance(document, Document)]

    def address(self, cell: int | None, documents: Documents) -> str:
        """The address of the file, or of a cell (from 1) of the notebook."""
        cells = self._cells(documents) if self.notebook else []
        return cells[cell - 1].document if cell is not None and 0 < cell <= len(cells) else self.uri

    def versions(self, documents: Documents) -> tuple[tuple[str, int | None], ...]:
        """What changes whenever the text does."""
        return tuple((document.uri, document.version) for document in self.documents(documents))

    def _cells(self, documents: Documents) -> list[types.NotebookCell]:
        notebook = documents.get_notebook_document(notebook_uri=self.uri)
        return list(notebook.cells) if notebook is not None else []


def path_of(uri: str) -> Path | None:
    """Where the file at an address is; None for addresses of what is no file, such as the old side of a comparison."""
    if uri.startswith("untitled:"):
        _, _, name, *_ = urlparse(uri)
        return Path("/untitled", name.lstrip("/") or "Untitled")
    place = to_fs_path(uri)
    return Path(place) if place else None
