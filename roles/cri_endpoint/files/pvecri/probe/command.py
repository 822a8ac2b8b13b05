# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out ``pvecri probe``."""

from __future__ import annotations

import argparse
import json
import sys
import time

from pvecri.client.client import Client
from pvecri.client.errors import CallFailed, NoEndpoint
from pvecri.config.load import load
from pvecri.probe.health import wait
from pvecri.probe.report import Report


def run(options: argparse.Namespace) -> int:
    """Ask what the options want to know, print it, and return the exit code."""
    report = Report(options.socket or load(options.config).config.server.socket)
    with Client(report.socket) as client:
        _look(client, report, options)
    if options.json:
        print(json.dumps(report.document(), indent=1))
    else:
        print("\n".join(report.lines()), end="\n" if report.health else "")
        for problem in report.problems:
            print(f"error: {problem}", file=sys.stderr)
    return report.exit_code


def _look(client: Client, report: Report, options: argparse.Namespace) -> None:
    begin = time.monotonic()
    try:
        report.health = wait(client, wait_s=options.wait, needs_network=options.network)
        report.problems += report.health.problems(needs_network=options.network)
    except (NoEndpoint, CallFailed) as exc:
        report.problems.append(str(exc))
    report.ready_ms = round((time.monotonic() - begin) * 1000, 1)
