# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container wrote and deleted, from an overlay's upper layer into a tar file and back."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import socket
import stat
import tarfile
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.checkpoints import applying, changes
from pvecri.checkpoints.changes import Layers, write_changes, write_tree

LIMIT = 1 << 24

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for device nodes and owners")


def whiteout(path: pathlib.Path) -> None:
    os.mknod(path, stat.S_IFCHR, 0)


@pytest.fixture
def layers(tmp_path: pathlib.Path) -> Layers:
    """An upper layer over two, and what they show together, written by hand."""
    for name in ("upper/new", "upper/opaque/in", "lower/opaque/old", "lowest/opaque", "merged"):
        (tmp_path / name).mkdir(parents=True)
    upper = tmp_path / "upper"
    (upper / "new/file").write_text("content")
    os.chown(upper / "new/file", 12, 34)
    os.chmod(upper / "new/file", 0o4750)
    os.setxattr(upper / "new/file", "user.note", b"\xffbytes")
    os.link(upper / "new/file", upper / "new/same")
    os.symlink("../../../etc/shadow", upper / "new/link")
    os.mkfifo(upper / "new/fifo")
    os.mknod(upper / "new/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(upper / "new/sock"))
    whiteout(upper / "gone")
    os.setxattr(upper / "opaque", "trusted.overlay.opaque", b"y")
    (upper / "opaque/kept").write_text("k")
    for name in ("kept", "hidden"):
        (tmp_path / "lower/opaque" / name).write_text("")
    whiteout(tmp_path / "lower/opaque/twice")
    (tmp_path / "lowest/opaque/twice").write_text("")
    (tmp_path / "lowest/opaque/deep").write_text("")
    (upper / "mnt").mkdir()
    (upper / "mnt/below").write_text("")
    os.rmdir(tmp_path / "merged")
    os.symlink(upper, tmp_path / "merged")
    lower = (str(tmp_path / "lower"), str(tmp_path / "lowest"), str(tmp_path / "none"))
    return Layers(upper=str(upper), lower=lower, merged=str(tmp_path / "merged"))


def test_changes_come_back(layers: Layers, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "diff.tar"
    with open(path, "wb") as output:
        deleted = write_changes(layers, {"/mnt"}, output)
    assert sorted(deleted) == ["/gone", "/opaque/deep", "/opaque/hidden", "/opaque/old"]
    root = tmp_path / "root"
    (root / "new").mkdir(parents=True)
    (root / "new/file").mkdir()
    (root / "new/link").write_text("a file before")
    (root / "gone").mkdir()
    (root / "gone/with").write_text("content")
    applying.apply_changes(str(root), str(path), limit=LIMIT, what="it")
    applying.remove_deleted(str(root), deleted, "it")
    found = (root / "new/file").stat()
    assert (root / "new/file").read_text() == "content"
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_nlink) == (12, 34, 0o4750, 2)
    assert os.getxattr(root / "new/file", "user.note") == b"\xffbytes"
    assert os.readlink(root / "new/link") == "../../../etc/shadow"
    assert stat.S_ISFIFO((root / "new/fifo").stat().st_mode)
    assert (root / "new/null").stat().st_rdev == os.makedev(1, 3)
    assert sorted(os.listdir(root)) == ["new", "opaque"]
    assert sorted(os.listdir(root / "opaque")) == ["in", "kept"]
    assert "sock" not in os.listdir(root / "new")
    upper = os.stat(f"{layers.upper}/new")
    assert (root / "new").stat().st_mtime == pytest.approx(upper.st_mtime, abs=0.01)


def test_write_tree(tmp_path: pathlib.Path) -> None:
    (tmp_path / "shm/d").mkdir(parents=True)
    (tmp_path / "shm/d/f").write_text("x")
    with open(tmp_path / "t", "wb") as output:
        assert write_tree(f"{tmp_path}/shm", output) == 2
    (tmp_path / "to/d").mkdir(parents=True)
    applying.apply_changes(f"{tmp_path}/to", f"{tmp_path}/t", limit=LIMIT, what="it", is_new_only=True)
    (tmp_path / "to/d/f").write_text("mine")
    applying.apply_changes(f"{tmp_path}/to", f"{tmp_path}/t", limit=LIMIT, what="it", is_new_only=True)
    assert (tmp_path / "to/d/f").read_text() == "mine"


def hostile(path: pathlib.Path, *members: tuple[str, bytes, dict[str, t.Any]]) -> str:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, more in members:
            made = tarfile.TarInfo(name)
            made.type = kind
            content = more.pop("content", b"")
            for key, value in more.items():
                setattr(made, key, value)
            made.size = len(content)
            tar.addfile(made, io.BytesIO(content))
    return str(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../x", tarfile.REGTYPE, {})], "leads out"),
        ([("/x", tarfile.REGTYPE, {})], "leads out"),
        ([("l", tarfile.SYMTYPE, {"linkname": "OUT"}), ("l/x", tarfile.REGTYPE, {})], "below something"),
        ([("f", tarfile.REGTYPE, {}), ("f/x", tarfile.REGTYPE, {})], "below something"),
        ([("h", tarfile.LNKTYPE, {"linkname": "../secret"})], "leads out"),
        ([("h", tarfile.LNKTYPE, {"linkname": "none"})], "is not in it"),
        (
            [("l", tarfile.SYMTYPE, {"linkname": "OUT"}), ("h", tarfile.LNKTYPE, {"linkname": "l/secret"})],
            "below",
        ),
        ([("sda", tarfile.BLKTYPE, {"devmajor": 8})], "device node"),
        ([("mem", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 1})], "device node"),
    ],
)
def test_what_is_refused(tmp_path: pathlib.Path, members: t.Any, message: str) -> None:
    out, root = tmp_path / "out", tmp_path / "root"
    out.mkdir()
    root.mkdir()
    (out / "secret").write_text("s")
    for _name, _kind, more in members:
        more["linkname"] = more.get("linkname", "").replace("OUT", str(out))
    path = hostile(tmp_path / "t", *members)
    with pytest.raises(InvalidSpec, match=message):
        applying.apply_changes(str(root), path, limit=LIMIT, what="it")
    assert os.listdir(out) == ["secret"]
    assert os.listdir(tmp_path) != []


