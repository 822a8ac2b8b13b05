# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write images of a real store as OCI archives, and have skopeo and umoci read them back."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import stat
import struct
import subprocess
import tarfile

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.images.archive_writer import write_archive
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.images.tar_split import tar_split_of
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import oci_archive
from ansible_collections.pvecri.runtime.tests.support.images import (
    File,
    OciLayout,
    busybox_layer,
    directory,
    symlink,
    tar_layer,
)
from ansible_collections.pvecri.runtime.tests.support.layout_registry import LayoutRegistry

NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
CONFIG = {
    "Env": ["PATH=/bin", "NOTE=one\ntwo"],
    "User": "web",
    "Cmd": ["sh"],
    "WorkingDir": "/home/web",
    "StopSignal": "SIGINT",
}
PING = {"uid": 7, "gid": 8, "xattrs": {"security.capability": NET_RAW}}
LONG = "/".join(["long", "n" * 200, "m" * 200, "file"])


def sparse_layer(tmp_path):
    """Return a layer with a file of holes, written by tar itself in the form that the store takes."""
    folder = tmp_path / "sparse"
    folder.mkdir()
    with open(folder / "holes", "wb") as stream:
        stream.write(b"begin")
        stream.seek(3 << 20)
        stream.write(b"end")
    return subprocess.run(
        ["tar", "--sparse", "--format=posix", "--owner=0", "--group=0", "-C", folder, "-cf", "-", "holes"],
        check=True,
        capture_output=True,
    ).stdout


def everything(tmp_path):
    """Return layers that hold what a layer may hold."""
    lower = tar_layer(
        [
            directory("d"),
            File("d/gone", b"1"),
            File("d/kept", b"2"),
            directory("o"),
            File("o/hidden", b"x"),
            directory("e"),
            File("e/x"),
            File("changed", b"old" * 1000),
            File("d/ping", b"ping" * 300, 0o4755, **PING),
            File("d/ping2", mode=0o4755, kind=tarfile.LNKTYPE, link="d/ping", **PING),
            File("d/noted", b"n", xattrs={"user.note": b"\x00\xff bytes"}),
        ]
    )
    upper = tar_layer(
        [
            File("d/.wh.gone"),
            File(".wh.e"),
            directory("o"),
            File("o/.wh..wh..opq"),
            File("o/new", b"new"),
            File("changed", b"n" * (3 << 20) + b"!"),
            File(LONG, b"long"),
            File("d/\udcff\udcfe", b"no UTF-8"),
            File('d/ümlaut \\ "quoted"', b"u"),
            symlink("d/out", "/etc"),
            File("d/fifo", kind=tarfile.FIFOTYPE),
            directory("shut", 0o500, uid=1000, gid=1000),
            File("shut/in", b"i", 0),
        ]
    )
    return [busybox_layer(), lower, sparse_layer(tmp_path), upper, upper]


@pytest.fixture
def layout(tmp_path):
    """Return a layout for the images of one test."""
    return OciLayout(tmp_path / "layout")


def pulled(store, layout, layers, **more):
    """Bring an image of ``layers`` into the store and return it."""
    layout.add_image("latest", layers, CONFIG, **more)
    return store.ensure(ImageSource(reference=f"oci:{layout.path}:latest"))[0]


def tree(path):
    """Return everything below ``path`` that a container could see."""
    found, links = {}, {}
    for folder, names, files in os.walk(os.fsencode(path)):
        for name in [*names, *files]:
            place = os.path.join(folder, name)
            status = os.lstat(place)
            is_file = stat.S_ISREG(status.st_mode)
            key = os.path.relpath(place, os.fsencode(path))
            content = pathlib.Path(os.fsdecode(place)).read_bytes() if is_file else b""
            first = links.setdefault(status.st_ino, key) if is_file else key
            found[key] = (
                (status.st_mode, status.st_uid, status.st_gid, first),
                (status.st_size, hashlib.sha256(content).hexdigest()) if is_file else (),
                os.readlink(place) if stat.S_ISLNK(status.st_mode) else "",
                int(status.st_mtime) if is_file else 0,
                {name: os.getxattr(place, name, follow_symlinks=False) for name in _xattrs(place)},
            )
    return found


def _xattrs(place):
    return sorted(os.listxattr(place, follow_symlinks=False))


def read_back(archive, target):
    """Have skopeo turn an archive into a layout, and return the layout's path."""
    argv = [
        "skopeo",
        "--insecure-policy",
        "copy",
        "--quiet",
        f"oci-archive:{archive}",
        f"oci:{target}:latest",
    ]
    subprocess.run(argv, check=True, capture_output=True)
    return target


def unpacked(layout_path, tag, target):
    """Have umoci unpack an image of a layout; return what is in it then."""
    argv = ["umoci", "unpack", "--keep-dirlinks", "--image", f"{layout_path}:{tag}", str(target)]
    subprocess.run(argv, check=True, capture_output=True)
    return tree(target / "rootfs")


def members(path):
    """Return the members of an archive with their content."""
    with tarfile.open(path, "r:") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


# ---- what comes out ---------------------------------------------------------------------------------------


def test_archive_read_back_by_skopeo_and_umoci_is_the_same_tree(core, layout, tmp_path):
    image = pulled(core.store, layout, everything(tmp_path))
    target = tmp_path / "out.tar"
    write_archive(image, core.store.files_of(image), str(target))
    again = read_back(target, tmp_path / "again")
    expected = unpacked(layout.path, "latest", tmp_path / "expected")
    found = unpacked(again, "latest", tmp_path / "found")
    assert found == expected
    assert b"d/kept" in found
    assert not {b"d/gone", b"e", b"o/hidden"} & found.keys()
    assert found[b"d/ping2"][0][3] == found[b"d/ping"][0][3]
    assert found[b"d/ping"][4] == {"security.capability": NET_RAW}
    assert found[b"holes"][1][0] == (3 << 20) + 3
    assert os.fsencode("d/\udcff\udcfe") in found


