# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find and remove what pods left, and nothing of others."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, MissingDependency
from ansible_collections.pvecri.runtime.plugins.module_utils.host import remains
from ansible_collections.pvecri.runtime.plugins.module_utils.host.remains import Place

ID = "31c390b78cba"
RULES = f"""-P PREROUTING ACCEPT
-N CNI-DN-56b3
-N CNI-HOSTPORT-DNAT
-N CNI-HOSTPORT-MASQ
-N CNI-HOSTPORT-SETMARK
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE
-A CNI-DN-56b3 -s 127.0.0.1/32 -p tcp -j CNI-HOSTPORT-SETMARK
-A CNI-DN-56b3 -p tcp -m tcp --dport 8088 -j DNAT --to-destination 10.88.0.4:80
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"pvecri\\" id: \\"{ID}\\"" -j CNI-DN-56b3
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
"""
OURS = [
    "-D", "CNI-HOSTPORT-DNAT", "-p", "tcp", "-m", "comment", "--comment",
    f'dnat name: "pvecri" id: "{ID}"', "-j", "CNI-DN-56b3",
]  # fmt: skip


def test_host_ports_of_our_network_go_with_unused_chains():
    argvs = remains.host_port_argvs(RULES, "pvecri")
    comment = "CNI portfwd requiring masquerade"
    assert argvs == [
        OURS,
        ["-D", "PREROUTING", "-m", "addrtype", "--dst-type", "LOCAL", "-j", "CNI-HOSTPORT-DNAT"],
        ["-D", "POSTROUTING", "-m", "comment", "--comment", comment, "-j", "CNI-HOSTPORT-MASQ"],
        *(["-F", chain] for chain in ("CNI-DN-56b3", "CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ")),
        ["-F", "CNI-HOSTPORT-SETMARK"],
        *(["-X", chain] for chain in ("CNI-DN-56b3", "CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ")),
        ["-X", "CNI-HOSTPORT-SETMARK"],
    ]


def test_host_ports_of_others_stay():
    assert remains.host_port_argvs(RULES, "other") == []
    assert remains.host_port_argvs(RULES, "") == []
    second = '-A CNI-HOSTPORT-DNAT -m comment --comment "dnat name: \\"other\\" id: \\"1\\"" -j CNI-DN-2\n'
    assert remains.host_port_argvs(RULES + second, "pvecri") == [
        OURS, ["-F", "CNI-DN-56b3"], ["-X", "CNI-DN-56b3"],
    ]  # fmt: skip


def test_host_without_portmap_needs_nothing():
    assert remains.host_port_argvs("-P PREROUTING ACCEPT\n-A POSTROUTING -j MASQUERADE\n", "pvecri") == []
    assert remains.host_port_argvs('-A X --comment "open', "pvecri") == []


class Runner:
    """Answer ip from a table of links; note the rest."""

    def __init__(self, links=(), *, has_ip=True):
        self.links = dict(links)
        self.has_ip = has_ip
        self.ran: list[list[str]] = []

    def run(self, argv, **_more):
        if argv[0] == "ip" and not self.has_ip:
            raise MissingDependency("ip is missing")
        said = ""
        if argv[:4] == ["ip", "-json", "link", "show"]:
            wanted = argv[4:]
            names = [name for name, about in self.links.items() if about == wanted]
            said = json.dumps([{"ifname": name} for name in names] + [{}])
        else:
            self.ran.append(list(argv))
        if argv[:3] == ["ip", "link", "delete"]:
            self.links.pop(argv[-1])
        return types.SimpleNamespace(rc=0, stdout=said, stderr="")


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name, attribute in (("cgroup", "CGROUPS"), ("cni/networks", "ADDRESSES")):
        (tmp_path / name).mkdir(parents=True)
        monkeypatch.setattr(remains, attribute, str(tmp_path / name))
    monkeypatch.setattr(remains, "APPARMOR", str(tmp_path / "apparmor"))
    monkeypatch.setattr(remains, "_CABLES_S", 0.1)
    return Place(
        state_dir=str(tmp_path / "state"), run_dir=str(tmp_path / "run"), bridge="pv0", network="pvecri"
    )


def test_clean_host_has_nothing(place):
    assert remains.find(place, Runner()).describe() == []
    remains.remove(place, Runner(has_ip=False))


def test_directories_addresses_bridge_and_containers_go(place, tmp_path):
    (tmp_path / "state/storage").mkdir(parents=True)
    (tmp_path / "run/crun/cri/abc").mkdir(parents=True)
    (tmp_path / "cni/networks/pvecri").mkdir()
    (tmp_path / "cgroup/pvecri/pod1").mkdir(parents=True)
    (tmp_path / "cgroup/pvecri-conmon").mkdir()
    (tmp_path / "cgroup/pvecri.slice").mkdir()
    (tmp_path / "cgroup/system.slice/pvecri.service").mkdir(parents=True)
    runner = Runner({"pv0": ["type", "bridge"], "veth0": ["master", "other"]})
    found = remains.find(place, runner)
    assert found.describe() == [
        "container abc",
        "control group pvecri.slice",
        f"control group {tmp_path}/cgroup/pvecri",
        f"control group {tmp_path}/cgroup/pvecri-conmon",
        "bridge pv0",
        f"{tmp_path}/run",
        f"{tmp_path}/state",
        f"{tmp_path}/cni/networks/pvecri",
    ]
    assert found.running() == []
    (tmp_path / "cgroup/pvecri.slice").rmdir()
    remains.remove(place, runner)
    assert runner.ran[0] == ["crun", "--root", f"{tmp_path}/run/crun/cri", "delete", "--force", "abc"]
    assert ["ip", "link", "delete", "dev", "pv0"] in runner.ran
    assert sorted(os.listdir(tmp_path)) == ["cgroup"]
    assert os.listdir(tmp_path / "cgroup") == ["system.slice"]


