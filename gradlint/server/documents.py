"""The open documents, edited as the client says."""

from __future__ import annotations

from functools import cached_property

from lsprotocol import types
from pygls.workspace import TextDocument, Workspace

from gradlint.server.text import Lines


class Document(TextDocument):
    """A text document whose lines are those of the protocol.

    The base class also cuts lines at form feeds and the like, as Python's ``splitlines`` does: an edit below one lands in the
    wrong line, and from then on the text is not what the person sees.
    """

    @property
    def encoding(self) -> str:
        """The units that columns are counted in."""
        return str(getattr(self.position_codec.encoding, "value", self.position_codec.encoding))

    @cached_property
    def cut(self) -> Lines:
        """The text in lines."""
        return Lines(self.source)

    def apply_change(self, change: types.TextDocumentContentChangeEvent) -> None:
        """Make one change."""
        if isinstance(change, types.TextDocumentContentChangePartial):
            text, start, end = self.source, self.offset(change.range.start), self.offset(change.range.end)
            self._source = text[:start] + change.text + text[max(start, end) :]
        else:
            self._source = change.text
        self.__dict__.pop("cut", None)

    def offset(self, position: types.Position) -> int:
        """Where in the text a position of the client's is."""
        return self.cut.offset(position.line, position.character, self.encoding)


class Documents(Workspace):
    """The client's workspace with documents of our own kind."""

    def _create_text_document(
        self, doc_uri: str, source: str | None = None, version: int | None = None, language_id: str | None = None
    ) -> Document:
        return Document(
            doc_uri,
            source=source,
            version=version,
            language_id=language_id,
            sync_kind=self._sync_kind,
            position_codec=self.position_codec,
        )
