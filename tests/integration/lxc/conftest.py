# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of real LXC, with the driver and without Proxmox VE."""

from __future__ import annotations

import os
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support import bundles, pve_machine
from ansible_collections.pvecri.runtime.tests.support.lxc_world import World


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root directory made of busybox."""
    return bundles.make_rootfs(str(tmp_path_factory.mktemp("rootfs")))


@pytest.fixture
def world(rootfs: str) -> t.Iterator[World]:
    """A host with a pod; what is made in it is gone at the end."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    lacking = pve_machine.missing()
    if lacking:
        pytest.skip(lacking)
    made = World(rootfs)
    yield made
    made.end()
