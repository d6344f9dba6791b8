"""The concrete syntax of flagged files: parsing, positions, edits. The only home of LibCST beside the rules."""
