# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know the Proxmox VE node that this endpoint's containers run on: its API, names and places."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers, lxc_raw, token_file
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import node as nodes
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc import Container
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection
from pvecri.config.model import PveConfig
from pvecri.pve.bounded import BoundedClient

#: The API is one hop away, on this very node: what does not answer by then hangs.
_CONNECT_TIMEOUT_S = 5.0
_API_TIMEOUT_S = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Loaded:
    """A client and the state of the file that it was made from."""

    client: PveClient
    stamp: tuple[int, int, int]


class PveNode:
    """The node; asks it nothing before it is asked something, and may be used by several threads."""

    def __init__(self, config: PveConfig, paths: Paths, log: logging.Logger) -> None:
        self.config = config
        self.log = log
        self.config_dir = config.config_dir
        self.lock_dir = config.lock_dir
        self.lxc_path = config.lxc_path
        self.vmid_range = (config.vmid_range[0], config.vmid_range[1])
        #: Address and checksum of templates by image, beside those of Proxmox's own list.
        self.template_sources: t.Mapping[str, t.Any] = config.templates
        self._id_file = os.path.join(paths.state_dir, "lxc", "endpoint")
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        self._chosen: dict[str, str] = {}

    # ---- the API ------------------------------------------------------------------------------------------

    @property
    def client(self) -> PveClient:
        """Return the client, made anew when the access file has changed; raises Unsupported without one."""
        with self._lock:
            stamp = self._stamp()
            if self._loaded is None or self._loaded.stamp != stamp:
                self._loaded = _Loaded(BoundedClient(self._connection()), stamp)
                # Another token may see other storages.
                self._chosen.clear()
            return self._loaded.client

    def container(self, vmid: int) -> Container:
        """Return the handle of a container of this node."""
        return Container(self.client, self.name, vmid)

    def check(self) -> None:
        """Raise what keeps containers from being made here, before anything is; one request if all is well.

        Unsupported when it is the configuration's fault, ApiError when the node does not answer.
        """
        directory = self.raw_dir
        if not os.path.isdir(directory):
            raise Unsupported(
                f"{directory} is not there: no node of Proxmox VE, or its cluster file system is down",
                hint='Look at pve-cluster.service, or set pve.enabled = "false"',
            )
        self.client.get("/version")
        for content in ("rootdir", "vztmpl"):
            self._storage(content)

    def _stamp(self) -> tuple[int, int, int]:
        try:
            found = os.stat(self.config.access_file)
        except OSError as exc:
            raise self._unusable(exc.strerror or str(exc)) from exc
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _connection(self) -> Connection:
        try:
            found = token_file.read(self.config.access_file)
        except (OSError, CoreError) as exc:
            raise self._unusable(str(exc)) from exc
        credentials = found.credentials
        if credentials is None:
            raise self._unusable("it does not say host, port, user, token_id and secret")
        if not found.is_private:
            self.log.warning("others may read the token", extra={"file": self.config.access_file})
        return dataclasses.replace(
            credentials.connection(),
            connect_timeout_s=_CONNECT_TIMEOUT_S,
            api_timeout_s=_API_TIMEOUT_S,
            task_timeout_s=self.config.task_timeout_s,
        )

    def _unusable(self, why: str) -> Unsupported:
        return Unsupported(
            f"Proxmox LXC is not set up for the endpoint: {self.config.access_file}: {why}",
            hint="Run the role cri_endpoint on this node, which writes it, or name it in pve.access_file",
        )

    # ---- names and places ---------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Return the name of this node in its cluster; raises Unsupported where there is none."""
        found = self.config.node or lxc_raw.local_node(os.path.join(self.config_dir, "local"))
        if not found:
            raise Unsupported(
                f"{self.config_dir}/local does not say which node of Proxmox VE this is",
                hint="Look at pve-cluster.service, or name the node in pve.node",
            )
        return found

    @property
    def raw_dir(self) -> str:
        """Return the directory of the containers' configuration files on this node."""
        return os.path.join(self.config_dir, "lxc")

    @property
    def storage(self) -> str:
        """Return the storage of root file systems; may ask the node, once."""
        return self._storage("rootdir")

    @property
    def template_storage(self) -> str:
        """Return the storage of templates; may ask the node, once."""
        return self._storage("vztmpl")

    def _storage(self, content: str) -> str:
        key = "rootfs_storage" if content == "rootdir" else "template_storage"
        named: str = self.config.rootfs_storage if content == "rootdir" else self.config.template_storage
        if named:
            return named
        if content not in self._chosen:
            listed = self.client.get(("nodes", self.name, "storage"), content=content, enabled=True)
            with answers.understood("GET /nodes/…/storage"):
                found = nodes.usual_storage(map(nodes.storage_of, listed), content)
            if not found:
                raise Unsupported(
                    f"no active storage of node '{self.name}' that the token may use takes content {content}",
                    hint=f"Name one in pve.{key}, or give the token Datastore.AllocateSpace on it",
                )
            self._chosen[content] = found
        return self._chosen[content]

    @property
    def endpoint_id(self) -> str:
        """Return what tells this endpoint's containers from those of another one; made at the first call."""
        with self._lock:
            return _kept_id(self._id_file)


def _kept_id(path: str) -> str:
    """Return the text of a file that is written once."""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as stream:
        if kept := stream.read().strip():
            return kept
    os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="ascii") as stream:
        stream.write(os.urandom(8).hex() + "\n")
    # Whoever was first counts.
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    os.unlink(temporary)
    with open(path, encoding="ascii") as stream:
        return stream.read().strip()
