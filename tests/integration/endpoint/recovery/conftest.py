# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give each test a node of its own."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.node import Node, own_node


@pytest.fixture
def node() -> t.Iterator[Node]:
    """A node without pods."""
    with own_node() as made:
        yield made
