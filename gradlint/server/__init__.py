"""The language server: what gradlint finds, shown while people type. Needs pygls, the ``lsp`` extra."""
