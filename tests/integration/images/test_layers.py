# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack layers that hold everything a layer may hold, and some that hold what none should."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import pathlib
import shutil
import stat
import struct
import subprocess
import tarfile

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CoreError,
    InvalidSpec,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource, TarballSource
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, IdMap, Namespaces
from ansible_collections.pvecri.runtime.tests.support import images
from ansible_collections.pvecri.runtime.tests.support.images import (
    File,
    OciLayout,
    busybox_layer,
    directory,
    hard_link,
    symlink,
    tar_layer,
)

HOST_NETWORK = Namespaces(network="host")

#: cap_net_raw=ep as the kernel stores it (struct vfs_cap_data, revision 2).
NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def make(core, tmp_path, *layers, config=None, name="test", **spec):
    """Make a bundle from busybox and ``layers``; return it and the path of its rootfs."""
    layout = OciLayout(tmp_path / "layout")
    layout.add_image("latest", [busybox_layer(), *layers], {"Cmd": ["sh"], **(config or {})})
    source = ImageSource(reference=f"oci:{layout.path}:latest")
    bundle = core.manager.create(ContainerSpec(name=name, namespaces=HOST_NETWORK, **spec), source)
    return bundle, pathlib.Path(bundle.rootfs_path)


def leftovers(core):
    """Return what a failed fetch left: images, layers and temporary files."""
    storage = pathlib.Path(core.paths.storage)
    layers = storage / "overlay-layers/layers.json"
    return (
        [image.id for image in core.store.list()],
        layers.read_text() if layers.exists() else "[]",
        sorted(path.name for path in pathlib.Path(core.paths.state_dir, "tmp").iterdir()),
    )


# ---- what a layer may hold -------------------------------------------------------------------------------


def test_layer_whiteout_hides_file_and_directory(core, tmp_path):
    lower = tar_layer(
        [directory("d"), File("d/gone", b"1"), File("d/kept", b"2"), directory("e"), File("e/x")]
    )
    upper = tar_layer([File("d/.wh.gone"), File(".wh.e")])
    _unused, root = make(core, tmp_path, lower, upper)
    assert sorted(os.listdir(root / "d")) == ["kept"]
    assert not (root / "e").exists()


def test_layer_opaque_directory_hides_all_below(core, tmp_path):
    lower = tar_layer([directory("d"), File("d/old", b"1"), directory("d/sub"), File("d/sub/x", b"2")])
    upper = tar_layer([directory("d", 0o700), File("d/.wh..wh..opq"), File("d/new", b"3")])
    _unused, root = make(core, tmp_path, lower, upper)
    assert sorted(os.listdir(root / "d")) == ["new"]
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o700


def test_layer_directory_replaced_by_file_and_back(core, tmp_path):
    lower = tar_layer([directory("a"), File("a/x", b"1"), File("b", b"2")])
    upper = tar_layer([File("a", b"now a file"), directory("b"), File("b/y", b"3")])
    _unused, root = make(core, tmp_path, lower, upper)
    assert (root / "a").read_bytes() == b"now a file"
    assert (root / "b/y").read_bytes() == b"3"


def test_layer_hard_links_share_one_inode(core, tmp_path):
    layer = tar_layer([File("one", b"same", 0o600), hard_link("two", "one"), hard_link("bin/three", "two")])
    _unused, root = make(core, tmp_path, layer)
    inodes = {(root / name).stat().st_ino for name in ("one", "two", "bin/three")}
    assert len(inodes) == 1
    assert (root / "one").stat().st_nlink == 3


def test_layer_hard_link_to_a_file_of_a_lower_layer_is_refused(core, tmp_path):
    """The target of a hard link must stand in the same layer (OCI image specification, layer.md)."""
    with pytest.raises(CommandError) as caught:
        make(core, tmp_path, tar_layer([File("low", b"x")]), tar_layer([hard_link("high", "low")]))
    assert "no such file or directory" in str(caught.value)
    assert leftovers(core)[0] == []


