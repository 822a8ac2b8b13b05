# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the changes of a checkpoint in the root file system of a new container, whatever they claim to be.

Every path is followed one component at a time and never through a link, so that nothing
outside can be reached.  Device nodes other than the harmless ones that every container has,
and attributes by which overlayfs steers itself, are not made.

What was deleted is listed beside the changes, as CRI-O and Podman do, or among them by whiteouts,
as containerd does (OCI image specification, layer.md).
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import remove_tree
from pvecri.checkpoints.changes import XATTR
from pvecri.checkpoints.reading import inside, open_tar, shown

#: null, zero, full, random, urandom, tty.
_DEVICES: t.Final = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)})
_XATTRS: t.Final = ("security.capability", "user.")
#: Begins the name of an empty file that says: its namesake, or all that was in its directory, is deleted.
_WHITEOUT: t.Final = ".wh."
_OPAQUE: t.Final = ".wh..wh..opq"
_CHUNK: t.Final = 1 << 20
_DIRECTORY: t.Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def apply_changes(root: str, tar_path: str, *, limit: int, what: str, is_new_only: bool = False) -> None:
    """Make the entries of a tar file below ``root``; with ``is_new_only`` those that are not there yet.

    Raises InvalidSpec for what no container's root file system can have, and OSError.
    """
    with open(tar_path, "rb") as stream, open_tar(stream, limit, what) as members:
        late: list[tuple[str, float]] = []
        for member, tar in members:
            path = inside(member.name, what)
            if not path or (is_new_only and os.path.lexists(os.path.join(root, path))):
                continue
            try:
                with _parent(root, path) as (parent, name):
                    if not is_new_only and _is_whiteout(member, name):
                        _hide(parent, name, what)
                        continue
                    _make(root, (parent, name), member, tar, what)
                    if member.isdir():
                        late.append((path, member.mtime))
            except (NotADirectoryError, IsADirectoryError) as exc:
                raise InvalidSpec(
                    "", f"{what}: '{shown(path)}' lies below something that is no directory"
                ) from exc
        # Last, since what is made in a directory changes its time.
        for path, mtime in reversed(late):
            with (
                contextlib.suppress(FileNotFoundError, NotADirectoryError),
                _parent(root, path) as (parent, name),
            ):
                os.utime(name, (mtime, mtime), dir_fd=parent, follow_symlinks=False)


def remove_deleted(root: str, paths: t.Iterable[str], what: str) -> None:
    """Remove paths below ``root``; what is not there is fine."""
    for path in paths:
        relative = inside(path.lstrip("/"), what)
        if not relative:
            raise InvalidSpec("", f"{what}: it deletes the root directory")
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            _parent(root, relative) as (parent, name),
        ):
            _remove(parent, name)


