# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the secret of an API token in a file that only root reads, and try whether the API still takes it.

The file is a JSON object: ``host``, ``port``, ``user`` (name@realm), ``token_id``,
``secret``, ``ca_path`` and ``fingerprint`` (null where not given).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import http.client
import json
import os
import re
import ssl
import stat
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import files
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import ApiError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection

MODE = 0o600

#: What any login may ask for, and what costs Proxmox VE little.
_TRIAL_PATH = "/api2/json/version"

#: Certificates of a node, by preference of pveproxy.
CUSTOM_CERTIFICATE = "/etc/pve/local/pveproxy-ssl.pem"
CLUSTER_CA = "/etc/pve/pve-root-ca.pem"

#: Fields of `Server` by which the server is known.
PROOFS = frozenset({"ca_path", "fingerprint"})


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """Where who reads the file reaches the API, and how it knows the server."""

    host: str = "localhost"
    port: int = 8006
    ca_path: str | None = None
    #: SHA-256 of the server's certificate, 64 hexadecimal digits.
    fingerprint: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What the file holds."""

    server: Server
    user: str
    token_id: str
    secret: str = dataclasses.field(repr=False)

    def connection(self) -> Connection:
        """Return how the API is reached, with the usual times."""
        server = self.server
        return Connection(
            host=server.host,
            port=server.port,
            user=self.user,
            token_id=self.token_id,
            token_secret=self.secret,
            ca_path=server.ca_path,
            fingerprint=server.fingerprint,
        )

    def as_bytes(self) -> bytes:
        """Return the content of the file."""
        server = dataclasses.asdict(self.server)
        values = {**server, "user": self.user, "token_id": self.token_id, "secret": self.secret}
        return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A file as it was found; ``credentials`` is None when it is missing or unreadable."""

    exists: bool = False
    credentials: Credentials | None = None
    #: Whether it belongs to root and nobody else may read it.
    is_private: bool = False


def read(path: str) -> Found:
    """Return what the file holds; raises OSError for what the host is to blame for."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Found()
    if not stat.S_ISREG(info.st_mode):
        raise InvalidSpec("secret_file", f"'{path}' is there and no regular file", hint="Name another one")
    is_private = stat.S_IMODE(info.st_mode) == MODE and info.st_uid == os.geteuid()
    with files.open_regular(path) as stream:
        content = stream.read(65536)
    return Found(True, _parsed(content), is_private)


def _parsed(content: bytes) -> Credentials | None:
    try:
        values = json.loads(content)
        server = Server(values["host"], int(values["port"]), values.get("ca_path"), values.get("fingerprint"))
        texts = [values[name] for name in ("user", "token_id", "secret")]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    proofs = [proof for proof in (server.ca_path, server.fingerprint) if proof is not None]
    if not all(isinstance(text, str) and text.isprintable() and text for text in (server.host, *texts)):
        return None
    if not all(isinstance(proof, str) for proof in proofs) or not 0 < server.port < 65536:
        return None
    return Credentials(server, *texts)


def write(path: str, credentials: Credentials) -> None:
    """Replace the file, whole or not at all, for root's eyes alone."""
    files.write_atomic(path, credentials.as_bytes(), mode=MODE, durable=True)