def test_layer_owner_mode_setuid_and_time(core, tmp_path):
    layer = tar_layer(
        [
            File("s", b"#", 0o4755, 0, 0),
            File("g", b"#", 0o2755, 1000, 50),
            directory("sticky", 0o1777),
            File("o", b"", 0o640, 123456, 654321),
        ]
    )
    _unused, root = make(core, tmp_path, layer)
    found = {name: (root / name).stat() for name in ("s", "g", "sticky", "o")}
    assert {name: stat.S_IMODE(found[name].st_mode) for name in found} == {
        "s": 0o4755,
        "g": 0o2755,
        "sticky": 0o1777,
        "o": 0o640,
    }
    assert (found["g"].st_uid, found["g"].st_gid) == (1000, 50)
    assert (found["o"].st_uid, found["o"].st_gid) == (123456, 654321)
    assert found["s"].st_mtime == 1767225600


def test_layer_xattrs_and_file_capabilities(core, tmp_path):
    layer = tar_layer(
        [File("ping", b"#", 0o755, xattrs={"security.capability": NET_RAW, "user.note": "grüße".encode()})]
    )
    _unused, root = make(core, tmp_path, layer)
    assert os.getxattr(root / "ping", "security.capability") == NET_RAW
    assert os.getxattr(root / "ping", "user.note") == "grüße".encode()


def test_layer_file_capability_survives_a_user_namespace(core, tmp_path):
    maps = (IdMap(container_id=0, host_id=200000, size=65536),)
    layer = tar_layer([File("s", b"#", 0o4755, 0, 0), File("web", b"", 0o600, 1000, 1000)])
    layout = OciLayout(tmp_path / "layout")
    layout.add_image("latest", [busybox_layer(), layer], {"Env": ["PATH=/bin"]})
    spec = ContainerSpec(
        name="test",
        namespaces=Namespaces(network="host", user="private"),
        uid_maps=maps,
        gid_maps=maps,
        command=("/bin/ls", "-ln", "/s", "/web"),
    )
    bundle = core.manager.create(spec, ImageSource(reference=f"oci:{layout.path}:latest"))
    root = pathlib.Path(bundle.rootfs_path)
    assert (root / "s").stat().st_uid == 200000
    assert (root / "web").stat().st_uid == 201000
    done = core.run(bundle.path)
    assert done.rc == 0, done.stderr
    assert [line.split()[:4] for line in done.stdout.splitlines()] == [
        ["-rwsr-xr-x", "1", "0", "0"],
        ["-rw-------", "1", "1000", "1000"],
    ]


