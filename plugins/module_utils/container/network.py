# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a container its network: a namespace that outlives its processes, CNI, and resolver files.

A container with a network of its own has a pinned namespace whose path depends on
its name only, so it keeps its address when it is restarted or made anew, and other
containers can join it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container import netfiles
from ansible_collections.pvecri.runtime.plugins.module_utils.container.places import (
    files_folder,
    pinned_namespace,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import (
    HOST,
    NetworkRequest,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    InvalidSpec,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import Cni, CniResult
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import find_config

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner

#: A chain of containers that join each other ends after so many at the latest.
_DEPTH = 8

#: Looks up how another container reaches others; None when there is no such container.
RequestOf = t.Callable[[str], "NetworkRequest | None"]


class ContainerNetwork:
    """The networks of one owner's containers."""

    def __init__(self, paths: Paths, runner: Runner, request_of: RequestOf) -> None:
        self._paths = paths
        self._request_of = request_of
        self._cni = Cni(paths, runner)

    # ---- looking -----------------------------------------------------------------------------------------

    def pinned(self, name: str) -> str:
        """Return the path of the namespace that a container of this name has of its own."""
        return pinned_namespace(self._paths, name)

    def namespace(self, name: str, request: NetworkRequest | None) -> str | None:
        """Return the path of the namespace to run in, ``host``, or None for whatever the bundle says.

        Raises NotFound and InvalidSpec when there is nothing to join.
        """
        depth = 0
        while request is not None and request.joined is not None:
            name, depth = request.joined, depth + 1
            other = self._request_of(name)
            if other is None:
                raise NotFound(f"network: there is no container '{name}' to join", hint="Make it first")
            if depth > _DEPTH:
                raise InvalidSpec("network", "the containers join each other in a circle")
            request = other
        if request is None:
            return None
        if request.mode == HOST:
            return HOST
        return request.mode if request.is_path else self.pinned(name)

    def require(self, request: NetworkRequest | None) -> None:
        """Raise NotFound or Unsupported when no host network is what is asked for; starts no process."""
        if request is None or request.cni_name is None:
            return
        config = find_config(request.cni_name)
        can_publish = any((plugin.get("capabilities") or {}).get("portMappings") for plugin in config.plugins)
        if request.ports and not can_publish:
            raise Unsupported(
                f"published_ports: the network '{request.cni_name}' publishes no ports",
                hint="Add the plugin 'portmap' with its capability portMappings to the network",
            )

    # ---- changing ----------------------------------------------------------------------------------------

    def up(self, name: str, request: NetworkRequest | None, hostname: str) -> None:
        """Make the network ready for the container's processes; what is there already stays.

        Raises WrongState when the namespace to join is not there, and what CNI's plugins report.
        """
        if request is None:
            return
        addresses: list[str] = []
        dns: t.Mapping[str, t.Any] = {}
        if request.is_own:
            result = self._attach(name, request)
            if result is not None:
                addresses, dns = list(result.addresses), result.dns
        else:
            namespace = self.namespace(name, request)
            if namespace != HOST and not os.path.exists(str(namespace)):
                raise WrongState(
                    f"network: the namespace {namespace} of {request.mode} is not there",
                    hint="Start the container that it belongs to",
                )
            joined = self._cni.result(request.joined) if request.joined is not None else None
            addresses = list(joined.addresses) if joined is not None else []
        self._write_files(name, request, hostname, addresses, dns)

    def _attach(self, name: str, request: NetworkRequest) -> CniResult | None:
        is_new = netns.pin(self.pinned(name))
        if is_new:
            # What was attached to the one before, such as before a restart of the host, is gone.
            self._cni.delete(name)
        if request.cni_name is None:
            return None
        ports = [
            {
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol,
                "hostIP": port.host_ip,
            }
            for port in request.ports
        ]
        return self._cni.add(name, self.pinned(name), request.cni_name, ports=ports)

    def down(self, name: str) -> None:
        """Give addresses and ports back and remove the namespace; can be repeated."""
        self._cni.delete(name)
        netns.unpin(self.pinned(name))

    # ---- resolver files ----------------------------------------------------------------------------------

    def files(self, name: str, request: NetworkRequest | None) -> dict[str, str]:
        """Make the resolver files, empty, and return where a container shall see which.

        They are filled by `up`, when addresses are known; their paths are part of the
        container's configuration before that.
        """
        if request is None:
            return {}
        folder = self._folder(name)
        os.makedirs(folder, mode=0o711, exist_ok=True)
        mounts = {}
        for file, destination in netfiles.DESTINATIONS.items():
            path = os.path.join(folder, file)
            with open(path, "ab") as stream:
                os.fchmod(stream.fileno(), 0o644)
            mounts[destination] = path
        return mounts

    def forget(self, name: str) -> None:
        """Remove the resolver files."""
        shutil.rmtree(self._folder(name), ignore_errors=True)

    def _folder(self, name: str) -> str:
        return files_folder(self._paths, name)

    def _write_files(
        self,
        name: str,
        request: NetworkRequest,
        hostname: str,
        addresses: t.Sequence[str],
        dns: t.Mapping[str, t.Any],
    ) -> None:
        self.files(name, request)
        is_hosts = request.mode == HOST
        texts = {
            "hosts": netfiles.hosts_text(
                hostname, addresses, request, _read("/etc/hosts") if is_hosts else ""
            ),
            "hostname": f"{hostname}\n",
            "resolv.conf": netfiles.resolv_text(request, dns, _host_resolv(request)),
        }
        for file, text in texts.items():
            write_atomic(os.path.join(self._folder(name), file), text.encode())


def _host_resolv(request: NetworkRequest) -> str:
    text = _read("/etc/resolv.conf")
    if request.is_own and "127.0.0.53" in text:
        # systemd-resolved's stub listens on the host's loopback only; this is what it asks itself.
        return _read("/run/systemd/resolve/resolv.conf") or text
    return text


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()
    return ""
