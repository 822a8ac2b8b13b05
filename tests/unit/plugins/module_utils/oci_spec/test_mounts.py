# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold mounts: the usual ones, those asked for, their order and what is refused."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    IdMap,
    Mount,
    MountKind,
    Namespaces,
    Security,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.mounts import (
    ResolvedMount,
    build_mounts,
    rootfs_propagation,
)

MAPS = (IdMap(container_id=0, host_id=1000, size=100),)


def resolved(destination="/d", source="/s", kind=MountKind.BIND, **more) -> ResolvedMount:
    if kind == MountKind.TMPFS:
        source = None
    mount = Mount(kind=kind, destination=destination, **{"source": source, **more})
    return ResolvedMount(mount=mount, source=source)


def built(*mounts: ResolvedMount, extra=(), host=HostFacts(), **asked):  # noqa: B008 - never changed
    spec = ContainerSpec(name="x", mounts=tuple(item.mount for item in mounts), **asked)
    return {mount["destination"]: mount for mount in build_mounts(spec, host, (*mounts, *extra))}


def options_of(*mounts: ResolvedMount, **asked) -> list[str]:
    return built(*mounts, **asked)[mounts[0].mount.destination]["options"]


@pytest.mark.parametrize(
    ("namespaces", "bound"),
    [
        ({}, set()),
        ({"network": "host", "pid": "host", "ipc": "host"}, {"/dev/shm"}),
        ({"user": "private"}, set()),
        ({"user": "private", "network": "host"}, {"/sys"}),
        ({"user": "private", "network": "/run/netns/x"}, {"/sys"}),
        ({"user": "private", "pid": "host"}, {"/proc"}),
        ({"user": "private", "ipc": "host"}, {"/dev/mqueue", "/dev/shm"}),
        ({"user": "/proc/1/ns/user", "network": "host"}, {"/sys"}),
    ],
)
def test_usual_mounts(namespaces, bound):
    mounts = built(namespaces=Namespaces(**namespaces), gid_maps=MAPS)
    assert {path for path, mount in mounts.items() if mount["type"] == "bind"} == bound
    assert {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"} == mounts.keys()


def test_usual_mounts_without_mqueue_on_the_host():
    namespaces = Namespaces(user="private", ipc="host")
    assert "/dev/mqueue" not in built(namespaces=namespaces, host=HostFacts(has_mqueue=False))
    assert "/dev/mqueue" in built(host=HostFacts(has_mqueue=False))


@pytest.mark.parametrize(("privileged", "word"), [(False, "ro"), (True, "rw")])
def test_usual_mounts_are_writable_for_the_privileged(privileged, word):
    mounts = built(security=Security(privileged=privileged))
    assert word in mounts["/sys"]["options"]
    assert word in mounts["/sys/fs/cgroup"]["options"]


@pytest.mark.parametrize(
    ("asked", "has_group"),
    [
        ({}, True),
        ({"namespaces": Namespaces(user="private"), "gid_maps": MAPS}, True),
        (
            {
                "namespaces": Namespaces(user="private"),
                "gid_maps": (IdMap(container_id=0, host_id=1, size=5),),
            },
            False,
        ),
        ({"namespaces": Namespaces(user="/proc/1/ns/user")}, False),
    ],
)
def test_terminals_belong_to_a_group_that_exists(asked, has_group):
    assert ("gid=5" in built(**asked)["/dev/pts"]["options"]) == has_group


@pytest.mark.parametrize(("size", "option"), [(None, "size=67108864"), (1024, "size=1024")])
def test_shm_size(size, option):
    assert option in built(shm_size_bytes=size)["/dev/shm"]["options"]


@pytest.mark.parametrize(
    ("size", "ipc", "message"), [(0, "private", "at least 1"), (1024, "host", "namespaces.ipc is 'host'")]
)
def test_shm_size_refuses(size, ipc, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        built(shm_size_bytes=size, namespaces=Namespaces(ipc=ipc))
    assert caught.value.field == "shm_size"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ["rbind", "rprivate", "rw"]),
        ({"read_only": True}, ["rbind", "rprivate", "ro"]),
        ({"recursive_read_only": True}, ["rbind", "rprivate", "ro", "rro"]),
        ({"propagation": "rshared"}, ["rbind", "rshared", "rw"]),
        ({"options": ("noexec", " nosuid ")}, ["rbind", "rprivate", "rw", "noexec", "nosuid"]),
        ({"options": ("bind",)}, ["bind", "private", "rw"]),
        ({"options": ("bind",), "propagation": "rslave"}, ["bind", "slave", "rw"]),
        ({"options": ("rbind", "noexec", "noexec")}, ["rbind", "rprivate", "rw", "noexec"]),
    ],
)
def test_bind_options(more, expected):
    mount = built(resolved(**more))["/d"]
    assert mount == {"destination": "/d", "type": "bind", "source": "/s", "options": expected}


def test_bind_with_id_maps():
    mount = built(resolved(uid_maps=MAPS, gid_maps=MAPS))["/d"]
    assert mount["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 100}]
    assert mount["gidMappings"] == mount["uidMappings"]
    assert "idmap" in mount["options"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ["rw", "nosuid", "nodev", "mode=1777"]),
        ({"read_only": True}, ["ro", "nosuid", "nodev", "mode=1777"]),
        ({"options": ("suid", "noexec")}, ["rw", "nodev", "suid", "noexec", "mode=1777"]),
        ({"options": ("nosuid",)}, ["rw", "nosuid", "nodev", "mode=1777"]),
        (
            {"size_bytes": 4096, "mode": 0o640, "uid": 0, "gid": 7},
            ["rw", "nosuid", "nodev", "size=4096", "mode=640", "uid=0", "gid=7"],
        ),
        ({"propagation": "rshared"}, ["rw", "nosuid", "nodev", "rshared", "mode=1777"]),
    ],
)
def test_tmpfs_options(more, expected):
    assert options_of(resolved(kind=MountKind.TMPFS, **more)) == expected


