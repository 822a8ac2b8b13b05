# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start, ask, reload and stop the daemon as a node does."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import stat
import subprocess
import tarfile
import time
import typing as t

import grpc
import pytest

import pvecri
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import default_config
from ansible_collections.pvecri.runtime.tests.support import endpoint_process
from ansible_collections.pvecri.runtime.tests.support.cri_client import Cri
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, missing, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

ROOT = pathlib.Path(__file__).parents[3]
SECRET = "hunter2-and-more"

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def endpoint() -> t.Iterator[Endpoint]:
    with running_endpoint() as made:
        yield made


@pytest.fixture(autouse=True)
def _clean(endpoint: Endpoint) -> t.Iterator[None]:
    yield
    if not endpoint.is_running:
        endpoint.start()
    endpoint.remove_all()
    assert endpoint.tracebacks() == []


def pvecri_command(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as the daemon is run."""
    return subprocess.run(
        [endpoint_process.PYTHON, "-P", "-m", "pvecri", *argv],
        env=endpoint_process.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def write_config(directory: pathlib.Path, place: str) -> pathlib.Path:
    """Write the configuration of a daemon with a directory and a socket of its own."""
    path = directory / "c.toml"
    paths = f'[paths]\nstate_dir = "{directory}/s"\nrun_dir = "{directory}/r"\n'
    path.write_text(f'[server]\nsocket = "{place}"\n{paths}')
    return path


def await_log(endpoint: Endpoint, text: str, timeout_s: float = 30.0) -> None:
    eventually(lambda: text in endpoint.log_text(), timeout_s=timeout_s, what=f"the line '{text}' of the log")


# ---- what the runtime says of itself


def test_version(endpoint: Endpoint) -> None:
    assert endpoint.cri.version() == pb.VersionResponse(
        version="0.1.0", runtime_name="pvecri", runtime_version=pvecri.__version__, runtime_api_version="v1"
    )


def test_status_names_conditions_handlers_and_features(endpoint: Endpoint) -> None:
    answer = endpoint.cri.status()
    assert {item.type: item.status for item in answer.status.conditions} == {
        "RuntimeReady": True,
        "NetworkReady": True,
    }
    assert [handler.name for handler in answer.runtime_handlers] == ["", "crun"]
    assert answer.features.supplemental_groups_policy
    assert not answer.info


def test_status_that_is_verbose_explains(endpoint: Endpoint) -> None:
    info = {name: json.loads(text) for name, text in endpoint.cri.status(verbose=True).info.items()}
    assert info["config"]["paths"]["state_dir"] == endpoint.state_dir
    assert info["cni"]["network"]["name"] == "test"
    assert info["host"]["cgroup_version"] in {1, 2}
    assert info["objects"] == {"sandboxes": 0, "containers": 0}
    # Said once in the log as well.
    for text in info["host"]["limitations"]:
        assert endpoint.log_text().count(json.dumps(text)) == endpoint.log_text().count(" serving ")


def test_status_follows_the_network(endpoint: Endpoint) -> None:
    def network() -> tuple[bool, str, str]:
        (item,) = [item for item in endpoint.cri.status().status.conditions if item.type == "NetworkReady"]
        return item.status, item.reason, item.message

    path = pathlib.Path(endpoint.cni_conf, "10-test.conflist")
    text = path.read_text()
    try:
        path.unlink()
        assert network() == (
            False,
            "NetworkPluginNotReady",
            f"there is no network configuration in {endpoint.cni_conf}. Put a .conflist file there",
        )
        path.write_text(text.replace('"bridge"', '"no-such-plugin"'))
        assert "needs the CNI plugins no-such-plugin" in network()[2]
    finally:
        path.write_text(text)
    assert network() == (True, "", "")


def test_runtime_config_names_the_cgroup_driver(endpoint: Endpoint) -> None:
    assert endpoint.cri.runtime_config().linux.cgroup_driver == pb.CGROUPFS


@pytest.mark.parametrize("cidr", ["10.1.0.0/33", "10.1.0.0/24,10.2.0.0/24"])
def test_update_runtime_config_refuses_what_is_no_range(endpoint: Endpoint, cidr: str) -> None:
    with refused("INVALID_ARGUMENT"):
        endpoint.cri.update_runtime_config(cidr)


def test_update_runtime_config_writes_the_network_from_its_template(tmp_path: pathlib.Path) -> None:
    template = tmp_path / "template"
    plain = default_config(name="node", bridge="pvecri0", subnets=["10.0.0.0/24"]).plain()
    template.write_text(json.dumps(plain).replace("10.0.0.0/24", "{pod_cidr}"))
    settings = {"network": {"conf_template": str(template)}}
    with running_endpoint(network=False, settings=settings) as made:
        made.cri.update_runtime_config("")
        assert os.listdir(made.cni_conf) == []
        made.cri.update_runtime_config("10.77.0.0/24")
        assert "10.77.0.0/24" in pathlib.Path(made.cni_conf, "10-pvecri.conflist").read_text()
        assert all(item.status for item in made.cri.status().status.conditions)


# ---- the socket and the one daemon


def test_socket_is_closed_to_others(endpoint: Endpoint) -> None:
    found = os.stat(endpoint.socket)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (0, 0)
    assert stat.S_IMODE(os.stat(os.path.dirname(endpoint.socket)).st_mode) == 0o711


def test_second_daemon_is_refused_with_the_pid_of_the_first(endpoint: Endpoint) -> None:
    done = pvecri_command("serve", "--config", endpoint.config_file)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: process {endpoint.pid} already serves {endpoint.state_dir}")
    endpoint.cri.version()


def test_second_daemon_with_the_same_socket_is_refused(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    config = write_config(tmp_path, endpoint.socket)
    done = pvecri_command("serve", "--config", str(config))
    assert done.returncode == 1
    assert f"process {endpoint.pid} already listens on {endpoint.socket}" in done.stderr
    endpoint.cri.version()


def test_socket_of_a_killed_daemon_is_replaced(endpoint: Endpoint) -> None:
    endpoint.kill()
    assert os.path.exists(endpoint.socket)
    endpoint.start()
    endpoint.cri.version()


def test_serve_refuses_a_bad_configuration(tmp_path: pathlib.Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[server]\nsocktet = 1\n")
    done = pvecri_command("serve", "--config", str(config))
    assert done.returncode == 1
    assert done.stderr == f"{config}:2: server.socktet: there is no such key; did you mean 'socket'?\n"


# ---- stop and reload


def test_stop_leaves_containers_and_takes_the_socket(endpoint: Endpoint) -> None:
    _unused, container = endpoint.run_container()
    assert endpoint.stop() == 0
    assert not os.path.exists(endpoint.socket)
    assert endpoint.host.processes()
    endpoint.start()
    assert endpoint.cri.container_status(container).state == pb.CONTAINER_RUNNING


def test_stop_lets_requests_in_flight_end(endpoint: Endpoint) -> None:
    _unused, container = endpoint.run_container()
    request = pb.ExecSyncRequest(container_id=container, cmd=["sh", "-c", "sleep 1; echo done"], timeout=30)
    call = endpoint.cri.begin("ExecSync", request)
    time.sleep(0.5)
    assert endpoint.stop() == 0
    assert call.result().stdout == b"done\n"


def test_stop_does_not_wait_for_ever(tmp_path: pathlib.Path) -> None:
    with running_endpoint(settings={"server": {"shutdown_timeout_s": 0.2}}) as made:
        _unused, container = made.run_container()
        request = pb.ExecSyncRequest(container_id=container, cmd=["sleep", "1000"])
        call = made.cri.begin("ExecSync", request)
        time.sleep(0.5)
        assert made.stop() == 0
        with pytest.raises(grpc.RpcError):
            call.result()
        made.start()
        made.remove_all()
        assert made.tracebacks() == []


def test_reload_takes_over_level_and_policy(endpoint: Endpoint) -> None:
    before = endpoint.settings
    try:
        endpoint.settings = {"log": {"level": "info"}, "runtime": {"policy": {"handlers": {"fast": "crun"}}}}
        endpoint.write_config()
        os.kill(endpoint.pid, 1)
        await_log(endpoint, "configuration reloaded")
        assert [handler.name for handler in endpoint.cri.status().runtime_handlers] == ["", "fast"]
        endpoint.settings = {"network": {"timeout_s": 7.5}}
        endpoint.write_config()
        os.kill(endpoint.pid, 1)
        await_log(endpoint, 'need_a_restart=["network.timeout_s"]')
    finally:
        endpoint.settings = before
        endpoint.restart()


def test_reload_of_a_broken_file_changes_nothing(endpoint: Endpoint) -> None:
    path = pathlib.Path(endpoint.config_file)
    text = path.read_text()
    path.write_text("[log]\nlevel = 7\n")
    os.kill(endpoint.pid, 1)
    await_log(endpoint, "configuration not reloaded")
    assert "log.level: a text is wanted" in endpoint.log_text()
    path.write_text(text)
    endpoint.cri.version()


def test_systemd_is_told(tmp_path: pathlib.Path) -> None:
    reason = missing()
    if reason:
        pytest.skip(reason)
    config, place = write_config(tmp_path, f"{tmp_path}/p"), str(tmp_path / "n")
    environment = {**endpoint_process.environment(), "NOTIFY_SOCKET": place, "WATCHDOG_USEC": "200000"}
    said = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(place)
        server.settimeout(60)
        with subprocess.Popen(endpoint_process.serve_argv(str(config)), env=environment) as daemon:
            try:
                while not said or "WATCHDOG=1" not in said[-1] or "READY=1" not in "".join(said):
                    said.append(server.recv(1000).decode())
                daemon.terminate()
                while "STOPPING=1" not in said[-1]:
                    said.append(server.recv(1000).decode())
            finally:
                daemon.terminate()
    assert daemon.returncode == 0
    assert "READY=1\nSTATUS=serving" in said


# ---- clients that leave


def test_client_that_left_finds_its_sandbox(endpoint: Endpoint) -> None:
    config = endpoint.pod()
    with refused("DEADLINE_EXCEEDED"):
        endpoint.cri.run_pod(config, timeout_s=0.005)
    made = endpoint.cri.run_pod(config)
    assert [pod.id for pod in endpoint.cri.list_pods()] == [made]


def test_client_that_left_takes_its_command_with_it(endpoint: Endpoint) -> None:
    _unused, container = endpoint.run_container()
    call = endpoint.cri.begin("ExecSync", pb.ExecSyncRequest(container_id=container, cmd=["sleep", "4711"]))

    def commands() -> int:
        return endpoint.cri.exec_sync(container, ["sh", "-c", "cat /proc/*/cmdline"]).stdout.count(b"4711")

    eventually(commands)
    call.cancel()
    eventually(lambda: not commands())


def test_command_that_prints_without_end_is_answered(endpoint: Endpoint) -> None:
    """The client's limit is kubelet's: 16 MiB for the whole answer."""
    _unused, container = endpoint.run_container()
    script = "head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2"
    limit = [("grpc.max_receive_message_length", 16 << 20), ("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(f"unix:{endpoint.socket}", options=limit) as channel:
        ask = channel.unary_unary("/runtime.v1.RuntimeService/ExecSync")
        request = pb.ExecSyncRequest(container_id=container, cmd=["sh", "-c", script], timeout=60)
        answer = pb.ExecSyncResponse.FromString(ask(request.SerializeToString(), timeout=120))
    assert len(answer.stdout) == len(answer.stderr) == 7 << 20
    assert answer.exit_code == 0


def test_same_requests_at_once_make_one_object(endpoint: Endpoint) -> None:
    config = endpoint.pod(labels={str(number): "x" for number in range(20)})
    calls = [
        endpoint.cri.begin("RunPodSandbox", pb.RunPodSandboxRequest(config=config)) for _unused in range(5)
    ]
    assert len({call.result().pod_sandbox_id for call in calls}) == 1


@pytest.mark.parametrize("method", ["StopPodSandbox", "RemovePodSandbox", "StopContainer", "RemoveContainer"])
def test_what_is_gone_is_stopped_and_removed(endpoint: Endpoint, method: str) -> None:
    key = "pod_sandbox_id" if "Pod" in method else "container_id"
    request = getattr(pb, f"{method}Request")(**{key: "f" * 64})
    assert not endpoint.cri.call(method, request).ByteSize()


def test_beginning_of_several_ids_names_nobody(endpoint: Endpoint) -> None:
    pods: dict[str, list[str]] = {}
    while not any(len(ids) > 1 for ids in pods.values()):
        pod = endpoint.cri.run_pod(endpoint.pod(host_network=True))
        pods.setdefault(pod[0], []).append(pod)
    (first,) = [char for char, ids in pods.items() if len(ids) > 1]
    for method in ("StopPodSandbox", "RemovePodSandbox", "PodSandboxStatus"):
        with refused("NOT_FOUND"):
            endpoint.cri.call(method, getattr(pb, f"{method}Request")(pod_sandbox_id=first))
    assert {pod.state for pod in endpoint.cri.list_pods()} == {pb.SANDBOX_READY}


# ---- support


def test_support_bundle_tells_everything_but_secrets(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    config = endpoint.pod(annotations={"last-applied": SECRET})
    pod, container = endpoint.run_container(pod=config, env={"PASSWORD": SECRET})
    path = tmp_path / "b.tar.gz"
    done = pvecri_command("support-bundle", "--config", endpoint.config_file, "--output", str(path))
    assert done.returncode == 0, done.stderr
    with tarfile.open(path) as tar:
        parts = {
            os.path.basename(member.name): stream.read().decode()
            for member in tar
            if (stream := tar.extractfile(member))
        }
    assert [name for name, text in parts.items() if SECRET in text] == []
    assert json.loads(parts["daemon.json"])["pid"] == endpoint.pid
    records = json.loads(parts["records.json"])
    assert [record["id"] for record in records["containers"]] == [container]
    assert [record["id"] for record in records["sandboxes"]] == [pod]
    assert f"{container}/config.json" in json.loads(parts["bundles.json"])
    assert any(container in name for name in json.loads(parts["cgroups.json"]))
    assert {os.path.basename(item["argv"][0]) for item in json.loads(parts["processes.json"])} >= {"conmon"}
    assert "missing.json" in parts


# ---- from a checkout


def test_run_endpoint_needs_no_installation(tmp_path: pathlib.Path) -> None:
    reason = missing()
    if reason:
        pytest.skip(reason)
    place = f"{tmp_path}/p"
    config = write_config(tmp_path, place)
    command = [str(ROOT / "scripts/run-endpoint"), "--config", str(config)]
    environment = {"PATH": os.environ["PATH"], "PVECRI_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL) as daemon:
        try:
            with Cri(place, timeout_s=60) as cri:
                deadline = time.monotonic() + 60
                while True:
                    with contextlib.suppress(grpc.RpcError):
                        assert cri.version().runtime_name == "pvecri"
                        break
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        finally:
            # The script has become the daemon: one signal ends it.
            daemon.terminate()
    assert daemon.returncode == 0


def test_what_the_host_lacks_is_told_at_the_start() -> None:
    # Nobody may ask for streams for days, and then for a reason.
    wrong = {"streaming": {"tls_cert": "/nowhere/cert.pem", "tls_key": "/nowhere/key.pem"}}
    with running_endpoint(network=False, settings=wrong) as made:
        await_log(made, "streaming.tls_cert: the file '/nowhere/cert.pem' cannot be read")
        assert made.cri.list_containers() == []
