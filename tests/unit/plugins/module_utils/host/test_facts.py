# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read facts of this host and of files that are like those of others."""

from __future__ import annotations

import os
import socket

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.host import facts

V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
V1 = (
    "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n"
    "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
    "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
    "cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\n"
)
UNIFIED = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"


@pytest.fixture
def texts(monkeypatch):
    files: dict[str, str] = {}
    monkeypatch.setattr(facts, "text", lambda path: files.get(path, ""))
    return files


@pytest.mark.parametrize(
    ("mounts", "files", "expected"),
    [
        (V2, {"/sys/fs/cgroup/cgroup.controllers": "cpu io\n"}, ("v2", ["cpu", "io"])),
        (V2, {}, ("v2", [])),
        (V1, {}, ("v1", ["cpu", "memory"])),
        (V1 + UNIFIED, {}, ("v1", ["cpu", "memory"])),
        (
            V1 + UNIFIED,
            {"/sys/fs/cgroup/unified/cgroup.controllers": "hugetlb\n"},
            ("hybrid", ["cpu", "memory"]),
        ),
        ("proc /proc proc rw 0 0\n", {}, ("none", [])),
    ],
)
def test_cgroups(texts, mounts, files, expected):
    texts.update(files)
    mode, controllers = expected
    assert facts.cgroups(mounts) == {"mode": mode, "controllers": controllers}


def test_assignments_are_without_comments_and_quotes():
    content = "# ID=no\nID=debian\nPRETTY_NAME=\"Debian 13\"\nVERSION='1=2'\nnothing\n"
    assert facts.assignments(content) == {"ID": "debian", "PRETTY_NAME": "Debian 13", "VERSION": "1=2"}


def test_unit_environment():
    content = "[Service]\nEnvironment=A=1\nExecStart=/x a=b\nEnvironment=B=2=3\n"
    assert facts.unit_environment(content) == {"A": "1", "B": "2=3"}


@pytest.mark.parametrize(
    ("path", "kind"), [("/var/lib/x", "xfs"), ("/var/library", "ext4"), ("/", "ext4"), ("/srv", "zfs")]
)
def test_filesystem_is_that_of_the_nearest_mount(path, kind):
    mounts = "a / ext4 rw 0 0\nb /var/lib xfs rw 0 0\nc /srv ext3 rw 0 0\nd /srv zfs rw 0 0\n"
    assert facts.filesystem(path, mounts) == kind


def test_existing_ancestor(tmp_path):
    assert facts.existing_ancestor(str(tmp_path / "a/b/c")) == str(tmp_path)
    assert facts.existing_ancestor(str(tmp_path)) == str(tmp_path)
    assert facts.existing_ancestor("/no/such/thing") == "/"


@pytest.mark.host
def test_overlay_works_here_and_leaves_nothing(tmp_path):
    assert facts.overlay_problem(str(tmp_path)) == ""
    assert os.listdir(tmp_path) == []


def test_overlay_says_what_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "_try_overlay", lambda _place: "mount: Invalid argument")
    assert facts.overlay_problem(str(tmp_path)) == "mount: Invalid argument"
    assert "nothing can be written" in facts.overlay_problem(str(tmp_path / "none"))
    assert os.listdir(tmp_path) == []


def test_overlay_whose_check_dies_is_no_overlay(tmp_path, monkeypatch):
    def dies(_place):
        raise ValueError("no")

    monkeypatch.setattr(facts, "_try_overlay", dies)
    assert facts.overlay_problem(str(tmp_path)) == "it died"


@pytest.mark.parametrize(
    ("said", "synchronised"),
    [
        ({"timedatectl": "NTPSynchronized=yes\n"}, True),
        ({"timedatectl": "NTPSynchronized=no\n"}, False),
        ({"timedatectl": "NTPSynchronized=no\n", "chronyc": "Leap status     : Normal\n"}, True),
        ({"chronyc": "Stratum : 0\nLeap status     : Not synchronised\n"}, False),
        ({}, None),
    ],
)
def test_ntp(monkeypatch, said, synchronised):
    monkeypatch.setattr(facts, "command", lambda *argv: said.get(argv[0], ""))
    assert facts.ntp() is synchronised


