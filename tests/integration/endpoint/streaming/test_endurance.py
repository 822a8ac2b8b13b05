# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What streams meet in real life: much data, many clients, slow ones, vanishing ones, and a restart.

PVECRI_TEST_STREAM_BYTES is how much goes through a command or a connection and comes back; a gibibyte
takes each of these tests ten seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import threading
import time
import typing as t
import urllib.parse

import pytest

from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint
from ansible_collections.pvecri.runtime.tests.support.stream_clients import (
    SPDY_REMOTE,
    Client,
    HttpAnswer,
    SpdyClient,
    WebSocketClient,
    websocket_headers,
)
from ansible_collections.pvecri.runtime.tests.support.streams import TRANSPORTS, Streams, Terminal
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.streaming import spdy_frames as frames

pytestmark = pytest.mark.host

SIZE = int(os.environ.get("PVECRI_TEST_STREAM_BYTES", str(128 << 20)))
BLOCK = os.urandom(1 << 20)
#: The daemon's memory may grow by what the streams' buffers hold, and by what a first use loads.
GROWTH_KIB = 16 << 10

C = t.TypeVar("C", bound=Client)


def resident_kib(endpoint: Endpoint) -> int:
    status = pathlib.Path(f"/proc/{endpoint.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


def descriptors(endpoint: Endpoint) -> list[str]:
    """Return the daemon's open pipes, sockets, terminals and memory files."""
    found = []
    for path in pathlib.Path(f"/proc/{endpoint.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            what = os.readlink(path)
            if what.startswith(("pipe:", "socket:", "/dev/pt", "/memfd:", "anon_inode:[pidfd]")):
                found.append(what)
    return sorted(found)


def files_of_commands(endpoint: Endpoint) -> list[str]:
    return [name for name in os.listdir(f"{endpoint.run_dir}/s/cri") if "." in name]


@pytest.fixture
def idle(streams: Streams, container: str) -> t.Iterator[None]:
    """Want the daemon as it was: its descriptors, its files, its children and the container's processes."""
    endpoint = streams.endpoint
    # The first stream of all opens the port.
    streams.crictl("exec", container, "true")
    processes = _processes(streams, container)
    before = _state(endpoint)
    yield
    eventually(lambda: len(_state(endpoint)[0]) <= len(before[0]), what="the end of all descriptors")
    eventually(lambda: _state(endpoint)[1:] == before[1:], what="the end of all files and children")
    eventually(lambda: _processes(streams, container) == processes, what="the end of all commands")


def _state(endpoint: Endpoint) -> tuple[list[str], list[str], list[int]]:
    helpers = [pid for pid in endpoint.host.processes() if pid != endpoint.pid]
    return descriptors(endpoint), files_of_commands(endpoint), helpers


def _processes(streams: Streams, container: str) -> list[bytes]:
    lines = streams.cri.exec_sync(container, ["ps", "-o", "args"]).stdout.splitlines()
    # Whoever lost its parent is a zombie, since the container's first process reaps nobody.
    return sorted(line for line in lines if not line.startswith((b"ps", b"[")))


# ---- much --------------------------------------------------------------------------------------------------


def come_back(
    endpoint: Endpoint,
    send: t.Callable[[bytes], t.Any],
    end: t.Callable[[], t.Any],
    receive: t.Callable[[int], bytes],
) -> None:
    """Send much, want the same back, and the daemon's memory as it was."""
    before, largest = resident_kib(endpoint), 0
    sent, received = hashlib.sha256(), hashlib.sha256()

    def send_all() -> None:
        for number in range(0, SIZE, len(BLOCK)):
            # No two blocks are alike.
            block = number.to_bytes(8, "big") + BLOCK[8:]
            sent.update(block)
            send(block)
        end()

    sending = threading.Thread(target=send_all)
    sending.start()
    count = 0
    while data := receive(1 << 20):
        received.update(data)
        count += len(data)
        largest = max(largest, resident_kib(endpoint))
    sending.join()
    assert count == SIZE
    assert received.digest() == sent.digest()
    assert largest - before < GROWTH_KIB


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_much_data_goes_in_and_comes_back(
    streams: Streams, container: str, idle: None, transport: str
) -> None:
    argv = streams.crictl_argv("exec", "-i", "-r", transport, container, "cat")
    with streams.running(argv) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        come_back(streams.endpoint, stdin.write, stdin.close, stdout.read)
        assert process.wait(20) == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_much_data_is_forwarded_and_comes_back(
    streams: Streams, pod: tuple[str, str], idle: None, transport: str
) -> None:
    argv = streams.crictl_argv("port-forward", "-r", transport, pod[0], "0:8000")
    with streams.forwarded(argv) as forwarded, streams.connect(forwarded[1][0]) as connection:

        def end() -> None:
            connection.shutdown(socket.SHUT_WR)

        come_back(streams.endpoint, connection.sendall, end, connection.recv)


# ---- slow --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("tty", [False, True])
def test_a_client_that_does_not_read_costs_no_memory(
    streams: Streams, container: str, idle: None, transport: str, tty: bool
) -> None:
    endpoint = streams.endpoint
    before = resident_kib(endpoint)
    with client(streams, transport, container, "echo begun; yes", tty=tty):
        for _look in range(10):
            time.sleep(0.2)
            assert resident_kib(endpoint) - before < GROWTH_KIB
        # The daemon answers meanwhile, and rests.
        assert streams.cri.exec_sync(container, ["true"]).exit_code == 0
        assert _ticks(endpoint.pid, 0.5) < 20


@contextlib.contextmanager
def client(streams: Streams, transport: str, container: str, script: str, *, tty: bool) -> t.Iterator[None]:
    """Run a script that says «begun» first by a crictl that is killed at the end of the block."""
    arguments = ["-r", transport, container, "sh", "-c", script]
    if tty:
        with Terminal(streams.crictl_argv("exec", "-it", *arguments)) as terminal:
            terminal.see(b"begun")
            yield
        return
    with streams.running(streams.crictl_argv("exec", "-i", *arguments)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        yield


def _ticks(pid: int, for_s: float) -> int:
    """Return how much processor time a process uses in some time, in hundredths of a second."""

    def used() -> int:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
        fields = text[text.rindex(")") + 2 :].split()
        return int(fields[11]) + int(fields[12])

    before = used()
    time.sleep(for_s)
    return used() - before


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_that_is_attached_and_does_not_read_does_not_stop_the_container(
    streams: Streams, transport: str
) -> None:
    endpoint = streams.endpoint
    # It begins when it is told to.
    script = "read line; yes 0123456789 | head -n 1000000; echo done; sleep 1000"
    pod, container = endpoint.run_container(["sh", "-c", script], stdin=True, name=f"stall-{transport}")
    log = endpoint.cri.container_status(container).log_path
    argv = streams.crictl_argv("attach", "-i", "-r", transport, container)
    with streams.running(argv) as process:
        assert process.stdin is not None
        before = resident_kib(endpoint)
        process.stdin.write(b"go\n")
        process.stdin.flush()
        eventually(
            lambda: _ends_with(log, b" done\n"), timeout_s=60, what="the end of the container's output"
        )
        assert resident_kib(endpoint) - before < GROWTH_KIB
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read()
        assert b"too" in process.stderr.read()
    assert "too slow" in endpoint.log_text()
    endpoint.cri.stop_pod(pod)
    endpoint.cri.remove_pod(pod)


def _ends_with(path: str, words: bytes) -> bool:
    with open(path, "rb") as stream:
        stream.seek(max(0, os.path.getsize(path) - 100))
        return stream.read().endswith(words)


# ---- many --------------------------------------------------------------------------------------------------


async def connected(streams: Streams, kind: type[C], url: str, headers: t.Sequence[tuple[str, str]]) -> C:
    """Return a client with the connection that its URL is good for."""
    parts = urllib.parse.urlsplit(url)
    connection = await asyncio.to_thread(streams.connect, parts.port or 80)
    connection.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=connection)
    lines = [
        f"GET {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        *(f"{n}: {v}" for n, v in headers),
        "",
        "",
    ]
    writer.write("\r\n".join(lines).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101"), head
    return kind(reader, writer, HttpAnswer(101, {}, ""))


async def by_websocket(streams: Streams, url: str, words: bytes) -> tuple[bytes, bytes]:
    """Send words to a command, wait until all clients have, and return its output and status."""
    client = await connected(streams, WebSocketClient, url, websocket_headers("v5.channel.k8s.io"))
    await client.put(b"\0" + words)
    await client.put(b"\xff\0")
    found = {1: b"", 3: b""}
    while not found[3]:
        message = await client.get()
        if message[0] in found:
            found[message[0]] += message[1:]
    client.writer.close()
    return found[1], found[3]


async def by_spdy(streams: Streams, url: str, words: bytes) -> tuple[bytes, bytes]:
    client = await connected(streams, SpdyClient, url, SPDY_REMOTE)
    ids = {await client.open(streamtype=kind): kind for kind in ("error", "stdin", "stdout")}
    numbers = {kind: number for number, kind in ids.items()}
    await client.put(frames.Data(numbers["stdin"], words, fin=True))
    found = {"stdout": b"", "error": b""}
    open_ = set(found)
    while open_:
        frame = await client.get()
        if isinstance(frame, frames.Data) and ids[frame.stream_id] in found:
            found[ids[frame.stream_id]] += frame.data
            if frame.fin:
                open_.discard(ids[frame.stream_id])
    client.writer.close()
    return found["stdout"], found["error"]


def test_two_hundred_at_once(streams: Streams, container: str, idle: None) -> None:
    count = 200
    endpoint = streams.endpoint
    before = resident_kib(endpoint)
    # All wait for the last one: they are there at the same time.
    wait = f"until [ $(ls /tmp | grep -c many-) = {count} ]; do sleep 0.5; done"
    script = f"cat; touch /tmp/many-$1; {wait}; exit $1"

    async def work() -> list[tuple[bytes, bytes]]:
        async def one(number: int) -> tuple[bytes, bytes]:
            url = await asyncio.to_thread(
                streams.exec_url, container, "sh", "-c", script, "sh", str(number), stdin=True
            )
            by = by_websocket if number % 2 else by_spdy
            return await by(streams, url, b"words of %d" % number)

        async with asyncio.timeout(180):
            return await asyncio.gather(*(one(number) for number in range(count)))

    for number, (out, status) in enumerate(asyncio.run(work())):
        assert out == b"words of %d" % number
        plain = json.loads(status)
        if number:
            assert plain["details"]["causes"] == [{"reason": "ExitCode", "message": str(number)}]
        else:
            assert plain["status"] == "Success"
    assert resident_kib(endpoint) - before < 2 * GROWTH_KIB


# ---- vanishing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize(
    "script", ["sleep 5432; sleep 5432", "yes", "cat >/dev/null", "trap '' HUP; sleep 5432; sleep 5432"]
)
def test_clients_that_are_killed_leave_nothing(
    streams: Streams, container: str, idle: None, transport: str, tty: bool, script: str
) -> None:
    with client(streams, transport, container, f"echo begun; {script}", tty=tty):
        pass


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_clients_that_are_killed_at_any_time_leave_nothing(
    streams: Streams, container: str, idle: None, transport: str
) -> None:
    argv = streams.crictl_argv("exec", "-i", "-r", transport, container, "sleep", "5432")
    for step in range(12):
        with streams.running(argv) as process:
            time.sleep(step * 0.01)
            process.kill()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_attached_clients_that_are_killed_leave_the_container_alone(
    streams: Streams, container: str, idle: None, transport: str
) -> None:
    started = streams.cri.container_status(container).started_at
    for delay_s in (0.0, 0.05, 0.1, 0.2):
        with streams.running(streams.crictl_argv("attach", "-i", "-r", transport, container)) as process:
            time.sleep(delay_s)
            process.kill()
    assert streams.cri.container_status(container).started_at == started


# ---- the daemon goes ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def clients(
    streams: Streams, argvs: t.Iterable[t.Sequence[str]]
) -> t.Iterator[list[subprocess.Popen[bytes]]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(streams.running(argv)) for argv in argvs]


@pytest.mark.parametrize("is_killed", [False, True])
def test_daemon_restarts_under_its_clients(endpoint: Endpoint, streams: Streams, is_killed: bool) -> None:
    script = "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.1; done"
    pod, container = endpoint.run_container(["sh", "-c", script], stdin=True, name=f"ticks-{is_killed}")
    started = endpoint.cri.container_status(container).started_at
    log = pathlib.Path(endpoint.cri.container_status(container).log_path)
    attach = [streams.crictl_argv("attach", "-i", "-r", transport, container) for transport in TRANSPORTS]
    command = ["sh", "-c", "echo tick; sleep 6543; true"]
    run = [
        streams.crictl_argv("exec", "-i", "-r", transport, container, *command) for transport in TRANSPORTS
    ]
    with clients(streams, [*attach, *run]) as processes:
        for process in processes:
            assert process.stdout is not None
            assert b"tick" in process.stdout.readline()
        if is_killed:
            endpoint.kill()
            endpoint.start()
        else:
            assert endpoint.stop() == 0
            endpoint.start()
        for process in processes:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read()
            words = process.stderr.read()
            code = process.wait(20)
            if not is_killed:
                assert code != 0
                assert b"stopping" in words, words
    status = endpoint.cri.container_status(container)
    assert status.started_at == started
    # Its log has every line.
    eventually(lambda: len(log.read_bytes().splitlines()) > 20)
    ticks = [line.rpartition(b" ")[2] for line in log.read_bytes().splitlines()]
    assert ticks == [b"%d" % number for number in range(len(ticks))]
    # The commands are gone, and the next client is served.
    eventually(
        lambda: b"6543" not in endpoint.cri.exec_sync(container, ["ps"]).stdout, what="the commands' end"
    )
    eventually(lambda: files_of_commands(endpoint) == [], what="the end of their files")
    with streams.running(attach[0]) as process:
        assert process.stdout is not None
        assert b"tick" in process.stdout.readline()
    endpoint.cri.stop_pod(pod)
    endpoint.cri.remove_pod(pod)
