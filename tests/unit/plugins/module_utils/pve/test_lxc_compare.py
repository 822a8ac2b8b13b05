# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of options and configs, and the least that must change."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_compare, lxc_keys
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_compare import Comparer, Delta
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec

GIB = 1024**3
MAC = "BC:24:11:0A:0B:0C"
NET = f"name=eth0,bridge=vmbr0,hwaddr={MAC},ip=dhcp,type=veth"

#: What a server makes of a plain container.
BASE = {
    "hostname": "ct",
    "memory": 512,
    "swap": 512,
    "arch": "amd64",
    "ostype": "debian",
    "rootfs": "local-lvm:vm-100-disk-0,size=8G",
    "unprivileged": 1,
    "tags": "pvecri",
}


def compare(options, config, **how):
    tracker = DifferenceTracker()
    spec = parse_spec({"vmid": 100, **options})
    delta = Comparer(spec, {**BASE, **config}, tracker).compare(**how)
    return delta, tracker


#: Options, config, keys to put, keys to delete.
TABLE = [
    # --- nothing to do
    ({}, {}, {}, []),
    ({"hostname": "ct", "memory": 512, "swap": 512, "arch": "amd64"}, {}, {}, []),
    ({"onboot": False, "protection": False, "console": True, "tty": 2, "cpulimit": 0.0}, {}, {}, []),
    ({"description": "notes"}, {"description": "notes\n"}, {}, []),
    ({"description": ""}, {}, {}, []),
    ({"cpulimit": 1.5}, {"cpulimit": "1.5"}, {}, []),
    ({"onboot": True}, {"onboot": 1}, {}, []),
    ({"memory": 512}, {"memory": "512"}, {}, []),
    ({"nameserver": ["1.1.1.1", "8.8.8.8"]}, {"nameserver": "1.1.1.1,8.8.8.8"}, {}, []),
    ({"entrypoint": "/init  "}, {"entrypoint": "/init"}, {}, []),
    ({"features": {"nesting": True}}, {"features": "nesting=1"}, {}, []),
    ({"features": {"nesting": False}}, {}, {}, []),
    ({"startup": "order=2,up=1"}, {"startup": "order=2,up=1"}, {}, []),
    ({"networks": {"net0": "name=eth0,bridge=vmbr0,ip=dhcp"}}, {"net0": NET}, {}, []),
    ({"networks": {"net0": "name=eth0,bridge=vmbr0,ip=dhcp,firewall=0"}}, {"net0": NET}, {}, []),
    ({"networks": {"net0": "name=eth0,bridge=vmbr0,ip=dhcp"}}, {"net0": f"{NET},host-managed=1"}, {}, []),
    ({"networks": {"net0": "name=eth0,bridge=vmbr0,ip=dhcp"}}, {"net0": NET, "net1": "name=eth1"}, {}, []),
    ({"networks": {"net1": None}}, {}, {}, []),
    ({"rootfs": "local-lvm:8"}, {}, {}, []),
    ({"rootfs": 8}, {}, {}, []),
    ({"rootfs": "local-lvm:8,replicate=1"}, {}, {}, []),
    ({"mounts": {"mp0": "local-lvm:1,mp=/d"}}, {"mp0": "local-lvm:vm-100-disk-1,mp=/d,size=1G"}, {}, []),
    ({"mounts": {"mp0": "local-lvm:1,mp=/d,backup=0"}}, {"mp0": "local-lvm:vm-1,mp=/d,size=1G"}, {}, []),
    ({"mounts": {"mp0": {"volume": "/srv", "mp": "/d"}}}, {"mp0": "/srv,mp=/d"}, {}, []),
    ({"mounts": {"mp0": None}}, {}, {}, []),
    ({"devices": {"dev0": "/dev/fuse,mode=0666"}}, {"dev0": "path=/dev/fuse,mode=0666"}, {}, []),
    ({"env": {"A": "1"}}, {"env": "A=1\0B=2"}, {}, []),
    ({"env": {"A": "1  "}}, {"env": "A=1"}, {}, []),
    ({"env": {"C": None}}, {"env": "A=1"}, {}, []),
    ({"tags": ["A"]}, {"tags": "a;pvecri"}, {}, []),
    ({"tags": ["a"]}, {"tags": "a;b;pvecri"}, {}, []),
    ({"unset": ["cpulimit"]}, {}, {}, []),
    ({"lxc": {"lxc.cap.drop": ["x", "y"]}}, {"lxc": [["lxc.cap.drop", "x"], ["lxc.cap.drop", "y"]]}, {}, []),
    # --- single values
    ({"memory": 1024}, {}, {"memory": 1024}, []),
    ({"memory": 512}, {"memory": 1024}, {"memory": 512}, []),
    ({"hostname": "new"}, {}, {"hostname": "new"}, []),
    ({"onboot": True}, {}, {"onboot": 1}, []),
    ({"onboot": False}, {"onboot": 1}, {"onboot": 0}, []),
    ({"cpulimit": 0.5}, {"cpulimit": "2"}, {"cpulimit": "0.5"}, []),
    ({"description": "b"}, {"description": "a\n"}, {"description": "b"}, []),
    ({"description": ""}, {"description": "a\n"}, {}, ["description"]),
    (
        {"nameserver": ["8.8.8.8", "1.1.1.1"]},
        {"nameserver": "1.1.1.1 8.8.8.8"},
        {"nameserver": "8.8.8.8 1.1.1.1"},
        [],
    ),
    ({"nameserver": []}, {"nameserver": "1.1.1.1"}, {}, ["nameserver"]),
    ({"cores": 2}, {"cores": "odd"}, {"cores": 2}, []),
    ({"unset": ["cores", "net1"]}, {"cores": 2, "net1": "name=eth1"}, {}, ["cores", "net1"]),
    ({"unset": ["unused0"]}, {"unused0": "local-lvm:vm-100-disk-9"}, {}, ["unused0"]),
    # --- property strings, both ways
    ({"features": {"nesting": True}}, {"features": "keyctl=1,nesting=1"}, {"features": "nesting=1"}, []),
    ({"features": {"keyctl": True}}, {"features": "nesting=1"}, {"features": "keyctl=1"}, []),
    ({"features": {}}, {"features": "nesting=1"}, {}, ["features"]),
    (
        {"features": {"keyctl": True}, "comparisons": {"features": "allow_more_present"}},
        {"features": "nesting=1"},
        {"features": "keyctl=1,nesting=1"},
        [],
    ),
    (
        {"features": {"keyctl": True}, "comparisons": {"features": "ignore"}},
        {"features": "nesting=1"},
        {},
        [],
    ),
    ({"startup": {"order": 1}}, {"startup": "order=2,up=1"}, {"startup": "1"}, []),
    (
        {"networks": {"net0": "name=eth0,bridge=vmbr1,ip=dhcp"}},
        {"net0": NET},
        {"net0": f"name=eth0,bridge=vmbr1,hwaddr={MAC},ip=dhcp,type=veth"},
        [],
    ),
    (
        {"networks": {"net0": "name=eth0,bridge=vmbr0,ip=dhcp"}},
        {"net0": f"{NET},firewall=1"},
        {"net0": f"name=eth0,bridge=vmbr0,hwaddr={MAC},ip=dhcp,type=veth"},
        [],
    ),
    (
        {"networks": {"net0": "name=eth0,bridge=vmbr0,ip=dhcp,hwaddr=02:00:00:00:00:01"}},
        {"net0": NET},
        {"net0": "name=eth0,bridge=vmbr0,hwaddr=02:00:00:00:00:01,ip=dhcp,type=veth"},
        [],
    ),
    ({"networks": {"net0": {"name": "eth0", "bridge": "vmbr0"}}}, {}, {"net0": "name=eth0,bridge=vmbr0"}, []),
    ({"networks": {"net0": None}}, {"net0": NET}, {}, ["net0"]),
    (
        {"networks": {"net0": "name=eth0,bridge=vmbr0,ip=dhcp"}, "comparisons": {"networks": "strict"}},
        {"net0": NET, "net1": "name=eth1", "net10": "name=e", "net2": "name=f"},
        {},
        ["net1", "net2", "net10"],
    ),
    ({"networks": {"net0": "name=x"}, "comparisons": {"networks": "ignore"}}, {"net0": NET}, {}, []),
    ({"devices": {"dev0": {"path": "/dev/fuse"}}}, {"dev0": "/dev/kvm"}, {"dev0": "/dev/fuse"}, []),
    # --- disks
    (
        {"rootfs": "local-lvm:8,mountoptions=discard"},
        {},
        {"rootfs": "local-lvm:vm-100-disk-0,mountoptions=discard,size=8G"},
        [],
    ),
    (
        {"rootfs": "local-lvm:8"},
        {"rootfs": "local-lvm:vm-100-disk-0,acl=1,size=8G"},
        {"rootfs": "local-lvm:vm-100-disk-0,size=8G"},
        [],
    ),
    ({"mounts": {"mp0": "nfs:2,mp=/d"}}, {}, {"mp0": "nfs:2,mp=/d"}, []),
    ({"mounts": {"mp0": {"size": 1, "mp": "/d"}}}, {}, {"mp0": "local-lvm:1,mp=/d"}, []),
    ({"mounts": {"mp0": {"size": 1, "mp": "/d"}}, "storage": "zfs"}, {}, {"mp0": "zfs:1,mp=/d"}, []),
    (
        {"mounts": {"mp0": "local-lvm:1,mp=/new"}},
        {"mp0": "local-lvm:vm-100-disk-1,mp=/d,size=1G"},
        {"mp0": "local-lvm:vm-100-disk-1,mp=/new,size=1G"},
        [],
    ),
    (
        {"mounts": {"mp0": {"volume": "/srv", "mp": "/d"}}},
        {"mp0": "/opt,mp=/d,ro=1"},
        {"mp0": "/srv,mp=/d"},
        [],
    ),
    (
        {"mounts": {"mp0": {"volume": "/srv", "mp": "/d"}}},
        {"mp0": "local-lvm:vm-100-disk-1,mp=/d,size=1G"},
        {"mp0": "/srv,mp=/d"},
        [],
    ),
    ({"mounts": {"mp0": "local-lvm:1,mp=/d"}}, {"mp0": "/srv,mp=/d"}, {"mp0": "local-lvm:1,mp=/d"}, []),
    (
        {"mounts": {"mp0": {"volume": "a1:vm-1", "mp": "/d"}}},
        {"mp0": "a1:vm-2,mp=/d,size=1G"},
        {"mp0": "a1:vm-1,mp=/d"},
        [],
    ),
    ({"mounts": {"mp0": {"volume": "a1:vm-1", "mp": "/d"}}}, {"mp0": "a1:vm-1,mp=/d,size=1G"}, {}, []),
    ({"mounts": {"mp0": None}}, {"mp0": "local-lvm:vm-100-disk-1,mp=/d"}, {}, ["mp0"]),
    ({"mounts": {}, "comparisons": {"mounts": "strict"}}, {"mp0": "a1:vm-1,mp=/d"}, {}, ["mp0"]),
    ({"mounts": {"mp0": "local-lvm:1,mp=/d"}, "comparisons": {"mounts": "ignore"}}, {}, {}, []),
    # --- env
    ({"env": {"A": "2", "C": "3"}}, {"env": "A=1\0B=2"}, {"env": "A=2\0B=2\0C=3"}, []),
    ({"env": {"A": None}}, {"env": "A=1\0B=2"}, {"env": "B=2"}, []),
    ({"env": {"A": None}}, {"env": "A=1"}, {}, ["env"]),
    ({"env": {"A": "1"}, "comparisons": {"env": "strict"}}, {"env": "A=1\0B=2"}, {"env": "A=1"}, []),
    ({"env": {"A": "2"}, "comparisons": {"env": "ignore"}}, {"env": "A=1"}, {}, []),
    ({"env": {"A": "x=y"}}, {}, {"env": "A=x=y"}, []),
    # --- tags
    ({"tags": ["a"]}, {}, {"tags": "a;pvecri"}, []),
    ({"tags": ["a"], "comparisons": {"tags": "strict"}}, {"tags": "b;pvecri"}, {"tags": "a;pvecri"}, []),
    ({"tags": [], "comparisons": {"tags": "strict"}}, {"tags": "b;pvecri"}, {"tags": "pvecri"}, []),
    ({"comparisons": {"tags": "strict"}}, {"tags": "b;pvecri"}, {}, []),
    ({"tags": ["a"], "comparisons": {"tags": "ignore"}}, {}, {}, []),
    ({"unset": ["tags"]}, {"tags": "b;pvecri;pvecri-cri"}, {"tags": "pvecri;pvecri-cri"}, []),
    ({}, {"tags": "web"}, {"tags": "pvecri;web"}, []),
]


