# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show layers with shifted owners, for containers with a user namespace of their own.

The files of an image belong to 0, 1, 2 …; a container whose ids begin at 100000
must see them as its own.  The kernel does that for a mount (mount_setattr(2) with
MOUNT_ATTR_IDMAP) without touching a file: Linux 5.19 for layers of an overlay.
"""

from __future__ import annotations

import contextlib
import errno
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import streams, syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap


def host_id(container_id: int, maps: t.Sequence[IdMap], field: str) -> int:
    """Return the host's number of an id inside the user namespace; raises InvalidSpec if it has none."""
    if not maps:
        return container_id
    for item in maps:
        if item.container_id <= container_id < item.container_id + item.size:
            return item.host_id + container_id - item.container_id
    raise InvalidSpec(field, f"id {container_id} of the container is not mapped to an id of the host")


@contextlib.contextmanager
def user_namespace(uid_maps: t.Sequence[IdMap], gid_maps: t.Sequence[IdMap]) -> t.Iterator[int]:
    """Provide the descriptor of a user namespace with these maps.

    A namespace needs a process to be born in.  It is a program and no fork of this process: libraries
    such as gRPC's start threads in what is forked, and a process with threads cannot enter a user
    namespace (unshare(2), EINVAL).
    """
    with namespace_holder(
        ["unshare", "--user", "--"],
        problem="this host does not let a process make a user namespace",
        hint="Look at the sysctls user.max_user_namespaces and kernel.unprivileged_userns_clone",
    ) as pid:
        for name, maps in (("uid_map", uid_maps), ("gid_map", gid_maps)):
            lines = "".join(f"{item.container_id} {item.host_id} {item.size}\n" for item in maps)
            _write_map(f"/proc/{pid}/{name}", lines, name)
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield namespace
    finally:
        os.close(namespace)


@contextlib.contextmanager
def namespace_holder(argv: t.Sequence[str], *, problem: str, hint: str) -> t.Iterator[int]:
    """Provide the id of the process that a chain of programs which make namespaces ends in: cat(1).

    It answers once all before it have done their work, and ends with this process at the latest,
    when nobody can write to it any more.  Raises Unsupported, saying the ``problem``, when they fail.
    """
    child = streams.spawn([*argv, "cat"])
    try:
        to_child, from_child, complaints = (
            t.cast("t.IO[bytes]", stream).fileno() for stream in (child.stdin, child.stdout, child.stderr)
        )
        with contextlib.suppress(BrokenPipeError):
            os.write(to_child, b"1")
        if os.read(from_child, 1) != b"1":
            said = os.read(complaints, 4096).decode(errors="replace").strip()
            raise Unsupported(f"{problem}: {said}", hint=hint)
        yield child.pid
    finally:
        streams.end(child)


def _write_map(path: str, lines: str, name: str) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(handle, lines.encode())
        finally:
            os.close(handle)
    except OSError as exc:
        raise InvalidSpec(f"{name}s", f"the kernel refuses these id maps: {exc.strerror}") from exc


@contextlib.contextmanager
def mapped_layers(
    layers: t.Sequence[str], uid_maps: t.Sequence[IdMap], gid_maps: t.Sequence[IdMap], place: str
) -> t.Iterator[list[str]]:
    """Provide paths at which ``layers`` appear with shifted owners.

    They lie in directories made for the time being, whose names begin with ``place``.
    An overlay keeps what it was mounted from, so the paths only live as long as the
    context.  One mount per directory of layers is enough: they are siblings.
    """
    bases = sorted({_base(layer) for layer in layers})
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(user_namespace(uid_maps, gid_maps))
        places = {
            base: stack.enter_context(_mapped(base, namespace, f"{place}{number}"))
            for number, base in enumerate(bases)
        }
        yield [os.path.normpath(os.path.join(places[_base(x)], os.path.relpath(x, _base(x)))) for x in layers]


def _base(layer: str) -> str:
    """Return the store directory that a layer shares with the others, else the layer itself."""
    return os.path.dirname(os.path.dirname(layer)) if os.path.basename(layer) == "diff" else layer


@contextlib.contextmanager
def _mapped(base: str, namespace: int, place: str) -> t.Iterator[str]:
    # What a killed process left at this very name is taken away first.
    while syscalls.is_mount_point(place):
        syscalls.umount2(place, syscalls.MNT_DETACH)
    os.makedirs(place, mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.callback(os.rmdir, place)
        tree = syscalls.open_tree_clone(base)
        stack.callback(os.close, tree)
        try:
            syscalls.mount_setattr(
                tree,
                syscalls.MOUNT_ATTR_IDMAP | syscalls.MOUNT_ATTR_RDONLY,
                propagation=syscalls.MS_PRIVATE,
                userns_fd=namespace,
            )
        except OSError as exc:
            raise _unsupported(exc, base) from exc
        syscalls.move_mount(tree, place)
        stack.callback(syscalls.umount2, place, syscalls.MNT_DETACH)
        yield place


def _unsupported(exc: OSError, base: str) -> Unsupported:
    reason = os.strerror(exc.errno) if exc.errno else str(exc)
    if exc.errno in (errno.ENOSYS, errno.EPERM):
        return Unsupported(
            f"this kernel cannot show {base} with mapped ids: {reason}", hint="Linux 5.19 or newer is needed"
        )
    return Unsupported(
        f"the file system of {base} cannot show files with mapped ids: {reason}",
        hint="Keep the image store on ext4, XFS, Btrfs or ZFS 2.2, or use the host's user namespace",
    )
