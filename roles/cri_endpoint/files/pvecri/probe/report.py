# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a probe has found: as text for people, as one JSON document for programs.

The document's keys do not change; docs/endpoint.md describes them.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from pvecri.probe.health import Health


class Exit(enum.IntEnum):
    """How a probe ends."""

    READY = 0
    NOT_READY = 1
    NO_ANSWER = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One step of a pod's life; ``problem`` is empty when it went well."""

    name: str
    ms: float
    problem: str = ""


@dataclasses.dataclass(slots=True)
class Trial:
    """The life of a pod that was tried; ``steps`` grow."""

    image: str
    steps: list[Step] = dataclasses.field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What went wrong, with the step's name."""
        return [f"{step.name}: {step.problem}" for step in self.steps if step.problem]


@dataclasses.dataclass(slots=True)
class Report:
    """All that a probe has found so far."""

    socket: str
    #: Whether anybody who speaks the CRI answers at all.
    answers: bool = True
    health: Health | None = None
    #: How long it took until the endpoint had answered as it was wanted, or had not.
    ready_ms: float = 0.0
    trial: Trial | None = None
    #: Containers that were to run on.
    expected: int | None = None
    problems: list[str] = dataclasses.field(default_factory=list)
    #: By which the probe was asked to end; 0: by none.
    signal: int = 0

    @property
    def exit_code(self) -> Exit:
        """How the probe ends."""
        if not self.answers:
            return Exit.NO_ANSWER
        return Exit.NOT_READY if self.problems else Exit.READY

    def document(self) -> dict[str, t.Any]:
        """Return everything as plain data."""
        health = self.health
        plain: dict[str, t.Any] = {
            "ok": self.exit_code is Exit.READY,
            "problems": self.problems,
            "socket": self.socket,
            "answers": self.answers,
            "ready_ms": self.ready_ms,
            "runtime": None,
            "conditions": {},
            "running": [],
            "pod": None,
            "expected": self.expected,
        }
        if health is not None:
            plain["runtime"] = {"name": health.runtime, "version": health.version, "api": health.api}
            plain["conditions"] = {
                name: {"status": each.is_true, "reason": each.reason, "message": each.message}
                for name, each in health.conditions.items()
            }
            plain["running"] = [dataclasses.asdict(each) for each in health.running]
        if self.trial is not None:
            plain["pod"] = {
                "ok": not self.trial.problems,
                "image": self.trial.image,
                "steps": [dataclasses.asdict(step) for step in self.trial.steps],
            }
        return plain

    def lines(self) -> t.Iterator[str]:
        """Yield everything as text."""
        health = self.health
        if health is not None:
            said = f"{health.runtime} {health.version}, CRI {health.api}, on {self.socket}"
            yield _line("answers", self.ready_ms, said)
            for name, each in health.conditions.items():
                reason = ": ".join(text for text in (each.reason, each.message) if text)
                yield _line(name, None, "yes" if each.is_true else f"no: {reason}")
            pods = {(each.namespace, each.pod) for each in health.running}
            yield _line("running", None, f"containers: {len(health.running)}, pods: {len(pods)}")
        if self.expected is not None:
            yield _line("expected", None, f"run on: {self.expected}")
        for step in self.trial.steps if self.trial is not None else ():
            yield _line(step.name, step.ms, f"failed: {step.problem}" if step.problem else "done")


def _line(name: str, ms: float | None, text: str) -> str:
    return f"{name:<15} {'' if ms is None else f'{ms:.1f} ms':>11}  {text}"
