# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Property strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import props
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.props import (
    DEVICE,
    FEATURES,
    MOUNT,
    NET,
    ROOTFS,
    STARTUP,
)


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        (NET, "name=eth0,bridge=vmbr0,ip=dhcp", {"name": "eth0", "bridge": "vmbr0", "ip": "dhcp"}),
        (NET, "name=eth0,firewall=yes,tag=0042", {"name": "eth0", "firewall": "1", "tag": "42"}),
        (NET, "name=eth0,hwaddr=bc:24:11:aa:bb:cc", {"name": "eth0", "hwaddr": "BC:24:11:AA:BB:CC"}),
        (NET, "name=eth0,ip6=FD00::1/64,rate=2.50", {"name": "eth0", "ip6": "fd00::1/64", "rate": "2.5"}),
        (NET, "name=eth0,trunks=9;3;9", {"name": "eth0", "trunks": "3;9"}),
        (ROOTFS, "local-lvm:8", {"volume": "local-lvm:8"}),
        (ROOTFS, "volume=local:1,size=1024M", {"volume": "local:1", "size": "1G"}),
        (MOUNT, "local:1,mp=/data,backup=on", {"volume": "local:1", "mp": "/data", "backup": "1"}),
        (MOUNT, "/srv/x,mp=/x,ro=1", {"volume": "/srv/x", "mp": "/x", "ro": "1"}),
        (DEVICE, "/dev/ttyUSB0,mode=0660,uid=5", {"path": "/dev/ttyUSB0", "mode": "0660", "uid": "5"}),
        (FEATURES, "nesting=true,mount=nfs;cifs", {"nesting": "1", "mount": "cifs;nfs"}),
        (STARTUP, "3,up=10", {"order": "3", "up": "10"}),
        (STARTUP, "order=3,,up=10,", {"order": "3", "up": "10"}),
    ],
)
def test_parse_table(schema, text, expected):
    assert props.parse(text, schema, "x") == expected


@pytest.mark.parametrize(
    ("schema", "text", "field"),
    [
        (NET, "eth0,bridge=vmbr0", "net0"),
        (NET, "name=eth0,name=eth1", "net0"),
        (NET, "name=eth0,bridg=vmbr0", "net0.bridg"),
        (NET, "name=eth0,tag=x", "net0.tag"),
        (NET, "name=eth0,tag=1.5", "net0.tag"),
        (NET, "name=eth0,firewall=maybe", "net0.firewall"),
        (MOUNT, "local:1,/data", "net0"),
        (MOUNT, "local:1,size=8X", "net0.size"),
    ],
)
def test_parse_refuses(schema, text, field):
    with pytest.raises(InvalidSpec) as caught:
        props.parse(text, schema, "net0")
    assert caught.value.field == field


def test_actual_keeps_what_a_newer_server_sends():
    assert props.actual("name=eth0,novelty=7,tag=odd", NET) == {"name": "eth0", "novelty": "7", "tag": "odd"}
    assert props.actual(None, NET) == {}
    assert props.actual("", NET) == {}


def test_desired_takes_a_dictionary_or_text():
    expected = {"name": "eth0", "bridge": "vmbr0", "firewall": "1", "trunks": "1;2"}
    assert props.desired("trunks=2;1,name=eth0,bridge=vmbr0,firewall=1", NET, "n") == expected
    as_dict = {"name": "eth0", "bridge": "vmbr0", "firewall": True, "trunks": [2, 1], "ip": None}
    assert props.desired(as_dict, NET, "n") == expected
    assert props.desired(3, STARTUP, "startup") == {"order": "3"}


@pytest.mark.parametrize("value", [True, ["name=eth0"], None])
def test_desired_refuses_other_types(value):
    with pytest.raises(InvalidSpec, match="property string or a dictionary"):
        props.desired(value, NET, "net0")


@pytest.mark.parametrize(
    ("value", "problem"),
    [({"name": ["a"]}, "one value"), ({"name": "a,b"}, "comma"), ({"name": "a\nb"}, "line")],
)
def test_desired_refuses_values_that_would_break_the_string(value, problem):
    with pytest.raises(InvalidSpec, match=problem) as caught:
        props.desired(value, NET, "networks.net0")
    assert caught.value.field == "networks.net0.name"


def test_meaning_drops_defaults():
    assert props.meaning({"name": "eth0", "firewall": "0", "link_down": "1", "type": "veth"}, NET) == {
        "name": "eth0",
        "link_down": "1",
    }


