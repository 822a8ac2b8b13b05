# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attach to a container's standard streams through conmon's socket.

The socket keeps packets apart (SOCK_SEQPACKET).  What comes from conmon has the
stream in its first byte, what goes to it is plain input; the end of writing
closes the container's input unless it was created to stay open.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import select
import socket
import struct

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout, WrongState

#: conmon reads packets into a buffer of 32 KiB and loses what does not fit.
PACKET_MAX = 8192

_CONNECT_S = 10


class Stream(enum.IntEnum):
    """First byte of a packet from conmon."""

    STDOUT = 2
    STDERR = 3


def connect(layout: Layout) -> socket.socket:
    """Return a socket that is attached to the container; the caller closes it.

    Raises WrongState when no conmon listens, CommandTimeout when it accepts nobody.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        # A conmon that waits for a slow reader accepts nobody, and its queue is short.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _CONNECT_S, 0))
        connection.connect(layout.attach_socket)
    except BlockingIOError as exc:
        connection.close()
        raise CommandTimeout(
            f"the conmon of container '{layout.name}' let nobody attach within {_CONNECT_S} s",
            hint="Somebody attached may not be reading: try again",
        ) from exc
    except OSError as exc:
        connection.close()
        if exc.errno in {errno.ENOENT, errno.ECONNREFUSED}:
            raise WrongState(
                f"no conmon listens for container '{layout.name}'", hint="Is it created or running?"
            ) from exc
        raise
    return connection


def feed(connection: socket.socket, data: bytes, *, timeout_s: float | None = None) -> None:
    """Write ``data`` to the container's input, close that, and stay attached until conmon leaves.

    Output is read and dropped: conmon waits for a slow reader, and the container for
    conmon.  Staying is needed as well: a conmon that sees both directions closed at once may
    forget to close the container's input.  A container that ends without having
    read everything is fine.  Raises CommandTimeout.
    """
    time_left = procfs.monotonic_deadline(timeout_s)
    rest = memoryview(data)
    connection.setblocking(False)
    poller = select.poll()
    poller.register(connection, select.POLLIN | select.POLLOUT)
    while True:
        left = time_left()
        events = poller.poll(None if left is None else left * 1000)
        if not events:
            raise CommandTimeout(f"the container did not end within {timeout_s:g} s")
        _handle, event = events[0]
        if event & ~select.POLLOUT and _has_left(connection):
            return
        if event & select.POLLOUT:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                rest = rest[connection.send(rest[:PACKET_MAX]) :]
            if not rest:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
                poller.modify(connection, select.POLLIN)


def _has_left(connection: socket.socket) -> bool:
    """Read one packet, if there is one; return whether the other side has closed."""
    try:
        return not connection.recv(PACKET_MAX * 4)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
