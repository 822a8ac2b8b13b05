# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the system calls to what they promise, on real files and mounts."""

from __future__ import annotations

import contextlib
import errno
import os
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def tree(tmp_path):
    """A directory «root» with links that lead everywhere, beside what they must not reach."""
    (tmp_path / "outside").write_text("outside")
    root = tmp_path / "root"
    for path in ("etc", "a/b", "srv"):
        (root / path).mkdir(parents=True)
    (root / "etc/passwd").write_text("inside")
    (root / "outside").write_text("inside")
    for name, target in {
        "absolute": "/etc/passwd",
        "relative": "etc/passwd",
        "up": "../../../../etc/passwd",
        "a/b/up": "../../etc/passwd",
        "chain": "absolute",
        "out": "../outside",
        "loop": "loop",
        "dir": "/a",
        "top": "/",
        "dangling": "/none",
    }.items():
        (root / name).symlink_to(target)
    return root


def by_kernel(root, path, flags=os.O_RDONLY, mode=0):
    return syscalls.open_beneath(str(root), path, flags, mode)


def by_walking(root, path, flags=os.O_RDONLY, mode=0):
    handle = os.open(root, os.O_PATH)
    try:
        return syscalls._walk_beneath(handle, path, flags, mode)
    finally:
        os.close(handle)


both = pytest.mark.parametrize("opened", [by_kernel, by_walking])


def read(handle):
    try:
        return os.read(handle, 100).decode()
    finally:
        os.close(handle)


@both
@pytest.mark.parametrize(
    "path",
    [
        "etc/passwd",
        "/etc/passwd",
        "//etc/./passwd",
        "../../../etc/passwd",
        "a/../../../etc/passwd",
        "absolute",
        "relative",
        "up",
        "a/b/up",
        "dir/b/up",
        "chain",
        "out",
        "top/etc/passwd",
        "top/../outside",
    ],
)
def test_open_beneath_stays_inside(tree, opened, path):
    assert read(opened(tree, path)) == "inside"


@both
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("none", FileNotFoundError),
        ("dangling", FileNotFoundError),
        ("etc/passwd/x", NotADirectoryError),
        ("absolute/x", NotADirectoryError),
        ("loop", OSError),
    ],
)
def test_open_beneath_fails_as_open_does(tree, opened, path, error):
    with pytest.raises(error):
        opened(tree, path)


