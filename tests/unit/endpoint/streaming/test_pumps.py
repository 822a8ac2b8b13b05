# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What descriptors do that a session of a command does not come across every day."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.channels import channel_pair
from pvecri.streaming.parking import Parking
from pvecri.streaming.pumps import Descriptor, Output

RunLoop = t.Callable[[t.Coroutine[t.Any, t.Any, None]], None]


def broken(*_unused: object) -> t.NoReturn:
    raise OSError(errno.EBADF, "broken")


def test_faults_of_descriptors_are_raised(run_loop: RunLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        reader, writer = os.pipe()
        ours, _theirs = channel_pair()
        with pytest.raises(OSError, match="broken"):
            await Descriptor(writer).write_all(b"x", broken)
        output = Output(reader, ours)
        monkeypatch.setattr(os, "read", broken)
        with pytest.raises(OSError, match="broken"):
            await output.run()
        monkeypatch.undo()
        os.close(reader)
        os.close(writer)

    run_loop(work())


def test_waiting_may_be_stopped_at_any_time(run_loop: RunLoop) -> None:
    async def work() -> None:
        reader, writer = os.pipe()
        descriptor = Descriptor(reader)
        descriptor.stop_waiting()
        waiting = asyncio.create_task(descriptor.readable())
        await asyncio.sleep(0)
        descriptor.stop_waiting()
        descriptor.stop_waiting()
        await waiting
        os.close(reader)
        os.close(writer)

    run_loop(work())


def test_parked_connection_whose_container_ends_at_that_moment_is_not_handed_over(run_loop: RunLoop) -> None:
    async def work() -> None:
        parking = Parking()
        for count in (1, 2):
            pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _number in range(count)]
            for ours, _theirs in pairs:
                ours.setblocking(False)
                parking.park("c", ours)
            await asyncio.sleep(0.01)
            # conmon leaves; the loop has not heard of it, or just has.
            for _ours, theirs in pairs:
                theirs.close()
            for _turn in range(count):
                await asyncio.sleep(0)
            found = await parking.take("c")
            if found is not None:
                found.close()
            await parking.close()
            assert await parking.take("c") is None

    run_loop(work())
