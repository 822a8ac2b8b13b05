# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What options mean, and what is refused before a server is asked."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_options import (
    container_options,
    merged_options,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import (
    Comparison,
    Disk,
    Ha,
    SourceKind,
    State,
)

GIB = 1024**3
TEMPLATE = "local:vztmpl/debian-12.tar.zst"


def parse(**options):
    return parse_spec({"hostname": "ct", **options})


def test_parse_least():
    spec = parse()
    assert (spec.state, spec.vmid, spec.hostname, spec.vmid_range) == (State.PRESENT, None, "ct", (100, 9999))
    assert spec.scalars == {"hostname": "ct"}
    assert spec.creation.source is None
    assert spec.conduct.purge
    assert spec.conduct.migrate
    assert not spec.conduct.adopt
    assert spec.label == "container ct"
    assert parse(vmid=100).label == "container 100 (ct)"
    assert parse_spec({"vmid": 100}).label == "container 100"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("memory", 1024, 1024),
        ("cpulimit", 0.5, 0.5),
        ("onboot", True, True),
        ("description", "two\nlines\n", "two\nlines"),
        ("nameserver", ["1.1.1.1", "9.9.9.9 8.8.8.8"], "1.1.1.1 9.9.9.9 8.8.8.8"),
        ("entrypoint", ["/bin/sh", "-c", "a b"], "/bin/sh -c 'a b'"),
        ("entrypoint", "  /init  ", "/init"),
        ("timezone", "Europe/Vienna", "Europe/Vienna"),
    ],
)
def test_parse_scalars(name, value, expected):
    assert parse(**{name: value}).scalars[name] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (8, Disk(size_bytes=8 * GIB)),
        ("8", Disk(size_bytes=8 * GIB)),
        ("0.5", Disk(size_bytes=GIB // 2)),
        ("local-lvm:8", Disk(storage="local-lvm", size_bytes=8 * GIB)),
        ("volume=local-lvm:8,acl=1", Disk(storage="local-lvm", size_bytes=8 * GIB, props={"acl": "1"})),
        ({"storage": "zfs", "size": 4}, Disk(storage="zfs", size_bytes=4 * GIB)),
        (
            {"storage": "zfs", "size": "512M", "ro": True},
            Disk(storage="zfs", size_bytes=GIB // 2, props={"ro": "1"}),
        ),
        ({"size": "16G"}, Disk(size_bytes=16 * GIB)),
        ("local-lvm:vm-100-disk-0,size=8G", Disk(volume="local-lvm:vm-100-disk-0", size_bytes=8 * GIB)),
    ],
)
def test_parse_rootfs(value, expected):
    assert parse(rootfs=value).rootfs == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("local:1,mp=/data", Disk(storage="local", size_bytes=GIB, props={"mp": "/data"})),
        ({"storage": "a1", "size": 1, "path": "/d"}, Disk(storage="a1", size_bytes=GIB, props={"mp": "/d"})),
        ({"volume": "/srv", "mp": "/d"}, Disk(volume="/srv", props={"mp": "/d"})),
        ({"host_path": "/srv", "mountpoint": "/d"}, Disk(volume="/srv", props={"mp": "/d"})),
        ("/dev/sdb,mp=/d,ro=1", Disk(volume="/dev/sdb", props={"mp": "/d", "ro": "1"})),
        (None, None),
    ],
)
def test_parse_mounts(value, expected):
    spec = parse(mounts={"mp3": value})
    assert spec.mounts == {"mp3": expected}


def test_parse_sorts_entries_by_number():
    net = {"name": "e"}
    assert list(parse(networks={"net10": net, "net2": net}).networks) == ["net2", "net10"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"nesting": True, "mount": ["nfs", "cifs"]}, {"nesting": "1", "mount": "cifs;nfs"}),
        (["nesting=1", "mount=nfs,cifs"], {"nesting": "1", "mount": "cifs;nfs"}),
        ("nesting=1", {"nesting": "1"}),
    ],
)
def test_parse_features(value, expected):
    assert parse(features=value).features == expected


@pytest.mark.parametrize("value", [{"order": 1, "up": 5}, "order=1,up=5", ["order=1", "up=5"]])
def test_parse_startup(value):
    assert parse(startup=value).startup == {"order": "1", "up": "5"}


