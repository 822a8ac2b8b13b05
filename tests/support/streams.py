# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drive exec, attach and port-forward of an endpoint in its private network, as people and kubelet do."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
import typing as t
import urllib.parse

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.tests.support import kubelet
from ansible_collections.pvecri.runtime.tests.support.crictl import Crictl
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint
from ansible_collections.pvecri.runtime.tests.support.private_host import PrivateHost
from pvecri.api import cri_pb2 as pb

TRANSPORTS = ("spdy", "websocket")
_TIMEOUT_S = 60.0


class Done(t.NamedTuple):
    """How a program ended."""

    code: int
    out: bytes
    err: bytes


class Terminal:
    """A program with a terminal of its own, at which somebody types and looks."""

    def __init__(self, argv: t.Sequence[str], *, columns: int = 80, rows: int = 24) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, rows)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *argv],
            stdin=slave, stdout=slave, stderr=slave, close_fds=True,
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        with contextlib.suppress(OSError):
            os.close(self._master)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def type(self, text: bytes) -> None:
        """Press keys."""
        os.write(self._master, text)

    def resize(self, columns: int, rows: int) -> None:
        """Drag the window's corner."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def see(self, wanted: bytes, timeout_s: float = 20) -> bytes:
        """Wait until something is on the screen, and return what is there up to it; it counts once."""
        deadline = time.monotonic() + timeout_s
        while wanted not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{wanted!r} does not come; there is {self.seen!r}"
            if select.select([self._master], [], [], left)[0]:
                try:
                    self.seen += os.read(self._master, 65536)
                except OSError:
                    assert wanted in self.seen, f"the program ended without {wanted!r}: {self.seen!r}"
        before, _found, self.seen = self.seen.partition(wanted)
        return before

    def wait(self, timeout_s: float = 20) -> int:
        """Return the program's exit code."""
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None and time.monotonic() < deadline:
            if select.select([self._master], [], [], 0.02)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self._master, 65536)
        return self._process.wait(0.1)


class Streams:
    """An endpoint with the programs that ask it for streams."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.cri = endpoint.cri
        self.host: PrivateHost = endpoint.host
        self._crictl = Crictl(endpoint.socket, pathlib.Path(endpoint.top))

    # ---- programs -----------------------------------------------------------------------------------------

    def crictl_argv(self, *arguments: str) -> list[str]:
        """Return the argument list of crictl within the endpoint's network."""
        return self.host.argv(self._crictl.argv(*arguments))

    def kubelet_argv(self, *arguments: str) -> list[str]:
        """Return the argument list of the stand-in for kubelet within the endpoint's network."""
        return self.host.argv([kubelet.PROGRAM, *arguments])

    def crictl(self, *arguments: str, given: bytes = b"", timeout_s: float = _TIMEOUT_S) -> Done:
        """Run crictl to its end."""
        return finish(self.crictl_argv(*arguments), given, timeout_s)

    def kubelet(self, *arguments: str, given: bytes = b"", timeout_s: float = _TIMEOUT_S) -> Done:
        """Run the stand-in to its end."""
        return finish(self.kubelet_argv(*arguments), given, timeout_s)

    @contextlib.contextmanager
    def running(self, argv: t.Sequence[str]) -> t.Iterator[subprocess.Popen[bytes]]:
        """Run a program while the block lasts, with pipes to it."""
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextlib.contextmanager
    def forwarded(self, argv: t.Sequence[str]) -> t.Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
        """Run a program that forwards ports; yield it with the local ports that it names."""
        with self.running(argv) as process:
            assert process.stdout is not None
            ports = []
            for _unused in range(sum(":" in word and word.replace(":", "").isdigit() for word in argv)):
                while b"127.0.0.1:" not in (line := process.stdout.readline()):
                    assert line, f"nothing is forwarded: {process.stderr.read() if process.stderr else b''!r}"
                ports.append(int(line.partition(b"127.0.0.1:")[2].split()[0]))
            yield process, ports

    # ---- the CRI ------------------------------------------------------------------------------------------

    def exec_url(self, container_id: str, *cmd: str, **fields: t.Any) -> str:
        """Return the URL of a command."""
        fields = {"stdout": True, **fields}
        return str(self.cri.call("Exec", pb.ExecRequest(container_id=container_id, cmd=cmd, **fields)).url)

    def attach_url(self, container_id: str, **fields: t.Any) -> str:
        """Return the URL of a container's own streams."""
        fields = {"stdout": True, **fields}
        return str(self.cri.call("Attach", pb.AttachRequest(container_id=container_id, **fields)).url)

    def forward_url(self, pod_id: str, *ports: int) -> str:
        """Return the URL of a pod's ports."""
        request = pb.PortForwardRequest(pod_sandbox_id=pod_id, port=ports)
        return str(self.cri.call("PortForward", request).url)

    # ---- sockets ------------------------------------------------------------------------------------------

    def connect(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        """Return a connection within the endpoint's network."""
        made: list[socket.socket] = []

        def make() -> None:
            with open(f"/proc/{self.host.pid}/ns/net", "rb") as namespace:
                syscalls.setns(namespace.fileno())
            made.append(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        made[0].settimeout(_TIMEOUT_S)
        made[0].connect((host, port))
        return made[0]

    def ask(self, url: str, head: str = "", body: bytes = b"", *, method: str = "GET") -> bytes:
        """Send an HTTP request for a URL, with further lines of its head, and return all of the answer."""
        parts = urllib.parse.urlsplit(url)
        with self.connect(parts.port or 80) as connection:
            request = f"{method} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{head}\r\n".encode() + body
            connection.sendall(request)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while data := connection.recv(65536):
                    answer += data
            return answer


def mirror(connection: socket.socket) -> None:
    """Return what comes, to its end."""
    while data := connection.recv(65536):
        connection.sendall(data)


def greet(connection: socket.socket) -> None:
    """Say hello and leave, whatever comes."""
    connection.sendall(b"hello\n")


@contextlib.contextmanager
def serving(
    namespace: str, host: str, port: int, serve: t.Callable[[socket.socket], None]
) -> t.Iterator[None]:
    """Serve a port in a network namespace, each connection in a thread of its own."""
    made: list[socket.socket] = []

    def listen() -> None:
        with open(namespace, "rb") as handle:
            syscalls.setns(handle.fileno())
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made.append(socket.create_server((host, port), family=family, backlog=300))

    def attend(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection)

    def accept() -> None:
        while True:
            try:
                connection, _peer = made[0].accept()
            except OSError:
                return
            threading.Thread(target=attend, args=(connection,), daemon=True).start()

    for target in (listen, accept):
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        if target is listen:
            thread.join()
    try:
        yield
    finally:
        # A thread that waits in accept is not woken by close alone.
        made[0].shutdown(socket.SHUT_RDWR)
        made[0].close()


def finish(argv: t.Sequence[str], given: bytes = b"", timeout_s: float = _TIMEOUT_S) -> Done:
    """Run a program to its end."""
    done = subprocess.run(argv, input=given, capture_output=True, check=False, timeout=timeout_s)
    return Done(done.returncode, done.stdout, done.stderr)
