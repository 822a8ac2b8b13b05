# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the older files of a log that conmon replaces, and no more of them than asked for.

conmon bounds a log by starting a new file under the old name once it has
written so many bytes; the old file is gone then, unless it has a second name.
So a hidden hard link (``.NAME.held``) is kept on the file being written.  When
the two differ, conmon has begun a new file: the held one becomes ``NAME.1``,
and what was there moves on to ``NAME.2`` and so forth.

This file is also the program of the log keeper (see `keeper`), which is started
from its text alone: it may import nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import struct
import sys

#: The longest record conmon writes: 8 KiB of output, time, stream and tag, and some room.
SIZE_MIN = 16384

_IN_MOVED_TO = 0x80
_IN_DELETE = 0x200
_IN_CLOEXEC = 0x80000
_EVENT = struct.Struct("iIII")


def _held(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.held")


def begin(path: str, max_files: int) -> None:
    """Make room for a new log file, since conmon counts a log's bytes from its own start."""
    settle(path, max_files)
    release(path)
    with contextlib.suppress(FileNotFoundError):
        if os.path.getsize(path):
            _push(path, path, max_files)


def settle(path: str, max_files: int) -> bool:
    """Give the file that conmon has replaced its number; return whether there was one."""
    held = _held(path)
    try:
        os.link(path, held)
    except FileExistsError:
        pass
    except OSError:
        # No log yet, or a file system without hard links: conmon's own bound holds.
        return False
    else:
        return False
    with contextlib.suppress(FileNotFoundError):
        if os.path.samefile(path, held):
            return False
        _push(held, path, max_files)
        os.link(path, held)
        return True
    return False


def release(path: str) -> None:
    """Let go of the file being written."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_held(path))


def _push(source: str, path: str, max_files: int) -> None:
    """Move ``source`` to ``path.1`` and what is in its way one number up.

    Only up to the first free number: after a kill in between nothing moves twice.
    """
    if max_files < 2:
        os.unlink(source)
        return
    free = 1
    while free < max_files - 1 and os.path.exists(f"{path}.{free}"):
        free += 1
    for number in range(free, 1, -1):
        os.rename(f"{path}.{number - 1}", f"{path}.{number}")
    os.rename(source, f"{path}.1")


# ---- the keeper ------------------------------------------------------------------------------------------


class _Watches:
    """inotify(7) on directories: what is moved into them or deleted from them."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.handle: int = self._libc.inotify_init1(_IN_CLOEXEC)
        if self.handle < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._directories: dict[int, str] = {}

    def add(self, directory: str) -> None:
        mask = _IN_MOVED_TO | _IN_DELETE
        number = self._libc.inotify_add_watch(self.handle, os.fsencode(directory), mask)
        if number < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", directory)
        self._directories[number] = directory

    def wait(self) -> set[str]:
        """Sleep until something happens; return the paths, or an empty set when too much did."""
        data = os.read(self.handle, 65536)
        paths = set()
        while data:
            number, _mask, _cookie, length = _EVENT.unpack_from(data)
            name = os.fsdecode(data[_EVENT.size : _EVENT.size + length].rstrip(b"\0"))
            data = data[_EVENT.size + length :]
            if number not in self._directories:
                # The queue has overflown, or a directory is gone.
                return set()
            paths.add(os.path.join(self._directories[number], name))
        return paths


def _active_logs(records: str, exits: str, boot: str) -> dict[str, int]:
    """Return the logs of containers that have not ended, with the number of files of each."""
    logs = {}
    for entry in os.listdir(records):
        if entry.startswith(".") or not entry.endswith(".json"):
            continue
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with open(os.path.join(records, entry), "rb") as stream:
                record = json.load(stream)
            is_over = os.path.exists(os.path.join(exits, str(record["name"])))
            if record["boot_id"] == boot and record["log_size_max"] and not is_over:
                logs[str(record["log_path"])] = int(record["log_max_files"])
    return {path: number for path, number in logs.items() if number > 1}


def _watch_over(records: str, exits: str, boot: str) -> None:
    """Settle logs as conmon replaces them, until no container is left that has one."""
    watches = _Watches()
    try:
        watches.add(records)
        watches.add(exits)
        while logs := _active_logs(records, exits, boot):
            for path in logs:
                with contextlib.suppress(FileNotFoundError):
                    watches.add(os.path.dirname(path))
            for path, number in logs.items():
                settle(path, number)
            # A writer in a hurry replaces a log in milliseconds: look at no other meanwhile.
            while (changed := watches.wait()) and not any(
                os.path.dirname(path) in {records, exits} for path in changed
            ):
                for path in changed & logs.keys():
                    settle(path, logs[path])
    finally:
        os.close(watches.handle)


def keep(records: str, exits: str, lock: str, boot: str) -> None:
    """Be the keeper while there is work, unless another one is."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _watch_over(records, exits, boot)
        fcntl.flock(handle, fcntl.LOCK_UN)
        # A container made since then has seen the lock taken, and relies on us.
        if not _active_logs(records, exits, boot):
            return


def main() -> None:
    """Detach from the caller, tell it the process id, and keep logs."""
    arguments = sys.argv[1:5]
    if os.fork():
        os._exit(0)
    os.setsid()
    os.write(1, b"%d\n" % os.getpid())
    null = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(null, handle)
    os.chdir("/")
    keep(*arguments)


if __name__ == "__main__":
    main()
