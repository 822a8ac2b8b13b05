# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell systemd how the daemon is."""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket

import pytest

from pvecri.daemon import notify


@pytest.mark.parametrize("is_abstract", [False, True])
def test_notify_sends_one_datagram(tmp_path: pathlib.Path, is_abstract: bool) -> None:
    path = f"@pvecri-test-{os.getpid()}" if is_abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + path[1:] if is_abstract else path)
        assert notify.notify("READY=1", "STATUS=serving", environment={"NOTIFY_SOCKET": path})
        assert server.recv(100) == b"READY=1\nSTATUS=serving"


@pytest.mark.parametrize("address", ["", "relative", "/no/such/socket"])
def test_notify_without_systemd_does_nothing(address: str) -> None:
    assert not notify.notify("READY=1", environment={"NOTIFY_SOCKET": address})
    assert not notify.notify("READY=1", environment={})


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_watchdog_interval(environment: dict[str, str], interval: float | None) -> None:
    assert notify.watchdog_interval_s(environment) == interval


def test_keep_watchdog_gives_signs_of_life(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "n")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(path)
        server.settimeout(30)

        async def run() -> None:
            task = asyncio.create_task(notify.keep_watchdog())
            for _unused in range(3):
                assert await asyncio.to_thread(server.recv, 100) == b"WATCHDOG=1"
            task.cancel()

        asyncio.run(run())


def test_keep_watchdog_ends_at_once_when_nobody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    asyncio.run(notify.keep_watchdog())


def test_reloading_says_when() -> None:
    assert notify.reloading()[0] == "RELOADING=1"
    assert int(notify.reloading()[1].removeprefix("MONOTONIC_USEC=")) > 0
