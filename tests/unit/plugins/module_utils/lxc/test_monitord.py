# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports of lxc-monitord, from a socket of its name."""

from __future__ import annotations

import pathlib
import secrets
import socket
import struct

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import monitord
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.monitord import Message


def _bytes(kind: int, name: bytes, value: int) -> bytes:
    return struct.pack("i256si", kind, name, value)


def test_address_is_what_lxc_makes_of_the_directory() -> None:
    # As lxc-monitord 5.0.2 binds it.
    assert monitord.address("/var/lib/lxc") == b"\0lxc/ad055575fe28ddd5//var/lib/lxc"
    assert len(monitord.address("/x" * 100)) == 107


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_bytes(2, b"100001", 42 << 8), Message(monitord.EXIT_CODE, "100001", 42 << 8)),
        (_bytes(0, b"100001\0rest", 3), Message(monitord.STATE, "100001", monitord.STOPPING)),
        (_bytes(1, b"x" * 256, -1), Message(monitord.PRIORITY, "x" * 256, -1)),
    ],
    ids=["exit", "state", "longest-name"],
)
def test_parse_reads_a_message(data: bytes, message: Message) -> None:
    assert monitord.parse(data) == message


@pytest.mark.parametrize("size", [0, 263, 265])
def test_parse_refuses_what_is_no_message(size: int) -> None:
    with pytest.raises(ValueError, match=f"^{size} bytes"):
        monitord.parse(bytes(size))


def test_reports_come_whole_and_in_order(tmp_path: pathlib.Path) -> None:
    lxc_path = f"{tmp_path}/{secrets.token_hex(4)}"[-80:]
    reports = monitord.Reports(lxc_path)
    assert not reports.connect()
    assert reports.fileno() is None
    assert reports.read() == []
    first, second = _bytes(0, b"1", 1), _bytes(2, b"2", 256)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(monitord.address(lxc_path))
        listener.listen(1)
        assert reports.connect()
        assert reports.connect()
        peer, _address = listener.accept()
        with peer:
            assert reports.read() == []
            peer.sendall(first + second[:100])
            assert reports.read() == [Message(0, "1", 1)]
            peer.sendall(second[100:] + first)
            assert reports.read() == [Message(2, "2", 256), Message(0, "1", 1)]
            peer.sendall(second + first[:9])
        assert reports.read() == [Message(2, "2", 256)]
        assert reports.fileno() is None
        # What was cut off is not put before what a new connection tells.
        assert reports.connect()
        peer, _address = listener.accept()
        with peer:
            peer.sendall(second)
            assert reports.read() == [Message(2, "2", 256)]
        reports.close()
        reports.close()


def test_reports_do_without_who_lets_nobody_in(tmp_path: pathlib.Path) -> None:
    lxc_path = f"{tmp_path}/{secrets.token_hex(4)}"[-80:]
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(monitord.address(lxc_path))
        hanging.listen(0)
        with monitord.connect(lxc_path) as waiting:
            assert waiting.getblocking()
            reports = monitord.Reports(lxc_path)
            assert not reports.connect()
