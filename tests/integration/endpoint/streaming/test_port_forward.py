# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forward ports of a pod with crictl, over both transports."""

from __future__ import annotations

import concurrent.futures
import os
import socket
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.streams import TRANSPORTS, Streams, mirror, serving
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

pytestmark = pytest.mark.host
both = pytest.mark.parametrize("transport", TRANSPORTS)


def mirrored(streams: Streams, port: int, data: bytes) -> bytes:
    """Send data to a port that returns it, and return what comes."""
    with streams.connect(port) as connection, concurrent.futures.ThreadPoolExecutor(1) as pool:

        def send() -> None:
            connection.sendall(data)

        sending = pool.submit(send)
        received = bytearray()
        while len(received) < len(data) and (more := connection.recv(1 << 20)):
            received += more
        sending.result()
        return bytes(received)


@both
def test_connections_are_carried_side_by_side(streams, pod, transport):
    argv = streams.crictl_argv("port-forward", "-r", transport, pod[0], "0:8000")
    with streams.forwarded(argv) as (_process, (port,)):
        blobs = [os.urandom(400_000 + number) for number in range(8)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda blob: mirrored(streams, port, blob), blobs)) == blobs


@both
def test_several_ports_and_both_loopback_addresses_are_reached(streams, pod, transport):
    argv = streams.crictl_argv("port-forward", "-r", transport, pod[0], "0:8000", "0:8006")
    with streams.forwarded(argv) as (_process, ports):
        for port in ports:
            assert mirrored(streams, port, b"x" * 1000) == b"x" * 1000


@both
def test_the_end_of_the_server_s_side_is_passed_on(streams, pod, transport):
    argv = streams.crictl_argv("port-forward", "-r", transport, pod[0], "0:8001")
    with streams.forwarded(argv) as (process, (port,)):
        for _unused in range(20):
            with streams.connect(port) as connection:
                assert connection.makefile("rb").read() == b"hello\n"
        assert process.poll() is None


@both
def test_a_port_where_nobody_listens_is_told(streams, pod, transport):
    argv = streams.crictl_argv("port-forward", "-r", transport, pod[0], "0:9")
    with streams.forwarded(argv) as (process, (port,)):
        with streams.connect(port) as connection:
            assert connection.recv(1) == b""
        # This client ends with the first failure; the next one is served.
        process.wait(20)
        assert b"nothing listens on port 9 of 127.0.0.1 and ::1" in t.cast("t.Any", process.stderr).read()


def test_ports_of_a_host_network_pod_are_the_host_s(streams):
    pod_id = streams.cri.run_pod(streams.endpoint.pod(host_network=True))
    with (
        serving(f"/proc/{streams.host.pid}/ns/net", "127.0.0.1", 8123, mirror),
        streams.forwarded(streams.crictl_argv("port-forward", pod_id, "0:8123")) as (_process, (port,)),
    ):
        assert mirrored(streams, port, b"abc") == b"abc"


def test_a_pod_that_is_stopped_is_told_and_refused(streams):
    pod_id = streams.cri.run_pod(streams.endpoint.pod())
    url = streams.forward_url(pod_id)
    with streams.forwarded(streams.crictl_argv("port-forward", pod_id, "0:80")) as (process, (port,)):
        streams.cri.stop_pod(pod_id)
        with streams.connect(port) as connection:
            assert connection.recv(1) == b""
        process.wait(20)
        assert b"not ready" in t.cast("t.Any", process.stderr).read()
    assert b"409 Conflict" in streams.ask(url)
    with refused("FAILED_PRECONDITION", "not ready"):
        streams.forward_url(pod_id)
    streams.cri.remove_pod(pod_id)
    with refused("NOT_FOUND", pod_id):
        streams.forward_url(pod_id)
    with refused("INVALID_ARGUMENT", "port[0]"):
        streams.forward_url(pod_id, 0)


def test_nothing_stays_open_after_the_client(streams, pod):
    def open_files() -> int:
        return len(os.listdir(f"/proc/{streams.endpoint.pid}/fd"))

    before = open_files()
    held: list[socket.socket] = []
    with streams.forwarded(streams.crictl_argv("port-forward", pod[0], "0:8000")) as (_process, (port,)):
        for _unused in range(200):
            held.append(streams.connect(port))
            held[-1].sendall(b"x")
            assert held[-1].recv(1) == b"x"
        assert open_files() > before + 199
    for connection in held:
        connection.close()
    eventually(lambda: open_files() <= before + 3, what="the end of all connections")
