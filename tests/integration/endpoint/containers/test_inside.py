# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See from within what a request made of a container's process."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.pvecri.runtime.tests.integration.endpoint.containers.conftest import Lab
from ansible_collections.pvecri.runtime.tests.support.endpoint import busybox_layout, running_endpoint
from pvecri.api import cri_pb2 as pb


def status_fields(lab, container_id):
    lines = lab.sh(container_id, "cat /proc/1/status").splitlines()
    return {key: value.strip() for key, _colon, value in (line.partition(":") for line in lines)}


def security(**fields):
    fields.setdefault("namespace_options", pb.NamespaceOption(pid=pb.CONTAINER))
    return {"security_context": pb.LinuxContainerSecurityContext(**fields)}


def test_command_args_env_and_directory(lab):
    container = lab.run(
        script="",
        command=["sh", "-c", "echo $0 $1; pwd; sleep 1000"],
        args=["a", "b c"],
        env={"ONE": "1", "TWO": "x=y\nz", "PATH": "/bin:/other"},
        working_dir="/tmp/made//here",
    )
    env = lab.sh(container, "tr '\\0' '\\n' </proc/1/environ").splitlines()
    assert {"ONE=1", "TWO=x=y", "z", "PATH=/bin:/other"} <= set(env)
    assert any(line.startswith("HOSTNAME=") for line in env)
    assert lab.log(container) == ["a b c", "/tmp/made/here"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"CapEff": 0xA80425FB, "CapBnd": 0xA80425FB, "CapInh": 0, "CapAmb": 0}),
        (
            {"capabilities": pb.Capability(add_capabilities=["SYS_PTRACE"], drop_capabilities=["CHOWN"])},
            {"CapEff": 0xA80C25FA, "CapInh": 0},
        ),
        ({"capabilities": pb.Capability(drop_capabilities=["ALL"])}, {"CapEff": 0, "CapBnd": 0}),
        (
            {"capabilities": pb.Capability(drop_capabilities=["ALL"], add_capabilities=["net_bind_service"])},
            {"CapEff": 1 << 10, "CapBnd": 1 << 10},
        ),
        ({"run_as_user": pb.Int64Value(value=1000)}, {"CapEff": 0, "CapBnd": 0xA80425FB, "CapAmb": 0}),
        (
            {
                "run_as_user": pb.Int64Value(value=1000),
                "capabilities": pb.Capability(add_ambient_capabilities=["NET_BIND_SERVICE"]),
            },
            {"CapEff": 1 << 10, "CapAmb": 1 << 10, "CapInh": 1 << 10},
        ),
    ],
)
def test_capabilities(lab, asked, expected):
    fields = status_fields(lab, lab.run(linux=security(**asked)))
    assert {name: int(fields[name], 16) for name in expected} == expected


def test_no_new_privileges_and_seccomp(lab):
    pod = lab.pod()
    plain = status_fields(lab, lab.run(pod))
    assert (plain["NoNewPrivs"], plain["Seccomp"]) == ("0", "0")
    profile = pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault)
    strict = status_fields(lab, lab.run(pod, linux=security(no_new_privs=True, seccomp=profile)))
    assert (strict["NoNewPrivs"], strict["Seccomp"]) == ("1", "2")


def test_seccomp_localhost(lab, tmp_path):
    path = tmp_path / "deny.json"
    path.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"],'
        ' "action": "SCMP_ACT_ERRNO"}]}'
    )
    profile = pb.SecurityProfile(profile_type=pb.SecurityProfile.Localhost, localhost_ref=str(path))
    container = lab.run(linux=security(seccomp=profile))
    assert lab.cri.exec_sync(container, ["mkdir", "/tmp/x"]).exit_code == 1
    missing = pb.SecurityProfile(
        profile_type=pb.SecurityProfile.Localhost, localhost_ref=str(tmp_path / "none")
    )
    with lab.refused("INVALID_ARGUMENT", "config.linux.security_context.seccomp"):
        lab.create(lab.pod(), linux=security(seccomp=missing))


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({}, "0 0 0"),
        ({"run_as_user": pb.Int64Value(value=1234)}, "1234 0 0"),
        ({"run_as_user": pb.Int64Value(value=1234), "run_as_group": pb.Int64Value(value=77)}, "1234 77 77"),
        ({"run_as_username": "web"}, "1000 1000 1000 5000"),
        ({"run_as_username": "web", "run_as_group": pb.Int64Value(value=9)}, "1000 9 9 5000"),
        (
            {"run_as_user": pb.Int64Value(value=1000), "supplemental_groups": [3, 2]},
            "1000 1000 2 3 1000 5000",
        ),
        (
            {
                "run_as_user": pb.Int64Value(value=1000),
                "supplemental_groups": [3],
                "supplemental_groups_policy": pb.Strict,
            },
            "1000 1000 3 1000",
        ),
    ],
)
def test_user_and_groups(with_users, asked, ids):
    lab = with_users
    container = lab.run(linux=security(**asked), image="registry.test/users:1")
    fields = status_fields(lab, container)
    real, _effective, _saved, _fs = fields["Uid"].split()
    assert f"{real} {fields['Gid'].split()[0]} {fields['Groups']}" == ids
    user = lab.status(container).user.linux
    groups = " ".join(map(str, user.supplemental_groups))
    assert f"{user.uid} {user.gid} {groups}" == ids


