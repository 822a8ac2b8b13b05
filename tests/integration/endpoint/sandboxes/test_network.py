# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod's network does: addresses, published ports, what plugins are told, and failing ones."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    Conflict,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from pvecri.api import cri_pb2
from pvecri.state.records import Phase


@contextlib.contextmanager
def _serving(pods: t.Any, record: t.Any, port: int, text: bytes) -> t.Iterator[None]:
    """Answer each connection to a pod's port with a text."""
    server = pods.inside(record, lambda: socket.create_server(("0.0.0.0", port)))

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _peer = server.accept()
                connection.sendall(text)
                connection.close()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def _fetch(address: str, port: int) -> bytes:
    with socket.create_connection((address, port), timeout=10) as connection:
        return connection.recv(100)


def test_pods_reach_each_other_and_their_published_ports(pods: t.Any) -> None:
    config = pods.pod("web")
    config.port_mappings.add(container_port=80, host_port=8080)
    config.port_mappings.add(container_port=81)
    web, other = pods.run(config), pods.run(pods.pod("other"))
    with _serving(pods, web, 80, b"hello"):
        assert pods.inside(other, lambda: _fetch(web.ips[0], 80)) == b"hello"
        assert _fetch("10.88.0.1", 8080) == b"hello"
        assert pods.inside(other, lambda: _fetch("10.88.0.1", 8080)) == b"hello"
        # A pod reaches itself by its published port, too.
        assert pods.inside(web, lambda: _fetch("10.88.0.1", 8080)) == b"hello"
    pods.service.stop(web.id)
    with pytest.raises(OSError, match=r"refused|timed out"):
        _fetch("10.88.0.1", 8080)
    again = pods.pod("again")
    again.port_mappings.add(container_port=80, host_port=8080)
    assert pods.run(again).phase is Phase.READY


def test_a_taken_port_is_refused_and_nothing_left(pods: t.Any) -> None:
    config = pods.pod("web")
    config.port_mappings.add(container_port=80, host_port=8080)
    first = pods.run(config)
    before = pods.leases()
    second = pods.pod("web2")
    second.port_mappings.add(container_port=80, host_port=8080)
    with pytest.raises(Conflict, match="8080"):
        pods.run(second)
    assert pods.leases() == before
    assert [record.id for record in pods.context.registry.sandboxes()] == [first.id]
    assert os.listdir(os.path.join(pods.paths.run_dir, "sandboxes")) == [first.id]


def test_both_address_families(pods: t.Any) -> None:
    pods.network(subnets=("10.88.0.0/24", "fd00:88::/64"))
    record = pods.run(pods.pod("web"))
    assert [":" in ip for ip in record.ips] == [False, True]
    hosts = pathlib.Path(pods.places(record).hosts).read_text()
    assert all(f"{ip}\tweb\n" in hosts for ip in record.ips)
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_plugins_are_told_what_they_declare(pods: t.Any) -> None:
    notes = pods.recorder(
        **{"bandwidth": True, "dns": True, "ipRanges": True, "io.kubernetes.cri.pod-annotations": True}
    )
    pods.service.pod_cidrs = ("10.88.0.0/24",)
    config = pods.pod("web")
    config.annotations.update({"kubernetes.io/ingress-bandwidth": "10M", "a": "b"})
    config.dns_config.servers.append("10.96.0.10")
    config.dns_config.searches.append("svc.example")
    config.dns_config.options.append("ndots:5")
    record = pods.run(config)
    pods.service.stop(record.id)
    added, deleted = notes()
    assert (added["verb"], deleted["verb"]) == ("ADD", "DEL")
    assert added["request"]["runtimeConfig"] == {
        "bandwidth": {"ingressRate": 10_000_000, "ingressBurst": 2**32 - 1},
        "dns": {"servers": ["10.96.0.10"], "searches": ["svc.example"], "options": ["ndots:5"]},
        "ipRanges": [[{"subnet": "10.88.0.0/24"}]],
        "io.kubernetes.cri.pod-annotations": {"kubernetes.io/ingress-bandwidth": "10M", "a": "b"},
    }
    assert deleted["request"]["runtimeConfig"] == added["request"]["runtimeConfig"]
    assert dict(pair.split("=") for pair in added["args"].split(";")) == {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": "default",
        "K8S_POD_NAME": "web",
        "K8S_POD_INFRA_CONTAINER_ID": record.id,
        "K8S_POD_UID": "uid1",
    }
    assert added["id"] == deleted["id"] == record.id
    assert added["netns"] == deleted["netns"] == record.netns
    assert deleted["request"]["prevResult"]["ips"]


