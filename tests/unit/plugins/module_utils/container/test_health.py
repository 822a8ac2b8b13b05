# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.container import health
from ansible_collections.pvecri.runtime.plugins.module_utils.container.health import Probe, Unhealthy
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import HealthRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import HealthCheck

IMAGE = HealthCheck(command=("image-check",), interval_s=5.0, timeout_s=6.0, start_period_s=7.0, retries=8)


@pytest.mark.parametrize(
    ("asked", "image", "check"),
    [
        (HealthRequest(), None, None),
        (HealthRequest(), IMAGE, IMAGE),
        (HealthRequest(disabled=True), IMAGE, None),
        (HealthRequest(disabled=True, command=("x",)), None, None),
        (HealthRequest(command=("x",)), None, HealthCheck(command=("x",))),
        (HealthRequest(retries=1), None, None),
        (HealthRequest(command=()), IMAGE, None),
        (
            HealthRequest(command=("x",), interval_s=1.0),
            IMAGE,
            HealthCheck(command=("x",), interval_s=1.0, timeout_s=6.0, start_period_s=7.0, retries=8),
        ),
        (
            HealthRequest(timeout_s=1.0, start_period_s=0.0, retries=2),
            IMAGE,
            HealthCheck(command=("image-check",), interval_s=5.0, timeout_s=1.0, retries=2),
        ),
    ],
)
def test_choose_check(asked, image, check):
    assert health.choose_check(asked, image) == check


@pytest.mark.parametrize(
    ("answer", "probe"),
    [
        (Completed([], 0, "ok\n", ""), Probe(0, "ok\n")),
        (Completed([], 1, "out ", "err"), Probe(1, "out err")),
        (CommandTimeout("late", stdout="half"), Probe(None, "half")),
        (CommandTimeout("late"), Probe(None, "no answer within 6 s")),
        (CommandError("crun failed"), Probe(126, "crun failed")),
    ],
)
def test_run_probe(answer, probe):
    calls = []

    def execute(argv, *, timeout_s):
        calls.append((argv, timeout_s))
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert health.run_probe(execute, IMAGE) == probe
    assert calls == [(["image-check"], 6.0)]


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self):
        self.now = 100.0
        self.pauses = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


def wait(answers, check=IMAGE, **options):
    clock = Clock()
    given = iter(answers)

    def probe():
        return next(given, Probe(1, "still no\n"))

    options = {"timeout_s": 300.0, "name": "web", **options}
    result = health.wait_healthy(check, probe, lambda: None, clock=clock, sleep=clock.sleep, **options)
    return result, clock


def test_wait_healthy_at_once():
    result, clock = wait([Probe(0, "fine")])
    assert result == Probe(0, "fine")
    assert clock.pauses == []


def test_wait_healthy_checks_sooner_than_the_interval_says():
    result, clock = wait([Probe(1, "")] * 7 + [Probe(0, "up")])
    assert result.is_good
    assert clock.pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])


def test_wait_healthy_never_checks_less_often_than_the_interval_says():
    _result, clock = wait([Probe(1, "")] * 3 + [Probe(0, "")], HealthCheck(command=("c",), interval_s=0.15))
    assert clock.pauses == pytest.approx([0.1, 0.15, 0.15])


@pytest.mark.parametrize(("age", "waited"), [(0.0, 47.0), (5.0, 42.0), (70.0, 40.0)])
def test_wait_healthy_gives_up_after_start_period_and_retries(age, waited):
    with pytest.raises(
        Unhealthy, match=r"'web' is unhealthy: the check ended with 1 and said 'still no'"
    ) as caught:
        wait([], age_s=age)
    assert f"{waited:g} s" in str(caught.value)
    assert caught.value.details() == {"error": "unhealthy", "health_log": {"rc": 1, "output": "still no\n"}}


def test_wait_healthy_time_limit():
    with pytest.raises(
        Unhealthy, match=r"did not become healthy within 3 s: the check did not end in time\. Look at its log"
    ) as caught:
        wait([Probe(None, "")] * 99, timeout_s=3.0)
    assert caught.value.hint


def test_wait_healthy_never_sleeps_beyond_the_limit():
    clock = Clock()
    with pytest.raises(Unhealthy):
        health.wait_healthy(
            IMAGE, lambda: Probe(1, ""), lambda: None, name="w", timeout_s=1.0, clock=clock, sleep=clock.sleep
        )
    assert clock.now == pytest.approx(101.0)


def test_wait_healthy_stops_when_the_container_has_ended():
    def ended():
        raise WrongState("container 'web' ended with 3")

    with pytest.raises(WrongState, match="ended with 3"):
        health.wait_healthy(IMAGE, lambda: Probe(1, ""), ended, name="web", timeout_s=9.0)


def test_probe_keeps_the_end_of_long_output():
    assert Probe(1, "x" * 9000 + "end").plain()["output"].endswith("xend")
    assert len(Probe(1, "x" * 9000).plain()["output"]) == health.OUTPUT_LIMIT
    assert Unhealthy("m", None).details() == {"error": "unhealthy", "health_log": None}
