# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what is looked at on a Proxmox VE node beside its API."""

from __future__ import annotations

import dataclasses
import os
import secrets
import socket

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import monitord
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import node, node_places
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.node_places import Places

PLACES = Places("/etc/pve/lxc", True, frozenset({"local", "nas"}), (6, 8), True)


@pytest.mark.parametrize(
    ("changes", "storage", "checks"),
    [
        pytest.param({}, "nas", [], id="fine"),
        pytest.param({"has_monitord": False, "kernel": (6, 15)}, "nas", [], id="kernel-tells-exit-codes"),
        pytest.param({"has_monitord": False}, "nas", ["pve_exit_codes"], id="nobody-tells-exit-codes"),
        pytest.param({}, "rbd", ["pve_template_storage"], id="no-directory"),
        pytest.param({}, "", [], id="no-storage-is-said-elsewhere"),
        pytest.param({"has_configs": False}, "nas", ["pve_configs"], id="no-cluster-file-system"),
    ],
)
def test_examine(changes, storage, checks):
    found = node.Findings()
    node_places.examine(found, dataclasses.replace(PLACES, **changes), storage)
    assert [problem["check"] for problem in found.problems] == checks
    assert all(problem["problem"] and problem["remedy"] for problem in found.problems)


def test_gather_sees_what_there_is(tmp_path):
    (tmp_path / "lxc").mkdir()
    (tmp_path / "storage.cfg").write_text(
        "nfs: nas\n\tpath /mnt/pve/nas\n\tcontent vztmpl\n\nrbd: pool\n\tcontent rootdir\n"
    )
    # A path of its own, so that no container of this machine has it.
    lxc_path = f"/lxc-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(monitord.address(lxc_path))
        listener.listen()
        places = node_places.gather(str(tmp_path), lxc_path)
    assert (places.config_dir, places.has_configs) == (str(tmp_path / "lxc"), True)
    assert places.directories == {"local", "nas"}
    assert places.has_monitord
    assert len(places.kernel) == 2
    assert os.uname().release.startswith(".".join(map(str, places.kernel)))


def test_gather_of_another_host_finds_nothing(tmp_path):
    places = node_places.gather(str(tmp_path / "none"), str(tmp_path))
    assert not places.has_configs
    assert not places.has_monitord
    assert places.directories == {"local"}
