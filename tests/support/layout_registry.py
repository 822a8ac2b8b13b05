# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve an OCI image layout as a registry that does as a test says: waits, stalls, fails or wants a token.

with LayoutRegistry(layout) as registry:
    registry.hold()                  # blobs wait until release()
    registry.stall_after = 1000      # of each bigger blob so many bytes come, and then nothing
    registry.status = 503            # what every request is answered with
    registry.token = "refresh"       # wants a bearer token, for which this refresh token must be given
"""

from __future__ import annotations

import http.server
import json
import pathlib
import socketserver
import threading
import typing as t
import urllib.parse

from ansible_collections.pvecri.runtime.tests.support.images import OciLayout

_ACCESS = "access-token"


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    registry: LayoutRegistry

    def handle_error(self, *_unused: t.Any) -> None:
        """Say nothing of clients that go away: that is what tests make them do."""


class LayoutRegistry:
    """One registry in threads of this process; every repository has the images of the layout."""

    def __init__(self, layout: OciLayout) -> None:
        self.layout = layout
        self.stall_after: int | None = None
        self.status = 0
        self.token = ""
        #: Paths of all requests, and the forms that were sent for a token.
        self.requests: list[str] = []
        self.forms: list[dict[str, str]] = []
        self._open = threading.Event()
        self._open.set()
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.registry = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def address(self) -> str:
        """``host:port``, the first part of image references."""
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> t.Self:
        self._thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._over.set()
        self._open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def hold(self) -> None:
        """Let blobs wait."""
        self._open.clear()

    def release(self) -> None:
        """Let blobs come, and those that stall end."""
        self.stall_after = None
        self._open.set()

    def count(self, part: str) -> int:
        """Return how many requests had ``part`` in their path."""
        return sum(part in path for path in self.requests)

    def wait_blob(self) -> None:
        """Wait until a blob may come."""
        self._open.wait(120)

    def wait_stalled(self) -> None:
        """Wait as long as the registry shall send nothing."""
        while self.stall_after is not None and not self._over.wait(0.02):
            pass

    def find(self, path: str) -> tuple[bytes, str] | None:
        """Return content and media type of what a path of the API names."""
        kind, _unused, name = path.removeprefix("/v2/").partition("/")[2].rpartition("/")
        if kind.endswith("manifests"):
            return self._manifest(name)
        data = self._blob(name)
        return None if data is None else (data, "application/octet-stream")

    def _blob(self, digest: str) -> bytes | None:
        file = self.layout.blob_path(digest)
        return file.read_bytes() if ":" in digest and file.is_file() else None

    def _manifest(self, name: str) -> tuple[bytes, str] | None:
        if ":" not in name:
            index = json.loads(pathlib.Path(self.layout.path, "index.json").read_bytes())
            listed = {
                entry["annotations"]["org.opencontainers.image.ref.name"]: entry
                for entry in index["manifests"]
            }
            if name not in listed:
                return None
            name = listed[name]["digest"]
        data = self._blob(name)
        return None if data is None else (data, json.loads(data)["mediaType"])


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_unused: t.Any) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        """Answer as for GET, without the content."""
        self.do_GET()

    def do_POST(self) -> None:
        """Give an access token for a refresh token (the distribution project's OAuth 2 flow)."""
        registry = self.server.registry
        text = self._body().decode()
        form = {key: values[0] for key, values in urllib.parse.parse_qs(text).items()}
        registry.forms.append(form)
        if form.get("refresh_token") != registry.token:
            self._answer(401, b"{}")
            return
        self._answer(200, json.dumps({"access_token": _ACCESS, "expires_in": 300}).encode())

    def _body(self) -> bytes:
        """Return what the client sent, be it in pieces of a said length or whole."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while length := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def do_GET(self) -> None:
        """Answer the API's version, manifests and blobs."""
        registry = self.server.registry
        registry.requests.append(self.path)
        if registry.status:
            self._answer(registry.status, b"")
            return
        if registry.token and self.headers.get("Authorization") != f"Bearer {_ACCESS}":
            realm = f'Bearer realm="http://{registry.address}/token",service="test"'
            self._answer(401, b"", {"WWW-Authenticate": realm})
            return
        if self.path == "/v2/":
            self._answer(200, b"")
            return
        found = registry.find(self.path)
        if found is None:
            self._answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
            return
        if "/blobs/" in self.path:
            registry.wait_blob()
        data, kind = found
        limit = registry.stall_after
        if limit is not None and len(data) > limit and "/blobs/" in self.path:
            self._begin(200, len(data), {"Content-Type": kind})
            self.wfile.write(data[:limit])
            self.wfile.flush()
            registry.wait_stalled()
            self.close_connection = True
            return
        self._answer(200, data, {"Content-Type": kind})

    def _begin(self, status: int, length: int, headers: t.Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _answer(self, status: int, data: bytes, headers: t.Mapping[str, str] | None = None) -> None:
        self._begin(status, len(data), headers or {})
        if self.command != "HEAD":
            self.wfile.write(data)
