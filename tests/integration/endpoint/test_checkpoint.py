# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints by the real crun and CRIU: processes, memory, files and logs go on in another pod."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shutil
import stat
import tarfile
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from ansible_collections.pvecri.runtime.tests.support import cri_client, criu
from ansible_collections.pvecri.runtime.tests.support.endpoint import IMAGE, Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.images import OciLayout
from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

#: Counts in memory, tells the log and a file, and changes what the image has.
_COUNTER = """
rm /bin/vi; rm -r /home; mkdir -p /home /data/d; echo new > /home/only; ln -s only /home/link; mkfifo /data/f
echo kept > /data/d/x; chown 12:34 /data/d/x; chmod 4711 /data/d/x; i=0
while true; do i=$((i+1)); echo $i; echo $i > /c; mv /c /count; sleep 0.1; done
"""

#: A crun that waits before it dumps, while a file exists.
_GATE = """#!/bin/sh
case " $* " in *" checkpoint "*) while [ -e {gate} ]; do sleep 0.02; done;; esac
exec {crun} "$@"
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("gate") / "closed"


@pytest.fixture(scope="module")
def endpoint(gate: pathlib.Path) -> t.Iterator[Endpoint]:
    tools, problem = criu.find()
    if tools is None:
        pytest.skip(f"this host cannot checkpoint: {problem}")
    wrapper = gate.parent / "crun"
    wrapper.write_text(_GATE.format(gate=gate, crun=tools.crun))
    wrapper.chmod(0o755)
    settings = {
        "runtime": {"crun": str(wrapper), "criu": tools.criu},
        "checkpoints": {"trusted_images": ["registry.test/trusted*"]},
    }
    with running_endpoint(settings=settings) as made:
        yield made


@pytest.fixture(autouse=True)
def _clean(endpoint: Endpoint, gate: pathlib.Path) -> t.Iterator[None]:
    yield
    gate.unlink(missing_ok=True)
    if not endpoint.is_running:
        endpoint.start()
    endpoint.remove_all()
    assert not endpoint.leftovers()
    assert not works(endpoint)
    assert not endpoint.tracebacks()


def works(endpoint: Endpoint) -> list[str]:
    """Return the checkpoints that are in the making."""
    path = pathlib.Path(endpoint.state_dir, "checkpoints")
    return os.listdir(path) if path.exists() else []


def counter(endpoint: Endpoint, name: str = "app", **fields: t.Any) -> tuple[t.Any, str, str]:
    """Run a pod with a container that counts; return the pod's config and both ids."""
    pod = endpoint.pod()
    fields = {"name": name, **fields}
    pod_id, container_id = endpoint.run_container(["sh", "-c", _COUNTER], pod=pod, **fields)
    eventually(lambda: count_of(endpoint, pod, name) > 3)
    return pod, pod_id, container_id


def count_of(endpoint: Endpoint, pod: t.Any, name: str = "app") -> int:
    """Return the number that a container logged last."""
    path = pathlib.Path(endpoint.pod_logs, pod.metadata.name, f"{name}.log")
    words = [line.split()[-1] for line in path.read_text().splitlines()] if path.exists() else []
    return max((int(word) for word in words if word.isdigit()), default=0)


def checkpoint(endpoint: Endpoint, container_id: str, path: str, timeout: int = 0) -> None:
    endpoint.cri.call(
        "CheckpointContainer",
        pb.CheckpointContainerRequest(container_id=container_id, location=path, timeout=timeout),
        timeout_s=60,
    )


def restored(endpoint: Endpoint, image: str, *, start: bool = True, **fields: t.Any) -> tuple[t.Any, str]:
    """Create a pod with a container from a checkpoint; return the pod's config and the container's id."""
    pod = endpoint.pod()
    pod_id = endpoint.cri.run_pod(pod)
    config = endpoint.container(**{"name": "app", "image": image, **fields})
    container_id = endpoint.cri.create(pod_id, config, pod)
    if start:
        endpoint.cri.start(container_id)
    return pod, container_id


def state(endpoint: Endpoint, container_id: str) -> int:
    return int(endpoint.cri.container_status(container_id).state)


def is_clean(endpoint: Endpoint, directory: pathlib.Path) -> bool:
    """Say whether nothing is left of a checkpoint that failed."""
    return not works(endpoint) and not os.listdir(directory)


# ---- containers -------------------------------------------------------------------------------------------


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


def tar_text(path: str, *names: str) -> str:
    """Return what is in a file of an archive, or of an archive in it."""
    content = pathlib.Path(path).read_bytes()
    for name in names:
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            stream = tar.extractfile(name)
            assert stream is not None
            content = stream.read()
    return content.decode()


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
    _pod_id, container_id = endpoint.run_container(["sh", "-c", f"{script} {_COUNTER}"], pod=pod, name="app")
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
    script = f"mount -t ramfs ramfs /home/web; {_COUNTER.replace('rm -r /home', 'true')}"
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


def frozen_at(endpoint: Endpoint, pod: t.Any) -> int:
    """Return the count of a container once it counts no more."""
    last = -1
    while (now := count_of(endpoint, pod)) != last:
        last = now
        time.sleep(0.4)
    return last


