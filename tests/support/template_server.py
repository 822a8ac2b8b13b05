# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve one file over HTTP, well or badly."""

from __future__ import annotations

import http.server
import threading
import typing as t


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer with the file."""
        owner = t.cast("_Server", self.server).owner
        owner.count += 1
        self.send_response(owner.status)
        if owner.location:
            self.send_header("Location", owner.location)
        self.send_header("Content-Length", str(len(owner.content)))
        self.end_headers()
        self.wfile.write(owner.content[: owner.stops_after])
        self.wfile.flush()
        if owner.stops_after is not None and not owner.breaks:
            owner.over.wait(60)

    def log_message(self, *_unused: t.Any) -> None:
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    owner: TemplateServer


class TemplateServer:
    """A server on loopback; a context manager."""

    def __init__(self) -> None:
        self.content = b""
        self.status = 200
        #: Where clients are sent on to, with a status that says so.
        self.location = ""
        #: So many bytes come, then the connection ends or nothing more happens.
        self.stops_after: int | None = None
        self.breaks = False
        #: Requests so far.
        self.count = 0
        self.over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> t.Self:
        self._thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server; may be called twice."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
