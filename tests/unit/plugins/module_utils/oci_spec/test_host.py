# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what is read of a host, from made-up hosts and from this one."""

from __future__ import annotations

import json
import os
import pathlib
import resource

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Device,
    IoLimit,
    Resources,
    Security,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec import host, host_request
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts, gather_host_facts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host_request import with_request


class FakeRunner:
    """Answers for crun and records what was asked."""

    def __init__(self, version: str = "crun version 1.8.1\n+SYSTEMD", features: str | None = None) -> None:
        self.version, self.features, self.calls = version, features, []

    def run(self, argv, **_options) -> Completed:
        self.calls.append(list(argv))
        if argv[1] == "--version":
            return Completed(list(argv), 0, self.version, "")
        if self.features is None:
            raise CommandError("unknown command", argv=argv, rc=1)
        return Completed(list(argv), 0, self.features, "")


@pytest.fixture
def tree(tmp_path):
    """Write files of a made-up host and return its root."""

    def write(files: dict[str, str]) -> str:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(tmp_path)

    return write


V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd,xattr
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:39 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
"""


def test_gather_v1(tree):
    root = tree(
        {
            "proc/self/mountinfo": V1_MOUNTS,
            "sys/fs/cgroup/memory/memory.memsw.limit_in_bytes": "",
            "sys/fs/cgroup/blkio/blkio.bfq.weight": "",
        }
    )
    facts = gather_host_facts(FakeRunner(), root=root)
    assert facts.cgroup_version == 1
    assert facts.controllers == {"cpu", "cpuacct", "memory"}
    assert (facts.has_swap_accounting, facts.has_io_weight) == (True, False)


def test_gather_v1_without_swap(tree):
    facts = gather_host_facts(FakeRunner(), root=tree({"sys/fs/cgroup/blkio/blkio.weight": ""}))
    assert (facts.has_swap_accounting, facts.has_io_weight, facts.controllers) == (False, True, frozenset())


@pytest.mark.parametrize(
    ("child", "swap", "weight"),
    [
        ({}, True, True),
        ({"memory.max": "", "io.max": ""}, False, False),
        ({"memory.max": "", "memory.swap.max": "", "io.max": "", "io.weight": ""}, True, True),
        ({"io.max": "", "io.bfq.weight": ""}, True, True),
    ],
)
def test_gather_v2(tree, child, swap, weight):
    files = {f"sys/fs/cgroup/system.slice/{name}": text for name, text in child.items()}
    root = tree({"sys/fs/cgroup/cgroup.controllers": "cpu memory io\n", **files})
    facts = gather_host_facts(FakeRunner(), root=root)
    assert facts.cgroup_version == 2
    assert facts.controllers == {"cpu", "memory", "io"}
    assert (facts.has_swap_accounting, facts.has_io_weight) == (swap, weight)


def test_gather_everything_else(tree):
    root = tree(
        {
            "run/systemd/system/x": "",
            "run/dbus/system_bus_socket": "",
            "proc/self/status": "Name:\tpython\nCapBnd:\t0000000000000005\n",
            "proc/self/oom_score_adj": "-17\n",
            "proc/sys/fs/nr_open": "4096\n",
            "sys/devices/system/cpu/online": "0-1\n",
            "sys/kernel/mm/hugepages/hugepages-2048kB/x": "",
            "sys/kernel/mm/hugepages/hugepages-1048576kB/x": "",
            "sys/kernel/mm/hugepages/hugepages-64kB/x": "",
            "sys/module/apparmor/parameters/enabled": "Y\n",
            "sys/kernel/security/apparmor/profiles": "mine (enforce)\n/usr/bin/x (a) (complain)\nodd\n",
            "sys/fs/selinux/enforce": "1",
            "usr/share/containers/seccomp.json": '{"defaultAction": "SCMP_ACT_ALLOW"}',
        }
    )
    facts = gather_host_facts(FakeRunner(), root=root)
    assert facts.has_systemd
    assert facts.capabilities == {"CAP_CHOWN", "CAP_DAC_READ_SEARCH"}
    assert facts.has_capability("CAP_CHOWN")
    assert not facts.has_capability("CAP_KILL")
    assert (facts.oom_score_adj, facts.nr_open) == (-17, 4096)
    assert facts.cpus == {0, 1}
    assert facts.memory_nodes is None
    assert facts.hugepage_sizes == {"2MB", "1GB", "64KB"}
    assert facts.has_apparmor
    assert facts.apparmor_profiles == {"mine", "/usr/bin/x (a)"}
    assert facts.has_selinux
    assert not facts.has_mqueue
    assert facts.seccomp_default == {"defaultAction": "SCMP_ACT_ALLOW"}
    assert dict(facts.hard_rlimits)["RLIMIT_CORE"] == resource.getrlimit(resource.RLIMIT_CORE)[1]


@pytest.mark.parametrize(
    ("files", "version", "expected"),
    [
        ({"run/systemd/system/x": ""}, "crun version 1.8.1\n+SYSTEMD", False),
        ({"run/dbus/system_bus_socket": ""}, "crun version 1.8.1\n+SYSTEMD", False),
        ({"run/systemd/system/x": "", "run/dbus/system_bus_socket": ""}, "crun version 1.8.1\n+CAP", False),
        (
            {"run/systemd/system/x": "", "run/dbus/system_bus_socket": ""},
            "crun version 1.8.1\n+SYSTEMD",
            True,
        ),
    ],
)
def test_gather_systemd_needs_init_bus_and_crun(tree, files, version, expected):
    assert gather_host_facts(FakeRunner(version), root=tree(files)).has_systemd is expected


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_gather_nothing(tree, text):
    facts = gather_host_facts(FakeRunner("?"), root=tree({"usr/share/containers/seccomp.json": text}))
    assert facts.seccomp_default is None
    assert facts.capabilities is None
    assert facts.nr_open is None
    assert facts.apparmor_profiles is None
    assert facts.hugepage_sizes == frozenset()
    assert not any((facts.has_apparmor, facts.has_selinux, facts.has_systemd))
    assert facts.has_capability("CAP_KILL")


@pytest.mark.parametrize(
    ("version", "features", "expected", "calls"),
    [
        ("crun version 1.8.1", None, "1.0.2", 1),
        ("crun version 1.21", '{"ociVersionMax": "1.1.0+dev"}', "1.1.0", 2),
        ("crun version 1.21", '{"ociVersionMax": "1.2.0"}', "1.2.0", 2),
        ("crun version 2.0", '{"ociVersionMax": "1.3.0-rc.1"}', "1.2.0", 2),
        ("crun version 1.21", '{"ociVersionMax": "new"}', "1.0.2", 2),
        ("crun version 1.21", "{}", "1.0.2", 2),
        ("crun version 1.21", "[]", "1.0.2", 2),
        ("crun version 1.21", "{", "1.0.2", 2),
        ("crun version 1.9", None, "1.0.2", 2),
        ("something", None, "1.0.2", 1),
    ],
)
def test_gather_chooses_the_version(tree, version, features, expected, calls):
    runner = FakeRunner(version, features)
    assert gather_host_facts(runner, crun="/opt/crun", root=tree({})).oci_version == expected
    assert runner.calls == [["/opt/crun", "--version"], ["/opt/crun", "features"]][:calls]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("crun version 1.8.1\nx", (1, 8, 1)), ("crun version 1.21", (1, 21)), ("runc version 1.1", ())],
)
def test_parse_crun_version(text, expected):
    assert host.parse_crun_version(text) == expected


@pytest.mark.parametrize(
    ("release", "expected"),
    [("6.8.12-4-pve", (6, 8)), ("5.10", (5, 10)), ("6.18.44-x-v6", (6, 18)), ("odd", (0, 0))],
)
def test_parse_kernel(release, expected):
    assert host.parse_kernel(release) == expected


def test_gather_this_host():
    facts = gather_host_facts(FakeRunner())
    assert facts.controllers is not None
    assert facts.cpus
    assert set(os.sched_getaffinity(0)) <= facts.cpus
    assert facts.kernel > (4, 0)
    assert facts.machine == os.uname().machine


# ---- what one request names ------------------------------------------------------------------------------


def needs(**asked) -> ContainerSpec:
    return ContainerSpec(name="x", **asked)


def device(path: str) -> Device:
    return Device(source=path, destination=path)


def test_with_request_devices():
    found = with_request(HostFacts(), needs(devices=(device("/dev/null"), device("/dev/zero/"))))
    assert [(node.path, node.kind, node.major, node.minor) for node in found.devices] == [
        ("/dev/null", "c", 1, 3),
        ("/dev/zero", "c", 1, 5),
    ]
    assert with_request(found, needs()).devices == ()


def test_with_request_follows_links_and_directories(tmp_path):
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/zero").symlink_to("/dev/zero")
    found = with_request(HostFacts(), needs(devices=(device(str(tmp_path)),)))
    assert [node.path for node in found.devices] == [f"{tmp_path}/below/zero", f"{tmp_path}/link"]


def test_with_request_privileged_has_them_all():
    found = with_request(HostFacts(), needs(security=Security(privileged=True)))
    paths = {node.path for node in found.devices}
    assert "/dev/null" in paths
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) for path in paths)
    assert "/dev/ptmx" not in paths


@pytest.mark.parametrize(
    ("asked", "field", "message"),
    [
        ({"devices": (device("/dev/does-not-exist"),)}, "devices[0].source", "does not exist on this host"),
        ({"devices": (device("/etc/passwd"),)}, "devices[0].source", "is not a device"),
        ({"devices": (device("/dev/a\0"),)}, "devices[0].source", "does not exist"),
        ({"devices": (device("dev/null"),)}, "devices[0].source", "not an absolute path"),
        (
            {"resources": Resources(io_limits=(IoLimit(device="/dev/none"),))},
            "resources.io_limits[0].device",
            "does not exist",
        ),
    ],
)
def test_with_request_refuses_devices(asked, field, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        with_request(HostFacts(), needs(**asked))
    assert caught.value.field == field


def test_with_request_reads_a_profile(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_LOG"}))
    found = with_request(HostFacts(), needs(security=Security(seccomp=str(path))))
    assert found.seccomp_profile == {"defaultAction": "SCMP_ACT_LOG"}
    assert with_request(found, needs()).seccomp_profile is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .* No such file"),
        ("{", "is not JSON"),
        ("[]", "not a seccomp profile"),
        (b"\xff\xfe\xff", "is not JSON"),
        (" " * 200, "not a seccomp profile"),
    ],
)
def test_with_request_refuses_a_profile(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(host_request, "_PROFILE_MAX_BYTES", 100)
    path = pathlib.Path(tmp_path, "p.json")
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InvalidSpec, match=message) as caught:
        with_request(HostFacts(), needs(security=Security(seccomp=str(path))))
    assert caught.value.field == "security.seccomp"


def test_with_request_refuses_a_relative_profile():
    with pytest.raises(InvalidSpec, match="'strict' is not a profile"):
        with_request(HostFacts(), needs(security=Security(seccomp="strict")))
