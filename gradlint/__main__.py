"""``python -m gradlint``."""

from __future__ import annotations

import sys

from gradlint.cli import main

sys.exit(main())
