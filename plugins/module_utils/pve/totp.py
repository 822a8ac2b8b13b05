# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compute one-time codes for a second factor (RFC 6238, TOTP)."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
import re
import struct
import urllib.parse

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

_ALGORITHMS = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}


@dataclasses.dataclass(frozen=True, slots=True)
class TotpSecret:
    """A shared secret and the parameters that both sides agreed on."""

    key: bytes = dataclasses.field(repr=False)
    digits: int = 6
    period_s: int = 30
    algorithm: str = "SHA1"

    def code_at(self, unix_s: float) -> str:
        """Return the code that is valid at ``unix_s`` seconds since the epoch."""
        counter = struct.pack(">Q", int(unix_s) // self.period_s)
        digest = hmac.new(self.key, counter, _ALGORITHMS[self.algorithm]).digest()
        # RFC 4226, 5.3: the low half of the last byte says where to cut.
        offset = digest[-1] & 0x0F
        number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
        return f"{number % 10**self.digits:0{self.digits}d}"

    def seconds_left(self, unix_s: float) -> float:
        """Return how long the code of ``unix_s`` stays the current one."""
        return self.period_s - unix_s % self.period_s


def is_code(text: str) -> bool:
    """Say whether ``text`` is a ready one-time code rather than a secret."""
    return re.fullmatch(r"\d{6}|\d{8}", text.strip()) is not None


def parse_secret(text: str, *, field: str = "api_totp") -> TotpSecret:
    """Read a base32 secret, or the ``otpauth://totp/…`` address that Proxmox VE shows.

    Raises InvalidSpec for ``field``, without repeating the value.
    """
    text = text.strip()
    if not text.lower().startswith("otpauth:"):
        return TotpSecret(_base32(text, field))
    address = urllib.parse.urlsplit(text)
    query = {name: values[-1] for name, values in urllib.parse.parse_qs(address.query).items()}
    if address.netloc.lower() != "totp":
        raise InvalidSpec(field, "only otpauth://totp/ addresses can be used, not counter-based ones")
    algorithm = query.get("algorithm", "SHA1").upper()
    if algorithm not in _ALGORITHMS:
        raise InvalidSpec(field, f"algorithm must be one of {', '.join(_ALGORITHMS)}")
    try:
        digits, period_s = int(query.get("digits", "6")), int(query.get("period", "30"))
    except ValueError as exc:
        raise InvalidSpec(field, "digits and period of the address must be whole numbers") from exc
    if not 6 <= digits <= 8 or period_s < 1:
        raise InvalidSpec(field, "the address must have 6 to 8 digits and a period of at least 1 s")
    return TotpSecret(_base32(query.get("secret", ""), field), digits, period_s, algorithm)


def _base32(text: str, field: str) -> bytes:
    compact = re.sub(r"[\s-]", "", text).rstrip("=").upper()
    try:
        key = base64.b32decode(compact + "=" * (-len(compact) % 8))
    except binascii.Error as exc:
        raise InvalidSpec(field, "is neither a 6-digit code nor a base32 secret") from exc
    if not key:
        raise InvalidSpec(field, "the secret is empty")
    return key