def test_user_unknown(lab):
    with lab.refused("INVALID_ARGUMENT", "run_as_username", "no user 'nobodyknows'"):
        lab.create(lab.pod(), linux=security(run_as_username="nobodyknows"))


def test_read_only_rootfs_and_paths(lab):
    pod = lab.pod()
    asked = security(
        readonly_rootfs=True,
        masked_paths=["/proc/version", "/proc/../proc/scsi"],
        readonly_paths=["/proc/sys"],
    )
    container = lab.run(pod, linux=asked)
    assert lab.cri.exec_sync(container, ["touch", "/tmp/x"]).exit_code == 1
    assert lab.sh(container, "cat /proc/version") == ""
    assert lab.cri.exec_sync(container, ["sh", "-c", "echo 1 >/proc/sys/vm/swappiness"]).exit_code == 1
    plain = lab.run(pod)
    lab.sh(plain, "touch /tmp/x")
    assert "Linux" in lab.sh(plain, "cat /proc/version")


def test_privileged(lab):
    pod = lab.pod(privileged=True)
    container = lab.run(pod, linux=security(privileged=True))
    fields = status_fields(lab, container)
    with open("/proc/self/status", encoding="ascii") as stream:
        own = next(line.split()[1] for line in stream if line.startswith("CapBnd"))
    assert fields["CapEff"] == own
    assert fields["Seccomp"] == "0"
    assert "/sys sysfs rw" in lab.sh(container, "cut -d' ' -f2-4 /proc/mounts | cut -d, -f1")
    devices = set(lab.sh(container, "ls /dev").split())
    here = {name for name in os.listdir("/dev") if os.path.exists(f"/dev/{name}")}
    assert {"null", "loop0", "kmsg"} & here <= devices
    lab.sh(container, "mkdir -p /m && mount -t tmpfs t /m")
    with lab.refused("INVALID_ARGUMENT", "security_context.privileged"):
        lab.create(lab.pod(), linux=security(privileged=True))


def test_oom_score_and_devices(lab):
    linux = security()
    linux["resources"] = pb.LinuxContainerResources(oom_score_adj=500)
    device = pb.Device(container_path="/dev/my/kmsg", host_path="/dev/kmsg", permissions="r")
    container = lab.run(linux=linux, devices=[device])
    assert lab.sh(container, "cat /proc/1/oom_score_adj") == "500"
    lab.sh(container, "head -c1 /dev/my/kmsg | wc -c")
    assert lab.cri.exec_sync(container, ["sh", "-c", "echo x >/dev/my/kmsg"]).exit_code != 0
    with lab.refused("INVALID_ARGUMENT", "config.devices[0].host_path", "does not exist"):
        gone = pb.Device(container_path="/dev/x", host_path="/dev/not-there", permissions="r")
        lab.create(lab.pod(), devices=[gone])


def test_tty(lab):
    container = lab.run(script="tty; sleep 1000", tty=True, stdin=True)
    assert "/dev/pts/0" in lab.sh(container, "readlink /proc/1/fd/0; cat /proc/1/environ | tr '\\0' '\\n'")
    assert "TERM=xterm" in lab.sh(container, "tr '\\0' '\\n' </proc/1/environ")


def test_namespaces_of_the_pod(lab):
    pod = lab.pod(host_network=False, hostname="named")
    one, two = lab.run(pod), lab.run(pod)
    for kind, is_shared in (("net", True), ("uts", True), ("ipc", True), ("pid", False), ("mnt", False)):
        same = lab.sh(one, f"readlink /proc/1/ns/{kind}") == lab.sh(two, f"readlink /proc/1/ns/{kind}")
        assert same is is_shared, kind
    assert lab.sh(one, "hostname; cat /etc/hostname; echo $HOSTNAME") == "named\nnamed\nnamed"
    lab.sh(one, "echo shared >/dev/shm/file")
    assert lab.sh(two, "cat /dev/shm/file; cat /proc/1/comm") == "shared\nsleep"
    assert "named" in lab.sh(one, "cat /etc/hosts")


