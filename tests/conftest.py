"""Rule pages and fixtures come to the tests as parameters."""

pytest_plugins = ["gradlint.testing.plugin", "pytester"]
