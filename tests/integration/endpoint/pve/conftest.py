# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give each test a fake cluster, and what stands in for LXC on this host."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.fakepve import FakeCluster, running_cluster
from ansible_collections.pvecri.runtime.tests.support.lxc_driver import StandIn, node_of
from pvecri.pve.node import PveNode


@pytest.fixture
def cluster(tmp_path: pathlib.Path) -> t.Iterator[FakeCluster]:
    """A cluster of pve1 and pve2 without guests, whose tasks take their time."""
    with running_cluster(str(tmp_path / "pki"), time_scale=1.0) as made:
        yield made


@pytest.fixture
def driver(tmp_path: pathlib.Path) -> t.Iterator[StandIn]:
    """Containers without LXC."""
    made = StandIn(tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def node(cluster: FakeCluster, tmp_path: pathlib.Path) -> PveNode:
    """The node that the endpoint is on."""
    return node_of(cluster, tmp_path)
