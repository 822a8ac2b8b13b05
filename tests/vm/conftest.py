# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all checks on the node share."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.vm.node import Node


@pytest.fixture
def node(tmp_path: pathlib.Path) -> t.Iterator[Node]:
    """The node, without the pods of this test when it ends."""
    node = Node(tmp_path)
    yield node
    node.remove_pods()