def remove(path: str) -> None:
    """Remove the file, and what a killed writer left beside it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    files.remove_temporaries(path)


def server_of_node(given: t.Container[str] = ()) -> Server:
    """Return how a process on this node reaches and knows the API of the node itself.

    A certificate of the administrator's own is pinned, as it may come from anywhere and
    need not name localhost; else the cluster's authority signed the node's certificate.
    Neither is looked for when ``given`` holds one of the `PROOFS`.
    """
    if any(name in given for name in PROOFS):
        return Server()
    if os.path.exists(CUSTOM_CERTIFICATE):
        return Server(fingerprint=fingerprint_of(CUSTOM_CERTIFICATE))
    return Server(ca_path=CLUSTER_CA)


def merged(usual: Server, given: t.Mapping[str, t.Any]) -> Server:
    """Return ``usual`` with what is given; another way to know the server replaces the usual one."""
    if given.keys() & PROOFS:
        usual = dataclasses.replace(usual, ca_path=None, fingerprint=None)
    server = dataclasses.replace(usual, **given)
    pin = re.sub(r"[:\s]", "", server.fingerprint or "").lower()
    if server.fingerprint and not re.fullmatch(r"[0-9a-f]{64}", pin):
        raise InvalidSpec("server.fingerprint", "is not a SHA-256 fingerprint (64 hexadecimal digits)")
    if not 0 < server.port < 65536:
        raise InvalidSpec("server.port", f"{server.port} is no port")
    return dataclasses.replace(server, fingerprint=pin or None)


def fingerprint_of(path: str) -> str:
    """Return the SHA-256 fingerprint of the first certificate of a PEM file; raises InvalidSpec."""
    try:
        with open(path, encoding="ascii") as stream:
            text = stream.read()
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        first = begin + text.split(begin, 1)[1].split(end, 1)[0] + end
        content = ssl.PEM_cert_to_DER_cert(first)
        if not content:
            raise ValueError("it is empty")
        return hashlib.sha256(content).hexdigest()
    except (OSError, ValueError, IndexError) as exc:
        raise InvalidSpec(
            "server.fingerprint",
            f"is not given and '{path}' holds no certificate ({type(exc).__name__})",
            hint="Give server.fingerprint or server.ca_path",
        ) from exc


def is_accepted(credentials: Credentials, *, timeout_s: float = 30.0) -> bool:
    """Ask the API whether it takes the token; False when it refuses it.

    Uses nothing but the standard library, as a node need not have proxmoxer.  Raises
    ApiError when nobody can tell: no connection, another certificate, another answer.
    """
    server = credentials.server
    where = f"{server.host}:{server.port}"
    connection = http.client.HTTPSConnection(
        server.host, server.port, timeout=timeout_s, context=_tls_context(server)
    )
    try:
        connection.connect()
        _check_fingerprint(connection.sock, server, where)
        login = f"PVEAPIToken={credentials.user}!{credentials.token_id}={credentials.secret}"
        connection.request("GET", _TRIAL_PATH, headers={"Authorization": login, "Accept": "application/json"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as exc:
        raise ApiError(
            f"the token of the secret file could not be tried at {where}: {exc or type(exc).__name__}",
            hint="Check that pveproxy runs there, and server.host, server.port, server.ca_path and "
            "server.fingerprint",
        ) from exc
    finally:
        connection.close()
    if status in (200, 403):
        return True
    if status == 401:
        return False
    raise ApiError(
        f"{where} answers the trial of the token with status {status}",
        status=status,
        hint="Check server.host and server.port: something else, or a node in trouble, answers there",
    )


def _tls_context(server: Server) -> ssl.SSLContext:
    try:
        if server.ca_path and os.path.isdir(server.ca_path):
            context = ssl.create_default_context(capath=server.ca_path)
        else:
            context = ssl.create_default_context(cafile=server.ca_path)
    except OSError as exc:
        raise InvalidSpec(
            "server.ca_path", f"'{server.ca_path}' cannot be read: {exc}", hint="Give a PEM file"
        ) from exc
    # Python 3.13 asks for extensions that certificates of Proxmox VE's own authority lack.
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    if server.fingerprint and not server.ca_path:
        # The pin is checked instead, before anything is sent.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _check_fingerprint(sock: t.Any, server: Server, where: str) -> None:
    if server.fingerprint:
        shown = hashlib.sha256(sock.getpeercert(True) or b"").hexdigest()
        if not hmac.compare_digest(shown, server.fingerprint):
            raise ApiError(
                f"{where} shows another certificate than the one pinned by server.fingerprint",
                hint="If it was renewed on purpose, pin the new one; if not, somebody is in between",
            )


def server_of_connection(connection: Connection) -> Server:
    """Return the server of a connection by HTTPS."""
    return Server(connection.host, connection.port, connection.ca_path, connection.fingerprint)
