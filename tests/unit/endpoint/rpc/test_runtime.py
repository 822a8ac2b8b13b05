# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Status offers the handlers of Proxmox LXC where it is set up, and says how it stands."""

from __future__ import annotations

import json
import logging
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import compile_policy
from pvecri.api import cri_pb2 as pb
from pvecri.config.model import Config, NetworkConfig, PathsConfig, RuntimeConfig
from pvecri.rpc.gate import Gate
from pvecri.rpc.runtime import RuntimeRpc

POLICY = compile_policy(
    {"default": "crun", "handlers": {"lxc": "pve-lxc", "crun": "crun", "big-lxc": "pve-lxc"}, "rules": []}
)


class Pool:
    """Runs what it is given, at once."""

    async def call(self, action, **_options):
        return action()


def pve(*, is_set_up=True, problem=None):
    standing = types.SimpleNamespace(
        is_set_up=is_set_up, problem=lambda: problem, plain=lambda: {"node": "pve7", "problem": problem}
    )
    return types.SimpleNamespace(standing=standing)


@pytest.fixture
def status(tmp_path):
    def answer(parts):
        nothing = types.SimpleNamespace(sandboxes=list, containers=list)
        context = types.SimpleNamespace(
            config=Config(
                paths=PathsConfig(state_dir=str(tmp_path)),
                network=NetworkConfig(conf_dir=str(tmp_path)),
                runtime=RuntimeConfig(crun="/bin/sh", conmon="/bin/sh"),
            ),
            host=HostFacts(kernel=(6, 1), crun_version=(1, 8, 1), seccomp_default={}),
            log=logging.getLogger("status"),
            policy=POLICY,
            pve=parts,
            registry=nothing,
            uses_systemd=False,
        )
        gate = Gate(10)
        gate.open()
        rpc = RuntimeRpc(context, Pool(), gate, types.SimpleNamespace())
        with pytest.raises(StopIteration) as done:
            rpc.status(pb.StatusRequest(verbose=True)).send(None)
        return pb.StatusResponse.FromString(done.value.value)

    return answer


@pytest.mark.parametrize(
    ("parts", "names"),
    [
        (None, ["", "crun"]),
        (pve(is_set_up=False), ["", "crun"]),
        (pve(), ["", "big-lxc", "crun", "lxc"]),
        # A handler that comes and goes would keep pods from this node.
        (pve(problem="down"), ["", "big-lxc", "crun", "lxc"]),
    ],
    ids=["none", "not-set-up", "set-up", "down"],
)
def test_handlers_of_proxmox_lxc_are_offered_where_it_is_set_up(status, parts, names):
    handlers = status(parts).runtime_handlers
    assert [handler.name for handler in handlers] == names
    for handler in handlers:
        of_guests = handler.name.endswith("lxc")
        assert handler.features.recursive_read_only_mounts is not of_guests
        if of_guests:
            assert not handler.features.user_namespaces


def test_status_says_how_proxmox_lxc_stands(status):
    answer = status(pve(problem="pve7 does not answer"))
    found = {each.type: (each.status, each.reason, each.message) for each in answer.status.conditions}
    assert found["LxcReady"] == (False, "ProxmoxNotReady", "pve7 does not answer")
    assert found["RuntimeReady"] == (True, "", "")
    assert json.loads(answer.info["lxc"])["node"] == "pve7"
    assert status(pve()).status.conditions[2].status


def test_host_without_proxmox_says_nothing_of_it(status):
    answer = status(None)
    assert [each.type for each in answer.status.conditions] == ["RuntimeReady", "NetworkReady"]
    assert "lxc" not in answer.info
