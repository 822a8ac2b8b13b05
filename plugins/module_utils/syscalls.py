# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the Linux system calls that Python 3.11 does not offer.

Everything raises OSError with its errno; nothing here starts a process.  Paths
are plain ``str``.  Constants are those of the kernel's ``include/uapi``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState

_libc = ctypes.CDLL(None, use_errno=True)

# mount(2)
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000

# umount2(2)
MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

# unshare(2), setns(2)
CLONE_FS = 0x200
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

# The new mount calls; their numbers are the same on every architecture that Debian has.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442

#: Older than those, and each architecture has its own.
_SYS_SETRESUID = {"x86_64": 117, "aarch64": 147, "riscv64": 147, "ppc64le": 164, "s390x": 208}

FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_IDMAP = 0x100000
_FSOPEN_CLOEXEC = 0x1
_FSMOUNT_CLOEXEC = 0x1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_OPEN_TREE_CLONE = 0x1
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_NO_AUTOMOUNT = 0x800
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000

_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_RENAME_EXCHANGE = 0x2
_STATX_ATTR_MOUNT_ROOT = 0x2000
_TMPFS_MAGIC = 0x01021994
_RAMFS_MAGIC = 0x858458F6
OVERLAYFS_MAGIC = 0x794C7630

#: How many symbolic links a path may lead through, as in path_resolution(7).
_MAX_LINKS = 40
_OPENAT2_TRIES = 8


def _fail(path: str = "") -> t.NoReturn:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path or None)


def _check(result: int, path: str = "") -> int:
    if result < 0:
        _fail(path)
    return result


def _syscall(number: int, *args: t.Any, path: str = "") -> int:
    # long long: an int argument would leave the upper half of a 64-bit register undefined.
    plain = [ctypes.c_longlong(arg) if isinstance(arg, int) else arg for arg in args]
    return _check(_libc.syscall(ctypes.c_long(number), *plain), path)


# ---- mounts ----------------------------------------------------------------------------------------------


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """Call mount(2); the kernel takes at most a page (4095 bytes) of ``data``."""
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            fstype.encode() or None,
            ctypes.c_ulong(flags),
            os.fsencode(data) or None,
        ),
        target,
    )


def umount2(target: str, flags: int = 0) -> None:
    """Call umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), target)


def fsopen(fstype: str) -> int:
    """Open a context for a new mount of ``fstype`` and return its descriptor (Linux 5.2)."""
    return _syscall(_SYS_FSOPEN, fstype.encode(), _FSOPEN_CLOEXEC)


def fsconfig_string(context: int, key: str, value: str) -> None:
    """Set one option of a mount context; the kernel takes at most 255 bytes of ``value``."""
    _syscall(_SYS_FSCONFIG, context, FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0, path=value)


def fsconfig_create(context: int) -> None:
    """Make the file system that a mount context describes."""
    _syscall(_SYS_FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(context: int, attributes: int = 0) -> int:
    """Return a descriptor of the new mount, not attached to any path yet."""
    return _syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)


def move_mount(mount_fd: int, target: str) -> None:
    """Attach the mount that ``mount_fd`` holds to the path ``target``."""
    _syscall(
        _SYS_MOVE_MOUNT,
        mount_fd,
        b"",
        _AT_FDCWD,
        os.fsencode(target),
        _MOVE_MOUNT_F_EMPTY_PATH,
        path=target,
    )


def open_tree_clone(path: str, *, recursive: bool = False) -> int:
    """Return a descriptor of a detached copy of the mount at ``path``: a bind mount without a place."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return _syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags, path=path)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_setattr(
    mount_fd: int,
    set_: int = 0,
    *,
    clear: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
    recursive: bool = False,
) -> None:
    """Change the attributes of the mount that ``mount_fd`` holds (Linux 5.12)."""
    attributes = _MountAttr(set_, clear, propagation, userns_fd)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _syscall(_SYS_MOUNT_SETATTR, mount_fd, b"", flags, ctypes.byref(attributes), ctypes.sizeof(attributes))


def is_mount_point(path: str) -> bool:
    """Say whether something is mounted on ``path`` itself; False when it does not exist.

    Asks statx(2) for STATX_ATTR_MOUNT_ROOT (Linux 5.8), which also sees bind mounts.
    """
    buffer = (ctypes.c_uint64 * 32)()
    flags = _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT
    if _libc.statx(_AT_FDCWD, os.fsencode(path), flags, 0, buffer) < 0:
        if ctypes.get_errno() in (errno.ENOENT, errno.ENOTDIR):
            return False
        _fail(path)
    # struct statx: stx_mask u32, stx_blksize u32, stx_attributes u64, …; stx_attributes_mask is u64 number 7.
    return bool(buffer[1] & _STATX_ATTR_MOUNT_ROOT)


def is_in_memory(path: str) -> bool:
    """Say whether ``path`` lies on a tmpfs or ramfs: what is there never reaches a disk but by swap."""
    return file_system_kind(path) in (_TMPFS_MAGIC, _RAMFS_MAGIC)


def file_system_kind(path: str) -> int:
    """Return the number of the kind of file system that ``path`` lies on (statfs(2), f_type)."""
    buffer = (ctypes.c_long * 32)()
    _check(_libc.statfs(os.fsencode(path), buffer), path)
    return buffer[0]


