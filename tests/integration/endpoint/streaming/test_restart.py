# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End the daemon under clients that are attached: they hear of it, containers do not."""

from __future__ import annotations

import contextlib
import signal
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.streams import TRANSPORTS, Streams
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

pytestmark = [pytest.mark.host, pytest.mark.parametrize("transport", TRANSPORTS)]

ECHO = "while read line; do echo got $line; done"


@contextlib.contextmanager
def attached(streams: Streams, transport: str) -> t.Iterator[tuple[str, list[t.Any]]]:
    """Run a container and clients of every kind that are in the midst of something; yield them."""
    pod_id, container = streams.endpoint.run_container(["sh", "-c", ECHO], stdin=True)
    with (
        streams.running(streams.crictl_argv("attach", "-i", "-r", transport, container)) as attach,
        streams.running(streams.crictl_argv("exec", "-i", "-r", transport, container, "cat")) as command,
        streams.forwarded(streams.crictl_argv("port-forward", "-r", transport, pod_id, "0:80")) as (
            forward,
            _ports,
        ),
    ):
        for process, expected in ((attach, b"got one\n"), (command, b"one\n")):
            process.stdin.write(b"one\n")
            process.stdin.flush()
            assert process.stdout.readline() == expected
        yield container, [attach, command, forward]


def goes_on(streams: Streams, container: str, transport: str) -> None:
    """Want the container untouched, and attach to it again."""
    assert streams.cri.container_status(container).state == 1
    done = streams.crictl("attach", "-i", "-r", transport, container, given=b"two\n")
    assert (done.code, done.out) == (0, b"got two\n")

    def command_is_gone() -> bool:
        return b"cat" not in streams.cri.exec_sync(container, ["ps", "-o", "comm"]).stdout

    eventually(command_is_gone, what="the end of the command whose client heard of it")


def test_a_stop_tells_clients_and_leaves_containers(streams, transport):
    with attached(streams, transport) as (container, clients):
        assert streams.endpoint.stop() == 0
        said = []
        for process in clients:
            assert process.wait(20) != 0
            said.append(process.stderr.read())
        if transport == "spdy":
            assert b"the endpoint is stopping" in said[0]
            assert b"the endpoint is stopping" in said[1]
        else:
            assert b"the endpoint is stopping" in said[0] or b"1001" in said[0]
        assert b"lost connection to pod" in said[2]
        streams.endpoint.start()
        goes_on(streams, container, transport)


def test_a_killed_daemon_ends_clients_and_leaves_containers(streams, transport):
    with attached(streams, transport) as (container, clients):
        streams.endpoint.kill()
        for process in clients:
            process.wait(20)
        streams.endpoint.start()
        goes_on(streams, container, transport)


def test_a_stop_does_not_wait_for_clients_that_do_not_listen(streams, transport):
    _pod_id, container = streams.endpoint.run_container(["sleep", "1000"])
    argv = streams.crictl_argv("exec", "-r", transport, container, "sh", "-c", "while :; do echo y; done")
    with streams.running(argv) as process:
        assert process.stdout.readline() == b"y\n"
        process.send_signal(signal.SIGSTOP)
        assert streams.endpoint.stop() == 0
        process.send_signal(signal.SIGKILL)
    streams.endpoint.start()

    def command_is_gone() -> bool:
        return b"echo y" not in streams.cri.exec_sync(container, ["ps", "-o", "args"]).stdout

    eventually(command_is_gone, what="the end of the command")