@pytest.mark.parametrize(("options", "config", "put", "delete"), TABLE)
def test_compare_table(options, config, put, delete):
    delta, tracker = compare(options, config)
    assert (delta.put, delta.delete) == (put, delete)
    assert not delta.resize
    assert not delta.move
    assert bool(delta) == bool(tracker) == bool(put or delete)


@pytest.mark.parametrize(("options", "config", "put", "delete"), TABLE)
def test_compare_finds_nothing_once_the_change_is_made(options, config, put, delete):
    made = {key: value for key, value in {**BASE, **config, **put}.items() if key not in delete}
    tracker = DifferenceTracker()
    delta = Comparer(parse_spec({"vmid": 100, **options}), made, tracker).compare()
    # A server makes a volume with an id of its own of «storage:size».
    new_volumes = {key for key, value in put.items() if key.startswith("mp") and "vm-" not in str(value)}
    assert set(delta.put) <= new_volumes
    assert not delta.delete


@pytest.mark.parametrize(
    ("options", "config", "resize", "move"),
    [
        ({"rootfs": "local-lvm:16"}, {}, {"rootfs": 16 * GIB}, {}),
        ({"rootfs": {"size": "8.5G"}}, {}, {"rootfs": int(8.5 * GIB)}, {}),
        ({"rootfs": "zfs:8"}, {}, {}, {"rootfs": "zfs"}),
        ({"rootfs": "zfs:9"}, {}, {"rootfs": 9 * GIB}, {"rootfs": "zfs"}),
        ({"rootfs": {"storage": "zfs"}}, {}, {}, {"rootfs": "zfs"}),
        (
            {"mounts": {"mp0": "local-lvm:2,mp=/d"}},
            {"mp0": "local-lvm:vm-100-disk-1,mp=/d,size=1G"},
            {"mp0": 2 * GIB},
            {},
        ),
        (
            {"mounts": {"mp0": "a1:vm-1,mp=/d,size=2G"}},
            {"mp0": "a1:vm-1,mp=/d,size=1G"},
            {"mp0": 2 * GIB},
            {},
        ),
        # A directory volume has no size, and nothing is known of a size that is not given.
        ({"rootfs": "local:0"}, {"rootfs": "local:100/vm-100-disk-0.raw,size=0"}, {}, {}),
        ({"rootfs": "local:4"}, {"rootfs": "local:100/vm-100-disk-0.subvol"}, {}, {}),
        ({"rootfs": {"storage": "local-lvm"}}, {}, {}, {}),
    ],
)
def test_compare_sizes_and_storages(options, config, resize, move):
    delta, tracker = compare(options, config)
    assert (delta.resize, delta.move, delta.put) == (resize, move, {})
    assert bool(tracker) == bool(resize or move)