def test_units(monkeypatch):
    said = (
        "Id=containerd.service\nLoadState=loaded\nActiveState=active\nUnitFileState=disabled\nMainPID=5\n"
        "NeedDaemonReload=no\nFragmentPath=/lib/c.service\nStateChangeTimestampMonotonic=2500000\n\n"
        "Id=crio.service\nLoadState=not-found\nActiveState=inactive\n\n"
        "Id=masked.service\nLoadState=masked\nActiveState=inactive\n\n"
        "Id=old.service\nLoadState=loaded\nActiveState=failed\nUnitFileState=enabled\nMainPID=0\n"
        "NeedDaemonReload=yes\nFragmentPath=/etc/o\n"
    )
    monkeypatch.setattr(facts, "command", lambda *_argv: said)
    monkeypatch.setattr(facts.time, "time", lambda: 1000.0)
    monkeypatch.setattr(facts.time, "monotonic", lambda: 10.0)
    assert facts.units(["x"]) == {
        "containerd.service": {
            "active": True,
            "enabled": False,
            "pid": 5,
            "needs_reload": False,
            "file": "/lib/c.service",
            "since": 992.5,
        },
        "old.service": {
            "active": False,
            "enabled": True,
            "pid": 0,
            "needs_reload": True,
            "file": "/etc/o",
            "since": 990.0,
        },
    }


def test_kubelet_endpoints_of_all_places(texts, monkeypatch):
    texts.update(
        {
            "/var/lib/kubelet/kubeadm-flags.env": 'KUBELET="--x --container-runtime-endpoint=unix:///a"\n',
            "/etc/default/kubelet": "ARGS=--container-runtime-endpoint unix:///b\n",
            "/var/lib/kubelet/config.yaml": "kind: x\ncontainerRuntimeEndpoint: 'unix:///c'\n",
            "/proc/9/comm": "kubelet\n",
            "/proc/9/cmdline": "kubelet\0--container-runtime-endpoint=unix:///d\0",
        }
    )
    monkeypatch.setattr(facts.os, "listdir", lambda _path: ["9", "10", "self"])
    assert facts.kubelet_endpoints() == ["unix:///a", "unix:///b", "unix:///c", "unix:///d"]


def test_cni_files_in_their_order(tmp_path):
    for name in ("20.conf", "10.conflist", "x.json", "README"):
        (tmp_path / name).touch()
    assert facts.cni_files(str(tmp_path)) == ["10.conflist", "20.conf", "x.json"]
    assert facts.cni_files(str(tmp_path / "none")) == []


def test_connected_networks():
    routes_4 = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "vmbr0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "vmbr0\t0000000A\t0101A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n"
        "vmbr0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"
    )
    nothing = "0" * 32
    routes_6 = "\n".join(
        f"{network} {length} {nothing} 00 {gateway} 00000100 00000001 00000000 00000001 {interface}"
        for network, length, gateway, interface in (
            ("20010db8000000000000000000000000", "40", nothing, "vmbr0"),
            ("fd000000000000000000000000000000", "08", "fe80" + "0" * 27 + "1", "vmbr0"),
            ("fe800000000000000000000000000000", "40", nothing, "vmbr0"),
            ("ff000000000000000000000000000000", "08", nothing, "vmbr0"),
            ("fd100000000000000000000000000001", "80", nothing, "lo"),
            (nothing, "00", nothing, "lo"),
        )
    )
    assert facts.connected(routes_4, routes_6) == [
        {"interface": "vmbr0", "network": "192.168.1.0/24"},
        {"interface": "vmbr0", "network": "2001:db8::/64"},
    ]
    assert facts.connected("", "") == []


def test_listeners_name_the_process():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = facts.listeners([port, 1])
    assert found[str(port)]["pid"] == os.getpid()
    assert found[str(port)]["name"].endswith(f"(process {os.getpid()})")
    assert "1" not in found


def test_packages_are_those_of_this_host():
    found = facts.packages(["dpkg", "no-such-package"])
    assert found["dpkg"]
    assert found["no-such-package"] is None
    assert facts.packages([]) == {}


def test_releases(tmp_path):
    for name in ("1", "2"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    (tmp_path / "releases/1/RELEASE").touch()
    assert facts.releases(str(tmp_path)) == {"all": ["1"], "current": None}
    (tmp_path / "current").symlink_to("releases/1")
    assert facts.releases(str(tmp_path)) == {"all": ["1"], "current": "1"}
    assert facts.releases(str(tmp_path / "none")) == {"all": [], "current": None}


def test_command_that_fails_or_is_missing_says_nothing():
    assert facts.command("echo", "x") == "x\n"
    assert facts.command("false") == ""
    assert facts.command("no-such-program") == ""


def test_addresses_of_names():
    assert "127.0.0.1" in facts.addresses("localhost")
    assert facts.addresses("no.such.host.invalid") == []
    assert facts.addresses("x" * 70) == []


def test_environment_of_a_process():
    assert facts.environment(0) == {}
    assert facts.environment(os.getpid()).get("PATH") == os.environ["PATH"]
