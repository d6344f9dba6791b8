"""Symptoms: what a page says a program shows when it runs, judged on what the harness saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gradlint.testing.pages import Symptom


class Runtime:
    """A harness process, started with the first program and kept until the ``with`` block ends.

    Needs torch in the running interpreter and ``os.fork``; ask ``available`` first.
    """

    def __init__(self, timeout: float = 60.0) -> None:
        self.timeout = timeout
        self._process: subprocess.Popen[str] | None = None

    @staticmethod
    def available() -> bool:
        """Whether programs can be run here: torch is installed and the system can fork."""
        from importlib.util import find_spec

        return hasattr(os, "fork") and find_spec("torch") is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process:
            self._process.communicate()
            self._process = None

    def observe(self, folder: Path, entry: str, watch: Sequence[str]) -> dict[str, Any]:
        """Run ``folder/entry`` and return the harness's answer. Raises ``RuntimeError`` when the harness itself dies."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gradlint.testing.harness"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        assert self._process.stdin and self._process.stdout
        request = {"folder": str(folder), "entry": entry, "watch": list(watch), "timeout": self.timeout}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the harness ended with status {self._process.wait()}")
        observation: dict[str, Any] = json.loads(answer)
        return observation


def watched(symptoms: Sequence[Symptom]) -> tuple[str, ...]:
    """The names of the objects that the symptoms are about, each once."""
    return tuple(dict.fromkeys(name for symptom in symptoms if symptom.name != "raises" for name in symptom.value.split(",")))


def judge(verdict: str, symptoms: Sequence[Symptom], observation: Mapping[str, Any]) -> tuple[str, ...]:
    """What contradicts the verdict: a bad program shows every symptom and no other error, a good one none at all.

    A good program shows the very opposite: ``no_grad=model`` is refuted by a gradient on *every* trainable parameter of it.
    """
    troubles: list[str] = []
    error = str(observation["error"])
    raising = [symptom for symptom in symptoms if symptom.name == "raises"]
    if verdict == "bad" and raising:
        troubles.extend(
            f"expected an error with {symptom.value!r}, got {error or 'none'}"
            for symptom in raising
            if symptom.value not in error
        )
    elif error:
        troubles.append(f"it fails: {error}\n{observation.get('output', '')}".rstrip())
    if verdict == "bad" and raising and not troubles:
        return ()
    if troubles:
        return tuple(troubles)
    for symptom in symptoms:
        if symptom.name == "raises":
            continue
        for name in symptom.value.split(","):
            seen = observation["objects"][name]
            if seen.get("unknown"):
                troubles.append(f"{name} is not known at module level when the program ends")
                continue
            shown = _shown(symptom.name, seen)
            if shown is not (verdict == "bad"):
                state = {True: "shows", False: "does not show", None: "shows in part"}[shown]
                troubles.append(f"{name} {state} {symptom.name}: {_evidence(symptom.name, seen)}")
    return tuple(troubles)


def _shown(symptom: str, seen: Mapping[str, Any]) -> bool | None:
    """True when the symptom is there, False when its opposite holds, None in between."""
    total, trainable = seen["parameters"], len(seen["trainable"])
    match symptom:
        case "no_grad":
            return _extremes(total > 0 and not seen["with_grad"], 0 < trainable <= len(seen["with_grad"]))
        case "zero_grad":
            return _extremes(bool(seen["with_grad"]) and not seen["nonzero_grad"], bool(seen["nonzero_grad"]))
        case "unchanged":
            return _extremes(seen["watched"] and total > 0 and not seen["changed"], bool(seen["changed"]))
        case "trains":
            return _extremes(bool(seen["changed"]), seen["watched"] and total > 0 and not seen["changed"])
        case "moves":
            return _extremes(bool(seen["moved_frozen"]), total > 0 and not seen["moved_frozen"])
        case "drifts":
            frozen = total > 0 and not trainable
            return _extremes(frozen and bool(seen["changed_buffers"]), frozen and not seen["changed_buffers"])
        case "missing":
            return _extremes(total > 0 and not seen["optimized"], 0 < total == len(seen["optimized"]))
        case "held":
            return _extremes(total > 0 and not trainable and bool(seen["optimized"]), total > 0 and not seen["optimized"])
        case "training":
            return bool(seen["training"])
        case _:
            raise ValueError(f"unknown symptom {symptom}")


def _extremes(shown: bool, opposite: bool) -> bool | None:
    if shown == opposite:
        return None
    return shown


def _evidence(symptom: str, seen: Mapping[str, Any]) -> str:
    keys = {
        "no_grad": ("parameters", "trainable", "with_grad"),
        "zero_grad": ("with_grad", "nonzero_grad"),
        "unchanged": ("parameters", "watched", "changed"),
        "trains": ("parameters", "watched", "changed"),
        "moves": ("parameters", "moved_frozen"),
        "drifts": ("trainable", "buffers", "changed_buffers"),
        "missing": ("parameters", "optimized"),
        "held": ("trainable", "optimized"),
        "training": ("training",),
    }[symptom]
    return ", ".join(f"{key}={seen[key]}" for key in keys)
