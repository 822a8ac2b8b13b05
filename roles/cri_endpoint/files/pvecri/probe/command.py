# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out ``pvecri probe``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import typing as t

from pvecri.client.client import Client
from pvecri.client.errors import CallFailed, NoEndpoint
from pvecri.config.load import load
from pvecri.probe.health import Health, Running, wait
from pvecri.probe.report import Report
from pvecri.rpc.status import Code


def run(options: argparse.Namespace) -> int:
    """Ask what the options want to know, print it, and return the exit code."""
    report = Report(options.socket or load(options.config).config.server.socket)
    expected: tuple[Running, ...] | None = None
    if options.expect is not None:
        from pvecri.probe.expect import read_expected  # noqa: PLC0415

        expected = read_expected(options.expect)
    with Client(report.socket) as client:
        try:
            health = _look(client, report, options)
            if expected is not None:
                _compare(client, report, expected, health)
            if options.pod and not report.problems:
                _try_pod(client, report, options, health)
        except (NoEndpoint, CallFailed) as exc:
            report.problems.append(str(exc))
            report.answers = isinstance(exc, CallFailed) and exc.status is not Code.DEADLINE_EXCEEDED
    _print(report, is_json=options.json)
    return 128 + report.signal if report.signal else report.exit_code


def _look(client: Client, report: Report, options: argparse.Namespace) -> Health:
    begin = time.monotonic()
    try:
        health = wait(client, wait_s=options.wait, needs_network=options.network)
    finally:
        report.ready_ms = round((time.monotonic() - begin) * 1000, 1)
    report.health = health
    report.problems += health.problems(needs_network=options.network)
    return health


def _compare(client: Client, report: Report, expected: tuple[Running, ...], health: Health) -> None:
    from pvecri.probe.expect import differences  # noqa: PLC0415

    found = differences(client, expected, health.running)
    report.expected = len(expected) - len(found)
    report.problems += found


def _try_pod(client: Client, report: Report, options: argparse.Namespace, health: Health) -> None:
    from pvecri.probe.pod import PodProbe  # noqa: PLC0415

    probe = PodProbe(
        client,
        image=options.image,
        timeout_s=options.timeout,
        has_network=not health.problems(needs_network=True),
    )
    report.trial = probe.trial

    def end(number: int, _frame: t.Any) -> None:
        report.signal = number
        probe.end()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    report.problems += probe.run().problems


def _print(report: Report, *, is_json: bool) -> None:
    if is_json:
        print(json.dumps(report.document(), indent=1))
        return
    for line in report.lines():
        print(line)
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