def test_carried_keeps_only_generated_keys():
    present = {"name": "eth0", "hwaddr": "BC:24:11:00:00:01", "type": "veth", "host-managed": "1", "ip": "x"}
    assert props.carried({"name": "eth0"}, present, NET) == {
        "name": "eth0",
        "hwaddr": "BC:24:11:00:00:01",
        "type": "veth",
        "host-managed": "1",
    }
    assert props.carried({"hwaddr": "BC:24:11:00:00:02"}, present, NET)["hwaddr"] == "BC:24:11:00:00:02"


@pytest.mark.parametrize(
    ("schema", "values", "text"),
    [
        (NET, {"ip": "dhcp", "bridge": "vmbr0", "name": "eth0"}, "name=eth0,bridge=vmbr0,ip=dhcp"),
        (MOUNT, {"mp": "/x", "volume": "local:1", "backup": "1"}, "local:1,backup=1,mp=/x"),
        (FEATURES, {"nesting": "1", "fuse": "1"}, "fuse=1,nesting=1"),
        (STARTUP, {"up": "5", "order": "1"}, "1,up=5"),
    ],
)
def test_render_table(schema, values, text):
    assert props.render(values, schema) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8G", 8 * 1024**3),
        ("512M", 512 * 1024**2),
        ("1.5T", 1536 * 1024**3),
        ("10", 10),
        ("8GiB", 8 * 1024**3),
    ],
)
def test_parse_size_table(text, size):
    assert props.parse_size(text, "size") == size


def test_parse_size_plain_number_has_the_unit_asked_for():
    assert props.parse_size(8, "size", plain_unit="G") == 8 * props.GIB
    for bad in ("big", "-1G", "", True):
        with pytest.raises(InvalidSpec, match="not a size"):
            props.parse_size(bad, "size")


@pytest.mark.parametrize(
    ("size", "text"), [(8 * 1024**3, "8G"), (1536 * 1024**3, "1536G"), (1025, "1025"), (0, "0"), (2048, "2K")]
)
def test_format_size_table(size, text):
    assert props.format_size(size) == text


@pytest.mark.parametrize(("number", "text"), [(2.0, "2"), (0.5, "0.5"), (1.25, "1.25"), (3, "3")])
def test_format_number_table(number, text):
    assert props.format_number(number) == text


@given(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["eth0", "lan"])},
        optional={
            "bridge": st.sampled_from(["vmbr0", "vmbr1"]),
            "firewall": st.sampled_from(["0", "1"]),
            "ip": st.sampled_from(["dhcp", "10.0.0.2/24"]),
            "tag": st.integers(1, 4094).map(str),
            "mtu": st.integers(64, 9000).map(str),
        },
    )
)
def test_render_then_parse_is_the_same(values):
    assert props.parse(props.render(values, NET), NET, "net0") == values


def test_what_a_server_writes_in_a_new_way_is_read_as_far_as_it_goes():
    assert props.actual("local:100/disk,ro=1,novelty,ro=0", props.MOUNT) == {
        "volume": "local:100/disk",
        "ro": "0",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/srv/a=b,mp=/x", {"volume": "/srv/a=b", "mp": "/x"}),
        ("volume=/srv/a=b,mp=/x=y", {"volume": "/srv/a=b", "mp": "/x=y"}),
        ("local:vm-1-a=b,mp=/x,size=4G", {"volume": "local:vm-1-a=b", "mp": "/x", "size": "4G"}),
        ("mp=/x,volume=/srv", {"volume": "/srv", "mp": "/x"}),
        ("novelty=1,mp=/x", {"novelty": "1", "mp": "/x"}),
    ],
)
def test_equals_sign_in_a_path_is_part_of_it(text, expected):
    assert props.actual(text, props.MOUNT) == expected


@pytest.mark.parametrize(
    "value", ["/srv/a=b,mp=/x", "volume=/srv/a=b,mp=/x", {"volume": "/srv/a=b", "mp": "/x"}]
)
def test_equals_sign_where_the_server_cannot_store_it_is_refused(value):
    with pytest.raises(InvalidSpec, match="Proxmox VE cannot store") as caught:
        props.desired(value, props.MOUNT, "mounts.mp0")
    assert caught.value.field == "mounts.mp0.volume"


def test_misspelt_first_key_is_unknown():
    with pytest.raises(InvalidSpec, match="Known are") as caught:
        props.desired("volum=/srv,mp=/x", props.MOUNT, "mounts.mp0")
    assert caught.value.field == "mounts.mp0.volum"


def test_equals_sign_in_a_mount_point_is_kept():
    assert props.desired("/srv,mp=/x=y", props.MOUNT, "mp0") == {"volume": "/srv", "mp": "/x=y"}
