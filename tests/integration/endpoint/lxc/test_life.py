# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lead guests of Proxmox VE through their lives: states, exit codes, logs, and what they see."""

from __future__ import annotations

import os
import pathlib
import threading
import time

import pytest

from ansible_collections.pvecri.runtime.tests.integration.endpoint.containers.test_log import lines
from ansible_collections.pvecri.runtime.tests.integration.endpoint.test_events import Follower
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

LOOP = "while :; do sleep 0.05; done"


def test_states_at_the_endpoint_and_at_proxmox(lab):
    pod = lab.pod()
    container = lab.create(pod, "echo out; echo err >&2; printf part; exit 3", labels={"a": "b"})
    created = lab.status(container)
    assert created.state == pb.CONTAINER_CREATED
    assert (created.started_at, created.finished_at) == (0, 0)
    guest = lab.guest(container)
    assert guest.status == "stopped"
    config = lab.node.config(guest.vmid)
    assert set(config["tags"].split(";")) == {"pvecri", "pvecri-cri"}
    assert (config["unprivileged"], config.get("onboot", 0)) == (1, 0)
    assert not any(key.startswith("net") for key in config)
    (include,) = [value for key, value in config["lxc"] if key == "lxc.include"]
    assert include.startswith(lab.endpoint.state_dir)
    lab.cri.start(container)
    status = lab.ended(container)
    assert (status.exit_code, status.reason) == (3, "Error")
    assert status.created_at < status.started_at <= status.finished_at
    with open(status.log_path, encoding="ascii") as stream:
        printed = sorted(line.rstrip("\n").split(" ", 1)[1] for line in stream)
    assert printed == ["stderr F err", "stdout F out", "stdout P part"]
    eventually(lambda: guest.status == "stopped")
    lab.cri.remove(container)
    assert lab.node.vmids() == []


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 255", 255), ("exec sh -c 'sleep 0.1; exit 9'", 9)],
    ids=["none", "highest", "later"],
)
def test_exit_code(lab, script, code):
    status = lab.ended(lab.run(script=script))
    assert (status.exit_code, status.reason) == (code, "Error" if code else "Completed")


def test_missing_program_is_named(lab):
    container = lab.create(lab.pod(), command=["/no/such"])
    with pytest.raises(Exception, match="/no/such"):
        lab.cri.start(container)
    status = lab.ended(container)
    assert status.exit_code in (127, 128)


def test_stop_signal_and_time(lab):
    pod = lab.pod()
    container = lab.run(
        pod, f"trap 'exit 7' INT; trap 'exit 9' TERM; echo up; {LOOP}", stop_signal=pb.SIGNAL_SIGINT
    )
    lab.printed(container, "up")
    lab.cri.stop(container, 30)
    assert lab.status(container).exit_code == 7
    assert lab.node.tasks("vzshutdown")
    stubborn = lab.run(pod, f"trap '' TERM; echo up; {LOOP}")
    lab.printed(stubborn, "up")
    began = time.monotonic()
    lab.cri.stop(stubborn, 1)
    assert time.monotonic() - began < 20
    assert lab.status(stubborn).exit_code == 137
    eventually(lambda: lab.guest(stubborn).status == "stopped")


def test_second_stop_hastens_the_first(lab):
    container = lab.run(script=f"trap '' TERM; echo up; {LOOP}")
    lab.printed(container, "up")
    first = threading.Thread(target=lab.cri.stop, args=(container, 600))
    first.start()
    eventually(lambda: lab.node.tasks("vzshutdown")[-1]["status"] == "running")
    lab.cri.stop(container, 0, timeout_s=20)
    first.join(20)
    assert not first.is_alive()
    assert lab.status(container).exit_code == 137


def test_out_of_turn(lab):
    pod = lab.pod()
    container = lab.create(pod)
    with lab.refused("FAILED_PRECONDITION", "is created, not running"):
        lab.cri.exec_sync(container, ["true"])
    lab.cri.start(container)
    with lab.refused("FAILED_PRECONDITION", "is running, not created"):
        lab.cri.start(container)
    lab.cri.stop(container)
    lab.cri.stop(container)
    with lab.refused("FAILED_PRECONDITION", "is exited, not created"):
        lab.cri.start(container)
    for _unused in range(2):
        lab.cri.remove(container)
    with lab.refused("NOT_FOUND"):
        lab.cri.container_status(container)