@pytest.mark.parametrize(
    ("options", "config", "field", "problem"),
    [
        ({"rootfs": "local-lvm:4"}, {}, "rootfs.size", "4G is less than the 8G"),
        (
            {"mounts": {"mp0": "a1:1,mp=/d"}},
            {"mp0": "a1:vm-1,mp=/d,size=2G"},
            "mounts.mp0.size",
            "cannot shrink",
        ),
        ({"mounts": {"mp0": {"size": 1, "mp": "/d"}}}, {"rootfs": "/srv"}, "mounts.mp0.storage", "missing"),
        ({"mounts": {"mp0": {"size": 1, "mp": "/d"}}}, {"rootfs": ""}, "mounts.mp0.storage", "missing"),
    ],
)
def test_compare_refuses(options, config, field, problem):
    with pytest.raises(InvalidSpec, match=problem) as caught:
        compare(options, config)
    assert caught.value.field == field


def test_compare_raw_lines_by_key():
    config = {"lxc": [["lxc.init.uid", "1000"], ["lxc.cap.drop", "a"], ["lxc.cap.drop", "b"]]}
    delta, tracker = compare({"lxc": {"lxc.cap.drop": ["a"], "lxc.x": "1", "lxc.y": None}}, config)
    assert delta.raw == {"lxc.cap.drop": ("a",), "lxc.x": ("1",)}
    assert tracker.before() == {"lxc.cap.drop": ["a", "b"]}
    assert tracker.after() == {"lxc.cap.drop": ["a"], "lxc.x": ["1"]}
    delta, _unused = compare({"lxc": {"lxc.init.uid": None}}, config)
    assert delta.raw == {"lxc.init.uid": None}


