# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy a directory tree with everything that belongs to a file.

Owner, mode, times, extended attributes (file capabilities and ACLs are some),
hard links, sparse files, device nodes and sockets come out as they went in.  Works
on descriptors, so that nothing in the tree can lead out of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import typing as t

#: Attributes in which overlayfs keeps its own book; they mean nothing elsewhere.
_OVERLAY = ("trusted.overlay.", "user.overlay.")


def copy_tree(source: int, target: int) -> None:
    """Copy what the directory ``source`` holds, and its own attributes, to the empty ``target``.

    Both are descriptors opened for reading.  Raises OSError.
    """
    _copy_directory(source, target, {}, (target, "."))


#: Directories within each other; each costs two descriptors of the usual 1024.
_DEPTH_MAX = 200

_Links = dict[tuple[int, int], str]


def _copy_directory(source: int, target: int, links: _Links, top: tuple[int, str]) -> None:
    if top[1].count("/") > _DEPTH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    with os.scandir(source) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        _copy_entry(source, target, name, links, top)
    _copy_attributes(source, target)


def _copy_entry(source: int, target: int, name: str, links: _Links, top: tuple[int, str]) -> None:
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    where = f"{top[1]}/{name}"
    if kind != stat.S_IFDIR and status.st_nlink > 1:
        key = (status.st_dev, status.st_ino)
        if key in links:
            os.link(links[key], name, src_dir_fd=top[0], dst_dir_fd=target, follow_symlinks=False)
            return
        links[key] = where
    if kind == stat.S_IFDIR:
        os.mkdir(name, 0o700, dir_fd=target)
        with _opened(source, name, os.O_DIRECTORY) as below, _opened(target, name, os.O_DIRECTORY) as made:
            _copy_directory(below, made, links, (top[0], where))
    elif kind == stat.S_IFREG:
        _copy_file(source, target, name)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        _copy_plain_attributes(status, target, name)
    elif not (kind == stat.S_IFCHR and status.st_rdev == 0):
        # Character device 0:0 is overlayfs's mark for a deleted file.
        os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=target)
        _copy_plain_attributes(status, target, name)
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)


@contextlib.contextmanager
def _opened(directory: int, name: str, flags: int) -> t.Iterator[int]:
    handle = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        yield handle
    finally:
        os.close(handle)


def _copy_file(source: int, target: int, name: str) -> None:
    with (
        _opened(source, name, os.O_RDONLY | os.O_NONBLOCK) as old,
        _opened(target, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as new,
    ):
        size = os.fstat(old).st_size
        position = 0
        while (start := _next_data(old, position)) is not None:
            end = os.lseek(old, start, os.SEEK_HOLE)
            position = _copy_range(old, new, start, end)
        os.ftruncate(new, size)
        _copy_attributes(old, new)


def _next_data(handle: int, position: int) -> int | None:
    try:
        return os.lseek(handle, position, os.SEEK_DATA)
    except OSError as exc:
        if exc.errno == errno.ENXIO:
            return None
        raise


def _copy_range(old: int, new: int, start: int, end: int) -> int:
    """Copy bytes ``start`` to ``end``, shared on disk where the file system can, and return the end."""
    position = start
    while position < end:
        try:
            done = os.copy_file_range(old, new, end - position, position, position)
        except OSError as exc:
            if exc.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            done = os.pwrite(new, os.pread(old, min(end - position, 1 << 20), position), position)
        if done == 0:
            return end
        position += done
    return position


def _copy_attributes(old: int, new: int) -> None:
    status = os.fstat(old)
    os.fchown(new, status.st_uid, status.st_gid)
    os.fchmod(new, stat.S_IMODE(status.st_mode))
    # After the owner: a change of owner takes file capabilities away.
    for name in os.listxattr(old):
        if not name.startswith(_OVERLAY):
            with _unsupported_is_fine():
                os.setxattr(new, name, os.getxattr(old, name))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextlib.contextmanager
def _unsupported_is_fine() -> t.Iterator[None]:
    """Go on where the target's file system has no such attributes at all."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.ENODATA):
            raise


def _copy_plain_attributes(status: os.stat_result, directory: int, name: str) -> None:
    os.chown(name, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)