def test_parse_env():
    assert parse(env={"A": 1, "B": True, "C": None, "D": ""}).env == {
        "A": "1",
        "B": "true",
        "C": None,
        "D": "",
    }


def test_parse_tags_are_lower_case_sorted_and_unique():
    assert parse(tags=["Web", "a;web", "b c"]).tags == ("a", "b", "c", "web")


def test_parse_raw_lines():
    spec = parse(lxc={"lxc.cap.drop": ["a", "b"], "apparmor.profile": "unconfined", "lxc.net": None})
    assert spec.lxc == {"lxc.cap.drop": ("a", "b"), "lxc.apparmor.profile": ("unconfined",), "lxc.net": None}


def test_parse_sources():
    assert parse(ostemplate=TEMPLATE).creation.source.kind is SourceKind.TEMPLATE
    assert not parse(ostemplate=TEMPLATE).creation.source.is_oci
    assert parse(ostemplate="local:vztmpl/app.tar").creation.source.is_oci
    assert parse(ostemplate="debian-12-standard").creation.source.is_appliance
    assert not parse(ostemplate=TEMPLATE).creation.source.is_appliance
    assert not parse(ostemplate="/srv/x.tar").creation.source.is_appliance
    assert not parse(image="nginx").creation.source.is_appliance
    source = parse(image="nginx:1", image_tls_verify=False, image_storage="nfs").creation.source
    assert (source.is_oci, source.image_tls_verify, source.image_storage) == (True, False, "nfs")
    source = parse(clone="9000", clone_type="linked", clone_snapshot="s").creation.source
    assert (source.kind, source.clone_type, source.snapshot) == (SourceKind.CLONE, "linked", "s")


def test_parse_ha():
    assert parse(ha={"managed": True, "state": None, "max_restart": 2}).ha == Ha(max_restart=2)
    assert parse(ha={"managed": False}).ha == Ha(managed=False)
    assert parse(state="started", ha={"state": "started"}).ha.settings() == {"state": "started"}
    assert parse(state="stopped", ha={"state": "ignored"}).ha.state == "ignored"


def test_parse_comparisons():
    assert parse(comparisons={"networks": "strict", "tags": None}).comparisons == {
        "networks": Comparison.STRICT
    }


