# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write files that are whole or absent, lock objects against other writers, and name the host's trouble."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import tempfile
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, CoreError

_LOCK_POLL_S = 0.02

#: What is wrong with the host, not with us.
_HOST_TROUBLE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EACCES,
        errno.EPERM,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    }
)


def host_trouble(exc: OSError, what: str = "") -> CoreError | None:
    """Return what to raise, about ``what``, when the host is to blame for ``exc``; None for a defect."""
    if exc.errno not in _HOST_TROUBLE:
        return None
    place = exc.filename or "a file"
    return CoreError(
        f"{what}{': ' if what else ''}{exc.strerror}: {place}",
        hint="Mend that and run the task again; it goes on where this one stopped",
    )


def write_atomic(path: str, data: bytes, *, mode: int = 0o644, durable: bool = False) -> None:
    """Replace ``path`` by ``data``: a reader sees the old content or the new, never a part.

    ``durable`` also syncs file and directory, for what must survive a power cut.
    """
    directory = os.path.dirname(path) or "."
    handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            os.fchmod(stream.fileno(), mode)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        sync_directory(directory)


def link_atomic(path: str, target: str, *, owner: tuple[int, int] = (-1, -1)) -> None:
    """Make ``path`` a link to ``target``: who follows it gets the old one or the new, after a power cut too.

    ``owner`` is user and group, -1 for who makes it.
    """
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.lchown(temporary, *owner)
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path) or ".")


def memory_file(name: str, content: bytes) -> int:
    """Return a file in memory with this content; the caller closes it."""
    handle = os.memfd_create(f"pvecri-{name}")
    try:
        with open(handle, "wb", closefd=False) as stream:
            stream.write(content)
    except BaseException:
        os.close(handle)
        raise
    return handle


def record_names(directory: str) -> list[str]:
    """Return the names of all objects that have a file ``NAME.json`` in a directory, sorted."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(
            entry.removesuffix(".json")
            for entry in os.listdir(directory)
            if entry.endswith(".json") and not entry.startswith(".")
        )
    return []


def open_regular(path: str) -> t.BinaryIO:
    """Open a file that anybody may have made, for reading; raises OSError at once for a pipe or a device."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def remove_temporaries(path: str) -> None:
    """Remove what killed processes left of writing ``path`` by `write_atomic`.

    The caller knows that nobody writes the file now.
    """
    directory, name = os.path.split(path)
    prefix = f".{name}."
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir(directory or "."):
            suffix = entry.removeprefix(prefix)
            # Only names that mkstemp(3) gives: a file of a longer name has its own temporaries.
            if entry.startswith(prefix) and suffix.replace("_", "a").isalnum():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(directory, entry))


def remove_tree(path: str) -> None:
    """Remove a directory with all that is in it, however deep that is.

    A container can make directories deeper than any recursion or the number of open
    files allows: what lies deeper is moved up.  Neither that nor rmdir(2) works on a
    mount point, so nothing is removed through one.  Raises OSError.
    """
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        prefix = f".{os.urandom(8).hex()}."
        folders = _emptied(top)
        number = 0
        while folders:
            name = folders.pop()
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            try:
                for inner in _emptied(below):
                    moved = f"{prefix}{number}"
                    os.rename(inner, moved, src_dir_fd=below, dst_dir_fd=top)
                    folders.append(moved)
                    number += 1
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)


def _emptied(directory: int) -> list[str]:
    """Remove what an open directory holds but for directories that hold something; return their names."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    left = []
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
            continue
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError as exc:
            if exc.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            left.append(name)
    return left


def sync_directory(path: str) -> None:
    """Make the entries of a directory survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def canonical_json(value: t.Any) -> bytes:
    """Return the one JSON encoding of ``value`` that hashes are taken from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@contextlib.contextmanager
def locked(
    path: str, *, timeout_s: float = 60.0, what: str = "the object", shared: bool = False
) -> t.Iterator[None]:
    """Hold a lock on the file ``path``, which is made and left behind.

    The lock is exclusive unless ``shared``, which only keeps exclusive holders out.
    The kernel drops the lock when its holder dies, so nothing is ever stale.
    Raises Conflict when another process holds it for ``timeout_s`` seconds.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, timeout_s, what)
        yield
    finally:
        os.close(handle)


def is_locked(path: str) -> bool:
    """Say whether somebody holds a lock on a file, which need not be there."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _flock(handle: int, kind: int, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError as exc:
            if time.monotonic() >= deadline:
                raise Conflict(
                    f"another process has been working on {what} for {timeout_s:g} s",
                    hint="Wait for it, or look for a hanging play",
                ) from exc
            time.sleep(_LOCK_POLL_S)
