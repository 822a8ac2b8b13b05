# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand in for the part of AWX's API that extensions/awx/load.yml uses.

It is no AWX: objects are what was sent, with a number.  What is AWX's are the paths, the lists with ``count``
and ``results``, the status codes, a token that must be there, and a survey's answer, the survey itself.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import typing as t
import urllib.parse

TOKEN = "token-of-the-test"


class FakeAwx:
    """Objects by kind, and every request that changed one."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, t.Any]]] = {}
        self.surveys: dict[int, t.Any] = {}
        self.credentials: dict[int, list[int]] = {}
        self.changes: list[tuple[str, str]] = []
        self.url = ""

    def add(self, kind: str, **fields: t.Any) -> dict[str, t.Any]:
        """Make an object."""
        number = sum(map(len, self.objects.values())) + 1
        made = {"id": number, **fields}
        self.objects.setdefault(kind, []).append(made)
        return made

    def named(self, kind: str, name: str) -> dict[str, t.Any]:
        """Return the one object of that name."""
        (found,) = (one for one in self.objects.get(kind, []) if one["name"] == name)
        return found

    def answer(self, method: str, path: str, body: t.Any) -> tuple[int, t.Any]:
        """Return status and document for a request."""
        split = urllib.parse.urlsplit(path)
        parts = split.path.removeprefix("/api/v2/").strip("/").split("/")
        if method != "GET":
            self.changes.append((method, split.path))
        match [method, *parts]:
            case ["GET", kind]:
                (name,) = urllib.parse.parse_qs(split.query)["name"]
                found = [one for one in self.objects.get(kind, []) if one["name"] == name]
                return 200, {"count": len(found), "results": found}
            case ["POST", kind]:
                return 201, self.add(kind, **body)
            case ["PATCH", kind, number]:
                (found_one,) = (one for one in self.objects[kind] if one["id"] == int(number))
                found_one.update(body)
                return 200, found_one
            case ["GET", "job_templates", number, "survey_spec"]:
                return 200, self.surveys.get(int(number), {})
            case ["POST", "job_templates", number, "survey_spec"]:
                self.surveys[int(number)] = body
                return 200, {}
            case ["GET", "job_templates", number, "credentials"]:
                return 200, {"results": [{"id": one} for one in self.credentials.get(int(number), [])]}
            case ["POST", "job_templates", number, "credentials"]:
                self.credentials.setdefault(int(number), []).append(int(body["id"]))
                return 204, None
        return 404, {"detail": "Not found."}


@contextlib.contextmanager
def running() -> t.Iterator[FakeAwx]:
    """Serve on a free port of the loopback interface."""
    awx = FakeAwx()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, document = 401, {"detail": "Authentication credentials were not provided."}
            else:
                status, document = awx.answer(self.command, self.path, body)
            data = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = _serve

        def log_message(self, *_unused: t.Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        awx.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield awx
        finally:
            server.shutdown()
