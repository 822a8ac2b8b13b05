# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give real containers real networks: CNI in a network of the test's own, joined ones, resolver files."""

from __future__ import annotations

import os
import time
import urllib.request

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns

HTTPD = ["sh", "-c", "trap 'exit 0' TERM; echo hello > /tmp/index.html; httpd -f -h /tmp & wait"]


@pytest.fixture(autouse=True)
def plugins():
    for name in ("bridge", "portmap", "host-local", "loopback"):
        if not os.access(f"/usr/lib/cni/{name}", os.X_OK):
            pytest.skip("needs containernetworking-plugins")


def names_of_files(box):
    with open(f"{box.paths.state_dir}/network/play/c/hosts", encoding="utf-8") as stream:
        return stream.read()


def fetch(inner_network, url):
    """Return what a web server answers to somebody in the inner network, once it answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    path = inner_network[-1].partition("=")[2]
    deadline = time.monotonic() + 10
    while True:
        try:
            return netns.run_inside(path, lambda: opener.open(url, timeout=3).read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def ok(result):
    assert not result["failed"], result
    return result


def test_published_ports(box, inner_network):
    task = box.whole(network="pvecri", published_ports=["18080:80"], command=HTTPD)
    first = ok(box.run_apart(task, prefix=inner_network))
    (address,) = first["container"]["ip_addresses"]
    assert first["container"]["ports"] == [
        {"host_ip": "", "host_port": 18080, "container_port": 80, "protocol": "tcp"}
    ]
    assert fetch(inner_network, f"http://{address}/") == "hello\n"
    assert fetch(inner_network, f"http://{address}:80/") == "hello\n"
    gateway = ".".join([*address.split(".")[:3], "1"])
    assert fetch(inner_network, f"http://{gateway}:18080/") == "hello\n"
    assert f"{address}\tc\n" in names_of_files(box)
    assert address in box.execute("cat", "/etc/hosts")
    assert ok(box.run_apart(task, prefix=inner_network))["changed"] is False

    # A container that is made anew keeps its address; one with another port is restarted.
    again = ok(box.run_apart({**task, "env": {"A": "1"}}, prefix=inner_network))
    assert again["container"]["ip_addresses"] == [address]
    moved = ok(
        box.run_apart({**task, "env": {"A": "1"}, "published_ports": ["18081:80"]}, prefix=inner_network)
    )
    assert moved["diff"]["after"].keys() == {"published_ports.:18081/tcp"}
    assert fetch(inner_network, f"http://{gateway}:18081/") == "hello\n"

    # A port has one owner.
    refused = box.run_apart({**task, "name": "other", "published_ports": ["18081:80"]}, prefix=inner_network)
    assert refused["failed"]
    assert refused["error"] == "conflict"
    assert "18081" in refused["msg"]
    ok(box.run_apart({"name": "other", "state": "absent", **box.places()}, prefix=inner_network))

    stopped = ok(box.run_apart({"name": "c", "state": "stopped", **box.places()}, prefix=inner_network))
    assert stopped["container"]["ip_addresses"] == []
    ok(box.run_apart({"name": "c", "state": "absent", **box.places()}, prefix=inner_network))
    box.assert_clean()


def test_unknown_network_is_named(box):
    refused = box.refuse(network="nowhere")
    assert refused["error"] == "not_found"
    assert "nowhere" in refused["msg"]
    assert box.processes() == []


def test_no_network_has_a_loopback_device(box):
    box.ensure()
    assert "127.0.0.1" in box.execute("ip", "address")
    container = box.look()[0]
    assert netns.is_pinned(container["network_namespace"])
    assert box.execute("hostname") == "c\n"
    assert box.execute("cat", "/etc/hostname") == "c\n"


def test_host_network(box):
    box.ensure(network="host")
    host = os.stat("/proc/self/ns/net").st_ino
    (seen,) = box.look()
    assert os.stat(f"/proc/{seen['pid']}/ns/net").st_ino == host
    assert seen["network_namespace"] is None
    with open("/etc/resolv.conf", encoding="utf-8") as stream:
        servers = [line.split()[1] for line in stream if line.startswith("nameserver")]
    assert all(server in box.execute("cat", "/etc/resolv.conf") for server in servers)


def test_joined_network(box):
    box.ensure(name="db")
    done = box.ensure(network="container:db")
    namespaces = {os.stat(f"/proc/{seen['pid']}/ns/net").st_ino for seen in box.look()}
    assert len(namespaces) == 1
    assert done["container"]["network_namespace"].endswith("/netns/play/db")
    # It does not mind that the other is restarted, as that keeps its namespace.
    box.change("restarted", name="db")
    box.change("restarted")
    assert len({os.stat(f"/proc/{seen['pid']}/ns/net").st_ino for seen in box.look()}) == 1
    # Without the other there is nothing to join.
    box.change("stopped")
    box.change("absent", name="db")
    refused = box.run("crun_container", {"name": "c", **box.places()})
    assert "there is no container 'db' to join" in refused["msg"]


def test_joining_what_is_stopped_says_so(box):
    box.ensure(name="db", state="stopped")
    refused = box.refuse(network="container:db")
    assert "is not there" in refused["msg"]
    box.change("started", name="db")
    assert box.ensure(network="container:db")["container"]["state"] == "running"


def test_containers_that_join_each_other_are_refused(box):
    box.ensure(name="a", network="host")
    box.ensure(name="b", network="container:a")
    refused = box.refuse(name="a", network="container:b")
    assert refused["field"] == "network"
    assert "circle" in refused["msg"]


def test_given_namespace(box):
    path = str(box.top / "given")
    netns.pin(path)
    inside = os.stat(path).st_ino
    box.ensure(network=path)
    assert os.stat(f"/proc/{box.look()[0]['pid']}/ns/net").st_ino == inside
    box.change("absent")
    assert netns.is_pinned(path)
    netns.unpin(path)
    refused = box.refuse(network=path)
    assert f"{path} of {path} is not there" in refused["msg"] or path in refused["msg"]


def test_resolver_files(box):
    task = {
        "dns_servers": ["10.0.0.53"],
        "dns_search": ["a.example"],
        "dns_options": ["ndots:2"],
        "etc_hosts": {"db": "10.0.0.9"},
        "hostname": "web",
    }
    box.ensure(**task)
    assert (
        box.execute("cat", "/etc/resolv.conf") == "nameserver 10.0.0.53\nsearch a.example\noptions ndots:2\n"
    )
    assert box.execute("cat", "/etc/hosts").endswith("127.0.1.1\tweb\n10.0.0.9\tdb\n")
    pid = box.look()[0]["pid"]
    box.execute("touch", "/kept")
    done = box.ensure(**{**task, "etc_hosts": {"db": "10.0.0.10"}})
    assert done["diff"]["after"] == {"etc_hosts.db": "10.0.0.10"}
    assert done["container"]["pid"] != pid
    assert box.execute("cat", "/etc/hosts").endswith("10.0.0.10\tdb\n")
    assert box.execute("ls", "/kept") == "/kept\n"


def test_files_of_the_user_are_not_hidden(box):
    mounts = [{"type": "file", "destination": "/etc/hosts", "content": "10.1.1.1 mine\n"}]
    box.ensure(mounts=mounts)
    assert box.execute("cat", "/etc/hosts") == "10.1.1.1 mine\n"


def test_network_comes_back_after_a_reboot(box, inner_network):
    """Without its volatile files a container is one that a reboot has stopped."""
    task = box.whole(network="pvecri")
    address = ok(box.run_apart(task, prefix=inner_network))["container"]["ip_addresses"]
    box.reboot()
    again = ok(box.run_apart({"name": "c", **box.places()}, prefix=inner_network))
    assert again["changed"] is True
    assert again["container"]["state"] == "running"
    assert len(again["container"]["ip_addresses"]) == len(address) == 1
    assert again["container"]["ip_addresses"][0] in box.execute("ip", "address")
