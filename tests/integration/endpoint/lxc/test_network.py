# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of a pod with a guest: the pod's own, from before the guest starts, shared with sidecars."""

from __future__ import annotations

import os

from ansible_collections.pvecri.runtime.tests.support.streams import Streams
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb

WEB = "mkdir -p /tmp/w; echo {0} >/tmp/w/index.html; exec httpd -f -p {1} -h /tmp/w"


def fetched(lab, address, text):
    """Fetch a page from the host until the server is up."""
    host, _colon, port = address.partition(":")

    def get():
        try:
            with Streams(lab.endpoint).connect(int(port or 80), host) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError:
            return False
        return answer.endswith(f"\n{text}\n".encode())

    return eventually(get, what=f"{text} from {address}")


def test_address_is_there_before_the_guest_and_the_guest_has_it(lab):
    pod = lab.pod(
        hostname="pod-name", dns_config=pb.DNSConfig(servers=["192.0.2.53"], searches=["example.org"])
    )
    address = lab.address(pod)
    assert address.startswith("10.88.")
    assert lab.node.vmids() == []
    container = lab.run(pod)
    shown = lab.sh(container, "ip -o -4 addr show dev eth0")
    assert f"inet {address}/" in shown
    assert lab.sh(container, "ls /sys/class/net").split() == ["eth0", "lo"]
    assert lab.sh(container, "hostname") == "pod-name"
    assert lab.address(pod) == address
    inside = os.readlink(f"/proc/{lab.node.machine.init_pid(lab.vmid(container))}/ns/net")
    assert inside == os.readlink(f"/proc/{lab.info(container)['pid']}/ns/net")
    lab.cri.stop_pod(pod)
    assert [entry for entry in lab.endpoint.leftovers() if entry.startswith(("address", "interface"))] == []
    assert not lab.node.machine.is_up(lab.vmid(container))


def test_resolver_and_hosts_of_the_pod(lab):
    pod = lab.pod(dns_config=pb.DNSConfig(servers=["192.0.2.53"], searches=["example.org"]))
    container = lab.run(pod)
    text = lab.sh(container, "cat /etc/resolv.conf")
    assert "nameserver 192.0.2.53" in text
    assert "search example.org" in text


def test_host_port_low_port_and_other_pods(lab):
    config = lab.endpoint.pod()
    config.port_mappings.add(container_port=80, host_port=8080)
    web = lab.pod(config=config)
    lab.run(web, WEB.format("hello", 80))
    fetched(lab, lab.address(web), "hello")
    outside = lab.endpoint.host.run(["ip", "-o", "-4", "addr", "show", "dev", "pvecri0"]).stdout.split()[3]
    fetched(lab, f"{outside.partition('/')[0]}:8080", "hello")
    other = lab.run()
    assert lab.sh(other, f"wget -qO- http://{lab.address(web)}/") == "hello"
    plain = lab.pod(handler="")
    runner = lab.run(plain)
    assert lab.sh(runner, f"wget -qO- http://{lab.address(web)}/") == "hello"


def test_sidecar_under_crun_shares_the_guest_s_network(lab):
    pod = lab.pod(guest="app")
    guest = lab.run(pod, WEB.format("of the guest", 8000), name="app")
    sidecar = lab.run(pod, WEB.format("of the sidecar", 8001), name="sidecar")
    assert lab.node.vmids() == [lab.vmid(guest)]
    assert lab.vmids(sidecar) == []
    eventually(lambda: lab.cri.exec_sync(sidecar, ["wget", "-qO-", "http://127.0.0.1:8000/"]).exit_code == 0)
    assert lab.sh(sidecar, "wget -qO- http://127.0.0.1:8000/") == "of the guest"
    assert lab.sh(guest, "wget -qO- http://127.0.0.1:8001/") == "of the sidecar"
    spaces = {os.readlink(f"/proc/{lab.info(each)['pid']}/ns/net") for each in (guest, sidecar)}
    assert len(spaces) == 1


def test_restarted_guest_keeps_the_address(lab):
    pod = lab.pod()
    address = lab.address(pod)
    first = lab.run(pod, "exit 1", name="app")
    lab.ended(first)
    again = lab.endpoint.container("app", ["sh", "-c", WEB.format("again", 8000)], attempt=1)
    second = lab.cri.create(pod, again, lab.config_of(pod))
    lab.cri.start(second)
    fetched(lab, f"{address}:8000", "again")


def test_sysctls_of_the_pod_count(lab):
    linux = {"sysctls": {"net.ipv4.ip_unprivileged_port_start": "1024", "net.core.somaxconn": "321"}}
    pod = lab.pod(linux=linux)
    container = lab.run(pod)
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/core/somaxconn"
    assert lab.sh(container, script).split() == ["1024", "321"]
