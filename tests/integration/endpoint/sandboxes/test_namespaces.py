# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespaces that a pod's containers share: their sysctls, their owner, their first process."""

from __future__ import annotations

import fcntl
import os
import pathlib
import socket
import subprocess
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.api import cri_pb2


def _read(path: str) -> t.Callable[[], str]:
    return lambda: pathlib.Path(path).read_text().strip()


def _userns(pods: t.Any, name: str = "web", **modes: int) -> cri_pb2.PodSandboxConfig:
    config = pods.pod(name)
    options = config.linux.security_context.namespace_options
    for kind, mode in modes.items():
        setattr(options, kind, mode)
    for maps in (options.userns_options.uids, options.userns_options.gids):
        maps.add(container_id=0, host_id=200000, length=65536)
    return config


def test_sysctls_are_set_in_the_pods_namespaces_alone(pods: t.Any) -> None:
    before = {
        name: pathlib.Path("/proc/sys", name).read_text()
        for name in ("net/ipv4/ip_unprivileged_port_start", "kernel/shm_rmid_forced", "fs/mqueue/msg_max")
    }
    config = pods.pod("web")
    config.linux.sysctls.update(
        {
            "net.ipv4.ip_unprivileged_port_start": "80",
            "net/ipv4/conf/eth0/log_martians": "1",
            "net.core.somaxconn": "777",
            "kernel.shm_rmid_forced": "1",
            "fs.mqueue.msg_max": "11",
        }
    )
    record = pods.run(config)
    wanted = {
        "net/ipv4/ip_unprivileged_port_start": "80",
        "net/ipv4/conf/eth0/log_martians": "1",
        "net/core/somaxconn": "777",
        "kernel/shm_rmid_forced": "1",
        "fs/mqueue/msg_max": "11",
    }
    assert {name: pods.inside(record, _read(f"/proc/sys/{name}")) for name in wanted} == wanted
    assert {name: pathlib.Path("/proc/sys", name).read_text() for name in before} == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("net.ipv4.no_such", "1"), ("net.core.somaxconn", "many"), ("net.ipv4.conf.eth7.forwarding", "1")],
)
def test_sysctl_that_the_kernel_refuses_leaves_nothing(pods: t.Any, name: str, value: str) -> None:
    config = pods.pod("web")
    config.linux.sysctls[name] = value
    with pytest.raises(InvalidSpec, match=r"config\.linux\.sysctls"):
        pods.run(config)
    assert pods.leftovers() == {}


def test_shared_pid_namespace_has_a_first_process_that_reaps(pods: t.Any) -> None:
    config = pods.pod("web")
    config.linux.security_context.namespace_options.pid = cri_pb2.POD
    record = pods.run(config)
    assert record.has_pause
    state = pods.context.crun.state(record.id)
    assert state is not None
    assert state.is_alive
    status = dict(
        line.split(":\t", 1) for line in pathlib.Path(f"/proc/{state.pid}/status").read_text().splitlines()
    )
    assert status["Uid"].split()[0] == "65535"
    assert (int(status["CapEff"], 16), status["NoNewPrivs"]) == (0, "1")
    assert status["NSpid"].split()[1:] == ["1"]
    # An orphan in the namespace becomes its child and goes at once.
    subprocess.run(
        ["nsenter", f"--pid=/proc/{state.pid}/ns/pid", "sh", "-c", "(sleep 0.05 &) ; exit 0"],
        check=True,
        timeout=10,
    )
    children = pathlib.Path(f"/proc/{state.pid}/task/{state.pid}/children")
    deadline = time.monotonic() + 10
    seen = []
    while time.monotonic() < deadline:
        seen = children.read_text().split()
        if not seen:
            break
        time.sleep(0.02)
    assert seen == []
    assert pods.cgroups()
    pods.service.stop(record.id)
    assert pods.context.crun.state(record.id) is None
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_pause_process_shares_the_pods_other_namespaces(pods: t.Any) -> None:
    config = pods.pod("web")
    config.linux.security_context.namespace_options.pid = cri_pb2.POD
    config.linux.security_context.run_as_user.value = 1234
    record = pods.run(config)
    pid = pods.context.crun.state(record.id).pid
    for kind, path in (("net", record.netns), ("ipc", record.ipcns), ("uts", record.utsns)):
        assert os.stat(f"/proc/{pid}/ns/{kind}").st_ino == os.stat(path).st_ino
    assert os.stat(f"/proc/{pid}").st_uid == 1234
    assert not os.path.exists(f"/proc/{pid}/root/etc/passwd")


def test_user_namespace_owns_the_others(pods: t.Any) -> None:
    record = pods.run(_userns(pods))
    assert record.userns
    inode = os.stat(record.userns).st_ino
    # What a namespace belongs to is told by NS_GET_USERNS (ioctl_ns(2)).
    for path in (record.netns, record.ipcns, record.utsns):
        handle = os.open(path, os.O_RDONLY)
        owner = fcntl.ioctl(handle, 0xB701)
        assert os.fstat(owner).st_ino == inode
        os.close(owner)
        os.close(handle)
    assert record.extra["uid_maps"] == [[0, 200000, 65536]]
    assert pods.inside(record, socket.gethostname) == "web"
    # Without the loopback interface this packet would have no way.
    with pods.inside(record, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as datagrams:
        assert datagrams.sendto(b"a", ("127.0.0.1", 9)) == 1
    places = pods.places(record)
    for path in (places.shm, places.hosts, places.hostname, places.resolv_conf):
        assert (os.stat(path).st_uid, os.stat(path).st_gid) == (200000, 200000)
    assert os.stat(places.shm).st_mode & 0o7777 == 0o1777
    assert record.ips
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_user_namespace_with_sysctls(pods: t.Any) -> None:
    config = _userns(pods)
    wanted = {
        "net/ipv4/ping_group_range": "0\t1000",
        "kernel/shm_rmid_forced": "1",
        "kernel/domainname": "x.y",
    }
    for name, value in wanted.items():
        config.linux.sysctls[name.replace("/", ".")] = value.replace("\t", " ")
    record = pods.run(config)
    assert {name: pods.inside(record, _read(f"/proc/sys/{name}")) for name in wanted} == wanted


def test_user_namespace_with_the_hosts_network(pods: t.Any) -> None:
    record = pods.run(_userns(pods, network=cri_pb2.NODE))
    assert (record.netns, record.utsns) == ("", "")
    assert record.userns
    assert record.ipcns
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_user_namespace_of_several_ranges(pods: t.Any) -> None:
    config = pods.pod("web")
    maps = config.linux.security_context.namespace_options.userns_options
    for number in range(3):
        maps.uids.add(container_id=number * 10, host_id=300000 + number * 10, length=10)
    maps.gids.add(container_id=0, host_id=4294967290, length=5)
    config.linux.security_context.run_as_user.value = 0
    record = pods.run(config)
    assert record.userns
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_user_namespace_with_a_shared_pid_namespace(pods: t.Any) -> None:
    record = pods.run(_userns(pods, pid=cri_pb2.POD))
    pid = pods.context.crun.state(record.id).pid
    assert os.stat(f"/proc/{pid}/ns/user").st_ino == os.stat(record.userns).st_ino
    assert pathlib.Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", "200000", "65536"]
    pods.service.remove(record.id)
    assert pods.leftovers() == {}