def test_stopped_before_it_ran(lab):
    container = lab.create(lab.pod())
    lab.cri.stop(container, 30)
    status = lab.status(container)
    assert (status.state, status.exit_code, status.started_at) == (pb.CONTAINER_EXITED, 137, 0)


def test_repeated_create_makes_one_guest(lab):
    pod = lab.pod()
    config = lab.endpoint.container("twice")
    first = lab.cri.create(pod, config, lab.config_of(pod))
    before = len(lab.node.tasks("vzcreate"))
    assert lab.cri.create(pod, config, lab.config_of(pod)) == first
    assert len(lab.node.tasks("vzcreate")) == before
    with lab.refused("ALREADY_EXISTS", "twice"):
        lab.cri.create(pod, lab.endpoint.container("twice", ["true"]), lab.config_of(pod))


def test_restart_in_the_same_pod(lab):
    pod = lab.pod()
    first = lab.run(pod, "exit 1", name="app")
    lab.ended(first)
    again = lab.endpoint.container("app", ["sh", "-c", "echo again; sleep 1000"], attempt=1)
    second = lab.cri.create(pod, again, lab.config_of(pod))
    lab.cri.start(second)
    lab.cri.remove(first)
    assert lab.sh(second, "echo here") == "here"
    assert lab.node.vmids() == [lab.vmid(second)]


def test_arguments_and_variables_are_exact_and_no_secret_is_kept_at_proxmox(lab):
    env = {"LINES": "one\ntwo", "SECRET": "hunter2-" * 4, "QUOTE": "a'b\"c $HOME \\"}
    words = ["sh", "-c", 'printf "%s|" "$@" "$LINES" "$QUOTE"; echo; exec sleep 1000', "x", "a b", "", "ü\n!"]
    container = lab.run(command=words, env=env)
    wanted = "a b||ü\n!|one\ntwo|a'b\"c $HOME \\|"
    # The last line's end may come by itself, as one more record.
    eventually(lambda: "\n".join(lab.log(container)).rstrip("\n") == wanted)
    for path in pathlib.Path(lab.node.top).rglob("*"):
        if path.is_file() and "rootfs" not in path.parts and path.suffix != ".tar":
            assert b"hunter2" not in path.read_bytes(), path
    assert not any(b"hunter2" in body for _method, _path, body in lab.node.pve.requests)


def test_user_directory_and_read_only_root(lab):
    context = {"run_as_user": {"value": 1000}, "supplemental_groups": [4000], "readonly_rootfs": True}
    context["no_new_privs"] = True
    context["capabilities"] = {"drop_capabilities": ["ALL"]}
    linux = {"security_context": {"namespace_options": {"pid": pb.CONTAINER}, **context}}
    container = lab.run(linux=linux, working_dir="/new/place")
    script = "id -u; id -G; pwd; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status; touch /x || true"
    words = lab.sh(container, script).split()
    assert words[0] == "1000"
    assert "4000" in words
    assert "/new/place" in words
    assert words[words.index("CapEff:") + 1] == "0" * 16
    assert words[words.index("CapBnd:") + 1] == "0" * 16
    assert words[words.index("NoNewPrivs:") + 1] == "1"
    assert lab.cri.exec_sync(container, ["touch", "/x"]).exit_code == 1


def test_mounts(lab, tmp_path):
    os.chmod(tmp_path, 0o755)
    volume, secret = tmp_path / "volume", tmp_path / "secret with blank"
    volume.mkdir()
    secret.mkdir()
    (secret / "token").write_text("s3cret")
    os.chmod(secret / "token", 0o600)
    single = tmp_path / "hosts"
    single.write_text("10.0.0.1 other\n")
    mounts = [
        pb.Mount(host_path=str(volume), container_path="/data/below"),
        pb.Mount(host_path=str(secret), container_path="/run/my secret", readonly=True),
        pb.Mount(host_path=str(single), container_path="/etc/hosts"),
    ]
    container = lab.run(mounts=mounts)
    assert lab.sh(container, "cat '/run/my secret/token' /etc/hosts") == "s3cret10.0.0.1 other"
    lab.sh(container, "echo mine > /data/below/file")
    assert (volume / "file").read_text() == "mine\n"
    assert (volume / "file").stat().st_uid == 0
    assert lab.cri.exec_sync(container, ["touch", "/run/my secret/x"]).exit_code == 1