def test_layer_device_nodes_fifo_and_links(core, tmp_path):
    layer = tar_layer(
        [
            File("dev/null", kind=tarfile.CHRTYPE, device=(1, 3), mode=0o666),
            File("blk", kind=tarfile.BLKTYPE, device=(7, 99), mode=0o600),
            File("pipe", kind=tarfile.FIFOTYPE, mode=0o600),
            symlink("absolute", "/etc/passwd"),
            symlink("dangling", "../../../../nowhere"),
        ]
    )
    _unused, root = make(core, tmp_path, layer)
    assert (root / "dev/null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISBLK((root / "blk").stat().st_mode)
    assert (root / "blk").stat().st_rdev == os.makedev(7, 99)
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert os.readlink(root / "absolute") == "/etc/passwd"
    assert os.readlink(root / "dangling") == "../../../../nowhere"


def test_layer_strange_names(core, tmp_path):
    names = ["with space", "new\nline", "umläut", "-rf", "a:b,c=d", "x" * 255]
    _unused, root = make(core, tmp_path, tar_layer([File(f"odd/{name}", name.encode()) for name in names]))
    assert {name: (root / "odd" / name).read_bytes() for name in names} == {n: n.encode() for n in names}


def test_layer_top_directory_is_that_of_the_store(core, tmp_path):
    """What the writable part is given for ``/`` is what the image shows there, not what we would choose."""
    _unused, root = make(core, tmp_path, tar_layer([directory("./", 0o750, uid=5, gid=6), File("f")]))
    layer = os.stat(core.store.list()[0].layer_dirs[0])
    shown = root.stat()
    assert (shown.st_mode, shown.st_uid, shown.st_gid) == (layer.st_mode, layer.st_uid, layer.st_gid)
    assert stat.S_IMODE(shown.st_mode) & 0o555 == 0o555


@pytest.mark.parametrize("count", [40, 100, 127])
def test_layers_many(core, tmp_path, count):
    layers = [tar_layer([File(f"layers/{number:03}", b"x")]) for number in range(count - 1)]
    bundle, root = make(core, tmp_path, *layers, command=("/bin/ls", "/layers"))
    assert len(os.listdir(root / "layers")) == count - 1
    assert len(core.run(bundle.path).stdout.split()) == count - 1


# ---- what no layer should hold ---------------------------------------------------------------------------

HOSTILE = {
    "parent in a name": [File("../../../../../../{victim}", b"evil")],
    "absolute name": [File("/{victim}", b"evil")],
    "through an absolute link": [symlink("etc/x", "/{dir}"), File("etc/x/victim", b"evil")],
    "through a relative link": [symlink("up", "../../../../../../../../{dir}"), File("up/victim", b"evil")],
    "link replaced by a file": [symlink("f", "/{victim}"), File("f", b"evil")],
    "hard link to the host": [hard_link("h", "/{victim}"), File("h", b"evil")],
    "hard link with parents": [hard_link("h", "../../../../../../../../{victim}"), File("h", b"evil")],
    "hard link through a link": [symlink("l", "/{dir}"), hard_link("h", "l/victim"), File("h", b"evil")],
    "whiteout of the host": [File("../../../../../../{dir}/.wh.victim")],
    "whiteout through a link": [symlink("l", "/{dir}"), File("l/.wh.victim")],
    "opaque through a link": [symlink("l", "/{dir}"), File("l/.wh..wh..opq")],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_layer_hostile_harms_nothing(core, tmp_path, case):
    """The layer is refused, or unpacked inside the image; the host's file is never touched."""
    victim = tmp_path / "dir" / "victim"
    victim.parent.mkdir()
    victim.write_text("mine")
    inode = victim.stat().st_ino

    def filled(text):
        return text.replace("{victim}", str(victim)[1:]).replace("{dir}", str(victim.parent)[1:])

    entries = [
        File(filled(e.path), e.content, e.mode, kind=e.kind, link=filled(e.link)) for e in HOSTILE[case]
    ]
    try:
        _unused, root = make(core, tmp_path, tar_layer(entries))
    except CommandError:
        assert leftovers(core)[0] == []
        assert core.manager.names() == []
    else:
        # What was written through names and links stands inside the image, as if it were the whole world.
        inside = root / str(victim)[1:]
        assert not inside.is_symlink()
    assert victim.read_text() == "mine"
    assert victim.stat().st_ino == inode
    assert victim.stat().st_nlink == 1


OVERLAY_MARKS = {
    "redirect": {"trusted.overlay.redirect": b"/../../../../{dir}"},
    "redirect of the host's root": {"trusted.overlay.redirect": b"/etc"},
    "metacopy": {"trusted.overlay.metacopy": b"", "trusted.overlay.redirect": b"/{victim}"},
    "opaque": {"trusted.overlay.opaque": b"y"},
    "origin": {"trusted.overlay.origin": b"\x00\xfb\x1d\x00"},
    "user marks": {"user.overlay.redirect": b"/etc", "user.overlay.opaque": b"y"},
}


@pytest.mark.parametrize("case", OVERLAY_MARKS)
def test_layer_with_marks_of_overlayfs_shows_nothing_of_the_host(core, tmp_path, case):
    """Attributes that steer overlayfs, put into a layer by its author: the store does not take them out."""
    victim = tmp_path / "dir" / "victim"
    victim.parent.mkdir()
    victim.write_text("mine")

    def filled(value):
        value = value.replace(b"{victim}", str(victim)[1:].encode())
        return value.replace(b"{dir}", str(victim.parent)[1:].encode())

    marks = {name: filled(value) for name, value in OVERLAY_MARKS[case].items()}
    lower = tar_layer([directory("d"), File("d/low", b"low"), File("f", b"low")])
    upper = tar_layer([directory("d", xattrs=marks), File("d/high", b"high"), File("f", b"x", xattrs=marks)])
    try:
        _unused, root = make(core, tmp_path, lower, upper)
    except CoreError:
        assert core.manager.names() == []
    else:
        # A redirection leads to another directory of the image at most, never out of its layers.
        shown: set[str] = set()
        with contextlib.suppress(PermissionError):
            shown |= set(os.listdir(root / "d"))
        assert shown <= {"low", "high", "passwd", "group"}
        assert "web" in (root / "etc/passwd").read_text()
        with contextlib.suppress(OSError):
            assert (root / "f").read_bytes() in (b"x", b"low", b"\0")
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("name", ["etc/passwd", "etc/group"])
@pytest.mark.parametrize(
    "entry",
    [
        File("{}", kind=tarfile.FIFOTYPE),
        File("{}", kind=tarfile.CHRTYPE, device=(1, 5), mode=0o666),
        directory("{}"),
    ],
)
def test_layer_users_that_are_no_file_are_refused(core, tmp_path, name, entry):
    layer = tar_layer([File(f"etc/.wh.{os.path.basename(name)}")])
    odd = tar_layer([File(name, kind=entry.kind, device=entry.device, mode=entry.mode)])
    with pytest.raises(InvalidSpec) as caught:
        make(core, tmp_path, layer, odd)
    assert f"/{name} of the image is no regular file" in str(caught.value)
    assert core.manager.names() == []


def test_layer_users_behind_a_link_out_of_the_image_come_from_the_image(core, tmp_path):
    layer = tar_layer(
        [
            File("etc/.wh.passwd"),
            symlink("etc/passwd.real", "/srv/../../../../srv/users"),
            directory("srv"),
            File("srv/users", b"eve:x:4711:4711::/:/bin/sh\n"),
        ]
    )
    link = tar_layer([symlink("etc/passwd", "passwd.real")])
    bundle, _unused = make(core, tmp_path, layer, link, user="eve")
    assert bundle.config["process"]["user"]["uid"] == 4711


def test_layer_volume_over_a_link_does_not_copy_the_host(core, tmp_path):
    secret = tmp_path / "host-secret"
    secret.mkdir()
    (secret / "key").write_text("private")
    layer = tar_layer([symlink("data", str(secret))])
    bundle, _unused = make(
        core, tmp_path, layer, config={"Volumes": {"/data": {}}}, command=("/bin/ls", "-A", "/data")
    )
    for folder, _dirs, files in os.walk(os.path.join(bundle.path, "volumes")):
        assert files == [], folder


# ---- damaged ---------------------------------------------------------------------------------------------


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def damage_empty(path):
    path.write_bytes(b"")


def damage_remove(path):
    path.unlink()


@pytest.mark.parametrize("which", ["layer", "config", "manifest"])
@pytest.mark.parametrize("damage", [damage_truncate, damage_flip, damage_empty, damage_remove])
def test_layout_damaged(core, tmp_path, which, damage):
    layout = OciLayout(tmp_path / "layout")
    manifest = layout.add_image("latest", [busybox_layer()], {"Cmd": ["sh"]})
    parsed = json.loads(layout.blob_path(manifest).read_bytes())
    digest = {
        "manifest": manifest,
        "config": parsed["config"]["digest"],
        "layer": parsed["layers"][0]["digest"],
    }[which]
    damage(layout.blob_path(digest))
    source = ImageSource(reference=f"oci:{layout.path}:latest")
    with pytest.raises(CoreError) as caught:
        core.manager.create(ContainerSpec(name="test"), source)
    assert layout.path in str(caught.value)
    assert leftovers(core) == ([], leftovers(core)[1], [])
    assert core.manager.names() == []
    # The same reference works as soon as the layout is whole again.
    images.busybox_image(layout.path)
    assert core.manager.create(ContainerSpec(name="test", namespaces=HOST_NETWORK), source).problems == []


def test_layer_that_is_no_tar(core, tmp_path):
    with pytest.raises(CommandError) as caught:
        make(core, tmp_path, b"this is no archive" * 100)
    assert "cannot be fetched" in str(caught.value)
    assert leftovers(core)[0] == []


def test_layer_whose_content_is_not_its_diff_id(core, tmp_path):
    """A registry may send a layer that the configuration does not know."""
    layout = OciLayout(tmp_path / "layout")
    digest = layout.add_image("latest", [busybox_layer()], {})
    manifest = json.loads(layout.blob_path(digest).read_bytes())
    other = layout.add_blob(gzip.compress(tar_layer([File("evil", b"x")])), images.OCI_LAYER + "+gzip")
    manifest["layers"] = [other]
    swapped = layout.add_blob(json.dumps(manifest).encode(), images.OCI_MANIFEST)
    layout._list("latest", swapped)
    # Newer versions of skopeo look at this themselves.
    with pytest.raises((InvalidSpec, CommandError), match=r"diff_ids|DiffID"):
        core.store.ensure(ImageSource(reference=f"oci:{layout.path}:latest"))
    assert leftovers(core) == ([], "[]", [])


# ---- tarballs --------------------------------------------------------------------------------------------


def zstd(data):
    if shutil.which("zstd") is None:
        pytest.skip("needs the program zstd")
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("pack", ["plain", "gzip", "bzip2", "xz", "zstd"])
def test_tarball_packed(core, tmp_path, pack):
    packers = {
        "plain": bytes,
        "gzip": gzip.compress,
        "bzip2": bz2.compress,
        "xz": lambda data: lzma.compress(data, preset=1),
        "zstd": zstd,
    }
    path = tmp_path / "rootfs.tar"
    path.write_bytes(packers[pack](busybox_layer()))
    spec = ContainerSpec(name="test", namespaces=HOST_NETWORK, command=("/bin/echo", "up"))
    bundle = core.manager.create(spec, TarballSource(path=str(path)))
    assert core.run(bundle.path).stdout == "up\n"


def test_tarball_hostile_harms_nothing(core, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = tmp_path / "rootfs.tar"
    path.write_bytes(tar_layer([symlink("l", str(tmp_path)), File("l/victim", b"evil")]))
    try:
        core.store.ensure(TarballSource(path=str(path)))
    except CommandError:
        assert core.store.list() == []
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
@pytest.mark.parametrize("damage", [damage_truncate, damage_flip])
def test_tarball_damaged(core, tmp_path, pack, damage):
    path = tmp_path / "rootfs.tar.packed"
    path.write_bytes(pack(tar_layer([File("a", os.urandom(50_000))])))
    damage(path)
    with pytest.raises(CoreError) as caught:
        core.store.ensure(TarballSource(path=str(path)))
    assert str(path) in str(caught.value)
    assert leftovers(core) == ([], leftovers(core)[1], [])


def test_tarball_unchanged_is_not_read_twice_and_changed_is(core, tmp_path):
    path = tmp_path / "rootfs.tar"
    path.write_bytes(busybox_layer())
    source = TarballSource(path=str(path))
    first, fetched = core.store.ensure(source)
    assert fetched
    calls = len(core.runner.calls)
    assert core.store.ensure(source) == (first, False)
    assert len(core.runner.calls) == calls
    path.write_bytes(tar_layer([File("other", b"1")]))
    second, fetched = core.store.ensure(source)
    assert fetched
    assert second.layer_dirs != first.layer_dirs
    # Nothing needs the old content any more.
    assert [image.id for image in core.store.list()] == [second.id]