def test_compare_without_adoption_adds_no_tag():
    delta, _unused = compare({"memory": 1024}, {"tags": "web"}, adopt=False)
    assert delta.put == {"memory": 1024}


@pytest.mark.parametrize(
    ("tags", "options", "intent", "expected"),
    [
        # Nothing else to do: the tag is bookkeeping and no difference.
        ("pvecri", {}, "pvecri-spec-1", "pvecri;pvecri-spec-1"),
        ("pvecri;pvecri-spec-0", {}, "pvecri-spec-1", "pvecri;pvecri-spec-1"),
        ("pvecri;pvecri-spec-1", {}, "pvecri-spec-1", None),
        ("pvecri;pvecri-spec-1", {}, None, None),
        # A change without an intent to remember takes the old one away.
        ("pvecri;pvecri-spec-1", {"memory": 1024}, None, "pvecri"),
        ("pvecri;pvecri-spec-1", {"memory": 1024}, "pvecri-spec-2", "pvecri;pvecri-spec-2"),
        ("pvecri;pvecri-spec-1", {"tags": ["a"]}, None, "a;pvecri"),
    ],
)
def test_compare_intent_tag(tags, options, intent, expected):
    delta, tracker = compare(options, {"tags": tags}, intent_tag=intent)
    assert delta.put.get("tags") == expected
    assert bool(tracker) == bool(options)
    assert all("pvecri-spec" not in str(d.actual) + str(d.desired) for d in tracker)


