# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep namespaces alive without a process in them: a bind mount holds each (namespaces(7)).

Namespaces are made and entered in a thread that ends afterwards, since
unshare(2) and setns(2) act on one thread; so no process is started, and callers
may have as many threads as they like.  A function without a word on it means a
network namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import operator
import os
import socket
import struct
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    InvalidSpec,
    MissingDependency,
    NotFound,
)

T = t.TypeVar("T")

# linux/sockios.h, linux/if.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sH22x")

#: The kinds that a pod's containers share, by the name that /proc/<pid>/ns has for each.
KINDS: t.Final = {
    "net": syscalls.CLONE_NEWNET,
    "ipc": syscalls.CLONE_NEWIPC,
    "uts": syscalls.CLONE_NEWUTS,
}


def pin(path: str) -> bool:
    """Make a network namespace that stays at ``path``, its loopback interface up; return whether it is new.

    One that is pinned there already stays as it is; a file that an interrupted call
    left is used.
    """
    if is_pinned(path):
        return False
    pin_all({"net": path})
    return True


def pin_all(paths: t.Mapping[str, str], *, hostname: str | None = None) -> None:
    """Make one namespace for each of `KINDS` in ``paths`` and pin it at the path given.

    They are made together, so that a network namespace's loopback interface is up and a
    UTS namespace has ``hostname`` before anybody can find them.  Files that an interrupted
    call left are used.  Raises MissingDependency without the privilege; nothing is left then.
    """

    def make() -> None:
        try:
            syscalls.unshare(functools.reduce(operator.or_, (KINDS[kind] for kind in paths)))
        except PermissionError as exc:
            raise MissingDependency(
                "a namespace cannot be made without CAP_SYS_ADMIN", hint="Run as root"
            ) from exc
        prepare(paths, hostname)
        # Last, so that what is pinned is ready.
        for kind, path in paths.items():
            syscalls.mount(f"/proc/thread-self/ns/{kind}", path, flags=syscalls.MS_BIND)

    with _places(paths):
        in_thread(make)


def pin_of(pid: int, paths: t.Mapping[str, str]) -> None:
    """Pin namespaces of a process: ``paths`` has a place for each name in /proc/<pid>/ns."""
    with _places(paths):
        for kind, path in paths.items():
            syscalls.mount(f"/proc/{pid}/ns/{kind}", path, flags=syscalls.MS_BIND)


def pin_of_fd(handle: int, path: str) -> None:
    """Pin the namespace that a descriptor holds."""
    with _places({"": path}):
        syscalls.mount(f"/proc/self/fd/{handle}", path, flags=syscalls.MS_BIND)


@contextlib.contextmanager
def _places(paths: t.Mapping[str, str]) -> t.Iterator[None]:
    """Make the files to pin at, and take away all of it when something fails."""
    for path in paths.values():
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o444))
    try:
        yield
    except BaseException:
        for path in paths.values():
            with contextlib.suppress(OSError):
                unpin(path)
        raise


def prepare(kinds: t.Container[str], hostname: str | None) -> None:
    """Bring up the loopback interface and set the host name of the calling thread's namespaces."""
    if "net" in kinds:
        _bring_up("lo")
    if "uts" in kinds and hostname is not None:
        socket.sethostname(hostname)


def unpin(path: str) -> bool:
    """Let go of the namespace at ``path``; return whether there was anything.

    It ends when its last process does.
    """
    try:
        # Somebody may have mounted more than once.
        while is_pinned(path):
            syscalls.umount2(path, syscalls.MNT_DETACH)
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def is_pinned(path: str) -> bool:
    """Say whether ``path`` holds a namespace: such files are all on one device of the kernel's."""
    try:
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except (FileNotFoundError, NotADirectoryError):
        return False


def run_inside(path: str, action: t.Callable[[], T]) -> T:
    """Call ``action`` in a thread within the network namespace at ``path`` and return its value.

    Sockets that it opens stay in that namespace wherever they are used.  Raises
    NotFound when there is no namespace.
    """
    return run_inside_all({"net": path}, action)


def run_inside_all(paths: t.Mapping[str, str], action: t.Callable[[], T]) -> T:
    """Call ``action`` in a thread within all the namespaces of ``paths``, by kind (`KINDS`)."""
    for kind, path in paths.items():
        if not is_pinned(path):
            what = "network namespace" if kind == "net" else f"{kind} namespace"
            raise NotFound(f"'{path}' is no {what}", hint="Make it again")

    def enter() -> T:
        for kind, path in paths.items():
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.setns(handle, KINDS[kind])
            finally:
                os.close(handle)
        return action()

    return in_thread(enter)


def write_sysctls(values: t.Mapping[str, str], *, owner: int | None = None) -> None:
    """Set kernel parameters of the calling thread's namespaces; the caller has checked their names.

    ``owner`` is the host's id of the root of the user namespace that they belong to: some
    parameters take values from it alone.  The calling thread, which must end then, may be that
    user afterwards.  Raises InvalidSpec for one that does not exist or takes no such value.
    """
    refused = {}
    for name, value in values.items():
        file = os.path.join("/proc/sys", name if "/" in name else name.replace(".", "/"))
        try:
            with open(file, "w", encoding="utf-8") as stream:
                stream.write(value)
        except OSError as exc:
            if owner is not None and isinstance(exc, PermissionError):
                refused[name] = value
                continue
            raise InvalidSpec("sysctls", f"'{name}' cannot be set to '{value}': {exc.strerror}") from exc
    if refused and owner is not None:
        syscalls.set_thread_user(owner)
        write_sysctls(refused)


def _bring_up(interface: str) -> None:
    """Set an interface of the calling thread's namespace up (netdevice(7))."""
    name = interface.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        answer = fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ.pack(name, 0))
        flags = _IFREQ.unpack(answer)[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(name, flags | _IFF_UP))


def in_thread(action: t.Callable[[], T]) -> T:
    """Call ``action`` in a thread of its own, and return or raise what it does."""
    values: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            values.append(action())
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=work, name="netns", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return values[0]