@both
def test_open_beneath_flags(tree, opened):
    for path in ("", ".", "/", "..", "top"):
        handle = opened(tree, path, os.O_PATH | os.O_DIRECTORY)
        assert os.fstat(handle).st_ino == tree.stat().st_ino
        os.close(handle)
    with pytest.raises(NotADirectoryError):
        opened(tree, "etc/passwd", os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(OSError, match="symbolic links"):
        opened(tree, "absolute", os.O_RDONLY | os.O_NOFOLLOW)
    handle = opened(tree, "srv/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    assert os.get_inheritable(handle) is False
    os.close(handle)
    assert (tree / "srv/new").stat().st_mode & 0o777 == 0o640


@both
def test_open_beneath_leaves_no_descriptor(tree, opened):
    before = os.listdir("/proc/self/fd")
    for path in ("a/b/up", "loop", "none", "etc/passwd/x"):
        with contextlib.suppress(OSError):
            os.close(opened(tree, path))
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_open_beneath_walks_where_the_call_is_forbidden(tree, monkeypatch, number):
    def forbidden(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(syscalls, "_syscall", forbidden)
    assert read(by_kernel(tree, "a/b/up")) == "inside"


def test_open_beneath_walks_when_the_kernel_is_never_sure(tree, monkeypatch):
    calls = []

    def unsure(*_args, **_options):
        calls.append(1)
        raise BlockingIOError(errno.EAGAIN, "again")

    monkeypatch.setattr(syscalls, "_syscall", unsure)
    assert read(by_kernel(tree, "out")) == "inside"
    assert 1 < len(calls) < 100


def test_open_beneath_follows_no_magic_link():
    """/proc/self/fd/0 and its like lead anywhere, whatever their text says."""
    with pytest.raises(OSError, match="symbolic links"):
        syscalls.open_beneath("/proc/self", "fd/0")


def test_exchange(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("b")
    syscalls.exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "a").read_text() == "b"
    assert (tmp_path / "b").is_dir()
    with pytest.raises(FileNotFoundError) as caught:
        syscalls.exchange(str(tmp_path / "a"), str(tmp_path / "none"))
    assert caught.value.errno == errno.ENOENT


# ---- mounts ----------------------------------------------------------------------------------------------


def test_is_mount_point(tmp_path):
    assert syscalls.is_mount_point("/proc")
    assert not syscalls.is_mount_point("/proc/self")
    assert not syscalls.is_mount_point(str(tmp_path))
    assert not syscalls.is_mount_point(str(tmp_path / "none"))
    (tmp_path / "link").symlink_to("/proc")
    assert not syscalls.is_mount_point(str(tmp_path / "link"))
    (tmp_path / "file").touch()
    assert not syscalls.is_mount_point(str(tmp_path / "file/x"))
    with pytest.raises(OSError, match="too long"):
        syscalls.is_mount_point("/" + "x" * 5000)


def test_is_in_memory(tmp_path):
    assert not syscalls.is_in_memory("/proc")
    with pytest.raises(FileNotFoundError):
        syscalls.is_in_memory(str(tmp_path / "none"))


def test_failures_carry_errno_and_path(tmp_path):
    target = str(tmp_path / "none")
    for call in (
        lambda: syscalls.mount("none", target, "tmpfs"),
        lambda: syscalls.umount2(target),
        lambda: syscalls.open_tree_clone(target),
    ):
        with pytest.raises(OSError, match="none") as caught:
            call()
        assert caught.value.filename == target


@as_root
def test_mount_and_umount_with_odd_names(tmp_path):
    target = tmp_path / "a b\tc\\d\ne\rf\\040"
    (target / "in").mkdir(parents=True)
    syscalls.mount("none", str(target), "tmpfs", syscalls.MS_NOSUID, "size=1m")
    try:
        assert syscalls.is_mount_point(str(target))
        assert syscalls.is_in_memory(str(target))
        (target / "in").mkdir()
        syscalls.mount("none", str(target / "in"), "tmpfs")
        assert syscalls.mounts_below(str(tmp_path)) == [str(target / "in"), str(target)]
        assert syscalls.mounts_below(str(target / "in")) == [str(target / "in")]
        assert syscalls.mounts_below(str(target) + "x") == []
        assert syscalls.mounts_below(str(target)[:-1]) == []
        with pytest.raises(OSError, match="busy"):
            syscalls.umount2(str(target))
    finally:
        syscalls.umount2(str(target), syscalls.MNT_DETACH)
    assert syscalls.mounts_below(str(tmp_path)) == []


@as_root
def test_new_mount_calls(tmp_path):
    context = syscalls.fsopen("tmpfs")
    syscalls.fsconfig_string(context, "size", "1m")
    syscalls.fsconfig_create(context)
    mounted = syscalls.fsmount(context, syscalls.MOUNT_ATTR_NODEV)
    os.close(context)
    syscalls.move_mount(mounted, str(tmp_path))
    os.close(mounted)
    try:
        assert syscalls.is_mount_point(str(tmp_path))
        assert os.statvfs(tmp_path).f_flag & os.ST_NODEV
        copy = syscalls.open_tree_clone(str(tmp_path), recursive=True)
        syscalls.mount_setattr(
            copy, syscalls.MOUNT_ATTR_NOEXEC, clear=syscalls.MOUNT_ATTR_NODEV, recursive=True
        )
        assert os.fstatvfs(copy).f_flag & os.ST_NOEXEC
        assert not os.fstatvfs(copy).f_flag & os.ST_NODEV
        os.close(copy)
    finally:
        syscalls.umount2(str(tmp_path))
    with pytest.raises(OSError, match="device"):
        syscalls.fsopen("no-such-file-system")


@as_root
def test_unshare_and_setns_concern_one_thread(tmp_path):
    seen = {}

    def work():
        mine = os.open("/proc/thread-self/ns/uts", os.O_RDONLY)
        syscalls.unshare(syscalls.CLONE_NEWUTS)
        seen["new"] = os.readlink("/proc/thread-self/ns/uts")
        syscalls.setns(mine, syscalls.CLONE_NEWUTS)
        seen["back"] = os.readlink("/proc/thread-self/ns/uts")
        os.close(mine)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    here = os.readlink("/proc/thread-self/ns/uts")
    assert seen["back"] == here
    assert seen["new"] != here
    with pytest.raises(OSError, match="file descriptor"):
        syscalls.setns(-1)


def test_open_regular_beneath_opens_nothing_but_files(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("/file")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    for name in ("file", "link"):
        with open(syscalls.open_regular_beneath(str(tmp_path), name)) as stream:
            assert stream.read() == "text"
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(path) or real(path, *rest))
    for name in ("fifo", "directory"):
        with pytest.raises(WrongState, match=f"/{name} is no regular file"):
            syscalls.open_regular_beneath(str(tmp_path), name)
    assert set(opened) == {str(tmp_path)}


@as_root
def test_set_thread_user_changes_no_other_thread():
    seen = []

    def become():
        syscalls.set_thread_user(12345)
        with open("/proc/thread-self/status", encoding="ascii") as stream:
            seen.extend(next(line for line in stream if line.startswith("Uid:")).split()[1:])

    thread = threading.Thread(target=become)
    thread.start()
    thread.join()
    assert seen == ["0", "12345", "0", "12345"]
    assert os.geteuid() == 0
    with open(f"/proc/self/task/{threading.get_native_id()}/status", encoding="ascii") as stream:
        assert "Uid:\t0\t0\t0\t0\n" in stream.readlines()


def test_set_thread_user_of_an_unknown_machine(monkeypatch):
    monkeypatch.setattr(syscalls, "_SYS_SETRESUID", {})
    with pytest.raises(OSError, match="not implemented") as caught:
        syscalls.set_thread_user(1)
    assert caught.value.errno == errno.ENOSYS