def test_compare_shows_values_in_the_diff():
    _unused, tracker = compare(
        {"memory": 1024, "onboot": True, "env": {"A": "2"}, "networks": {"net0": None}},
        {"env": "A=1\0B=2", "net0": NET},
    )
    assert tracker.before() == {"memory": 512, "networks.net0": NET, "env.A": "1"}
    assert tracker.after() == {"memory": 1024, "onboot": True, "env.A": "2"}


def test_env_text_round_trip():
    env = {"A": "1", "B": "x=y", "C": ""}
    assert lxc_compare.split_env(lxc_compare.join_env(env)) == env
    assert lxc_compare.split_env(None) == {}


def test_delta_is_empty_until_something_is_in_it():
    assert not Delta()
    assert Delta(raw={"lxc.x": None})


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("net0", ("net", 0)),
        ("mp255", ("mp", 255)),
        ("mp256", None),
        ("net01", None),
        ("memory", None),
        ("net", None),
    ],
)
def test_split_index(key, parts):
    assert lxc_keys.split_index(key) == parts


def test_index_order():
    assert sorted(["mp10", "rootfs", "mp2"], key=lxc_keys.index_order) == ["rootfs", "mp2", "mp10"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("memory", "512", 512), ("memory", "much", "much"), ("onboot", "1", True), ("cpulimit", "1.5", 1.5)],
)
def test_typed(key, value, expected):
    assert lxc_keys.typed(key, value) == expected


def test_typed_keeps_what_is_no_boolean():
    assert lxc_keys.typed("onboot", "perhaps") == "perhaps"