def test_a_capability_that_no_plugin_declares_is_said_and_not_refused(
    pods: t.Any, caplog: pytest.LogCaptureFixture
) -> None:
    notes = pods.recorder()
    config = pods.pod("web")
    config.annotations["kubernetes.io/egress-bandwidth"] = "10M"
    with caplog.at_level("INFO"):
        pods.run(config)
    assert "runtimeConfig" not in notes()[0]["request"]
    assert [record.capability for record in caplog.records if hasattr(record, "capability")] == ["bandwidth"]


def test_without_a_network_nothing_is_left(pods: t.Any) -> None:
    (pods.conf_dir / "10-pods.conflist").unlink()
    with pytest.raises(WrongState, match="the network is not ready"):
        pods.run(pods.pod("web"))
    assert pods.leftovers() == {}


def test_a_plugin_that_refuses_its_configuration_is_no_fault_of_the_request(pods: t.Any) -> None:
    pods.plugin("picky", 'if verb == "ADD": print(json.dumps({"code": 7, "msg": "bad"})); sys.exit(1)')
    pods.network([{"type": "picky"}])
    with pytest.raises(WrongState, match=r"the network is not ready: .*bad"):
        pods.run(pods.pod("web"))
    assert pods.leftovers() == {}


def test_a_plugin_that_fails_late_undoes_everything(pods: t.Any) -> None:
    pods.plugin("broken", 'if verb == "ADD": print("no room"); sys.exit(1)')
    pods.network([{"type": "broken"}])
    config = pods.pod("web")
    config.linux.security_context.namespace_options.pid = cri_pb2.POD
    config.port_mappings.add(container_port=80, host_port=8080)
    with pytest.raises(CommandError, match="no room"):
        pods.run(config)
    assert pods.leftovers() == {}


def test_a_plugin_that_fails_in_del_keeps_the_sandbox_for_another_try(pods: t.Any) -> None:
    switch = pods.top / "switch"
    pods.plugin(
        "stuck", f'if verb == "DEL" and not os.path.exists({str(switch)!r}): print("busy"); sys.exit(1)'
    )
    pods.network([{"type": "stuck"}])
    record = pods.run(pods.pod("web"))
    for call in (pods.service.stop, pods.service.remove):
        with pytest.raises(Exception, match="busy"):
            call(record.id)
        assert netns.is_pinned(record.netns)
        found = pods.context.registry.sandbox(record.id)
        assert (found.phase, found.ips) == (Phase.STOPPED, record.ips)
    switch.touch()
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_a_failure_that_cannot_be_undone_keeps_a_stopped_record(pods: t.Any) -> None:
    switch = pods.top / "switch"
    pods.plugin("worst", f'if not os.path.exists({str(switch)!r}): print("broken"); sys.exit(1)')
    pods.network([{"type": "worst"}])
    config = pods.pod("web")
    with pytest.raises(CommandError, match="broken"):
        pods.run(config)
    (record,) = pods.context.registry.sandboxes()
    assert record.phase is Phase.STOPPED
    assert "broken" in record.message
    with pytest.raises(Conflict, match="Remove it first"):
        pods.run(config)
    switch.touch()
    pods.service.remove(record.id)
    assert pods.leftovers() == {}


def test_a_hanging_plugin_is_killed_with_all_that_it_started(pods: t.Any) -> None:
    pid_file = pods.top / "pid"
    pods.plugin(
        "hanging",
        'import subprocess, time\nif verb == "ADD":\n    child = subprocess.Popen(["sleep", "1000"])\n'
        f"    open({str(pid_file)!r}, 'w').write(str(child.pid))\n    time.sleep(1000)",
    )
    pods.network([{"type": "hanging"}])
    pods.restart(plugin_timeout_s=1.0)
    with pytest.raises(CommandTimeout, match=r"'hanging' .* 1 s"):
        pods.run(pods.pod("web"))
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and os.path.exists(f"/proc/{pid}") and not _is_zombie(pid):
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}") or _is_zombie(pid)
    assert pods.leftovers() == {}


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def test_bandwidth_is_limited_by_the_plugin(pods: t.Any) -> None:
    pods.network([{"type": "bandwidth", "capabilities": {"bandwidth": True}}])
    plain = pods.run(pods.pod("plain"))
    assert pods.context.cni.result(plain.id) is not None
    config = pods.pod("web")
    config.annotations["kubernetes.io/ingress-bandwidth"] = "8M"
    try:
        record = pods.run(config)
    except CommandError as exc:
        if "not supported" in str(exc) or "no such file" in str(exc).lower():
            pytest.skip("this kernel has no token bucket filter")
        raise
    shown = pods.runner.run(["tc", "qdisc", "show"]).stdout
    assert "tbf" in shown
    pods.service.remove(record.id)
    pods.service.remove(plain.id)
    assert "tbf" not in pods.runner.run(["tc", "qdisc", "show"]).stdout