@contextlib.contextmanager
def _parent(root: str, path: str) -> t.Iterator[tuple[int, str]]:
    """Give the directory that holds a path, and the path's last part; follows no link."""
    *folders, name = path.split("/")
    handle = os.open(root, _DIRECTORY)
    try:
        for folder in folders:
            below = os.open(folder, _DIRECTORY, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle, name
    except OSError as exc:
        # ELOOP is a link where a directory should be.
        if exc.errno == 40:
            raise NotADirectoryError(exc.errno, exc.strerror, path) from exc
        raise
    finally:
        os.close(handle)


def _remove(parent: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        remove_tree(f"/proc/self/fd/{parent}/{name}")
    else:
        os.unlink(name, dir_fd=parent)


def _is_whiteout(member: tarfile.TarInfo, name: str) -> bool:
    return name.startswith(_WHITEOUT) and member.isreg() and member.size == 0


def _hide(parent: int, name: str, what: str) -> None:
    """Remove what a whiteout in a directory stands for; one for all comes before what is new there."""
    if name == _OPAQUE:
        for found in os.listdir(parent):
            _remove(parent, found)
        return
    deleted = name.removeprefix(_WHITEOUT)
    if deleted in {"", ".", ".."}:
        raise InvalidSpec("", f"{what}: '{name}' in it deletes no file")
    # Others of these are notes of aufs to itself.
    if not deleted.startswith(_WHITEOUT):
        with contextlib.suppress(FileNotFoundError):
            _remove(parent, deleted)


def _make(
    root: str, place: tuple[int, str], member: tarfile.TarInfo, tar: tarfile.TarFile, what: str
) -> None:
    parent, name = place
    found = None
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if found is not None and not (member.isdir() and stat.S_ISDIR(found.st_mode)):
        _remove(parent, name)
        found = None
    mode = member.mode & 0o7777
    if member.isdir():
        if found is None:
            os.mkdir(name, 0o700, dir_fd=parent)
    elif member.isreg():
        _write(parent, name, member, tar)
    elif member.islnk():
        _link(root, inside(member.linkname, what), parent, name, what)
        return
    elif member.issym():
        os.symlink(member.linkname, name, dir_fd=parent)
    elif member.isfifo():
        os.mkfifo(name, 0o600, dir_fd=parent)
    elif member.ischr() and (member.devmajor, member.devminor) in _DEVICES:
        os.mknod(name, stat.S_IFCHR | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
    else:
        raise InvalidSpec(
            "",
            f"{what}: '{shown(member.name)}' is a device node or of an unknown kind",
            hint="Remove it in the container before it is checkpointed",
        )
    os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
    if not member.issym():
        _set_mode(parent, name, mode)
        os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
    _set_xattrs(parent, name, member)


def _write(parent: int, name: str, member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
    handle = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
    )
    content = tar.extractfile(member)
    with os.fdopen(handle, "wb") as output:
        while content is not None and (chunk := content.read(_CHUNK)):
            output.write(chunk)


def _set_mode(parent: int, name: str, mode: int) -> None:
    # By its name a link would be followed that a container of the pod puts there at this moment.
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", mode)
    finally:
        os.close(handle)


def _link(root: str, target: str, parent: int, name: str, what: str) -> None:
    try:
        with _parent(root, target) as (holder, original):
            os.link(original, name, src_dir_fd=holder, dst_dir_fd=parent, follow_symlinks=False)
    except (FileNotFoundError, PermissionError) as exc:
        raise InvalidSpec(
            "", f"{what}: '{shown(target)}', to which there is a hard link, is not in it"
        ) from exc


def _set_xattrs(parent: int, name: str, member: tarfile.TarInfo) -> None:
    for key, value in member.pax_headers.items():
        attribute = key.removeprefix(XATTR)
        if key.startswith(XATTR) and attribute.startswith(_XATTRS):
            path = f"/proc/self/fd/{parent}/{name}"
            os.setxattr(path, attribute, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)


def make_mount_points(root: str, config: t.Mapping[str, t.Any]) -> None:
    """Make what the mounts of a config.json are mounted on, as crun does when it creates a container.

    A mount inside a bind mount has its place in that one's source.
    """
    mounts = [(os.path.normpath(mount["destination"]), mount) for mount in config.get("mounts", ())]
    for destination, mount in mounts:
        above = [(place, outer) for place, outer in mounts if destination.startswith(f"{place}/")]
        top, relative = root, destination
        if above:
            place, outer = max(above, key=lambda found: len(found[0]))
            if not _is_bind(outer):
                # What is in a tmpfs is among CRIU's images.
                continue
            top, relative = outer["source"], destination.removeprefix(place)
        _ensure(top, relative, is_file=_is_bind(mount) and not os.path.isdir(mount["source"]))


def _is_bind(mount: t.Mapping[str, t.Any]) -> bool:
    return mount.get("type") == "bind" or not {"bind", "rbind"}.isdisjoint(mount.get("options", ()))


def _ensure(top: str, path: str, *, is_file: bool) -> None:
    parts = [part for part in path.split("/") if part]
    if not os.path.isdir(top):
        return
    for index, name in enumerate(parts):
        here = "/".join(parts[: index + 1])
        with contextlib.suppress(FileNotFoundError):
            os.close(syscalls.open_beneath(top, here, os.O_PATH))
            continue
        parent = syscalls.open_beneath(top, "/".join(parts[:index]), os.O_PATH | os.O_DIRECTORY)
        try:
            if is_file and index == len(parts) - 1:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o644, dir_fd=parent))
            else:
                os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError as exc:
            raise InvalidSpec("config.mounts", f"/{shown(here)} is a link that leads nowhere") from exc
        finally:
            os.close(parent)
