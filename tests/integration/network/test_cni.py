# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real plugins, in a network of the tests' own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    Conflict,
    InvalidSpec,
    MissingDependency,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import PLUGIN_DIRS, Cni
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import (
    NetworkConfig,
    parse_config,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_ports import PortMapping

pytestmark = pytest.mark.host

Pin = t.Callable[[str], str]


def taken(tmp_path: t.Any, name: str = "pvecri") -> list[str]:
    """Return the addresses that host-local has given away."""
    return sorted(entry for entry in os.listdir(tmp_path / "ipam" / name) if entry[0].isdigit())


def rules() -> str:
    return subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def served(path: str, port: int, text: bytes) -> t.Iterator[None]:
    """Answer one connection after the other in a namespace."""
    server = netns.run_inside(path, lambda: socket.create_server(("0.0.0.0", port)))

    def work() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _from = server.accept()
                with connection:
                    connection.sendall(text)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def fetch(address: str, port: int) -> bytes:
    with socket.create_connection((address, port), timeout=10) as connection:
        return connection.recv(100)


def test_add_check_delete(cni: Cni, config: NetworkConfig, pinned: Pin, tmp_path: t.Any) -> None:
    path = pinned("one")
    result = cni.add("one", path, config)
    assert result.addresses == ("10.199.0.2",)
    assert result.gateways == ("10.199.0.1",)
    assert result.mac is not None
    assert cni.result("one") == result
    assert taken(tmp_path) == ["10.199.0.2"]
    assert "eth0" in netns.run_inside(path, lambda: [name for _unused, name in socket.if_nameindex()])
    cni.check("one")
    with served(path, 8000, b"hello"):
        assert fetch("10.199.0.2", 8000) == b"hello"
    assert [(a.container_id, a.netns) for a in cni.attachments()] == [("one", path)]
    assert cni.add("one", path, config) == result, "what is there stays"
    assert cni.delete("one") is True
    assert cni.delete("one") is False
    assert taken(tmp_path) == []
    assert cni.result("one") is None
    assert cni.attachments() == []


def test_published_port_reaches_the_container(cni: Cni, config: NetworkConfig, pinned: Pin) -> None:
    path = pinned("one")
    cni.add("one", path, config, ports=[PortMapping(host_port=18080, container_port=80)])
    with served(path, 80, b"through"):
        assert fetch("10.199.0.1", 18080) == b"through"
        assert fetch("127.0.0.1", 18080) == b"through"
    assert "18080" in rules()
    cni.delete("one")
    assert "18080" not in rules()
    with pytest.raises(OSError, match="refused"):
        fetch("10.199.0.1", 18080)


def test_port_of_another_container(
    cni: Cni, config: NetworkConfig, paths: Paths, pinned: Pin, tmp_path: t.Any
) -> None:
    port = {"hostPort": 18081, "containerPort": 80}
    cni.add("one", pinned("one"), config, ports=[port])
    # The other owner of the host has to respect it as well.
    others = Cni(Paths(paths.state_dir, paths.run_dir, Owner.CRI), SubprocessRunner())
    for networks in (cni, others):
        with pytest.raises(Conflict, match="'one'"):
            networks.add("two", pinned("two"), config, ports=[port])
    assert taken(tmp_path) == ["10.199.0.2"]
    assert others.attachments() == []
    cni.add("two", pinned("two"), config, ports=[{**port, "protocol": "udp"}])
    cni.delete("one")
    cni.add("three", pinned("three"), config, ports=[port])


def test_port_of_a_process(cni: Cni, config: NetworkConfig, pinned: Pin) -> None:
    path = pinned("one")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = PortMapping(host_port=server.getsockname()[1], container_port=80)
        with pytest.raises(Conflict, match="a process of the host"):
            cni.add("one", path, config, ports=[port])
    assert cni.attachments() == []


def test_port_on_an_address_that_the_host_does_not_have(cni: Cni, config: NetworkConfig, pinned: Pin) -> None:
    path = pinned("one")
    port = PortMapping(host_port=18082, container_port=80, host_ip="192.0.2.1")
    with pytest.raises(InvalidSpec, match=r"192\.0\.2\.1"):
        cni.add("one", path, config, ports=[port])


def test_delete_after_the_namespace_is_gone(
    cni: Cni, config: NetworkConfig, pinned: Pin, tmp_path: t.Any
) -> None:
    path = pinned("one")
    cni.add("one", path, config, ports=[PortMapping(host_port=18083, container_port=80)])
    netns.unpin(path)
    assert cni.delete("one") is True
    assert taken(tmp_path) == []
    assert "18083" not in rules()


def test_add_into_a_new_namespace_replaces_the_old_attachment(
    cni: Cni, config: NetworkConfig, pinned: Pin, tmp_path: t.Any
) -> None:
    cni.add("one", pinned("old"), config)
    netns.unpin(cni.attachments()[0].netns)
    path = pinned("new")
    cni.add("one", path, config)
    assert len(taken(tmp_path)) == 1
    assert [a.netns for a in cni.attachments()] == [path]


def test_many_containers_at_once(cni: Cni, config: NetworkConfig, pinned: Pin, tmp_path: t.Any) -> None:
    # Threads are started from here, so they are in the private network as well.
    results: dict[str, str] = {}

    def attach(name: str, path: str) -> None:
        results[name] = cni.add(name, path, config).addresses[0]

    threads = [threading.Thread(target=attach, args=(f"c{n}", pinned(f"c{n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results.values()) == sorted(taken(tmp_path))
    assert len(set(results.values())) == 8
    for name in results:
        cni.delete(name)
    assert taken(tmp_path) == []


def test_configuration_that_a_plugin_refuses(
    cni: Cni, config: NetworkConfig, pinned: Pin, tmp_path: t.Any
) -> None:
    plain = config.plain()
    plain["plugins"][0]["ipam"]["ranges"] = [[{"subnet": "10.199.0.0/33"}]]
    with pytest.raises(CommandError, match="'bridge' of network 'pvecri' failed in ADD"):
        cni.add("one", pinned("one"), parse_config(plain, "test"))
    plain["cniVersion"] = "9.9.9"
    with pytest.raises(Unsupported, match="'bridge'"):
        cni.add("two", pinned("two"), parse_config(plain, "test"))


def test_failure_of_a_later_plugin_frees_the_address(
    cni: Cni, config: NetworkConfig, pinned: Pin, tmp_path: t.Any
) -> None:
    plain = config.plain()
    plain["plugins"].append({"type": "sbr-of-nobody"})
    with pytest.raises(MissingDependency, match="sbr-of-nobody"):
        cni.add("one", pinned("one"), parse_config(plain, "test"))
    assert taken(tmp_path) == [], "the earlier plugins were undone"


def plugin(tmp_path: t.Any, name: str, script: str) -> tuple[str, str]:
    """Write a plugin of the test's own; return the directories to look in."""
    directory = tmp_path / "plugins"
    directory.mkdir(exist_ok=True)
    file = directory / name
    file.write_text("#!/bin/sh\n" + script)
    file.chmod(0o755)
    return str(directory), PLUGIN_DIRS[0]


def test_plugin_that_hangs(paths: Paths, private_network: None, pinned: Pin, tmp_path: t.Any) -> None:
    directories = plugin(tmp_path, "slow", '[ "$CNI_COMMAND" = DEL ] || sleep 3005\n')
    network = parse_config({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "slow"}]}, "test")
    cni = Cni(paths, SubprocessRunner(), plugin_dirs=directories, timeout_s=2.0)
    with pytest.raises(CommandTimeout, match="'slow' of network 'n' did not finish ADD"):
        cni.add("one", pinned("one"), network)
    assert cni.attachments() == []


def test_plugin_that_says_nothing(paths: Paths, private_network: None, pinned: Pin, tmp_path: t.Any) -> None:
    cni = Cni(paths, SubprocessRunner(), plugin_dirs=plugin(tmp_path, "mute", "cat > /dev/null\n"))
    network = parse_config({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "mute"}]}, "test")
    with pytest.raises(CommandError, match="without a result"):
        cni.add("one", pinned("one"), network)


def test_request_and_environment_of_each_plugin(
    paths: Paths, private_network: None, pinned: Pin, tmp_path: t.Any
) -> None:
    script = (
        f"cat > {tmp_path}/$CNI_COMMAND.json; env | grep ^CNI_ | sort > {tmp_path}/$CNI_COMMAND.env\n"
        'echo \'{"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.5/24", "gateway": "192.0.2.1"}], '
        '"dns": {"nameservers": ["192.0.2.53"]}}\'\n'
    )
    cni = Cni(paths, SubprocessRunner(), plugin_dirs=plugin(tmp_path, "notes", script))
    entry = {"type": "notes", "capabilities": {"bandwidth": True, "dns": True}, "own": 1}
    network = parse_config({"cniVersion": "1.0.0", "name": "n", "plugins": [entry]}, "test")
    path = pinned("one")
    result = cni.add(
        "one",
        path,
        network,
        capabilities={"bandwidth": {"ingressRate": 1}},
        args={"IgnoreUnknown": "1", "K8S": "a"},
    )
    assert (result.addresses, result.dns) == (("192.0.2.5",), {"nameservers": ["192.0.2.53"]})
    base = {
        "type": "notes",
        "own": 1,
        "cniVersion": "1.0.0",
        "name": "n",
        "runtimeConfig": {"bandwidth": {"ingressRate": 1}},
    }
    assert json.loads((tmp_path / "ADD.json").read_text()) == base
    assert (tmp_path / "ADD.env").read_text().splitlines() == [
        "CNI_ARGS=IgnoreUnknown=1;K8S=a",
        "CNI_COMMAND=ADD",
        f"CNI_CONTAINERID={cni.cached('one').cni_id}",
        "CNI_IFNAME=eth0",
        f"CNI_NETNS={path}",
        f"CNI_PATH={tmp_path}/plugins:{PLUGIN_DIRS[0]}",
    ]
    cni.check("one")
    assert json.loads((tmp_path / "CHECK.json").read_text()) == {**base, "prevResult": result.raw}
    netns.unpin(path)
    cni.delete("one")
    assert json.loads((tmp_path / "DEL.json").read_text()) == {**base, "prevResult": result.raw}
    assert "CNI_NETNS=\n" in (tmp_path / "DEL.env").read_text()


def test_capability_that_no_plugin_has(cni: Cni, config: NetworkConfig, pinned: Pin) -> None:
    with pytest.raises(Unsupported, match="'bandwidth'"):
        cni.add("one", pinned("one"), config, capabilities={"bandwidth": {}})
    assert cni.attachments() == []


def test_check_of_what_is_not_attached(cni: Cni) -> None:
    with pytest.raises(NotFound):
        cni.check("nobody")


_KILLED = """
import os, signal, sys, json
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import Cni
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import parse_config
state_dir, run_dir, netns, config, after = sys.argv[1:]
class Runner(SubprocessRunner):
    count = 0
    def run(self, argv, **options):
        done = super().run(argv, **options)
        Runner.count += 1
        if Runner.count == int(after):
            os.kill(os.getpid(), signal.SIGKILL)
        return done
cni = Cni(Paths(state_dir, run_dir), Runner())
cni.add("one", netns, parse_config(json.loads(config), "x"), ports=[{"hostPort": 18084, "containerPort": 80}])
"""


@pytest.mark.parametrize("after", [1, 2])
def test_add_killed_between_plugins_is_undone_by_the_next(
    cni: Cni, config: NetworkConfig, paths: Paths, pinned: Pin, tmp_path: t.Any, after: int
) -> None:
    path = pinned("one")
    arguments = [paths.state_dir, paths.run_dir, path, json.dumps(config.plain()), str(after)]
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(taken(tmp_path)) == 1
    assert cni.result("one") is None
    with pytest.raises(WrongState, match="never completely"):
        cni.check("one")
    result = cni.add("one", path, config, ports=[{"hostPort": 18084, "containerPort": 80}])
    assert taken(tmp_path) == list(result.addresses)
    cni.delete("one")
    assert taken(tmp_path) == []
    assert "18084" not in rules()
