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
class Report:
    """All that a probe has found so far."""

    socket: str
    health: Health | None = None
    #: How long it took until the endpoint had answered as it was wanted, or had not.
    ready_ms: float = 0.0
    image: str = ""
    steps: list[Step] | None = None
    expected: int | None = None
    problems: list[str] = dataclasses.field(default_factory=list)

    @property
    def exit_code(self) -> Exit:
        """How the probe ends."""
        if self.health is None:
            return Exit.NO_ANSWER
        return Exit.NOT_READY if self.problems else Exit.READY

    def document(self) -> dict[str, t.Any]:
        """Return everything as plain data."""
        health = self.health
        plain: dict[str, t.Any] = {
            "ok": self.exit_code is Exit.READY,
            "problems": self.problems,
            "socket": self.socket,
            "answers": health is not None,
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
        if self.steps is not None:
            plain["pod"] = {
                "ok": not any(step.problem for step in self.steps),
                "image": self.image,
                "steps": [dataclasses.asdict(step) for step in self.steps],
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
            yield _line("running", None, f"{len(health.running)} containers in {len(pods)} pods")
        for step in self.steps or ():
            yield _line(step.name, step.ms, step.problem or "done")
        if self.expected is not None and not self.problems:
            yield _line("expected", None, f"all {self.expected} containers run on")


def _line(name: str, ms: float | None, text: str) -> str:
    return f"{name:<14} {'' if ms is None else f'{ms:.1f} ms':>11}  {text}"