# ---- restores ---------------------------------------------------------------------------------------------


def test_a_restore_survives_the_daemon(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    second, copy = restored(endpoint, f"{tmp_path}/c.tar", start=False)
    os.unlink(tmp_path / "c.tar")
    endpoint.kill()
    endpoint.start()
    assert state(endpoint, copy) == pb.CONTAINER_CREATED
    endpoint.cri.start(copy)
    eventually(lambda: count_of(endpoint, second) > 4)
    endpoint.kill()
    endpoint.start()
    begin = count_of(endpoint, second)
    assert state(endpoint, copy) == pb.CONTAINER_RUNNING
    eventually(lambda: count_of(endpoint, second) > begin + 2)


def test_a_container_that_awaits_its_restore_can_be_stopped_and_removed(
    endpoint: Endpoint, tmp_path: pathlib.Path
) -> None:
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    _second, copy = restored(endpoint, f"{tmp_path}/c.tar", start=False)
    endpoint.cri.stop(copy, 5)
    assert (state(endpoint, copy), endpoint.cri.container_status(copy).exit_code) == (
        pb.CONTAINER_EXITED,
        137,
    )
    _third, other = restored(endpoint, f"{tmp_path}/c.tar", start=False)
    endpoint.cri.remove(other)


def test_a_restore_that_fails_has_ended(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    _second, copy = restored(endpoint, f"{tmp_path}/c.tar", start=False)
    images = pathlib.Path(endpoint.paths.bundles, copy, "restore", "checkpoint")
    (images / "inventory.img").write_bytes(b"")
    with refused("INTERNAL", "cannot be restored: "):
        endpoint.cri.start(copy)
    found = endpoint.cri.container_status(copy)
    assert (found.state, found.exit_code, found.reason) == (pb.CONTAINER_EXITED, 128, "StartError")


def test_an_image_is_a_checkpoint_only_if_it_is_trusted(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    layer = (tmp_path / "c.tar").read_bytes()
    for name, key in (
        ("trusted", "org.criu.checkpoint.container.name"),
        ("other", "io.kubernetes.cri-o.annotations.checkpoint.name"),
    ):
        layout = OciLayout(tmp_path / name)
        # Different content, that is two images.
        layout.add_image("latest", [layer], {"Cmd": [name]}, annotations={key: "app"})
        endpoint.load_image(f"registry.test/{name}:1", f"oci:{layout.path}:latest")
    with refused("FAILED_PRECONDITION", "none that this host trusts", "checkpoints.trusted_images"):
        restored(endpoint, "registry.test/other:1")
    second, copy = restored(endpoint, "registry.test/trusted:1")
    eventually(lambda: count_of(endpoint, second) > 4)
    assert endpoint.cri.container_status(copy).image.image == IMAGE


def test_hostile_archives(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    before = len(endpoint.cri.list_containers())
    for path, message in (
        (f"{tmp_path}/none.tar", "cannot be read"),
        ("/dev/zero", "no regular file"),
        ("/etc/hostname", "no tar file"),
        (str(tmp_path), "no regular file"),
    ):
        with refused("INVALID_ARGUMENT", message):
            restored(endpoint, path, start=False)
    with tarfile.open(tmp_path / "c.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("../escape"))
    with refused("INVALID_ARGUMENT", "leads out of it"):
        restored(endpoint, f"{tmp_path}/c.tar", start=False)
    assert len(endpoint.cri.list_containers()) == before


# ---- pods -------------------------------------------------------------------------------------------------


def checkpoint_pod(endpoint: Endpoint, pod_id: str, path: str, **fields: t.Any) -> None:
    request = pb.CheckpointPodRequest(pod_sandbox_id=pod_id, output_path=path, **fields)
    endpoint.cri.call("CheckpointPod", request, timeout_s=60)


def restore_pod(endpoint: Endpoint, path: str, **fields: t.Any) -> t.Any:
    return endpoint.cri.call("RestorePod", pb.RestorePodRequest(checkpoint_path=path, **fields), timeout_s=60)


def two(endpoint: Endpoint) -> tuple[t.Any, str, list[str]]:
    """Run a pod of two counters, one of which writes into the shared memory."""
    pod, pod_id, first = counter(endpoint, "one")
    script = f"echo shared > /dev/shm/note; exec sh -c '{_COUNTER}'"
    second = endpoint.cri.create(pod_id, endpoint.container("two", ["sh", "-c", script]), pod)
    endpoint.cri.start(second)
    eventually(lambda: count_of(endpoint, pod, "two") > 3)
    return pod, pod_id, [first, second]


def test_a_pod_goes_on_as_another(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    pod, pod_id, _containers = two(endpoint)
    checkpoint_pod(endpoint, pod_id, f"{tmp_path}/p.tar")
    begin = count_of(endpoint, pod, "one")
    eventually(lambda: count_of(endpoint, pod, "one") > begin + 2)
    options = json.loads(tar_text(f"{tmp_path}/p.tar", "pod.options"))
    assert options["version"] == 1
    assert sorted(options["containers"]) == ["one", "two"]
    assert options["annotations"]["org.criu.checkpoint.pod.name"] == pod.metadata.name
    assert json.loads(tar_text(f"{tmp_path}/p.tar", "pod.dump"))["metadata"]["name"] == pod.metadata.name
    copy = endpoint.pod()
    answer = restore_pod(endpoint, f"{tmp_path}/p.tar", config=copy)
    assert [each.name for each in answer.restored_containers] == ["one", "two"]
    for name in ("one", "two"):
        eventually(lambda name=name: count_of(endpoint, copy, name) > 4)
    ids = {each.name: each.container_id for each in answer.restored_containers}
    assert endpoint.cri.exec_sync(ids["one"], ["cat", "/dev/shm/note"]).stdout == b"shared\n"
    again = restore_pod(endpoint, f"{tmp_path}/p.tar", config=copy)
    assert again == answer


def test_a_pod_moves(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    pod, pod_id, containers = two(endpoint)
    checkpoint_pod(endpoint, pod_id, str(tmp_path), options={"leaveRunning": "false"})
    assert os.listdir(tmp_path) == ["pod-checkpoint.tar"]
    eventually(lambda: all(state(endpoint, each) == pb.CONTAINER_EXITED for each in containers))
    with refused("ALREADY_EXISTS", "with containers of its own"):
        restore_pod(endpoint, str(tmp_path))
    last = count_of(endpoint, pod, "one")
    endpoint.remove_all()
    shutil.rmtree(f"{endpoint.pod_logs}/{pod.metadata.name}")
    answer = restore_pod(endpoint, str(tmp_path))
    eventually(lambda: count_of(endpoint, pod, "one") > last + 2)
    first = pathlib.Path(endpoint.pod_logs, pod.metadata.name, "one.log").read_text().split("\n")[0]
    assert int(first.split()[-1]) in {last, last + 1}
    assert endpoint.cri.pod_status(answer.pod_sandbox_id).metadata == pod.metadata


def test_a_pod_is_restored_with_other_descriptions(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, pod_id, containers = two(endpoint)
    checkpoint_pod(endpoint, pod_id, f"{tmp_path}/p.tar", container_ids=containers[1:])
    copy = endpoint.pod()
    config = endpoint.container("two", labels={"x": "y"}, log_path="other.log")
    answer = restore_pod(
        endpoint,
        f"{tmp_path}/p.tar",
        config=copy,
        container_configs=[config],
        options={"start": "false"},
    )
    [one] = answer.restored_containers
    assert state(endpoint, one.container_id) == pb.CONTAINER_CREATED
    endpoint.cri.start(one.container_id)
    assert dict(endpoint.cri.container_status(one.container_id).labels) == {"x": "y"}
    eventually(lambda: count_of(endpoint, copy, "other") > 4)


def test_a_pod_is_restored_whole_or_not_at_all(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, pod_id, _containers = two(endpoint)
    checkpoint_pod(endpoint, pod_id, f"{tmp_path}/p.tar")
    before = {each.id for each in endpoint.cri.list_pods()}, len(endpoint.cri.list_containers())
    wrong = endpoint.container("two", tty=True)
    with refused("INVALID_ARGUMENT", "config.tty"):
        restore_pod(endpoint, f"{tmp_path}/p.tar", config=endpoint.pod(), container_configs=[wrong])
    with refused("INVALID_ARGUMENT", "no container 'three'"):
        restore_pod(
            endpoint,
            f"{tmp_path}/p.tar",
            config=endpoint.pod(),
            container_configs=[endpoint.container("three")],
        )
    assert ({each.id for each in endpoint.cri.list_pods()}, len(endpoint.cri.list_containers())) == before


def test_what_pods_are_refused(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    path = f"{tmp_path}/p.tar"
    _pod, pod_id, container_id = counter(endpoint)
    other = endpoint.cri.run_pod(endpoint.pod())
    for status, message, fields in (
        ("INVALID_ARGUMENT", "options[speed]: is unknown", {"options": {"speed": "1"}}),
        ("INVALID_ARGUMENT", "neither true nor false", {"options": {"leaveRunning": "1"}}),
        ("NOT_FOUND", "", {"container_ids": ["f" * 64]}),
    ):
        with refused(status, message):
            checkpoint_pod(endpoint, pod_id, path, **fields)
    with refused("INVALID_ARGUMENT", "one of another pod"):
        checkpoint_pod(endpoint, other, path, container_ids=[container_id])
    with refused("FAILED_PRECONDITION", "is running"):
        checkpoint_pod(endpoint, other, path)
    endpoint.cri.stop_pod(other)
    with refused("FAILED_PRECONDITION", "is stopped"):
        checkpoint_pod(endpoint, other, path)
    checkpoint(endpoint, container_id, path)
    with refused("INVALID_ARGUMENT", "no checkpoint of a pod"):
        restore_pod(endpoint, path)
    with refused("INVALID_ARGUMENT", "options[x]"):
        restore_pod(endpoint, path, options={"x": "1"})
    with refused("INVALID_ARGUMENT", "checkpoint_path: is missing"):
        restore_pod(endpoint, "")
    assert cri_client.unique("x")