def test_namespace_pid_of_pod_target_and_host(lab):
    options = pb.NamespaceOption(pid=pb.POD)
    context = {"security_context": pb.LinuxSandboxSecurityContext(namespace_options=options)}
    shared = lab.pod(host_network=False, linux=context)
    one = lab.run(shared, linux=security(namespace_options=pb.NamespaceOption(pid=pb.POD)))
    two = lab.run(shared, "exec sleep 4242", linux=security(namespace_options=pb.NamespaceOption(pid=pb.POD)))
    assert "sleep 4242" in lab.sh(one, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert lab.sh(one, "cat /proc/1/comm") != "sleep"
    lab.cri.stop(two)
    pod = lab.pod()
    main = lab.run(pod, "exec sleep 777")
    target = pb.NamespaceOption(pid=pb.TARGET, target_id=main)
    debug = lab.run(pod, linux=security(namespace_options=target))
    assert lab.sh(debug, "cat /proc/1/cmdline | tr '\\0' ' '") == "sleep 777 "
    with lab.refused("INVALID_ARGUMENT", "target_id", "another pod"):
        lab.create(lab.pod(), linux=security(namespace_options=target))
    with lab.refused("INVALID_ARGUMENT", "namespace_options.pid"):
        lab.create(pod, linux=security(namespace_options=pb.NamespaceOption(pid=pb.NODE)))


def test_cdi_devices(cdi_lab):
    lab = cdi_lab
    container = lab.run(
        CDI_devices=[pb.CDIDevice(name="vendor.test/thing=one")],
        annotations={"cdi.k8s.io/plugin": "vendor.test/thing=two"},
        env={"SHARED": "mine"},
    )
    lab.sh(container, "test -c /dev/thing-one && test -c /dev/thing-two && test -d /vendor")
    env = lab.sh(container, "tr '\\0' '\\n' </proc/1/environ").splitlines()
    assert {"ONE=1", "TWO=2", "SHARED=mine"} <= set(env)
    assert lab.sh(container, "stat -c %a:%u /dev/thing-one") == "600:7"
    assert "4711" in status_fields(lab, container)["Groups"].split()
    assert lab.sh(container, "cat /vendor/hooked") == "yes"
    with lab.refused("INVALID_ARGUMENT", "config.CDI_devices[0].name", "vendor.test/thing=three"):
        lab.create(lab.pod(), CDI_devices=[pb.CDIDevice(name="vendor.test/thing=three")])


def test_directory_of_devices(lab):
    below = pb.Device(container_path="/dev/all", host_path="/dev/net", permissions="rw")
    container = lab.run(devices=[below])
    assert lab.sh(container, "ls /dev/all") == "tun"


def test_runtime_that_is_not_configured(lab):
    lab.endpoint.host.run(
        ["skopeo", "copy", "--quiet", "--insecure-policy", *_tag(lab, "registry.test/lxc/debian:1")]
    )
    pod = lab.pod()
    with lab.refused("FAILED_PRECONDITION", "pve-lxc", "has no runtime"):
        lab.create(pod, image="registry.test/lxc/debian:1")
    assert lab.cri.list_containers() == []


def _tag(lab, name):
    paths = lab.endpoint.paths
    store = f"containers-storage:[overlay@{paths.storage}+{paths.storage_run}]"
    return f"oci:{busybox_layout()}:latest", f"{store}{name}"


@pytest.fixture
def cdi_lab(tmp_path):
    (tmp_path / "vendor").mkdir()
    devices = [
        {
            "name": name,
            "containerEdits": {
                "env": [f"{name.upper()}={number}", "SHARED=vendor"],
                "deviceNodes": [
                    {"path": f"/dev/thing-{name}", "hostPath": "/dev/null", "fileMode": 0o600, "uid": 7}
                ],
            },
        }
        for number, name in ((1, "one"), (2, "two"))
    ]
    common = {
        "mounts": [{"hostPath": str(tmp_path / "vendor"), "containerPath": "/vendor", "options": ["ro"]}],
        "additionalGids": [4711],
        "hooks": [
            {
                "hookName": "createRuntime",
                "path": "/bin/sh",
                "args": ["sh", "-c", f"cat >/dev/null; echo yes >{tmp_path}/vendor/hooked"],
            }
        ],
    }
    document = {
        "cdiVersion": "0.6.0",
        "kind": "vendor.test/thing",
        "devices": devices,
        "containerEdits": common,
    }
    (tmp_path / "vendor.json").write_text(json.dumps(document))
    with running_endpoint(settings={"runtime": {"cdi_dirs": [str(tmp_path)]}}) as endpoint:
        lab = Lab(endpoint)
        yield lab
        lab.clear()
        assert endpoint.leftovers() == []
