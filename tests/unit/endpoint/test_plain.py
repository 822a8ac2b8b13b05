# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stored messages, shown to people."""

from __future__ import annotations

from pvecri.api import cri_pb2
from pvecri.plain import plain_message


def test_message_has_the_names_of_the_protocol():
    data = cri_pb2.ContainerConfig(log_path="x", stdin_once=True).SerializeToString()
    assert plain_message(cri_pb2.ContainerConfig, data) == {"log_path": "x", "stdin_once": True}


def test_damaged_message_says_so_and_how_long_it_is():
    found = plain_message(cri_pb2.ContainerConfig, b"\xff\xff")
    assert found["bytes"] == 2
    assert found["unreadable"]