def test_archive_layers_are_byte_for_byte_those_that_were_built(core, layout, tmp_path):
    # One with a file of holes is another, which says the same.
    layers = [layer for layer in everything(tmp_path) if b"GNU.sparse" not in layer]
    image = pulled(core.store, layout, layers)
    size = write_archive(image, core.store.files_of(image), str(tmp_path / "out.tar"))
    assert size == os.path.getsize(tmp_path / "out.tar")
    found = members(tmp_path / "out.tar")
    for layer in layers:
        assert found[f"blobs/sha256/{hashlib.sha256(layer).hexdigest()}"] == layer
    # Of two layers that are the same there is one.
    assert len([name for name in found if name.startswith("blobs/")]) == len(layers) - 1 + 2


def test_archive_is_what_proxmox_recognises_and_names_nothing_that_it_would_write_down(
    core, layout, tmp_path
):
    image = pulled(core.store, layout, [busybox_layer()])
    target = tmp_path / "out.tar"
    write_archive(image, core.store.files_of(image), str(target))
    listed = subprocess.run(
        ["tar", "-tf", target], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {"oci-layout", "index.json"} <= set(listed)
    assert all(name.startswith("blobs/sha256/") for name in set(listed) - {"oci-layout", "index.json"})
    info = oci_archive.inspect_archive(str(target))
    assert (info.architecture, info.os) == ("amd64", "linux")
    assert (info.env, info.entrypoint, info.command) == ((), (), ())
    found = members(target)
    manifest = json.loads(found[f"blobs/{info.digest.replace(':', '/')}"])
    assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar"}
    config = json.loads(found[f"blobs/{manifest['config']['digest'].replace(':', '/')}"])
    assert config["config"] == {}
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_archive_is_the_same_whenever_it_is_written(core, layout, tmp_path):
    image = pulled(core.store, layout, [busybox_layer()])
    for name in ("one", "two"):
        write_archive(image, core.store.files_of(image), str(tmp_path / name))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_archive_of_an_image_in_docker_format(core, layout, tmp_path):
    layout.add_image("latest", [busybox_layer()], CONFIG, docker=True)
    with LayoutRegistry(layout) as registry:
        source = ImageSource(reference=f"docker://{registry.address}/a:latest", tls_verify=False)
        image, _is_new = core.store.ensure(source)
    write_archive(image, core.store.files_of(image), str(tmp_path / "out.tar"))
    assert oci_archive.inspect_archive(str(tmp_path / "out.tar")).architecture == "amd64"


def test_archive_of_an_image_in_an_additional_store(core, layout, tmp_path):
    image = pulled(core.store, layout, everything(tmp_path))
    paths = Paths(state_dir=str(tmp_path / "other"), run_dir=str(tmp_path / "run"))
    store = ImageStore(paths, core.runner, additional=[core.paths.storage])
    found = store.find(image.id)
    write_archive(found, store.files_of(found), str(tmp_path / "one"))
    write_archive(image, core.store.files_of(image), str(tmp_path / "two"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


# ---- what goes wrong --------------------------------------------------------------------------------------


def test_archive_without_lists_of_the_layers_is_packed_anew_to_the_same_tree(core, layout, tmp_path):
    image = pulled(core.store, layout, everything(tmp_path))
    for path in {tar_split_of(layer) for layer in image.layer_dirs}:
        os.unlink(path)
    files = core.store.files_of(image)
    for name in ("one", "two"):
        write_archive(image, files, str(tmp_path / name))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    again = read_back(tmp_path / "one", tmp_path / "again")
    expected = unpacked(layout.path, "latest", tmp_path / "expected")
    assert unpacked(again, "latest", tmp_path / "found") == expected


@pytest.mark.parametrize("change", ["content", "shorter", "gone", "link", "list"])
def test_archive_of_a_changed_layer_is_refused_and_leaves_nothing(core, layout, tmp_path, change):
    image = pulled(core.store, layout, [tar_layer([directory("etc"), File("etc/motd", b"hello")])])
    motd = pathlib.Path(image.layer_dirs[0], "etc/motd")
    if change == "content":
        motd.write_bytes(b"HELLO")
    elif change == "shorter":
        motd.write_bytes(b"hell")
    elif change == "gone":
        motd.unlink()
    elif change == "link":
        motd.unlink()
        motd.symlink_to("/etc/hostname")
    else:
        pathlib.Path(tar_split_of(image.layer_dirs[0])).write_bytes(b"no gzip")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(WrongState, match="pull it again"):
        write_archive(image, core.store.files_of(image), str(out / "x.tar"))
    assert not list(out.iterdir())


def test_archive_on_a_full_disk_says_so_and_leaves_nothing(core, layout, tmp_path):
    image = pulled(core.store, layout, [busybox_layer()])
    small = tmp_path / "small"
    small.mkdir()
    with contextlib.ExitStack() as held:
        syscalls.mount("tmpfs", str(small), "tmpfs", 0, "size=256k")
        held.callback(syscalls.umount2, str(small))
        with pytest.raises(CoreError, match="cannot be written") as caught:
            write_archive(image, core.store.files_of(image), str(small / "x.tar"))
        assert not list(small.iterdir())
    assert caught.value.__cause__.errno == errno.ENOSPC
