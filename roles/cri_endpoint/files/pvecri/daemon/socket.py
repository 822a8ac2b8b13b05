# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the endpoint's socket in its place, with the right owner and mode from the first moment on.

The server binds a temporary name in a directory that nobody else may write;
the socket gets its group and mode there and is renamed.  A client finds the old socket, or the
new one that already answers, never none and never one that is open to others.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat
import struct

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, InvalidSpec
from pvecri.config.model import ServerConfig

_DIRECTORY_MODE = 0o711
_CONNECT_TIMEOUT_S = 2.0


class ListenSocket:
    """The socket of one daemon."""

    def __init__(self, config: ServerConfig) -> None:
        self._path = config.socket
        self._mode = config.socket_mode
        self._group = config.socket_group
        self._inode: tuple[int, int] | None = None

    @property
    def temporary(self) -> str:
        """Path that is bound before the socket gets its name."""
        return f"{self._path}.new"

    def prepare(self) -> None:
        """Make the directory and clear the way; raises Conflict when somebody or something is in it."""
        directory = os.path.dirname(self._path)
        if not os.path.isdir(directory):
            os.makedirs(os.path.dirname(directory), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o700)
                os.chmod(directory, _DIRECTORY_MODE)
        self._gid()
        self._refuse_other()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.temporary)

    def publish(self) -> None:
        """Give the bound socket its group, mode and name."""
        os.chown(self.temporary, -1, self._gid())
        os.chmod(self.temporary, self._mode)
        found = os.stat(self.temporary)
        os.rename(self.temporary, self._path)
        self._inode = (found.st_dev, found.st_ino)

    def remove(self) -> None:
        """Remove the socket, unless another daemon's stands in its place by now."""
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._path, follow_symlinks=False)
            if (found.st_dev, found.st_ino) == self._inode:
                os.unlink(self._path)

    def _gid(self) -> int:
        if self._group.isdigit():
            return int(self._group)
        try:
            return grp.getgrnam(self._group).gr_gid
        except KeyError as exc:
            raise InvalidSpec("server.socket_group", f"there is no group '{self._group}'") from exc

    def _refuse_other(self) -> None:
        """Raise Conflict unless the path is free, or a socket on which nobody listens."""
        try:
            mode = os.stat(self._path, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise Conflict(
                f"{self._path} is no socket", hint="Remove it, or set server.socket to another path"
            )
        pid = listener(self._path)
        if pid is not None:
            raise Conflict(
                f"process {pid} already listens on {self._path}",
                hint="Stop it, or set server.socket to another path",
            )


def listener(path: str) -> int | None:
    """Return the process that listens on a socket, None when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        try:
            probe.connect(path)
        except OSError as exc:
            if exc.errno in {errno.ECONNREFUSED, errno.ENOENT}:
                return None
            if not isinstance(exc, BlockingIOError | TimeoutError):
                raise
            return 0  # its queue is full: somebody is there, however busy
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])
