# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give each file of tests an endpoint beside a Proxmox VE node that runs real LXC, and want nothing left."""

from __future__ import annotations

import contextlib
import json
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.integration.endpoint.containers.conftest import Lab
from ansible_collections.pvecri.runtime.tests.support import pve_machine
from ansible_collections.pvecri.runtime.tests.support.cgroups import directories
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.private_host import PrivateHost
from ansible_collections.pvecri.runtime.tests.support.pve_node import FakePveNode
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

HANDLER = "pve-lxc"
#: Annotation by which a pod with that handler says which of its containers is meant.
GUEST = "pvecri.runtime/lxc-container"


class LxcLab(Lab):
    """An endpoint and the node that its guests run on."""

    def __init__(self, endpoint: Endpoint, node: FakePveNode) -> None:
        super().__init__(endpoint)
        self.node = node

    def pod(
        self,
        *,
        handler: str = HANDLER,
        guest: str = "",
        config: t.Any = None,
        privileged: bool = False,
        **fields: t.Any,
    ) -> str:
        """Run a pod with a network of its own and return its id; ``guest`` names its one LXC container."""
        if guest:
            fields.setdefault("annotations", {})[GUEST] = guest
        config = self.endpoint.pod(**fields) if config is None else config
        config.linux.security_context.privileged = privileged
        pod_id = str(self.cri.run_pod(config, handler))
        self._pods[pod_id] = config
        return pod_id

    def vmid(self, container_id: str) -> int:
        """Return the number of a container at Proxmox VE."""
        (found,) = self.vmids(container_id)
        return found

    def vmids(self, container_id: str) -> list[int]:
        """Return the numbers of all guests whose notes name a container."""
        notes = {vmid: self.node.config(vmid).get("description", "") for vmid in self.node.vmids()}
        return [vmid for vmid, text in notes.items() if container_id in text]

    def guest(self, container_id: str) -> t.Any:
        """Return what the node knows of a container."""
        return self.node.pve.ct(self.vmid(container_id))

    def info(self, container_id: str) -> dict[str, t.Any]:
        """Return what the verbose status says."""
        answer = self.cri.container_status(container_id, verbose=True)
        return dict(json.loads(answer.info["info"]))

    def address(self, pod_id: str) -> str:
        """Return the address of a pod."""
        return str(self.cri.pod_status(pod_id).network.ip)

    def printed(self, container_id: str, line: str) -> None:
        """Wait until a container has printed a line."""
        eventually(lambda: line in self.log(container_id), what=f"the line '{line}'")

    def left(self) -> list[str]:
        """Return what is left of pods and guests."""
        return [*self.endpoint.leftovers(), *self.node.leftovers(), *self.files()]

    def files(self) -> list[str]:
        """Return the endpoint's files of guests."""
        places = ("lxc/records", "lxc/guests")
        found = [path for place in places for path in pathlib.Path(self.endpoint.state_dir, place).glob("*")]
        return [f"file {path}" for path in found]


@contextlib.contextmanager
def running_lab(**options: t.Any) -> t.Iterator[LxcLab]:
    """Yield an endpoint and its node; ``pve`` are further keys of the section of that name."""
    reason = pve_machine.missing()
    if reason:
        pytest.skip(reason)
    pve = options.pop("pve", {})
    with PrivateHost() as host, FakePveNode(host) as node:
        settings = {**node.settings(**pve), **options.pop("settings", {})}
        try:
            with running_endpoint(settings=settings, host=host, **options) as endpoint:
                yield LxcLab(endpoint, node)
        finally:
            assert directories(f"lxc/{node.vmid_range[0]}") == []


@pytest.fixture(scope="module")
def module_lab() -> t.Iterator[LxcLab]:
    """One endpoint and node for all tests of a file."""
    with running_lab() as lab:
        yield lab


@pytest.fixture
def lab(module_lab: LxcLab) -> t.Iterator[LxcLab]:
    """The lab, without pods."""
    yield module_lab
    module_lab.clear()
    assert module_lab.left() == []
    assert module_lab.node.vmids() == []
    assert module_lab.endpoint.tracebacks() == []
