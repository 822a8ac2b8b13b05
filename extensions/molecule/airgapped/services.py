# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Be what a host without the internet reaches: services.py FOLDER ADDRESS

Serves FOLDER/mirror over HTTP, with FOLDER/http.log of what was asked for, and a registry with TLS and a
login that has one image.  FOLDER/services.json says where, once both answer; a SIGTERM ends them.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import pathlib
import signal
import sys
import threading
import typing as t

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from tests.support import images, registry

USER, PASSWORD = "node", "molecule"  # of this registry, which lives as long as the test


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files and writes down which."""

    log: t.TextIO

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002  # the base class's name
        """Write one line per request."""
        print(format % args, file=self.log, flush=True)


def main() -> None:
    """Serve until a signal comes."""
    folder, address = pathlib.Path(sys.argv[1]), sys.argv[2]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    layout = images.OciLayout(folder / "layout")
    config = {"Cmd": ["/bin/sleep", "3600"], "Env": ["PATH=/bin"]}
    layout.add_image("mirrored", [images.busybox_layer()], config)
    with (
        (folder / "http.log").open("w") as Handler.log,
        registry.Registry(folder / "registry", users={USER: PASSWORD}, tls=True, host=address) as server,
        http.server.ThreadingHTTPServer(
            (address, 0), functools.partial(Handler, directory=str(folder / "mirror"))
        ) as files,
    ):
        threading.Thread(target=files.serve_forever, daemon=True).start()
        server.push(f"oci:{layout.path}:mirrored", "hub/library/app:1")
        told = {
            "pid": os.getpid(),
            "packages": f"http://{address}:{files.server_port}/",
            "registry": server.address,
            "ca": server.ca_file.read_text(),
            "username": USER,
            "password": PASSWORD,
        }
        new = folder / "services.new"
        new.write_text(json.dumps(told))
        new.rename(folder / "services.json")
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        files.shutdown()


if __name__ == "__main__":
    main()
