# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how fast data comes through exec and port-forward, with crictl as the client."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import typing as t

from ansible_collections.pvecri.runtime.tests.performance.endpoint_hosts import Contestant
from ansible_collections.pvecri.runtime.tests.performance.report import Unavailable
from ansible_collections.pvecri.runtime.tests.support.cri_client import Cri

SIZE_MIB = 64
_SIZE = SIZE_MIB << 20
_TIMEOUT_S = 60
_PORT = 8080
#: Local ports of port-forward, one for each contestant and transport.
_FIRST_LOCAL_PORT = 18080

#: crictl's names.  containerd before 2.0 has but the first.
TRANSPORTS = ("spdy", "websocket")

#: Says how many seconds it took from the connection until everything had come.
_RECEIVE = """
import socket, sys, time
port, size = map(int, sys.argv[1:])
deadline = time.monotonic() + 20
while True:
    try:
        connection = socket.create_connection(("127.0.0.1", port))
        start = time.perf_counter()
        first = connection.recv(65536)
        if first:
            break
    except OSError:
        pass
    if time.monotonic() > deadline:
        sys.exit("nobody answers")
    time.sleep(0.05)
size -= len(first)
while size > 0:
    got = connection.recv(1 << 20)
    if not got:
        sys.exit("the stream ended early")
    size -= len(got)
print(time.perf_counter() - start)
"""

#: MiB per second by what was done and by contestant; nothing of those who cannot do it.
Speeds = dict[str, dict[str, list[float]]]


def speeds(entered: t.Sequence[Contestant], *, rounds: int, progress: t.Callable[[str], None]) -> Speeds:
    """Return how fast data came through; raises Unavailable without crictl."""
    crictl = os.environ.get("PVECRI_CRICTL") or shutil.which("crictl")
    if not crictl:
        raise Unavailable("streams are measured with crictl, which is not there")
    found: Speeds = {}
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(_Streams(contestant, crictl, _FIRST_LOCAL_PORT + 10 * number))
            for number, contestant in enumerate(entered)
        ]
        for number in range(rounds):
            progress(f"streams: round {number + 1} of {rounds}")
            for one in streams:
                for name, seconds in one.measured():
                    by_name = found.setdefault(name, {})
                    by_name.setdefault(one.contestant.name, []).append(SIZE_MIB / seconds)
    return found


class _Streams:
    """A pod of one contestant from which data come, and the ways to them; a context manager."""

    def __init__(self, contestant: Contestant, crictl: str, local_port: int) -> None:
        self.contestant = contestant
        self._crictl = [crictl, "--runtime-endpoint", f"unix://{contestant.socket}", "--timeout", "30s"]
        self._local_port = local_port
        self._cri = Cri(contestant.socket)
        #: What failed once is not tried again.
        self._failed: set[str] = set()

    def __enter__(self) -> t.Self:
        config = self.contestant.pod()
        self._pod = self._cri.run_pod(config)
        container = self.contestant.container()
        serve = f"while true; do head -c {_SIZE} /dev/zero | nc -l -p {_PORT}; done"
        container.command.extend(["/bin/sh", "-c", serve])
        self._container = self._cri.create(self._pod, container, config)
        self._cri.start(self._container)
        return self

    def __exit__(self, *_unused: object) -> None:
        with self._cri:
            self._cri.stop_pod(self._pod)
            self._cri.remove_pod(self._pod)

    def measured(self) -> t.Iterator[tuple[str, float]]:
        """Yield what was done, and the seconds that it took."""
        for number, transport in enumerate(TRANSPORTS):
            for name, action in (
                (f"exec, from the container, {transport}", self._receive),
                (f"exec, into the container, {transport}", self._send),
                (f"port-forward, from the pod, {transport}", self._forward),
            ):
                if name in self._failed:
                    continue
                try:
                    yield name, action(transport, self._local_port + number)
                except (subprocess.SubprocessError, ValueError):
                    self._failed.add(name)

    def _receive(self, transport: str, _port: int) -> float:
        command = ["head", "-c", str(_SIZE), "/dev/zero"]
        return self._exec(transport, [], command, subprocess.DEVNULL)

    def _send(self, transport: str, _port: int) -> float:
        source = self.contestant.daemon.host.argv(["head", "-c", str(_SIZE), "/dev/zero"])
        with subprocess.Popen(source, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                return self._exec(transport, ["-i"], ["sh", "-c", "cat > /dev/null"], process.stdout)
            finally:
                process.kill()

    def _exec(
        self, transport: str, options: t.Sequence[str], command: t.Sequence[str], stdin: int | t.IO[bytes]
    ) -> float:
        argv = [*self._crictl, "exec", *options, "--transport", transport, self._container, *command]
        start = time.perf_counter()
        self._run(argv, stdin=stdin, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    def _forward(self, transport: str, port: int) -> float:
        argv = [*self._crictl, "port-forward", "--transport", transport, self._pod, f"{port}:{_PORT}"]
        host = self.contestant.daemon.host
        forwarder = subprocess.Popen(
            host.argv(argv), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            client = [sys.executable, "-c", _RECEIVE, str(port), str(_SIZE)]
            return float(self._run(client, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE))
        finally:
            forwarder.kill()
            forwarder.wait()

    def _run(self, argv: t.Sequence[str], **streams: t.Any) -> bytes:
        argv = self.contestant.daemon.host.argv(argv)
        done = subprocess.run(argv, stderr=subprocess.DEVNULL, check=True, timeout=_TIMEOUT_S, **streams)
        return done.stdout or b""
