# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move logs away, pack and remove them, under the names that kubelet gives them.

    app.log                          what conmon writes
    app.log.20260102-150405          moved away last, still plain: who follows the log may still read it
    app.log.20260101-150405.gz       older ones

A log may lie where a container can write: nothing here follows a link, or touches what is no plain file.
"""

from __future__ import annotations

import calendar
import errno
import fcntl
import gzip
import os
import re
import shutil
import stat
import time

from ansible_collections.pvecri.runtime.plugins.module_utils.files import sync_directory

_TIME = "%Y%m%d-%H%M%S"
_TIME_LENGTH = len("20260102-150405")
_PACKED = ".gz"
_UNFINISHED = ".tmp"
_NAME = re.compile(r"(?P<time>\d{8}-\d{6})(?P<kind>|\.gz|\.gz\.tmp)")
#: Of files that have no mode of their own yet: what conmon gives a log.
_MODE = 0o640


class LogFiles:
    """A container's log, and what was moved away of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._directory, self._name = os.path.split(path)

    def size(self) -> int | None:
        """Return the log's size in bytes; None when there is no such file, or it is no plain one."""
        return _size(self.path)

    def is_missing(self) -> bool:
        """Say whether the log has no file although its directory is there."""
        return not os.path.lexists(self.path) and os.path.isdir(self._directory)

    def moved(self) -> list[str]:
        """Return the paths of what was moved away, the oldest first, each once."""
        return sorted({path for path, kind in self._found() if kind in {"", _PACKED}})

    def tidy(self) -> None:
        """Remove what a killed run left: files half packed, and plain ones that are packed as well."""
        found = self._found()
        packed = {path.removesuffix(_PACKED) for path, kind in found if kind == _PACKED}
        for path, kind in found:
            if kind == _PACKED + _UNFINISHED or (not kind and path in packed):
                os.unlink(path)

    def remove_excess(self, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` that were moved away; return what went."""
        moved = self.moved()
        excess = moved[: max(0, len(moved) - keep)]
        for path in excess:
            os.unlink(path)
        return excess

    def pack(self, but: str = "") -> None:
        """Pack what was moved away, ``but`` for one, and for files to which somebody still writes."""
        for path in self.moved():
            if path != but and not path.endswith(_PACKED) and not has_writer(path):
                _pack(path)

    def move(self) -> str:
        """Give the log the name of one that was moved away, which is new, and return that."""
        target = self._target(time.time())
        # What was moved away before sorts before it, also when the clock was set back.
        newest = max((path.removesuffix(_PACKED) for path in self.moved()), default="")
        if newest >= target:
            target = self._target((_seconds(newest[-_TIME_LENGTH:]) or 0) + 1)
        os.rename(self.path, target)
        return target

    def _target(self, seconds: float) -> str:
        return f"{self.path}.{time.strftime(_TIME, time.gmtime(seconds))}"

    def move_back(self, moved: str) -> bool:
        """Give a file that was moved away its name again, unless there is a new log by now."""
        try:
            # Unlike rename(2) this replaces nothing.
            os.link(moved, self.path, follow_symlinks=False)
        except FileExistsError:
            return False
        os.unlink(moved)
        return True

    def _found(self) -> list[tuple[str, str]]:
        """Return the paths of all files beside the log that a rotation has made, and their kinds."""
        prefix = f"{self._name}."
        found = []
        for name in os.listdir(self._directory):
            match = _NAME.fullmatch(name.removeprefix(prefix)) if name.startswith(prefix) else None
            path = os.path.join(self._directory, name)
            if match is not None and _seconds(match["time"]) is not None and _size(path) is not None:
                found.append((path, match["kind"]))
        return found


def has_writer(path: str) -> bool:
    """Say whether a process has a file open for writing (fcntl(2), «Leases»); no where nobody can tell."""
    handle = _open(path)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _seconds(text: str) -> int | None:
    """Return the time in a name, in seconds since the epoch; None for one that there is not."""
    try:
        return calendar.timegm(time.strptime(text, _TIME))
    except ValueError:
        return None


def _open(path: str) -> int:
    """Open a plain file; raises OSError for what somebody may have put in its place since it was seen."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no regular file", path)
    return handle


def _size(path: str) -> int | None:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _pack(path: str) -> None:
    """Replace a file by its packed content, which is on the disk before the file goes."""
    unfinished = path + _PACKED + _UNFINISHED
    with os.fdopen(_open(path), "rb") as source:
        status = os.fstat(source.fileno())
        handle = os.open(
            unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE
        )
        with os.fdopen(handle, "wb") as target:
            os.fchown(target.fileno(), status.st_uid, status.st_gid)
            os.fchmod(target.fileno(), stat.S_IMODE(status.st_mode))
            with gzip.GzipFile(filename="", mode="wb", fileobj=target) as packed:
                shutil.copyfileobj(source, packed)
            target.flush()
            os.fsync(target.fileno())
    os.rename(unfinished, path + _PACKED)
    sync_directory(os.path.dirname(path))
    os.unlink(path)
