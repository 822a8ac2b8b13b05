# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the one-time codes against RFC 6238's own vectors."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import totp

DIGITS = b"1234567890" * 7

# RFC 6238, appendix B.
VECTORS = [
    (59, "SHA1", "94287082"),
    (59, "SHA256", "46119246"),
    (59, "SHA512", "90693936"),
    (1111111109, "SHA1", "07081804"),
    (1111111111, "SHA256", "67062674"),
    (1234567890, "SHA512", "93441116"),
    (20000000000, "SHA1", "65353130"),
    (20000000000, "SHA512", "47863826"),
]
KEY_SIZES = {"SHA1": 20, "SHA256": 32, "SHA512": 64}


@pytest.mark.parametrize(("unix_s", "algorithm", "expected"), VECTORS)
def test_code_at_rfc_6238(unix_s, algorithm, expected):
    secret = totp.TotpSecret(DIGITS[: KEY_SIZES[algorithm]], digits=8, algorithm=algorithm)
    assert secret.code_at(unix_s) == expected


def test_code_at_six_digits_are_the_last_of_eight():
    assert totp.TotpSecret(DIGITS[:20]).code_at(59.9) == "287082"


def test_code_at_pads_with_zeros():
    assert totp.TotpSecret(DIGITS[:20]).code_at(1111111109) == "081804"


@pytest.mark.parametrize(("unix_s", "left"), [(0, 30), (29.5, 0.5), (30, 30), (100, 20)])
def test_seconds_left(unix_s, left):
    assert totp.TotpSecret(b"x").seconds_left(unix_s) == left


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("123456", True),
        (" 012345 ", True),
        ("12345678", True),
        ("1234567", False),
        ("GEZDGNBV", False),
        ("", False),
    ],
)
def test_is_code(text, expected):
    assert totp.is_code(text) is expected


@pytest.mark.parametrize(
    "text", ["gezd gnbv gy3t qojq", "GEZDGNBVGY3TQOJQ", "GEZD-GNBV-GY3T-QOJQ", "GEZDGNBVGY3TQOJQ=="]
)
def test_parse_secret_base32_spellings(text):
    assert totp.parse_secret(text) == totp.TotpSecret(b"1234567890")


def test_parse_secret_address():
    secret = base64.b32encode(DIGITS[:32]).decode()
    address = f"otpauth://totp/Proxmox:me@pve?secret={secret}&issuer=x&algorithm=sha256&digits=8&period=60"
    assert totp.parse_secret(address) == totp.TotpSecret(DIGITS[:32], 8, 60, "SHA256")


@pytest.mark.parametrize(
    "text",
    [
        "not base32!",
        "18",
        "",
        "otpauth://hotp/x?secret=GEZDGNBV&counter=1",
        "otpauth://totp/x?secret=GEZDGNBV&algorithm=MD5",
        "otpauth://totp/x?secret=GEZDGNBV&digits=six",
        "otpauth://totp/x?secret=GEZDGNBV&digits=9",
        "otpauth://totp/x?secret=GEZDGNBV&period=0",
        "otpauth://totp/x",
    ],
)
def test_parse_secret_refuses_and_does_not_repeat(text):
    with pytest.raises(InvalidSpec) as caught:
        totp.parse_secret(text)
    assert caught.value.field == "api_totp"
    assert "GEZD" not in str(caught.value)


def test_secret_is_not_in_its_repr():
    assert "12345" not in repr(totp.TotpSecret(b"1234567890"))