def test_a_link_put_in_place_of_a_file_is_not_followed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a pod's /dev/shm its containers write meanwhile.
    (tmp_path / "root").mkdir()
    (tmp_path / "host").write_text("")
    (tmp_path / "host").chmod(0o600)
    path = hostile(tmp_path / "t", ("f", tarfile.REGTYPE, {"mode": 0o4755}))
    chown = os.chown

    def swap(name: str, *arguments: t.Any, **options: t.Any) -> None:
        chown(name, *arguments, **options)
        os.unlink(tmp_path / "root/f")
        os.symlink(tmp_path / "host", tmp_path / "root/f")

    monkeypatch.setattr(os, "chown", swap)
    with contextlib.suppress(OSError):
        applying.apply_changes(f"{tmp_path}/root", path, limit=LIMIT, what="it")
    assert stat.S_IMODE((tmp_path / "host").stat().st_mode) == 0o600


def test_no_file_stays_in_memory(tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").write_text("")
    with tarfile.open(fileobj=io.BytesIO(), mode="w") as tar:
        for number in range(10):
            changes.add(tar, f"{tmp_path}/f", str(number))
            assert not vars(tar)["members"]


def test_overlay_s_own_attributes_are_not_set(tmp_path: pathlib.Path) -> None:
    headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.ok": "1"}
    path = hostile(tmp_path / "t", ("d", tarfile.DIRTYPE, {"pax_headers": headers, "mode": 0o755}))
    (tmp_path / "root").mkdir()
    applying.apply_changes(f"{tmp_path}/root", path, limit=LIMIT, what="it")
    assert os.listxattr(tmp_path / "root/d") == ["user.ok"]


def test_whiteouts_delete(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "root"
    for name in ("gone/deep", "stays", "opaque/old", "opaque/deep/er"):
        (root / name).mkdir(parents=True)
    whiteouts = ("stays/.wh.none", ".wh.gone", "opaque/.wh..wh..opq", "stays/.wh..wh.plnk")
    entries = [*whiteouts, "opaque/new"]
    path = hostile(tmp_path / "t", *((name, tarfile.REGTYPE, {}) for name in entries))
    applying.apply_changes(str(root), path, limit=LIMIT, what="it")
    found = sorted(str(each.relative_to(root)) for each in root.rglob("*"))
    assert found == ["opaque", "opaque/new", "stays"]


@pytest.mark.parametrize("name", ["d/.wh.", "d/.wh..", "d/.wh..."])
def test_whiteouts_stay_inside(tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / "root/d").mkdir(parents=True)
    (tmp_path / "root/keep").write_text("")
    path = hostile(tmp_path / "t", (name, tarfile.REGTYPE, {}))
    with pytest.raises(InvalidSpec, match="deletes no file"):
        applying.apply_changes(f"{tmp_path}/root", path, limit=LIMIT, what="it")
    assert sorted(os.listdir(tmp_path / "root")) == ["d", "keep"]


def test_remove_deleted_stays_inside(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "keep").write_text("")
    os.symlink(tmp_path, root / "link")
    applying.remove_deleted(str(root), ["/link/keep", "/none/x", "/none"], "it")
    assert (tmp_path / "keep").exists()
    for path in ("/../keep", "/", ""):
        with pytest.raises(InvalidSpec):
            applying.remove_deleted(str(root), [path], "it")


def test_make_mount_points(tmp_path: pathlib.Path) -> None:
    root, source = tmp_path / "root", tmp_path / "source"
    root.mkdir()
    (source / "inner").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    os.symlink(tmp_path, root / "out")
    mounts = [
        {"destination": "/dev", "type": "tmpfs"},
        {"destination": "/dev/pts", "type": "devpts"},
        {"destination": "/a/b", "type": "bind", "source": str(source)},
        {"destination": "/a/b/new", "type": "none", "options": ["rbind"], "source": str(source / "inner")},
        {"destination": "/etc/hosts", "type": "bind", "source": str(tmp_path / "file")},
        {"destination": "/f", "type": "bind", "source": str(tmp_path / "file")},
        {"destination": "/f/x", "type": "bind", "source": str(source)},
    ]
    applying.make_mount_points(str(root), {"mounts": mounts})
    assert (root / "dev").is_dir()
    assert not (root / "dev/pts").exists()
    assert (source / "new").is_dir()
    assert (root / "etc/hosts").is_file()
    applying.make_mount_points(str(root), {"mounts": mounts})
    outside = {"destination": "/out/mnt", "type": "bind", "source": str(source)}
    with pytest.raises(InvalidSpec, match="a link that leads nowhere"):
        applying.make_mount_points(str(root), {"mounts": [outside]})
    assert not (tmp_path / "mnt").exists()
