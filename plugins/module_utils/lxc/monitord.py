# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hear from lxc-monitord what becomes of containers.

LXC's monitor process of each container reports its states and, at its end, how its first process
ended.  lxc-monitord passes that on to whoever is connected to its abstract socket, whose name is made of the
directory of the containers (LXC 5.0 and 6.0, monitor.c).  It is the source that Proxmox VE itself uses.

The holder imports this: nothing but the standard library stands here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import typing as t

_MESSAGE: t.Final = struct.Struct("i256si")
MESSAGE_SIZE: t.Final = _MESSAGE.size

#: Kinds of messages.
STATE: t.Final = 0
PRIORITY: t.Final = 1
EXIT_CODE: t.Final = 2

#: Values of states.
STOPPED: t.Final = 0
STARTING: t.Final = 1
RUNNING: t.Final = 2
STOPPING: t.Final = 3


class Message(t.NamedTuple):
    """What lxc-monitord tells: ``value`` is a state, or the wait status of a container's first process."""

    kind: int
    name: str
    value: int


def address(lxc_path: str) -> bytes:
    """Return the abstract address on which lxc-monitord tells of the containers below ``lxc_path``."""
    path = os.fsencode(lxc_path)
    number = 0xCBF29CE484222325
    # FNV-1a of 64 bits.
    for byte in b"lxc/" + path + b"/monitor-sock":
        number = ((number ^ byte) * 0x100000001B3) & ((1 << 64) - 1)
    return (b"\0lxc/%016x/" % number + path)[:107]


def connect(lxc_path: str) -> socket.socket:
    """Return a connection to lxc-monitord; raises OSError when it does not run, or lets nobody in."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # Where it hangs and too many wait already, this would wait for ever.
        connection.setblocking(False)
        connection.connect(address(lxc_path))
        connection.setblocking(True)
    except BaseException:
        connection.close()
        raise
    return connection


def parse(data: bytes) -> Message:
    """Read one message of `MESSAGE_SIZE` bytes; raises ValueError for any other number of them."""
    if len(data) != _MESSAGE.size:
        raise ValueError(f"{len(data)} bytes are no message of lxc-monitord")
    kind, name, value = _MESSAGE.unpack(data)
    return Message(kind, os.fsdecode(name.split(b"\0", 1)[0]), value)


class Reports:
    """What lxc-monitord tells from now on; it may be absent, or go away and come back."""

    def __init__(self, lxc_path: str) -> None:
        self._lxc_path = lxc_path
        self._connection: socket.socket | None = None
        self._data = b""

    def connect(self) -> bool:
        """Connect unless that is done; return whether there is a connection."""
        if self._connection is None:
            with contextlib.suppress(OSError):
                self._connection = connect(self._lxc_path)
                self._connection.setblocking(False)
                self._data = b""
        return self._connection is not None

    def fileno(self) -> int | None:
        """Return what to wait for; None while there is no connection."""
        return None if self._connection is None else self._connection.fileno()

    def read(self) -> list[Message]:
        """Return what has been told meanwhile, without waiting; at its end the connection is given up."""
        while self._connection is not None:
            try:
                data = self._connection.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.close()
                break
            self._data += data
        whole = len(self._data) - len(self._data) % MESSAGE_SIZE
        messages = [parse(self._data[i : i + MESSAGE_SIZE]) for i in range(0, whole, MESSAGE_SIZE)]
        self._data = self._data[whole:]
        return messages

    def close(self) -> None:
        """Listen no more."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
