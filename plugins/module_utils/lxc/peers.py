# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Meet the launcher on its socket: tell who has connected, and give it what it needs.

The holder imports this: nothing but the standard library stands here.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import struct
import time
import typing as t

_SO_PEERPIDFD: t.Final = 77

#: Where user and group stand in a block (see `block`).
_BLOCK_USER: t.Final = 16
#: Terminals of /dev/pts (devices.txt of the kernel's documentation).
_PTS_MAJORS: t.Final = range(136, 144)
#: The group of terminals in every distribution that counts.
_TTY_GROUP: t.Final = 5


def listen(path: str, uid: int, gid: int) -> socket.socket:
    """Return a socket on which the launcher is awaited; only ``uid`` and root may connect."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        os.chown(path, uid, gid)
        listener.listen(16)
    except BaseException:
        listener.close()
        raise
    return listener


class Peer(t.NamedTuple):
    """A process that has connected, and that is the one awaited."""

    connection: socket.socket
    pid: int
    pidfd: int


def accept(
    listener: socket.socket,
    uid: int,
    expect: t.Callable[[int], bool],
    *,
    watched: t.Sequence[int] = (),
    timeout_s: float | None = None,
) -> Peer | None:
    """Return the first peer of that user whose process id ``expect`` takes; others are turned away.

    None when time is up, or when one of the ``watched`` descriptors can be read while nobody is waiting.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    poller = select.poll()
    for handle in (listener.fileno(), *watched):
        poller.register(handle, select.POLLIN)
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = {handle for handle, _event in poller.poll(left)}
        if listener.fileno() not in ready:
            return None
        connection, _address = listener.accept()
        try:
            peer = _known(connection, uid, expect)
        except BaseException:
            connection.close()
            raise
        if peer is not None:
            return peer
        connection.close()
        if deadline is not None and time.monotonic() >= deadline:
            return None


def _known(connection: socket.socket, uid: int, expect: t.Callable[[int], bool]) -> Peer | None:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, peer_uid, _gid = struct.unpack("3i", data)
    pidfd = _peer_pidfd(connection, pid)
    if pidfd is None:
        return None
    try:
        # Asked once the pidfd is open: while it lives, its id cannot be another's.
        if pid > 0 and peer_uid == uid and expect(pid) and not is_over(pidfd):
            return Peer(connection, pid, pidfd)
    except BaseException:
        os.close(pidfd)
        raise
    os.close(pidfd)
    return None


def _peer_pidfd(connection: socket.socket, pid: int) -> int | None:
    """Return a pidfd of the process that has connected; before Linux 6.5 of who has its id now."""
    with contextlib.suppress(OSError):
        (handle,) = struct.unpack("i", connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4))
        return int(handle)
    with contextlib.suppress(OSError):
        return os.pidfd_open(pid)
    return None


def give_streams(handles: t.Iterable[int], block: int, uid: int, gid: int) -> None:
    """Let pipes and terminals belong to the user that the block names, which opens them by their paths.

    ``uid`` and ``gid`` are the container's root as the host counts.  Anything else, such as the host's
    /dev/null, is left alone.
    """
    user, group = struct.unpack("<QQ", os.pread(block, 16, _BLOCK_USER))
    for handle in set(handles):
        status = os.fstat(handle)
        if stat.S_ISFIFO(status.st_mode):
            os.fchown(handle, uid + user, gid + group)
        elif stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) in _PTS_MAJORS:
            os.fchown(handle, uid + user, gid + _TTY_GROUP)
            os.fchmod(handle, 0o620)


def is_over(pidfd: int) -> bool:
    """Say whether a process has ended."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def is_first_process(pid: int) -> bool:
    """Say whether a process is the first one of a PID namespace just below ours."""
    with contextlib.suppress(OSError, StopIteration):
        ids = _ids(pid)
        return len(ids) == len(_ids("self")) + 1 and ids[-1] == 1
    return False


def is_in_cgroup(pid: int, group: str) -> bool:
    """Say whether a process is in a cgroup or below it; ``group`` is such as ``/lxc/100``, of any hierarchy.

    It is looked for anywhere in the path, since hosts may be in a cgroup themselves.
    """
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup", "rb") as stream:
        return any(os.fsencode(group) + b"/" in line.rstrip(b"\n") + b"/" for line in stream)
    return False


def _ids(pid: int | str) -> list[int]:
    """Return a process's ids in all namespaces, the innermost last (proc_pid_status(5))."""
    with open(f"/proc/{pid}/status", "rb") as stream:
        line = next(line for line in stream if line.startswith(b"NSpid:"))
    return [int(word) for word in line.split()[1:]]


def pass_on(
    peer: Peer,
    handles: t.Sequence[int],
    block: int,
    *,
    watched: t.Sequence[int] = (),
    timeout_s: float | None = None,
) -> tuple[int, int] | None:
    """Give the launcher streams and block; return (stage, error) where it failed, None where it runs.

    Raises TimeoutError when it does neither in time or a ``watched`` descriptor can be read first, another
    OSError when it is gone.
    """
    socket.send_fds(peer.connection, [b"\0"], [*handles, block])
    poller = select.poll()
    for handle in (peer.connection.fileno(), *watched):
        poller.register(handle, select.POLLIN)
    ready = {handle for handle, _event in poller.poll(None if timeout_s is None else timeout_s * 1000)}
    if peer.connection.fileno() not in ready:
        raise TimeoutError
    data = peer.connection.recv(64)
    if len(data) < 8:
        return None
    stage, number = struct.unpack_from("<II", data)
    return stage, number
