# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests that run pve_lxc_container."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.tests.support import pve_lxc
from ansible_collections.pvecri.runtime.tests.support.fakepve import PASSWORD, FakeCluster


@pytest.fixture
def cluster(tmp_path):
    """Serve a cluster whose containers behave as Proxmox VE's do."""
    cluster = FakeCluster(str(tmp_path / "pki"))
    cluster.lxc = pve_lxc.install(cluster.pve)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def run(cluster, run_module):
    """Return a function that runs the module; ``who`` are its login options."""

    def run(*, check=False, who=None, fails=False, **params):
        task = {**cluster.options(**(who or {})), **params}
        task = {name: value for name, value in task.items() if value is not None}
        result = run_module("pve_lxc_container", task, check=check, diff=True)
        assert result["failed"] is fails, result.get("msg")
        return result

    return run


@pytest.fixture
def root():
    """Return the login options of root@pam itself, by password."""
    return {"api_password": PASSWORD, "api_token_id": None, "api_token_secret": None}
