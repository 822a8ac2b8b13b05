# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make an authority, and certificates of servers and clients, with openssl."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Files of a certificate and its key."""

    cert: str
    key: str


class Authority:
    """An authority below a directory."""

    def __init__(self, directory: pathlib.Path, name: str = "authority") -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._own = self._files(name)
        # Python 3.13 trusts no authority that does not say what its key is for (RFC 5280, section 4.2.1.3).
        extensions = (
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        self._openssl("req", "-x509", *self._key(self._own), "-subj", f"/CN={name}", *extensions)

    @property
    def ca(self) -> str:
        """File with the authority's certificate."""
        return self._own.cert

    def server(self, name: str, *hosts: str) -> Certificate:
        """Return a certificate for addresses (``IP:127.0.0.1``) and names (``DNS:node``)."""
        return self._signed(name, f"subjectAltName={','.join(hosts)}\nextendedKeyUsage=serverAuth\n")

    def client(self, name: str) -> Certificate:
        """Return a certificate for a client."""
        return self._signed(name, "extendedKeyUsage=clientAuth\n")

    def _signed(self, name: str, extensions: str) -> Certificate:
        files = self._files(name)
        request, more = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        more.write_text(extensions)
        self._openssl("req", "-new", *self._key(files)[:-4], "-out", str(request), "-subj", f"/CN={name}")
        signer = ("-CA", self._own.cert, "-CAkey", self._own.key, "-CAcreateserial")
        self._openssl(
            "x509",
            "-req",
            "-in",
            str(request),
            *signer,
            "-days",
            "2",
            "-extfile",
            str(more),
            "-out",
            files.cert,
        )
        return files

    def _files(self, name: str) -> Certificate:
        return Certificate(str(self._directory / f"{name}.pem"), str(self._directory / f"{name}.key"))

    @staticmethod
    def _key(files: Certificate) -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", files.key)
        return (*curve, "-days", "2", "-out", files.cert)

    @staticmethod
    def _openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, stdin=subprocess.DEVNULL)