def mounts_below(path: str) -> list[str]:
    """Return the mount points at and below ``path``, the innermost first, once per mount."""
    top = os.path.realpath(path)
    wanted = _escape(os.fsencode(top))
    found = []
    with open("/proc/self/mountinfo", "rb") as stream:
        table = stream.read()
    # A host with many pods has thousands of lines, of which a few are wanted.
    for line in table.split(b"\n") if wanted in table else ():
        if wanted in line:
            point = os.fsdecode(_unescape(line.split(b" ", 5)[4]))
            if point == top or point.startswith(top + "/"):
                found.append(point)
    return found[::-1]


#: What mountinfo (proc(5)) writes otherwise.
_ESCAPES = ((b"\\", b"\\134"), (b" ", b"\\040"), (b"\t", b"\\011"), (b"\n", b"\\012"))


def _escape(path: bytes) -> bytes:
    for char, code in _ESCAPES:
        path = path.replace(char, code)
    return path


def _unescape(field: bytes) -> bytes:
    """Undo the octal escapes of mountinfo."""
    if b"\\" not in field:
        return field
    for char, code in reversed(_ESCAPES):
        field = field.replace(code, char)
    return field


# ---- namespaces ------------------------------------------------------------------------------------------


def unshare(flags: int) -> None:
    """Call unshare(2) for the calling thread."""
    _check(_libc.unshare(flags))


def setns(namespace_fd: int, kind: int = 0) -> None:
    """Call setns(2) for the calling thread."""
    _check(_libc.setns(namespace_fd, kind))


def set_thread_user(uid: int) -> None:
    """Make ``uid`` the effective user of the calling thread alone (setresuid(2)).

    The C library's own function would change all threads.  Effective capabilities are lost, so
    this is for a thread that ends soon.
    """
    number = _SYS_SETRESUID.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _syscall(number, -1, uid, -1)


# ---- paths -----------------------------------------------------------------------------------------------


def exchange(one: str, other: str) -> None:
    """Swap two paths in one step (renameat2(2) with RENAME_EXCHANGE)."""
    _check(_libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE), one)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(root: int | str, path: str, flags: int = os.O_RDONLY, mode: int = 0) -> int:
    """Open ``path`` as if ``root`` were ``/``: no link and no ``..`` leads out of it.

    ``root`` is a directory or its descriptor.  Returns a descriptor that the caller
    closes.  Uses openat2(2) with RESOLVE_IN_ROOT, and walks the path itself where a
    system call filter forbids that.
    """
    if isinstance(root, str):
        handle = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return open_beneath(handle, path, flags, mode)
        finally:
            os.close(handle)
    how = _OpenHow(
        flags | os.O_CLOEXEC,
        mode if flags & (os.O_CREAT | os.O_TMPFILE) else 0,
        _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS,
    )
    for _attempt in range(_OPENAT2_TRIES):
        try:
            return _syscall(
                _SYS_OPENAT2,
                root,
                os.fsencode(path) or b".",
                ctypes.byref(how),
                ctypes.sizeof(how),
                path=path,
            )
        except BlockingIOError:
            # A rename elsewhere on the host made the kernel unsure; openat2(2) says to repeat.  For «..»
            # below a mount that was detached it never becomes sure.
            continue
        except OSError as exc:
            if exc.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            break
    return _walk_beneath(root, path, flags, mode)


def open_regular_beneath(root: int | str, path: str) -> int:
    """Open a regular file for reading as `open_beneath` does; raises WrongState for anything else.

    What it is is asked before it is opened: opening a device node, which a hostile
    image can hold under any name, is an act in itself.
    """
    place = open_beneath(root, path, os.O_PATH)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise WrongState(f"/{path.lstrip('/')} is no regular file")
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(place)


def _walk_beneath(root: int, path: str, flags: int, mode: int) -> int:
    """Do what RESOLVE_IN_ROOT does, one component at a time, never following a link by the kernel."""
    opened = [os.dup(root)]
    try:
        return _walk(opened, [part for part in path.split("/") if part not in ("", ".")], flags, mode)
    finally:
        for handle in opened:
            os.close(handle)


def _walk(opened: list[int], parts: list[str], flags: int, mode: int) -> int:
    links = 0
    while parts:
        part = parts.pop(0)
        if part == "..":
            if len(opened) > 1:
                os.close(opened.pop())
            continue
        if not parts and flags & os.O_NOFOLLOW:
            return os.open(part, flags | os.O_CLOEXEC, mode, dir_fd=opened[-1])
        try:
            handle = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened[-1])
        except FileNotFoundError:
            if parts or not flags & os.O_CREAT:
                raise
            return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=opened[-1])
        kind = os.fstat(handle).st_mode
        if not stat.S_ISLNK(kind):
            if not parts:
                os.close(handle)
                return os.open(part, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=opened[-1])
            opened.append(handle)
            continue
        target = os.readlink("", dir_fd=handle)
        os.close(handle)
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), part)
        if target.startswith("/"):
            while len(opened) > 1:
                os.close(opened.pop())
        parts[:0] = [piece for piece in target.split("/") if piece not in ("", ".")]
    return os.open(".", flags | os.O_CLOEXEC, mode, dir_fd=opened[-1])
