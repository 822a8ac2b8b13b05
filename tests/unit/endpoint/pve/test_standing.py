# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Proxmox VE makes guests is asked seldom, never twice at once, and told in its own words."""

from __future__ import annotations

import logging
import threading
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import ApiError, Unsupported
from pvecri.pve import standing as module
from pvecri.pve.standing import Standing


class Node:
    """A node that is as it is told to be."""

    def __init__(self, directory):
        self.log = logging.getLogger("standing")
        self.config = types.SimpleNamespace(access_file="/etc/pvecri/pve.json", node="")
        self.config_dir, self.lxc_path, self.vmid_range = str(directory), "/var/lib/lxc", (1, 2)
        self.error = None
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()

    def check(self):
        self.asked += 1
        self.gate.wait()
        refuse(self.error)

    @property
    def client(self):
        refuse(self.error if isinstance(self.error, Unsupported) else None)
        return object()


def refuse(error):
    """Raise an error, if there is one."""
    if error is not None:
        raise error


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "nodes/pve7").mkdir(parents=True)
    (tmp_path / "local").symlink_to("nodes/pve7")
    return Node(tmp_path)


def test_all_is_well_and_asked_once(node):
    standing = Standing(node)
    assert [standing.problem() for _time in range(5)] == [None] * 5
    assert node.asked == 1
    assert standing.is_set_up
    assert standing.plain() == {
        "access_file": "/etc/pvecri/pve.json",
        "is_set_up": True,
        "problem": None,
        "node": "pve7",
        "vmid_range": [1, 2],
        "lxc_path": "/var/lib/lxc",
    }


@pytest.mark.parametrize(
    ("error", "is_set_up"),
    [
        (ApiError("GET /version: connection refused"), True),
        (Unsupported("Proxmox LXC is not set up for the endpoint"), False),
    ],
    ids=["down", "no-access"],
)
def test_problem_is_told(node, error, is_set_up):
    node.error = error
    standing = Standing(node)
    assert standing.problem() == str(error)
    assert standing.is_set_up is is_set_up


def test_programs_are_needed(node, monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda _name: None)
    assert Standing(node).problem() == "there is no program lxc-start and no lxc-attach"
    assert node.asked == 0


def test_nobody_waits_for_a_node_that_hangs(node, monkeypatch):
    monkeypatch.setattr(module, "_FIRST_S", 0.01)
    node.gate.clear()
    standing = Standing(node)
    try:
        assert standing.problem() == "Proxmox VE has not answered yet"
        assert standing.problem() == "Proxmox VE has not answered yet"
        assert node.asked == 1
    finally:
        node.gate.set()
    monkeypatch.setattr(module, "_FIRST_S", 10.0)
    assert standing.problem() is None
