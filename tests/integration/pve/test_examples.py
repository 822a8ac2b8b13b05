# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the examples of the documentation as playbooks against a fake cluster."""

from __future__ import annotations

import sys

import pytest

from ansible_collections.pvecri.runtime.tests.support.examples import examples_of, play_of, run_play

MODULES = ("pve_lxc_snapshot", "pve_lxc_backup", "pve_lxc_container_info")


@pytest.fixture
def cluster(pve_cluster):
    """Fill the cluster with what the examples speak of."""
    pve = pve_cluster.pve
    pve.storages["backups"] = {
        "type": "nfs",
        "active": 1,
        "content": "backup",
        "files": set(),
        "shared": 1,
        "volumes": {},
    }
    pve.add_ct(201, "db-1", node="pve1", status="running", config={"tags": "pvecri"})
    pve.add_ct(202, "web-1", node="pve2", status="running", config={"tags": "production"})
    pve_cluster.backups.add("backups", 201, age_s=100)
    return pve_cluster


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(cluster, tmp_path, module):
    environment = cluster.environment()
    printed = run_play(play_of(examples_of(module)), tmp_path, environment)
    assert environment["PVE_TOKEN_SECRET"] not in printed


def test_connection_options_come_from_the_action_group(cluster, tmp_path):
    options = "\n".join(f"        {name}: {value}" for name, value in cluster.options().items())
    play = f"""
- hosts: localhost
  gather_facts: false
  vars:
    ansible_python_interpreter: {sys.executable}
  module_defaults:
    group/pvecri.runtime.pve:
{options}
  tasks:
    - pvecri.runtime.pve_lxc_snapshot:
        vmid: 201
        snapname: first
    - pvecri.runtime.pve_lxc_container_info:
      register: listed
    - ansible.builtin.assert:
        that: listed.containers | map(attribute='name') | list == ['db-1', 'web-1']
"""
    printed = run_play(play, tmp_path, {})
    assert list(cluster.pve.ct(201).snapshots) == ["first"]
    assert cluster.options()["api_token_secret"] not in printed
