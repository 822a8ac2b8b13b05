# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Debian's docker-registry on a free port, as a rule of loopback, for as long as a test needs it.

with Registry(tmp_path, users={"joe": "pw"}, tls=True) as registry:
    registry.push("oci:layout:latest", "team/app:1")
    registry.address    # 127.0.0.1:<port>
"""

from __future__ import annotations

import ctypes
import http.client
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import time
import typing as t

PROGRAM = "docker-registry"

_CONFIG = """\
version: 0.1
log:
  level: error
storage:
  filesystem:
    rootdirectory: {root}/data
  delete:
    enabled: true
http:
  addr: {host}:{port}
"""


def is_available() -> bool:
    """Say whether the registry can be run here."""
    return shutil.which(PROGRAM) is not None


class Registry:
    """One registry process; a context manager."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        users: t.Mapping[str, str] | None = None,
        tls: bool = False,
        port: int = 0,
        names: t.Sequence[str] = (),
        host: str = "127.0.0.1",
    ) -> None:
        """Set up; ``port`` 0 is a free one, and ``names`` are further ones for the certificate."""
        self.host = host
        self.root = pathlib.Path(directory)
        self.users = dict(users or {})
        self.tls = tls
        self.port = port
        self.names = list(names)
        #: Certificate that clients must trust, with ``tls``.
        self.ca_file = self.root / "ca.crt"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """``host:port``, the first part of image references."""
        return f"{self.host}:{self.port}"

    def __enter__(self) -> t.Self:
        self.root.mkdir(parents=True, exist_ok=True)
        if self.tls:
            self._make_certificate()
        self.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the registry and wait until it answers; a free port is chosen the first time."""
        for _attempt in range(5):
            port = self.port or _free_port(self.host)
            config = self.root / "config.yml"
            config.write_text(self._config(port))
            with (self.root / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [PROGRAM, "serve", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={"PATH": "/usr/bin:/bin", "OTEL_TRACES_EXPORTER": "none"},
                )
            if self._answers(port):
                self.port = port
                return
            self.stop()
        raise RuntimeError(f"the registry does not start: {(self.root / 'log').read_text()[-500:]}")

    def stop(self) -> None:
        """Stop the process; its data stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def push(self, source: str, name: str, *, everything: bool = False, docker: bool = False) -> str:
        """Copy ``source`` (with transport) to ``name`` and return the digest it has there.

        ``everything`` copies an index with all its images, ``docker`` turns it into Docker's formats.
        """
        user = next(iter(self.users.items()), None)
        digest_file = self.root / "digest"
        subprocess.run(
            [
                "skopeo",
                "copy",
                "--insecure-policy",
                "--dest-tls-verify=false",
                *(["--all"] if everything else []),
                *(["--format=v2s2"] if docker else ["--preserve-digests"] if everything else []),
                *([f"--dest-creds={user[0]}:{user[1]}"] if user else []),
                f"--digestfile={digest_file}",
                source,
                f"docker://{self.address}/{name}",
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        return digest_file.read_text()

    def blob_path(self, digest: str) -> pathlib.Path:
        """Return the file in which the registry keeps a blob, for a test that damages it."""
        algorithm, _unused, value = digest.partition(":")
        return self.root / "data/docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"

    def _config(self, port: int) -> str:
        text = _CONFIG.format(root=self.root, host=self.host, port=port)
        if self.tls:
            text += f"  tls:\n    certificate: {self.ca_file}\n    key: {self.root}/key.pem\n"
        if self.users:
            (self.root / "htpasswd").write_text("".join(_htpasswd(*item) for item in self.users.items()))
            text += f"auth:\n  htpasswd:\n    realm: test\n    path: {self.root}/htpasswd\n"
        return text

    def _make_certificate(self) -> None:
        names = ",".join([f"IP:{self.host}", *(f"DNS:{name}" for name in ("localhost", *self.names))])
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-nodes", "-days", "2", "-subj", "/CN=pvecri test registry"),
                *("-addext", f"subjectAltName={names}"),
                *("-keyout", str(self.root / "key.pem"), "-out", str(self.ca_file)),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )

    def _answers(self, port: int) -> bool:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                return False
            try:
                connection = self._connection(port)
                connection.request("GET", "/v2/")
                connection.getresponse().read()
                connection.close()
                return True
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
        return False

    def _connection(self, port: int) -> http.client.HTTPConnection:
        if self.tls:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            return http.client.HTTPSConnection(self.host, port, timeout=5, context=context)
        return http.client.HTTPConnection(self.host, port, timeout=5)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return t.cast("int", probe.getsockname()[1])


def _htpasswd(user: str, password: str) -> str:
    """Return one line with a bcrypt hash, the only kind the registry reads; libcrypt is always there."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    hashed = crypt(password.encode(), b"$2b$04$" + b"pvecri" + b"." * 16)
    return f"{user}:{hashed.decode()}\n"
