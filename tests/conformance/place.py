# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn fresh namespaces into a host for critest: network, registry and the configuration of both.

The caller has made mount, network and process namespaces (scripts/conformance does it with unshare), so that
nothing here is the machine's own.  Host-network specs listen on every address and portmap edits iptables.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from support.registry import Registry

#: Hosts in the references that critest and crictl users name; all of them are the one registry of this place.
UPSTREAMS = ("registry.k8s.io", "k8s.gcr.io", "gcr.io", "public.ecr.aws", "docker.io", "quay.io", "ghcr.io")

_OUTSIDE = "192.0.2.1"
_INSIDE = "192.0.2.2"
_SUBNET = "10.211.0.0/16"
#: What a runtime would read or write there is hidden, whatever its configuration says.
_HIDDEN = ("/etc/containers", "/etc/cni", "/var/lib/cni", "/run/netns", "/etc/cdi", "/run/cdi")


class Place:
    """The directory, the network and the registry of one run."""

    def __init__(self, top: pathlib.Path, registry_data: pathlib.Path) -> None:
        self.top = top
        self.cni_conf = top / "net.d"
        self.registries_conf = top / "containers/registries.conf"
        self.policy = top / "containers/policy.json"
        self.certs = top / "certs.d"
        self.registry = Registry(registry_data)

    def __enter__(self) -> t.Self:
        _run("mount", "--make-rshared", "/")
        self._make_network()
        self.registry.start()
        self._write_registries()
        self._write_cni()
        self._hide()
        return self

    def __exit__(self, *_unused: object) -> None:
        self.registry.stop()

    def _make_network(self) -> None:
        """Make a host's interface, with a neighbour that refuses what is asked: names fail at once."""
        _run("mount", "-t", "tmpfs", "-o", "mode=0755", "netns", "/run/netns", make=True)
        for argv in (
            "ip link set lo up",
            "ip netns add outside",
            "ip link add eth0 type veth peer name eth0 netns outside",
            f"ip address add {_INSIDE}/24 dev eth0",
            "ip link set eth0 up",
            f"ip route add default via {_OUTSIDE}",
            f"ip -n outside address add {_OUTSIDE}/24 dev eth0",
            "ip -n outside link set eth0 up",
            "ip -n outside link set lo up",
        ):
            _run(*argv.split())
        for name in ("ip_forward", "conf/all/route_localnet"):
            pathlib.Path("/proc/sys/net/ipv4", name).write_text("1")
        for table in ("iptables", "ip6tables"):
            _run(table, "-w", "-P", "FORWARD", "ACCEPT", check=table == "iptables")
        resolv = self.top / "resolv.conf"
        resolv.write_text(f"nameserver {_OUTSIDE}\noptions timeout:1 attempts:1\n")
        _run("mount", "--bind", str(resolv), os.path.realpath("/etc/resolv.conf"))
        # critest takes a word of sudo about a host that it cannot resolve for a failure.
        hosts = self.top / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n::1 localhost\n{_INSIDE} {os.uname().nodename}\n")
        _run("mount", "--bind", str(hosts), os.path.realpath("/etc/hosts"))

    def _write_registries(self) -> None:
        """Write the mirrors as containers/image reads them, and as containerd does."""
        self.registries_conf.parent.mkdir()
        tables = ['unqualified-search-registries = ["docker.io"]\n']
        for host in UPSTREAMS:
            tables.append(
                f'[[registry]]\nlocation = "{host}"\n'
                f'[[registry.mirror]]\nlocation = "{self.registry.address}"\ninsecure = true\n'
            )
            hosts = self.certs / host / "hosts.toml"
            hosts.parent.mkdir(parents=True)
            hosts.write_text(
                f'server = "https://{host}"\n'
                f'[host."http://{self.registry.address}"]\n  capabilities = ["pull", "resolve"]\n'
            )
        tables.append(f'[[registry]]\nlocation = "{self.registry.address}"\ninsecure = true\n')
        self.registries_conf.write_text("\n".join(tables))
        self.policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))

    def _write_cni(self) -> None:
        self.cni_conf.mkdir()
        ipam = {
            "type": "host-local",
            "dataDir": str(self.top / "ipam"),
            "ranges": [[{"subnet": _SUBNET}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "ipam": ipam}
        plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}]
        network = {"cniVersion": "1.0.0", "name": "conformance", "plugins": plugins}
        (self.cni_conf / "10-conformance.conflist").write_text(json.dumps(network, indent=2))

    def _hide(self) -> None:
        """Lay empty directories over the host's own configuration, with ours for containers/image in it."""
        for path in _HIDDEN:
            if path != "/run/netns" and os.path.isdir(path):
                _run("mount", "-t", "tmpfs", "-o", "mode=0755", "hidden", path)
        for source in (self.registries_conf, self.policy):
            if os.path.isdir("/etc/containers"):
                pathlib.Path("/etc/containers", source.name).write_text(source.read_text())


def _run(*argv: str, check: bool = True, make: bool = False) -> None:
    if make:
        os.makedirs(argv[-1], exist_ok=True)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    if check and done.returncode != 0:
        raise SystemExit(f"error: {' '.join(argv)}: {done.stderr.strip() or done.returncode}")
