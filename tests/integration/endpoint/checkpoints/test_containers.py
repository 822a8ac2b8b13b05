# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints by the real crun and CRIU: processes, memory, files and logs go on in another pod."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import tarfile
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from ansible_collections.pvecri.runtime.tests.support import cri_client, crictl
from ansible_collections.pvecri.runtime.tests.support.checkpoints import (
    COUNTER,
    checkpoint,
    count_of,
    counter,
    frozen_at,
    is_clean,
    restored,
    state,
    tar_text,
    works,
)
from ansible_collections.pvecri.runtime.tests.support.endpoint import IMAGE, Endpoint
from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb


def test_a_container_goes_on_in_another_pod(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    path = f"{tmp_path}/c.tar"
    first, _pod_id, container_id = counter(endpoint)
    begin = count_of(endpoint, first)
    checkpoint(endpoint, container_id, path)
    dumped = int(tar_text(path, "rootfs-diff.tar", "count"))
    assert state(endpoint, container_id) == pb.CONTAINER_RUNNING
    eventually(lambda: count_of(endpoint, first) > dumped + 2)
    second, copy = restored(endpoint, path)
    eventually(lambda: count_of(endpoint, second) > dumped + 2)
    log = pathlib.Path(endpoint.pod_logs, second.metadata.name, "app.log").read_text().splitlines()
    assert begin <= dumped
    assert int(log[0].split()[-1]) in {dumped, dumped + 1}
    status = endpoint.cri.container_status(copy)
    assert (status.image.image, status.state) == (IMAGE, pb.CONTAINER_RUNNING)
    answer = endpoint.cri.exec_sync(
        copy,
        ["sh", "-c", "cd /home; cat only link /data/d/x; ls; ls /bin/vi; stat -c '%a %u %g' /data/d/x"],
    )
    assert answer.stdout.decode() == "new\nnew\nkept\nlink\nonly\n4711 12 34\n"
    assert b"/bin/vi" in answer.stderr
    hostname = endpoint.cri.exec_sync(copy, ["hostname"]).stdout.decode().strip()
    assert hostname == second.hostname
    # What it was restored from has done its work.
    assert not os.path.exists(f"{endpoint.paths.bundles}/{copy}/restore")
    endpoint.cri.stop(copy, 0)
    assert endpoint.cri.container_status(copy).exit_code == 137


def test_a_restored_container_has_the_new_pod_s_network(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _first, pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    second, copy = restored(endpoint, f"{tmp_path}/c.tar", labels={"a": "b"}, annotations={"c": "d"})
    found = endpoint.cri.container_status(copy)
    assert (dict(found.labels), dict(found.annotations)) == ({"a": "b"}, {"c": "d"})
    other = next(pod.id for pod in endpoint.cri.list_pods() if pod.id != pod_id)
    ip = endpoint.cri.pod_status(other).network.ip
    assert ip in endpoint.cri.exec_sync(copy, ["ip", "addr"]).stdout.decode()
    assert ip != endpoint.cri.pod_status(pod_id).network.ip
    assert second.metadata.name


def test_a_restored_container_can_be_checkpointed_again(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _first, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/1.tar")
    _second, copy = restored(endpoint, f"{tmp_path}/1.tar")
    checkpoint(endpoint, copy, f"{tmp_path}/2.tar")
    assert json.loads(tar_text(f"{tmp_path}/2.tar", "config.dump"))["restored"] is True
    third, last = restored(endpoint, f"{tmp_path}/2.tar")
    eventually(lambda: count_of(endpoint, third) > 4)
    assert state(endpoint, last) == pb.CONTAINER_RUNNING


@pytest.mark.skipif(bool(crictl.missing()), reason=str(crictl.missing()))
def test_a_person_does_it_with_crictl(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    person = crictl.Crictl(endpoint.socket, tmp_path)
    _first, _pod_id, container_id = counter(endpoint)
    assert container_id in person("checkpoint", f"--export={tmp_path}/c.tar", container_id)
    name = cri_client.unique("by-hand")
    pod = {
        "metadata": {"name": name, "namespace": "default", "uid": name, "attempt": 0},
        "log_directory": f"{endpoint.pod_logs}/{name}",
        "linux": {"cgroup_parent": f"{endpoint.cgroup_parent}/{name}"},
    }
    container = {"metadata": {"name": "app"}, "image": {"image": f"{tmp_path}/c.tar"}, "log_path": "app.log"}
    pod_file, container_file = person.file("pod.json", pod), person.file("container.json", container)
    pod_id = person("runp", pod_file)
    copy = person("create", "--no-pull", pod_id, container_file, pod_file)
    assert person("start", copy) == copy
    # Where it begins depends on how long the checkpoint has taken.
    eventually(lambda: len(person("logs", copy).splitlines()) > 3)
    assert int(person("logs", copy).split()[0]) > 3
    assert person.json("inspect", copy)["info"]["restored"]["container"] == container_id
    assert "is no directory" in person.fails("checkpoint", f"--export={tmp_path}/none/c.tar", copy)


def test_the_archive_is_as_others_know_it(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "c.tar"
    path.write_text("an older one")
    mount = pb.Mount(container_path="/host", host_path=str(tmp_path))
    _pod, _pod_id, container_id = counter(endpoint, mounts=[mount])
    checkpoint(endpoint, container_id, str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["c.tar"]
    with tarfile.open(path) as tar:
        names = {member.name: member for member in tar}
    top = {name for name in names if "/" not in name}
    assert top - {"."} == {
        *(
            "config.dump",
            "spec.dump",
            "status.dump",
            "bind.mounts",
            "network.status",
            "checkpoint",
            "dump.log",
        ),
        *("stats-dump", "rootfs-diff.tar", "deleted.files", "container.config"),
    }
    assert {"checkpoint/inventory.img", "checkpoint/pstree.img"} <= set(names)
    config = json.loads(tar_text(str(path), "config.dump"))
    assert config["id"] == container_id
    assert config["rootfsImageName"] == IMAGE
    assert config["rootfsImageRef"].startswith("registry.test/busybox@sha256:")
    assert (config["runtime"], config["restored"]) == ("crun", False)
    annotations = json.loads(tar_text(str(path), "spec.dump"))["annotations"]
    assert json.loads(annotations["io.kubernetes.cri-o.Metadata"]) == {"name": "app"}
    assert json.loads(tar_text(str(path), "status.dump"))["state"] == pb.CONTAINER_RUNNING
    [bind] = [
        each for each in json.loads(tar_text(str(path), "bind.mounts")) if each["destination"] == "/host"
    ]
    assert (bind["source"], bind["file_type"]) == (str(tmp_path), "directory")
    assert "/bin/vi" in json.loads(tar_text(str(path), "deleted.files"))


def test_mounts_are_those_of_the_request(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "who").write_text(name)
    archives = tmp_path / "archives"
    archives.mkdir()

    def mount(name: str) -> pb.Mount:
        return pb.Mount(container_path="/mnt/deep/host", host_path=str(tmp_path / name))

    _pod, _pod_id, container_id = counter(endpoint, mounts=[mount("one")])
    checkpoint(endpoint, container_id, f"{archives}/c.tar")
    _second, copy = restored(endpoint, f"{archives}/c.tar", mounts=[mount("two")])
    assert endpoint.cri.exec_sync(copy, ["cat", "/mnt/deep/host/who"]).stdout == b"two"
    with refused("INVALID_ARGUMENT", "had mounts at /mnt/deep/host"):
        restored(endpoint, f"{archives}/c.tar")
    other = pb.Mount(container_path="/other", host_path=str(tmp_path / "two"))
    with refused("INVALID_ARGUMENT", "had no mounts at /other"):
        restored(endpoint, f"{archives}/c.tar", mounts=[mount("one"), other])


def test_a_terminal_goes_along(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, _pod_id, container_id = counter(endpoint, tty=True)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    second, copy = restored(endpoint, f"{tmp_path}/c.tar", tty=True)
    begin = count_of(endpoint, second)
    eventually(lambda: count_of(endpoint, second) > begin + 2)
    assert state(endpoint, copy) == pb.CONTAINER_RUNNING
    with refused("INVALID_ARGUMENT", "had a terminal"):
        restored(endpoint, f"{tmp_path}/c.tar")


def test_connections_are_closed_in_the_copy_only(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    script = (
        "(nc -l -p 7000 -e cat &); sleep 0.3; (while true; do echo; sleep 0.1; done | nc 127.0.0.1 7000 >/n)&"
    )
    pod = endpoint.pod()
    _pod_id, container_id = endpoint.run_container(["sh", "-c", f"{script} {COUNTER}"], pod=pod, name="app")
    eventually(lambda: count_of(endpoint, pod) > 8)
    try:
        checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    except grpc.RpcError as exc:
        if "Can't get 1:16 opt" not in exc.details():
            raise
        pytest.skip("this CRIU does not know what sockets of this kernel refuse to tell")

    def echoed() -> int:
        return int(endpoint.cri.exec_sync(container_id, ["stat", "-c", "%s", "/n"]).stdout)

    before = echoed()
    eventually(lambda: echoed() > before)
    second, _copy = restored(endpoint, f"{tmp_path}/c.tar")
    begin = count_of(endpoint, second)
    eventually(lambda: count_of(endpoint, second) > begin + 2)


def test_what_cannot_be_checkpointed(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, pod_id, container_id = counter(endpoint)
    for location, message in (
        ("", "location: is missing"),
        ("x.tar", "not an absolute path"),
        (f"{tmp_path}/no/x.tar", "is no directory"),
        (str(tmp_path), "is there and is no regular file"),
        ("/dev/null", "is there and is no regular file"),
    ):
        with refused("INVALID_ARGUMENT", message):
            checkpoint(endpoint, container_id, location)
    os.symlink("/etc/passwd", tmp_path / "link")
    with refused("INVALID_ARGUMENT", "no regular file"):
        checkpoint(endpoint, container_id, f"{tmp_path}/link")
    with refused("INVALID_ARGUMENT", "timeout"):
        checkpoint(endpoint, container_id, f"{tmp_path}/x.tar", timeout=-1)
    with refused("NOT_FOUND"):
        checkpoint(endpoint, "f" * 64, f"{tmp_path}/x.tar")
    created = endpoint.cri.create(pod_id, endpoint.container("other"), endpoint.pod())
    with refused("FAILED_PRECONDITION", "is created, not running"):
        checkpoint(endpoint, created, f"{tmp_path}/x.tar")
    os.unlink(tmp_path / "link")
    assert is_clean(endpoint, tmp_path)


def test_a_dump_that_fails_leaves_the_container_running(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    # Nobody but this container sees what is in it, and CRIU cannot save it.
    script = f"mount -t ramfs ramfs /home/web; {COUNTER.replace('rm -r /home', 'true')}"
    pod = endpoint.pod()
    pod.linux.security_context.privileged = True
    privileged = pb.LinuxContainerConfig(security_context=pb.LinuxContainerSecurityContext(privileged=True))
    fields = {"name": "app", "linux": privileged}
    _pod_id, container_id = endpoint.run_container(["sh", "-c", script], pod=pod, **fields)
    eventually(lambda: count_of(endpoint, pod) > 3)
    with refused("INTERNAL", "cannot be checkpointed: ", "unsupported"):
        checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    begin = count_of(endpoint, pod)
    eventually(lambda: count_of(endpoint, pod) > begin + 2)
    assert is_clean(endpoint, tmp_path)


def test_a_dump_that_takes_too_long_is_ended(
    endpoint: Endpoint, tmp_path: pathlib.Path, gate: pathlib.Path
) -> None:
    pod, _pod_id, container_id = counter(endpoint)
    gate.touch()
    with refused("DEADLINE_EXCEEDED"):
        checkpoint(endpoint, container_id, f"{tmp_path}/c.tar", timeout=1)
    begin = count_of(endpoint, pod)
    eventually(lambda: count_of(endpoint, pod) > begin + 2)
    assert is_clean(endpoint, tmp_path)


def test_a_full_disk_leaves_nothing(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    pod, _pod_id, container_id = counter(endpoint)
    small = f"{endpoint.top}/small"
    os.mkdir(small)
    endpoint.host.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small])
    try:
        with refused("RESOURCE_EXHAUSTED"):
            checkpoint(endpoint, container_id, f"{small}/c.tar")
        assert not os.listdir(endpoint.host.path(small))
    finally:
        endpoint.host.run(["umount", small])
    begin = count_of(endpoint, pod)
    eventually(lambda: count_of(endpoint, pod) > begin + 2)


def test_a_daemon_killed_in_a_checkpoint_lets_the_container_go_on(
    endpoint: Endpoint, tmp_path: pathlib.Path, gate: pathlib.Path
) -> None:
    pod, _pod_id, container_id = counter(endpoint)
    gate.touch()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(checkpoint, endpoint, container_id, f"{tmp_path}/c.tar")
        eventually(lambda: works(endpoint))
        begin = frozen_at(endpoint, pod)
        endpoint.kill()
        with pytest.raises(grpc.RpcError):
            call.result()
    endpoint.start()
    eventually(lambda: count_of(endpoint, pod) > begin + 2)
    eventually(lambda: is_clean(endpoint, tmp_path))
    gate.unlink()