def test_profiles_of_the_endpoint_go(place, tmp_path):
    """As the kernel does it: one name a write, without a line's end."""
    kernel = tmp_path / "apparmor"
    kernel.mkdir()
    loaded = ["crun", "pvecri-default-1", "pvecri-default-12", "pvecri-default-mine", "pvecri-other"]
    profiles = kernel / "profiles"
    profiles.write_text("".join(f"{name} (enforce)\n" for name in loaded))
    assert remains.find(place, Runner()).describe() == [
        "AppArmor profile pvecri-default-1",
        "AppArmor profile pvecri-default-12",
    ]
    with pytest.raises(CoreError, match="AppArmor profile pvecri-default-1,"):
        remains.remove(place, Runner())
    assert (kernel / ".remove").read_bytes() == b"pvecri-default-12"
    profiles.write_text("crun (enforce)\n")
    remains.remove(place, Runner())


def test_state_is_kept_if_asked(place, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "run").mkdir()
    kept = Place(state_dir=place.state_dir, run_dir=place.run_dir, keep_state=True)
    remains.remove(kept, Runner())
    assert (tmp_path / "state").is_dir()
    assert not (tmp_path / "run").exists()


def test_bridge_that_something_else_uses_stays(place):
    runner = Runner({"pv0": ["type", "bridge"], "tap100i0": ["master", "pv0"]})
    assert remains.find(place, runner).describe() == []
    remains.remove(place, runner)
    assert "pv0" in runner.links


def test_monitor_is_found_and_ended(place, tmp_path):
    program = tmp_path / "conmon"
    shutil.copy(os.path.realpath(sys.executable), program)
    code = "import time; print(flush=True); time.sleep(60)"
    argv = [str(program), "-c", code, "--cid=abc", f"--exit-dir={tmp_path}", f"{place.run_dir}/exits"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as monitor:
        try:
            assert monitor.stdout is not None
            monitor.stdout.readline()
            found = remains.find(place, Runner())
            assert found.processes == {monitor.pid: "abc"}
            assert found.running() == ["container abc"]
        finally:
            monitor.kill()


def test_holder_of_an_lxc_pod_is_found_and_somebody_elses_is_not(place, tmp_path):
    script = tmp_path / "plugins/module_utils/lxc/holder.py"
    script.parent.mkdir(parents=True)
    script.write_text("import time; print(flush=True); time.sleep(60)")
    argv = [sys.executable, "-I", "-S", str(script), "create", "--bundle"]
    with (
        subprocess.Popen([*argv, f"{place.run_dir}/abc"], stdout=subprocess.PIPE) as ours,
        subprocess.Popen([*argv, f"{tmp_path}/elsewhere/abc"], stdout=subprocess.PIPE) as other,
    ):
        try:
            for process in (ours, other):
                assert process.stdout is not None
                process.stdout.readline()
            assert remains.find(place, Runner()).processes == {ours.pid: ""}
        finally:
            ours.kill()
            other.kill()


@pytest.mark.host
def test_mounts_are_taken_away_and_pods_counted(place, tmp_path):
    namespace = tmp_path / "run/sandboxes/p1/ns/net"
    namespace.parent.mkdir(parents=True)
    namespace.touch()
    rootfs = pathlib.Path(place.state_dir, "bundles/a/rootfs")
    rootfs.mkdir(parents=True)
    subprocess.run(["mount", "--bind", "/proc/self/ns/net", str(namespace)], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(rootfs)], check=True)
    found = remains.find(place, Runner())
    assert sorted(found.mounts) == sorted([str(namespace), str(rootfs)])
    assert found.running() == ["pod p1"]
    remains.remove(place, Runner())
    assert not os.path.exists(place.state_dir)
    assert not os.path.exists(place.run_dir)


@pytest.mark.host
def test_state_that_is_a_mount_point_is_emptied(place):
    os.makedirs(place.state_dir)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place.state_dir], check=True)
    try:
        pathlib.Path(place.state_dir, "a").mkdir()
        pathlib.Path(place.state_dir, "b").touch()
        assert remains.find(place, Runner()).describe() == [place.state_dir]
        remains.remove(place, Runner())
        assert os.listdir(place.state_dir) == []
        assert remains.find(place, Runner()).describe() == []
    finally:
        subprocess.run(["umount", place.state_dir], check=True)


def test_what_resists_is_named(place, tmp_path):
    (tmp_path / "cgroup/pvecri").mkdir()
    (tmp_path / "cgroup/pvecri/busy").touch()
    with pytest.raises(CoreError, match=r"could not all be removed: control group .*/pvecri"):
        remains.remove(place, Runner())
