# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make what a TLS listener needs of the files that the configuration names."""

from __future__ import annotations

import os
import ssl

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.config.model import StreamingConfig


class Tls:
    """The server's side of TLS: its certificate is read again when its files have changed."""

    def __init__(self, config: StreamingConfig) -> None:
        """Read the files; raises InvalidSpec."""
        self._config = config
        self._seen = self._state()
        self.context = _context(config)

    def refresh(self) -> None:
        """Take over renewed files for the connections to come; raises InvalidSpec, once for each change."""
        seen = self._state()
        if seen != self._seen:
            self._seen = seen
            self.context = _context(self._config)

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(
            _stamp(path)
            for path in (self._config.tls_cert, self._config.tls_key, self._config.tls_client_ca)
            if path
        )


def _context(config: StreamingConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # HTTP/2 has no upgrades.
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as exc:
        files = f"{config.tls_cert} and {config.tls_key}"
        raise InvalidSpec("streaming.tls_cert", f"{files} are no certificate and its key: {exc}") from exc
    if config.tls_client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(config.tls_client_ca)
        except (OSError, ssl.SSLError) as exc:
            problem = f"{config.tls_client_ca} has no certificates: {exc}"
            raise InvalidSpec("streaming.tls_client_ca", problem) from exc
    return context


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