@pytest.mark.parametrize("kind", [MountKind.VOLUME, MountKind.IMAGE, MountKind.SECRET, MountKind.FILE])
def test_everything_else_is_a_bind_of_its_source(kind):
    mount = Mount(kind=kind, destination="/d", source="name")
    found = built(ResolvedMount(mount=mount, source="/var/lib/x"))["/d"]
    assert (found["type"], found["source"]) == ("bind", "/var/lib/x")


def test_order_is_by_depth():
    mounts = [resolved("/a/b/c"), resolved("/a", "/t", MountKind.TMPFS), resolved("/a/b")]
    spec = ContainerSpec(name="x", mounts=tuple(item.mount for item in mounts))
    order = [mount["destination"] for mount in build_mounts(spec, HostFacts(), mounts)]
    assert [path for path in order if path.startswith("/a")] == ["/a", "/a/b", "/a/b/c"]
    assert order.index("/dev") < order.index("/dev/pts")
    assert order.index("/sys") < order.index("/sys/fs/cgroup")


@pytest.mark.parametrize(
    ("mount", "gone"),
    [
        (resolved("/dev/shm"), set()),
        (resolved("/sys"), {"/sys/fs/cgroup"}),
        (resolved("/dev"), {"/dev/pts", "/dev/shm", "/dev/mqueue"}),
        (resolved("/sys", kind=MountKind.TMPFS), set()),
        (resolved("/sysfs"), set()),
        (resolved("/dev", kind=MountKind.FILE), set()),
    ],
)
def test_asked_takes_the_place_of_usual(mount, gone):
    usual, found = built().keys(), built(mount)
    assert usual - found.keys() == gone
    assert found[mount.mount.destination]["type"] in ("bind", "tmpfs")


def test_further_mounts_give_way():
    extra = [resolved("/d", "/of-image"), resolved("/e", "/of-image"), resolved("/e", "/again")]
    found = built(resolved("/d", "/mine"), extra=extra)
    assert (found["/d"]["source"], found["/e"]["source"]) == ("/mine", "/of-image")


@pytest.mark.parametrize(
    ("mount", "field", "message"),
    [
        (resolved("d"), "destination", "not an absolute path"),
        (resolved("/"), "destination", "rootfs itself"),
        (resolved("/a/../b"), "destination", "Write '/b'"),
        (resolved("/a//b"), "destination", "Write '/a/b'"),
        (resolved("/a/./b"), "destination", "Write '/a/b'"),
        (resolved("/" + "a" * 4096), "destination", "longer than"),
        (resolved("/a\0b"), "destination", "NUL"),
        (resolved("/d", "rel"), "source", "not an absolute path"),
        (resolved("/d", None), "source", "needs a source"),
        (resolved(size_bytes=1), "size", "only a tmpfs"),
        (resolved(propagation="sharing"), "propagation", "'sharing' is none of"),
        (resolved(recursive_read_only=True, propagation="rslave"), "recursive_read_only", "does not go with"),
        (resolved(options=("rw",), read_only=True), "options[0]", "said by read_only"),
        (resolved(options=("noexec", "exec")), "options[1]", "contradicts 'noexec'"),
        (resolved(options=("size=5",)), "options[0]", "said by size"),
        (resolved(options=("rslave",)), "options[0]", "said by propagation"),
        (resolved(options=("noexe",)), "options[0]", "Did you mean noexec"),
        (resolved(options=("relatime", "noatime")), "options[1]", "contradicts 'relatime'"),
        (resolved(uid_maps=MAPS), "gid_maps", "at least one range"),
        (resolved(kind=MountKind.TMPFS, sub_path="x"), "sub_path", "a tmpfs has none"),
        (resolved(kind=MountKind.TMPFS, size_bytes=0), "size", "at least 1 byte"),
        (resolved(kind=MountKind.TMPFS, mode=0o10000), "mode", "0 to 07777"),
        (resolved(kind=MountKind.TMPFS, propagation="x"), "propagation", "none of"),
    ],
)
def test_refused(mount, field, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        built(mount)
    assert caught.value.field == f"mounts[0].{field}"


def test_refused_twice():
    with pytest.raises(InvalidSpec, match="'/d' has a mount already") as caught:
        built(resolved("/d"), resolved("/d/"))
    assert caught.value.field == "mounts[1].destination"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"recursive_read_only": True}, "recursive_read_only"),
        ({"uid_maps": MAPS, "gid_maps": MAPS}, "uid_maps"),
    ],
)
def test_old_kernels_are_named(more, field):
    with pytest.raises(Unsupported, match=rf"mounts\[0\]\.{field}: needs Linux 5\.12.*has 5\.10"):
        built(resolved(**more), host=HostFacts(kernel=(5, 10)))


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ((), None),
        (("rprivate", "private"), None),
        (("rprivate", "rslave"), "slave"),
        (("slave", "rshared"), "shared"),
        (("shared",), "shared"),
    ],
)
def test_rootfs_propagation(modes, expected):
    mounts = [resolved(f"/{i}", propagation=mode) for i, mode in enumerate(modes)]
    assert rootfs_propagation(mounts) == expected
