# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy trees with everything that belongs to a file."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import copy_tree as module
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.copy_tree import copy_tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")


@pytest.fixture
def pair(tmp_path):
    """Source and target directory."""
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    return tmp_path / "source", tmp_path / "target"


def copied(pair):
    source, target = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in pair)
    try:
        copy_tree(source, target)
    finally:
        os.close(source)
        os.close(target)
    return pair[1]


def test_copy_tree_owner_mode_and_time(pair):
    source, _unused = pair
    (source / "d").mkdir()
    (source / "d/f").write_bytes(b"x" * 3000)
    (source / "d/l").symlink_to("/etc/passwd")
    os.chown(source / "d/f", 1000, 50)
    os.chmod(source / "d/f", 0o4750)
    os.lchown(source / "d/l", 7, 8)
    os.chown(source, 3, 4)
    os.chmod(source, 0o1770)
    for path in (source / "d/f", source / "d", source):
        os.utime(path, ns=(1_000_000_001, 2_000_000_003))
    os.utime(source / "d/l", ns=(5, 6_000_000_000), follow_symlinks=False)
    target = copied(pair)
    for name in ("d/f", "d/l", "d", "."):
        old, new = (source / name).lstat(), (target / name).lstat()
        for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_size"):
            if field == "st_size" and stat.S_ISDIR(old.st_mode):
                continue
            assert getattr(old, field) == getattr(new, field), (name, field)
    assert (target / "d/f").read_bytes() == b"x" * 3000
    assert os.readlink(target / "d/l") == "/etc/passwd"


def test_copy_tree_hard_links_stay_links(pair):
    source, _unused = pair
    (source / "a").write_text("1")
    (source / "d").mkdir()
    os.link(source / "a", source / "d/b")
    os.link(source / "a", source / "z")
    target = copied(pair)
    assert len({(target / name).stat().st_ino for name in ("a", "d/b", "z")}) == 1
    assert (target / "a").stat().st_nlink == 3
    assert (target / "a").stat().st_ino != (source / "a").stat().st_ino


def test_copy_tree_special_files(pair):
    source, _unused = pair
    os.mkfifo(source / "pipe", 0o640)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(source / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 9))
    os.mknod(source / "deleted", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.chmod(source / "null", 0o666)
    target = copied(pair)
    assert sorted(os.listdir(target)) == ["disk", "null", "pipe"]
    assert stat.S_ISFIFO((target / "pipe").stat().st_mode)
    assert (target / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE((target / "null").stat().st_mode) == 0o666
    assert (target / "disk").stat().st_rdev == os.makedev(7, 9)


def test_copy_tree_attributes_but_not_those_of_an_overlay(pair):
    source, _unused = pair
    (source / "f").touch()
    os.setxattr(source / "f", "user.note", b"hi")
    os.setxattr(source / "f", "trusted.overlay.origin", b"x")
    os.setxattr(
        source / "f", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000")
    )
    os.setxattr(source, "user.top", b"t")
    os.chown(source / "f", 5, 5)
    os.setxattr(
        source / "f", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000")
    )
    target = copied(pair)
    names = [name for name in os.listxattr(target / "f") if name != "security.selinux"]
    assert sorted(names) == ["security.capability", "user.note"]
    assert os.getxattr(target, "user.top") == b"t"


def test_copy_tree_sparse_and_large(pair):
    source, _unused = pair
    with open(source / "f", "wb") as stream:
        stream.seek(3 << 20)
        stream.write(b"end" * 100_000)
        stream.truncate(9 << 20)
    (source / "empty").touch()
    target = copied(pair)
    assert (target / "f").read_bytes() == (source / "f").read_bytes()
    assert (target / "f").stat().st_blocks * 512 < 4 << 20
    assert (target / "empty").stat().st_size == 0


def test_copy_tree_without_copy_file_range(pair, monkeypatch):
    source, _unused = pair
    (source / "f").write_bytes(os.urandom(3 << 20))

    def refuse(*_args):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(module.os, "copy_file_range", refuse)
    assert (copied(pair) / "f").read_bytes() == (source / "f").read_bytes()


def test_copy_tree_file_that_shrinks_meanwhile(pair, monkeypatch):
    (pair[0] / "f").write_bytes(b"12345")
    monkeypatch.setattr(module.os, "copy_file_range", lambda *_args: 0)
    assert (copied(pair) / "f").stat().st_size == 5


@pytest.mark.parametrize("call", ["copy_file_range", "lseek", "setxattr"])
def test_copy_tree_errors_are_not_swallowed(pair, monkeypatch, call):
    (pair[0] / "f").write_bytes(b"12345")
    os.setxattr(pair[0] / "f", "user.a", b"1")

    def refuse(*_args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.os, call, refuse)
    with pytest.raises(OSError, match="Input/output"):
        copied(pair)


def test_copy_tree_target_without_attributes(pair, monkeypatch):
    (pair[0] / "f").write_bytes(b"1")
    os.setxattr(pair[0] / "f", "user.a", b"1")

    def refuse(*_args):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(module.os, "setxattr", refuse)
    assert (copied(pair) / "f").read_bytes() == b"1"


def test_copy_tree_names_of_all_kinds(pair):
    names = [b"a b", b"new\nline", b"\xff\xfe", "ü".encode(), b"-rf"]
    for name in names:
        with open(os.path.join(os.fsencode(pair[0]), name), "wb") as stream:
            stream.write(name)
    target = copied(pair)
    assert sorted(os.listdir(os.fsencode(target))) == sorted(names)


def test_copy_tree_too_deep(pair):
    below = os.open(pair[0], os.O_RDONLY)
    for _number in range(module._DEPTH_MAX + 5):
        os.mkdir("d", dir_fd=below)
        inner = os.open("d", os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = inner
    os.close(below)
    with pytest.raises(OSError, match="name too long"):
        copied(pair)
