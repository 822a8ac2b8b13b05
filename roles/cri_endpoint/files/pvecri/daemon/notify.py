# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell systemd how the daemon is (the protocol of sd_notify(3)); without systemd nothing happens."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import typing as t


def notify(*assignments: str, environment: t.Mapping[str, str] | None = None) -> bool:
    """Send assignments such as ``READY=1``; say whether systemd got them.

    A service manager that is gone or busy is no reason to fail.
    """
    address = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
        client.setblocking(False)
        try:
            client.connect(address)
            client.send("\n".join(assignments).encode())
        except OSError:
            return False
    return True


def reloading() -> tuple[str, ...]:
    """Return what announces a reload; READY=1 ends it."""
    return "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_interval_s(environment: t.Mapping[str, str] | None = None) -> float | None:
    """Return how often systemd wants a sign of life, None when it does not (sd_watchdog_enabled(3))."""
    environment = os.environ if environment is None else environment
    try:
        interval = int(environment["WATCHDOG_USEC"]) / 1e6
        pid = int(environment.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return interval if interval > 0 and pid == os.getpid() else None


async def keep_watchdog() -> None:
    """Send signs of life, twice as often as wanted, as long as the event loop turns."""
    interval = watchdog_interval_s()
    while interval is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval / 2)
