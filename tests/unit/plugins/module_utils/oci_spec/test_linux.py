# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold namespaces, sysctls, devices, hooks, annotations and the cgroup's path."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Device,
    Hook,
    IdMap,
    ImageConfig,
    Namespaces,
    Security,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec import linux, names, namespaces, paths
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.annotations import build_annotations
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.devices import build_devices
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.hooks import build_hooks
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostDevice, HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.sysctls import build_sysctls

NEW_CRUN = HostFacts(crun_version=(1, 21))


def id_map(container_id=0, host_id=0, size=1) -> IdMap:
    return IdMap(container_id=container_id, host_id=host_id, size=size)


# ---- namespaces ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["pid", "network", "ipc", "uts", "mount", "cgroup"]),
        ({"pid": "host", "network": "host", "cgroup": "host"}, ["ipc", "uts", "mount"]),
        ({"user": "private"}, ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"]),
    ],
)
def test_build_namespaces(asked, expected):
    assert namespaces.build_namespaces(Namespaces(**asked)) == [{"type": kind} for kind in expected]


def test_build_namespaces_joined():
    found = namespaces.build_namespaces(Namespaces(network="/run/netns/x"))
    assert {"type": "network", "path": "/run/netns/x"} in found


@pytest.mark.parametrize(
    ("kind", "mode", "message"),
    [
        ("mount", "host", "cannot run in the host's mount namespace"),
        ("pid", "container:x", "'container:x' is no mode"),
        ("pid", "/proc/../x", "not a clean path"),
    ],
)
def test_build_namespaces_refuses(kind, mode, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        namespaces.build_namespaces(Namespaces(**{kind: mode}))
    assert caught.value.field == f"namespaces.{kind}"


@pytest.mark.parametrize(
    ("maps", "field", "message"),
    [
        ((), "m", "at least one range"),
        ((id_map(size=0),), "m[0].size", "at least one id"),
        ((id_map(-1),), "m[0].container_id", "leaves the ids"),
        ((id_map(0, (1 << 32) - 1),), "m[0].host_id", "leaves the ids"),
        ((id_map(0, 0, 1 << 32),), "m[0].container_id", "leaves the ids"),
        ((id_map(0, 0, 10), id_map(5, 100, 10)), "m[1].container_id", r"overlaps that of m\[0\]"),
        ((id_map(0, 5, 10), id_map(50, 0, 10)), "m[1].host_id", r"overlaps that of m\[0\]"),
        ((id_map(1, 1, 10),), "m", "no range begins at the container's id 0"),
        (tuple(id_map(i, i) for i in range(341)), "m", "more than the kernel takes"),
    ],
)
def test_check_id_maps_refuses(maps, field, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        namespaces.check_id_maps(maps, "m")
    assert caught.value.field == field


def test_check_id_maps_side_by_side():
    maps = (id_map(10, 0, 10), id_map(0, 10, 10))
    assert len(namespaces.check_id_maps(maps, "m")) == 2
    assert namespaces.check_id_maps((id_map(5),), "m", need_root=False)


def test_build_id_maps_not_for_the_hosts_namespace():
    spec = ContainerSpec(name="x", namespaces=Namespaces(user="host"), gid_maps=(id_map(),))
    with pytest.raises(InvalidSpec, match=r"namespaces\.user is 'host'") as caught:
        namespaces.build_id_maps(spec)
    assert caught.value.field == "gid_maps"


def test_build_id_maps_of_a_joined_namespace_are_its_own():
    maps = {"uid_maps": (id_map(),), "gid_maps": (id_map(),)}
    joined = Namespaces(user="/proc/1/ns/user")
    assert namespaces.build_id_maps(ContainerSpec(name="x", namespaces=joined, **maps)) == {}
    with pytest.raises(InvalidSpec, match="gid_maps"):
        namespaces.build_id_maps(ContainerSpec(name="x", namespaces=joined, gid_maps=(id_map(5),)))


def test_build_id_maps_are_required():
    spec = ContainerSpec(name="x", namespaces=Namespaces(user="private"), uid_maps=(id_map(),))
    with pytest.raises(InvalidSpec) as caught:
        namespaces.build_id_maps(spec)
    assert caught.value.field == "gid_maps"


@pytest.mark.parametrize(("number", "expected"), [(0, True), (9, True), (10, False), (20, True), (21, False)])
def test_is_mapped(number, expected):
    assert namespaces.is_mapped(number, (id_map(0, 5, 10), id_map(20, 50, 1))) is expected


# ---- sysctls ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/conf/eth0.100/forwarding", "net.ipv4.conf.eth0/100.forwarding"),
        ("net.ipv4.conf.eth0/100.forwarding", "net.ipv4.conf.eth0/100.forwarding"),
        ("kernel.shmmax", "kernel.shmmax"),
        ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
        ("fs.mqueue.msg_max", "fs.mqueue.msg_max"),
        ("kernel.domainname", "kernel.domainname"),
    ],
)
def test_build_sysctls(name, written):
    assert build_sysctls(((name, "1"),), Namespaces()) == {written: "1"}


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("net.ipv4.ip_forward", {"network": "host"}, "namespaces.network is 'host'"),
        ("kernel.msgmax", {"ipc": "host"}, "would change the host"),
        ("fs.mqueue.msg_max", {"ipc": "host"}, "namespaces.ipc is 'host'"),
        ("kernel.domainname", {"uts": "host"}, "namespaces.uts is 'host'"),
        ("kernel.hostname", {}, "Set 'hostname'"),
        ("vm.swappiness", {}, "belongs to no namespace"),
        ("kernel.panic", {}, "belongs to no namespace"),
        ("fs.file-max", {}, "belongs to no namespace"),
        ("net..x", {}, "not the name of a sysctl"),
        ("net", {}, "not the name of a sysctl"),
        ("", {}, "not the name of a sysctl"),
    ],
)
def test_build_sysctls_refuses(name, asked, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        build_sysctls(((name, "1"),), Namespaces(**asked))
    assert caught.value.field == f"sysctls.{name}"


def test_build_sysctls_twice():
    same = (("net.a.b", "1"), ("net/a/b", "1"))
    assert build_sysctls(same, Namespaces()) == {"net.a.b": "1"}
    with pytest.raises(InvalidSpec, match="set twice"):
        build_sysctls((("net.a.b", "1"), ("net/a/b", "2")), Namespaces())


def test_build_sysctls_in_a_joined_namespace():
    joined = Namespaces(network="/run/netns/x")
    assert build_sysctls((("net.ipv4.ip_forward", "1"),), joined) == {"net.ipv4.ip_forward": "1"}


# ---- devices ---------------------------------------------------------------------------------------------

NODES = (
    HostDevice(path="/dev/fuse", kind="c", major=10, minor=229, mode=0o100666),
    HostDevice(path="/dev/snd/a", kind="c", major=116, minor=1, gid=29),
    HostDevice(path="/dev/snd/b", kind="c", major=116, minor=2),
    HostDevice(path="/dev/null", kind="c", major=1, minor=3),
)


def devices(*asked: Device, privileged=False):
    spec = ContainerSpec(name="x", devices=asked, security=Security(privileged=privileged))
    return build_devices(spec, HostFacts(devices=NODES))


def device(source, destination=None, permissions="rwm") -> Device:
    return Device(source=source, destination=destination or source, permissions=permissions)


def test_build_devices_default():
    nodes, rules = devices()
    assert nodes == []
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert {"allow": True, "type": "c", "access": "m"} in rules
    assert {"allow": True, "type": "c", "major": 136, "access": "rwm"} in rules


def test_build_devices_single():
    nodes, rules = devices(device("/dev/fuse", "/dev/other", "r"))
    assert nodes == [
        {"path": "/dev/other", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0}
    ]
    assert rules[-1] == {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}


def test_build_devices_directory():
    nodes, rules = devices(device("/dev/snd", "/dev/audio"))
    assert [node["path"] for node in nodes] == ["/dev/audio/a", "/dev/audio/b"]
    assert [rule["minor"] for rule in rules[-2:]] == [1, 2]


def test_build_devices_privileged():
    nodes, rules = devices(device("/dev/fuse", "/dev/other"), privileged=True)
    assert [node["path"] for node in nodes] == ["/dev/other", "/dev/fuse", "/dev/snd/a", "/dev/snd/b"]
    assert rules == [{"allow": True, "access": "rwm"}]


@pytest.mark.parametrize(
    ("asked", "field", "message"),
    [
        ((device("/dev/none"),), "devices[0].source", "is no device"),
        ((device("dev/fuse"),), "devices[0].destination", "not an absolute path"),
        ((device("/dev/fuse", "fuse"),), "devices[0].destination", "not an absolute path"),
        ((device("/dev/fuse", permissions="rx"),), "devices[0].permissions", "'rx' is not made of"),
        ((device("/dev/fuse", permissions=""),), "devices[0].permissions", "not made of"),
        ((device("/dev/fuse", permissions="rr"),), "devices[0].permissions", "not made of"),
        (
            (device("/dev/fuse"), device("/dev/snd/a", "/dev/fuse")),
            "devices[1].destination",
            "device already",
        ),
    ],
)
def test_build_devices_refuses(asked, field, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        devices(*asked)
    assert caught.value.field == field


# ---- hooks and annotations -------------------------------------------------------------------------------


def test_build_hooks():
    hooks = (
        Hook(stage="poststop", path="/a", args=("x",), env=("A=1",), timeout_s=3),
        Hook(stage="createRuntime", path="/b"),
        Hook(stage="poststop", path="/c"),
    )
    assert build_hooks(hooks, NEW_CRUN) == {
        "poststop": [
            {"path": "/a", "args": ["/a", "x"], "env": ["A=1"], "timeout": 3},
            {"path": "/c", "args": ["/c"]},
        ],
        "createRuntime": [{"path": "/b", "args": ["/b"]}],
    }


@pytest.mark.parametrize(
    ("version", "stage", "wrapped"),
    [
        ((1, 8, 1), "poststart", True),
        ((1, 16), "createRuntime", True),
        ((1, 8, 1), "startContainer", False),
        ((1, 17), "poststart", False),
        ((), "poststart", False),
    ],
)
def test_build_hooks_reads_first_for_old_crun(version, stage, wrapped):
    host = HostFacts(crun_version=version)
    (hook,) = build_hooks((Hook(stage=stage, path="/a", args=("x",)),), host)[stage]
    assert (hook["path"] == "/bin/sh") == wrapped
    assert hook["args"][-2:] == ["/a", "x"]


@pytest.mark.parametrize(
    ("hook", "field", "message"),
    [
        (Hook(stage="prestop", path="/a"), "hooks[0].stage", "Did you mean"),
        (Hook(stage="poststop", path="a"), "hooks[0].path", "not an absolute path"),
        (Hook(stage="poststop", path="/a", timeout_s=0), "hooks[0].timeout", "at least 1"),
        (Hook(stage="poststop", path="/a", args=("\0",)), "hooks[0].args[0]", "NUL"),
        (Hook(stage="poststop", path="/a", env=("A",)), "hooks[0].env[0]", "not NAME=value"),
        (Hook(stage="poststop", path="/a", env=("=1",)), "hooks[0].env[0]", "not NAME=value"),
    ],
)
def test_build_hooks_refuses(hook, field, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        build_hooks((hook,), NEW_CRUN)
    assert caught.value.field == field


def test_build_annotations_layers():
    image = ImageConfig(
        labels=(("a", "image"), ("b", "image")),
        architecture="arm64",
        variant="v8",
        stop_signal="SIGQUIT",
        exposed_ports=("80/tcp", "443/tcp"),
    )
    spec = ContainerSpec(name="x", labels=(("b", "label"), ("c", "label")), annotations=(("c", "mine"),))
    assert build_annotations(spec, image) == {
        "org.opencontainers.image.os": "linux",
        "org.opencontainers.image.architecture": "arm64",
        "org.opencontainers.image.variant": "v8",
        "org.opencontainers.image.stopSignal": "SIGQUIT",
        "org.opencontainers.image.exposedPorts": "80/tcp,443/tcp",
        "a": "image",
        "b": "label",
        "c": "mine",
    }


@pytest.mark.parametrize(
    "key",
    ["run.oci.hooks.stdout", "run.oci.handler", "org.systemd.property.Slice", "module.wasm.image/variant"],
)
def test_build_annotations_image_cannot_steer_the_runtime(key):
    image = ImageConfig(labels=((key, "/etc/passwd"),))
    assert build_annotations(ContainerSpec(name="x"), image) == {}
    mine = ContainerSpec(name="x", annotations=((key, "1"),))
    assert build_annotations(mine, image) == {key: "1"}


def test_build_annotations_odd_names():
    image = ImageConfig(labels=(("", "x"), ("n\0", "x"), ("n", "\0")))
    assert build_annotations(ContainerSpec(name="x"), image) == {}
    with pytest.raises(InvalidSpec, match="labels: has an empty name"):
        build_annotations(ContainerSpec(name="x", labels=(("", "x"),)), image)
    with pytest.raises(InvalidSpec, match=r"annotations\.a: holds a NUL"):
        build_annotations(ContainerSpec(name="x", annotations=(("a", "\0"),)), image)


# ---- the cgroup's path, names and paths ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "host", "expected"),
    [
        (None, HostFacts(), "/pvecri/web"),
        (None, HostFacts(has_systemd=True), "pvecri.slice:pvecri:web"),
        ("/mine/x", HostFacts(has_systemd=True), "/mine/x"),
        ("machine.slice:a:b", HostFacts(), "machine.slice:a:b"),
    ],
)
def test_cgroups_path(asked, host, expected):
    assert linux.cgroups_path(ContainerSpec(name="web", cgroups_path=asked), host) == expected


@pytest.mark.parametrize("path", ["mine", "a:b", "/a/../b", "x.slice:a:"])
def test_cgroups_path_refuses(path):
    with pytest.raises(InvalidSpec) as caught:
        linux.cgroups_path(ContainerSpec(name="web", cgroups_path=path), HostFacts())
    assert caught.value.field == "cgroups_path"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("system.slice:p:n", True), (":p:n", True), ("/a:b:c", False), ("/a", False), ("a:b:c", False)],
)
def test_is_systemd_path(path, expected):
    assert linux.is_systemd_path(path) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", {0}),
        ("0-2,5", {0, 1, 2, 5}),
        ("3-1", None),
        ("", None),
        ("a", None),
        ("1-", None),
        ("0-99999999", None),
        ("70000", None),
    ],
)
def test_parse_number_list(text, expected):
    assert names.parse_number_list(text) == expected


@pytest.mark.parametrize(("path", "expected"), [("/", "/"), ("/a/", "/a"), ("//", "/"), ("/ä b", "/ä b")])
def test_check_absolute(path, expected):
    assert paths.check_absolute(path, "f") == expected


@pytest.mark.parametrize("path", ["", "a", "//a", "/a/..", "/./a", "/a\0", "/" + "ä" * 2048])
def test_check_absolute_refuses(path):
    with pytest.raises(InvalidSpec) as caught:
        paths.check_absolute(path, "f")
    assert caught.value.field == "f"


@pytest.mark.parametrize(
    "name",
    [
        "net/../kernel/core_pattern",
        "net.//.kernel.core_pattern",
        "net./.kernel.x",
        "net..x",
        "net/./x",
        "net//x",
    ],
)
def test_build_sysctls_leads_nowhere_else(name: str) -> None:
    with pytest.raises(InvalidSpec, match="is not the name of a sysctl"):
        build_sysctls([(name, "1")], Namespaces())
