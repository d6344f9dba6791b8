"""Monitors to use as a library: in a training loop, in a notebook, in a test.

Everything here is offered by ``gradlint.verify`` under its own name, and torch is imported only when it is asked for.
"""
