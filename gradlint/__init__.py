"""gradlint tells people why their network does not learn."""

__version__ = "0.1.0"