def test_password_is_in_no_representation():
    spec = parse(password="hunter22")
    assert spec.creation.password == "hunter22"
    assert "hunter22" not in repr(spec)
    assert "hunter22" not in str(spec.intent())


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"hostname": None}, "vmid"),
        ({"vmid": 99}, "vmid"),
        ({"vmid": 10**9}, "vmid"),
        ({"vmid_range": {"first": 200, "last": 100}}, "vmid_range"),
        ({"vmid_range": {"first": 1, "last": 100}}, "vmid_range"),
        ({"hostname": "a_b"}, "hostname"),
        ({"hostname": "a." * 200}, "hostname"),
        ({"hostname": ""}, "hostname"),
        ({"bwlimit": -1}, "bwlimit"),
        ({"password": "1234"}, "password"),
        ({"ostemplate": TEMPLATE, "clone": "1"}, "clone"),
        ({"ostemplate": "local:iso/debian.iso"}, "ostemplate"),
        ({"ostemplate": "debian 12"}, "ostemplate"),
        ({"ostemplate": "a/b"}, "ostemplate"),
        ({"shutdown_timeout": -1}, "shutdown_timeout"),
        ({"lock_timeout": -5}, "lock_timeout"),
        ({"memory": 8}, "memory"),
        ({"cores": 0}, "cores"),
        ({"entrypoint": " "}, "entrypoint"),
        ({"entrypoint": "a\nb"}, "entrypoint"),
        ({"startup": "first"}, "startup.order"),
        ({"networks": {"eth0": {}}}, "networks.eth0"),
        ({"networks": {"net32": {}}}, "networks.net32"),
        ({"networks": {"net0": {"bridge": "vmbr0"}}}, "networks.net0.name"),
        ({"networks": {"net0": "name=eth0,gw=10.0.0.1"}}, "networks.net0"),
        ({"networks": {"net0": "name=eth0,gw6=fd00::1,ip=dhcp"}}, "networks.net0"),
        ({"networks": {"net0": "name=eth0,brdige=x"}}, "networks.net0.brdige"),
        ({"devices": {"dev0": "/etc/passwd"}}, "devices.dev0.path"),
        ({"mounts": {"mp0": "local:1"}}, "mounts.mp0.mp"),
        ({"mounts": {"mp0": "local:1,mp=data"}}, "mounts.mp0.mp"),
        ({"mounts": {"mp0": {"storage": "a1", "mp": "/d"}}}, "mounts.mp0"),
        ({"mounts": {"mp0": {"storage": "a1", "volume": "a1:vm-1-disk-0", "mp": "/d"}}}, "mounts.mp0"),
        ({"mounts": {"mp0": {"volume": "/srv", "size": 1, "mp": "/d"}}}, "mounts.mp0.size"),
        ({"mounts": {"mp256": "local:1,mp=/d"}}, "mounts.mp256"),
        ({"rootfs": {"size": "big"}}, "rootfs.size"),
        ({"rootfs": ["local:1"]}, "rootfs"),
        ({"env": {"A-B": "1"}}, "env.A-B"),
        ({"env": {"A": "x\ny"}}, "env.A"),
        ({"env": {"A": ["x"]}}, "env.A"),
        ({"tags": ["-x"]}, "tags"),
        ({"tags": ["pvecri-spec-1"]}, "tags"),
        ({"lxc": {"lxc.A": "1"}}, "lxc.lxc.A"),
        ({"lxc": {"lxc.a": "1\n2"}}, "lxc.a"),
        ({"ha": {"managed": False, "max_restart": 1}}, "ha.max_restart"),
        ({"state": "started", "ha": {"managed": True, "state": "stopped"}}, "ha.state"),
        ({"state": "template", "ha": {"managed": True, "state": "started"}}, "ha.state"),
        ({"memory": 512, "unset": ["memory"]}, "unset"),
        ({"unset": ["rootfs"]}, "unset"),
        ({"unset": ["nonsense"]}, "unset"),
        ({"networks": {"net0": "name=eth0"}, "unset": ["net0"]}, "unset"),
        ({"env": {}, "unset": ["env"]}, "unset"),
        ({"image": "nginx", "unprivileged": False}, "unprivileged"),
        ({"ostemplate": "local:vztmpl/a.tar", "unprivileged": False}, "unprivileged"),
        ({"image": "nginx", "networks": {"net0": "name=e,host-managed=0"}}, "networks.net0.host-managed"),
    ],
)
def test_parse_refuses(options, field):
    with pytest.raises(InvalidSpec) as caught:
        parse_spec({"hostname": "ct", **options})
    assert caught.value.field == field


def test_parse_names_the_entry_of_a_list():
    with pytest.raises(InvalidSpec) as caught:
        parse_spec({"vmid": 1}, "containers[3].")
    assert caught.value.field == "containers[3].vmid"
    with pytest.raises(InvalidSpec) as caught:
        parse_spec({"vmid": 100, "networks": {"net0": {"nam": "x"}}}, "containers[3].")
    assert caught.value.field == "containers[3].networks.net0.nam"


def test_merged_options_entry_goes_before_task():
    entry = dict.fromkeys(container_options())
    task = {**entry, "memory": 512, "ostemplate": TEMPLATE, "api_host": "x", "containers": []}
    assert merged_options(task, {**entry, "hostname": "a"}) == {
        **entry,
        "hostname": "a",
        "memory": 512,
        "ostemplate": TEMPLATE,
    }
    merged = merged_options(task, {**entry, "hostname": "a", "memory": 1024, "clone": "1"})
    assert (merged["memory"], merged["clone"], merged["ostemplate"]) == (1024, "1", None)


def test_intent_depends_on_the_configuration_alone():
    tag = parse(memory=512).intent_tag()
    assert tag.startswith("pvecri-spec-")
    for other in (
        {"state": "started"},
        {"vmid": 100},
        {"node": "pve1"},
        {"password": "secret"},
        {"adopt": True},
        {"ostemplate": TEMPLATE},
        {"lock_timeout": 1},
    ):
        assert parse(memory=512, **other).intent_tag() == tag
    for other in (
        {"memory": 513},
        {"tags": ["a"]},
        {"unset": ["cores"]},
        {"comparisons": {"tags": "strict"}},
    ):
        assert parse(**{"memory": 512, **other}).intent_tag() != tag
    assert (
        parse(networks={"net0": "ip=dhcp,name=eth0"}).intent_tag()
        == parse(networks={"net0": {"name": "eth0", "ip": "dhcp"}}).intent_tag()
    )
