# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let one daemon alone have a directory, as long as it lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, WrongState

_NAME = "daemon.lock"
#: Others may pass: a process in a user namespace has to reach its rootfs.
_MODE = 0o711
_PASS = 0o111


@contextlib.contextmanager
def directories_locked(*directories: str) -> t.Iterator[None]:
    """Make directories where they are missing and hold each until the end.

    Raises Conflict with the process id of the daemon that has one.  The kernel lets go of
    the lock when its holder dies, however it dies.
    """
    with contextlib.ExitStack() as held:
        for directory in directories:
            held.callback(os.close, _lock(directory))
        yield


def holder(directory: str) -> int | None:
    """Return the process id of the daemon that has a directory, None when none has."""
    try:
        handle = os.open(os.path.join(directory, _NAME), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(handle)
    finally:
        os.close(handle)
    return None


def _lock(directory: str) -> int:
    try:
        _make(directory)
        path = os.path.join(directory, _NAME)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as exc:
        raise WrongState(
            f"{directory} cannot be used: {exc.strerror}", hint="The endpoint runs as root"
        ) from exc
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _pid(handle)
        os.close(handle)
        raise Conflict(
            f"process {pid} already serves {directory}",
            hint="Stop it, or give this one a paths.state_dir and a paths.run_dir of its own",
        ) from None
    # In place of the last one's, and only for messages: a full disk must not keep the daemon from its start.
    with contextlib.suppress(OSError):
        os.pwrite(handle, f"{os.getpid():<10}\n".encode(), 0)
    return handle


def _make(directory: str) -> None:
    """Make a directory that others may pass, and open one that another program (skopeo, say) made closed."""
    with contextlib.suppress(FileExistsError):
        os.makedirs(directory, _MODE)
    mode = stat.S_IMODE(os.stat(directory).st_mode)
    if mode & _PASS != _PASS:
        os.chmod(directory, mode | _PASS)


def _pid(handle: int) -> int:
    """Return the process id in an open lock file; 0 when its holder has not written it yet."""
    text = os.pread(handle, 32, 0).strip()
    return int(text) if text.isdigit() else 0
