# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out whether the service in a container works, by the check of the request or of the image.

There is no daemon that would run checks all the time: a check runs while a task
waits for ``state=healthy``.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import HealthRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    InvalidSpec,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import HealthCheck

#: Pauses between two checks while somebody waits: short at first, then at most this long.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
#: What a shell answers for a command that could not be run (sh(1), EXIT STATUS).
NOT_RUN = 126
#: As much of a check's output as is kept; Docker keeps the same.
OUTPUT_LIMIT = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """What one run of the check said; ``rc`` None is a check that did not end in time."""

    rc: int | None
    output: str

    @property
    def is_good(self) -> bool:
        """Tell whether the check found the service working."""
        return self.rc == 0

    def plain(self) -> dict[str, t.Any]:
        """Return the result for a module's answer."""
        return {"rc": self.rc, "output": self.output[-OUTPUT_LIMIT:]}


class Unhealthy(WrongState):
    """Report a container whose health check keeps failing, with what it last said."""

    code = "unhealthy"

    def __init__(self, message: str, probe: Probe | None, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.probe = probe

    def details(self) -> dict[str, t.Any]:
        """Return ``error`` and the last result of the check."""
        return {"error": self.code, "health_log": self.probe.plain() if self.probe else None}


def choose_check(asked: HealthRequest, image: HealthCheck | None) -> HealthCheck | None:
    """Return the check to run: the image's with what is asked for laid over it; None if there is none."""
    if asked.disabled:
        return None
    command = asked.command if asked.command is not None else image.command if image else None
    if not command:
        return None
    check = image or HealthCheck(command=command)
    overlay = {
        name: value
        for name in ("interval_s", "timeout_s", "start_period_s", "retries")
        if (value := getattr(asked, name)) is not None
    }
    return dataclasses.replace(check, command=command, **overlay)


def require_check(asked: HealthRequest, image: HealthCheck | None) -> HealthCheck:
    """Return the check to run; raise InvalidSpec when there is none."""
    check = choose_check(asked, image)
    if check is None:
        raise InvalidSpec(
            "health_check",
            "state=healthy needs a check, and neither the task nor the image has one",
            hint="Set health_check.command, or use state=started",
        )
    return check


def run_probe(execute: t.Callable[..., t.Any], check: HealthCheck) -> Probe:
    """Run the check once; ``execute(argv, timeout_s=…)`` returns an object with rc, stdout and stderr."""
    try:
        done = execute(list(check.command), timeout_s=check.timeout_s)
    except CommandTimeout as exc:
        return Probe(None, (exc.stdout + exc.stderr) or f"no answer within {check.timeout_s:g} s")
    except CommandError as exc:
        # Such as when the container is just about to end.
        return Probe(NOT_RUN, str(exc))
    return Probe(done.rc, done.stdout + done.stderr)


def wait_healthy(
    check: HealthCheck,
    probe: t.Callable[[], Probe],
    assert_running: t.Callable[[], None],
    *,
    name: str,
    timeout_s: float,
    age_s: float = 0.0,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> Probe:
    """Check until the service works and return the check's last result.

    A container counts as unhealthy when its check has not succeeded once during the
    start period and as many intervals as it has retries; ``age_s`` is for how long
    it has been running already.  While waiting, checks come more often than the
    interval says, so that a task does not wait longer than the service takes.
    ``assert_running`` raises what there is to say when the container has ended.
    Raises Unhealthy, also after ``timeout_s`` seconds.
    """
    begun = clock()
    patience = max(check.start_period_s - age_s, 0.0) + check.interval_s * check.retries
    pause = _FIRST_PAUSE_S
    while True:
        assert_running()
        result = probe()
        if result.is_good:
            return result
        waited = clock() - begun
        if waited >= patience:
            raise Unhealthy(
                f"container '{name}' is unhealthy: {_said(result)}",
                result,
                hint=f"It failed for {patience:g} s (start period, {check.retries} intervals): see its log",
            )
        if waited >= timeout_s:
            raise Unhealthy(
                f"container '{name}' did not become healthy within {timeout_s:g} s: {_said(result)}",
                result,
                hint="Look at its log, or raise wait_timeout",
            )
        sleep(min(pause, check.interval_s, timeout_s - waited))
        pause = min(pause * 2, _LONGEST_PAUSE_S)


def _said(probe: Probe) -> str:
    outcome = "the check did not end in time" if probe.rc is None else f"the check ended with {probe.rc}"
    output = probe.output.strip()
    return f"{outcome} and said {output[-200:]!r}" if output else outcome
