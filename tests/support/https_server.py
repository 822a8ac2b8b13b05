# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve scripted answers over HTTPS on loopback: nodes that hang, tickets that expire, odd servers.

def answers(request):
    return Answer(595, "No route to host") if "pve2" in request.path else Answer(data=[])

with running_server(str(tmp_path), answers) as server:
    ...
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import json
import os
import ssl
import threading
import typing as t
import urllib.parse

from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection

HOST = "127.0.0.1"


@dataclasses.dataclass(frozen=True)
class Request:
    """One request; ``path`` is without /api2/json and query, ``form`` holds query and body."""

    method: str
    path: str
    form: dict[str, str]
    headers: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What to answer: ``data`` as the API wraps it, or ``body`` as it stands."""

    status: int = 200
    reason: str = "OK"
    data: t.Any = None
    errors: dict[str, str] | None = None
    message: str | None = None
    body: bytes | None = None
    #: Seconds to wait first; ended early when the server stops.
    delay_s: float = 0.0
    #: Close the connection without a word.
    hang_up: bool = False
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    def payload(self) -> bytes:
        """Return the bytes of the body."""
        if self.body is not None:
            return self.body
        fields = {"data": self.data, "errors": self.errors, "message": self.message}
        return json.dumps({k: v for k, v in fields.items() if k == "data" or v is not None}).encode()


class ScriptedServer:
    """A threading HTTPS server on a free port; remembers its requests."""

    def __init__(self, directory: str, answers: t.Callable[[Request], Answer]) -> None:
        from fakepve.certs import make_cert

        os.makedirs(directory, exist_ok=True)
        self.ca_path, key_path, der = make_cert(directory, hosts=(HOST,))
        self.fingerprint = hashlib.sha256(der).hexdigest()
        self.answers = answers
        self.seen: list[Request] = []
        #: Number of TCP connections that were made.
        self.connections = 0
        self._stopping = threading.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_path, key_path)
        self._server = http.server.ThreadingHTTPServer((HOST, 0), self._handler_class())
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """Return the port that the system chose."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and let delayed answers go."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def connection(self, **changes: t.Any) -> Connection:
        """Return a connection by token; ``changes`` are Connection's fields."""
        fields: dict[str, t.Any] = {
            "host": HOST,
            "port": self.port,
            "user": "ops@pve",
            "token_id": "test",
            "token_secret": "token-secret",
            "ca_path": self.ca_path,
            "task_timeout_s": 30.0,
        }
        return Connection(**{**fields, **changes})

    def client(self, **changes: t.Any) -> PveClient:
        """Return a client; ``changes`` are Connection's fields."""
        return PveClient(self.connection(**changes))

    def _handler_class(self) -> type[http.server.BaseHTTPRequestHandler]:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def handle_any(self) -> None:
                address = urllib.parse.urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                form = dict(urllib.parse.parse_qsl(address.query) + urllib.parse.parse_qsl(body))
                path = urllib.parse.unquote(address.path.removeprefix("/api2/json"))
                request = Request(self.command, path, form, {k.lower(): v for k, v in self.headers.items()})
                outer.seen.append(request)
                answer = outer.answers(request)
                if answer.delay_s:
                    outer._stopping.wait(answer.delay_s)
                if answer.hang_up:
                    self.close_connection = True
                    self.connection.shutdown(2)
                    return
                payload = answer.payload()
                self.send_response(answer.status, answer.reason)
                for name, value in {"Content-Length": str(len(payload)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

            def log_message(self, *_: t.Any) -> None:
                """Keep quiet."""

        return Handler


@contextlib.contextmanager
def running_server(directory: str, answers: t.Callable[[Request], Answer]) -> t.Iterator[ScriptedServer]:
    """Yield a started server and stop it whatever happens."""
    server = ScriptedServer(directory, answers)
    server.start()
    try:
        yield server
    finally:
        server.stop()