def test_out_of_memory(lab):
    linux = {"resources": pb.LinuxContainerResources(memory_limit_in_bytes=32 << 20)}
    container = lab.run(script="x=a; while true; do x=$x$x; done", linux=linux)
    status = lab.ended(container, 60)
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


def test_limits_and_updates(lab):
    limit = pb.LinuxContainerResources(memory_limit_in_bytes=64 << 20, cpu_quota=50000, cpu_period=100000)
    container = lab.run(linux={"resources": limit})
    vmid = lab.vmid(container)
    assert lab.node.config(vmid)["memory"] == 64
    assert float(lab.node.config(vmid)["cpulimit"]) == 0.5
    assert memory_limit(lab, vmid) == 64 << 20
    odd = (100 << 20) + 4096
    lab.cri.update_resources(
        container, pb.LinuxContainerResources(memory_limit_in_bytes=odd, cpu_quota=75000)
    )
    assert memory_limit(lab, vmid) == odd
    assert lab.node.config(vmid)["memory"] == 101
    assert float(lab.node.config(vmid)["cpulimit"]) == 0.75
    assert lab.status(container).resources.linux.memory_limit_in_bytes == odd
    lab.cri.stop(container)
    lab.cri.remove(container)


def memory_limit(lab, vmid):
    name = "memory.max" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "memory.limit_in_bytes"
    return int(lab.node.limits(vmid, name))


def test_rotation_loses_no_line(lab):
    container = lab.run(script="i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; sleep 1000")
    path = lab.status(container).log_path
    moved = []
    for number in range(3):
        moved.append(f"{path}.{number}")
        os.rename(path, moved[-1])
        lab.cri.reopen_log(container)
        assert os.path.exists(path)

    eventually(lambda: "line 1999" in lines(*moved, path))
    assert lines(*moved, path) == [f"line {number}" for number in range(2000)]


def test_verbose_status_says_where_it_is_at_proxmox(lab):
    container = lab.run()
    text = str(lab.info(container))
    assert str(lab.vmid(container)) in text
    for upid in (lab.node.tasks("vzcreate")[-1]["upid"], lab.node.tasks("vzstart")[-1]["upid"]):
        assert upid in text
    assert "'pve1'" in text


def test_statistics_are_those_of_the_guest(lab):
    container = lab.run(script=f"x=$(head -c 5000000 /dev/zero | tr '\\0' x); {LOOP}")
    request = pb.ContainerStatsRequest(container_id=container)

    def stats():
        return lab.cri.call("ContainerStats", request).stats

    eventually(lambda: stats().memory.working_set_bytes.value > 4_000_000)
    eventually(lambda: stats().cpu.usage_core_nano_seconds.value > 0)
    eventually(lambda: stats().writable_layer.used_bytes.value > 0)
    pod = lab.cri.call("PodSandboxStats", pb.PodSandboxStatsRequest(pod_sandbox_id=lab_pod(lab))).stats
    assert [each.attributes.id for each in pod.linux.containers] == [container]
    assert pod.linux.network.default_interface.name == "eth0"


def lab_pod(lab):
    (pod,) = lab.cri.list_pods()
    return pod.id


def test_events(lab):
    follower = Follower(lab.endpoint)
    try:
        container = lab.create(lab.pod(), "exit 4")
        lab.cri.start(container)
        lab.ended(container)
        lab.cri.remove(container)
        wanted = [(container, kind) for kind in ("created", "started", "stopped", "deleted")]
        eventually(lambda: follower.told(container) == wanted, what="all events")
    finally:
        follower.close()
