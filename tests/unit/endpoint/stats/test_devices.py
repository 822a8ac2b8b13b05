# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of block devices."""

from __future__ import annotations

import pytest

from pvecri.stats.devices import device_name, device_of


@pytest.fixture(autouse=True)
def forget():
    """Let no test see the devices of another."""
    device_name.cache_clear()
    yield
    device_name.cache_clear()


def test_device_is_called_by_its_node(tmp_path):
    place = tmp_path / "dev" / "block" / "8:1"
    place.mkdir(parents=True)
    (place / "uevent").write_text("MAJOR=8\nMINOR=1\nDEVNAME=mapper/one\nDEVTYPE=partition\n")
    assert device_name(8, 1, str(tmp_path)) == "/dev/mapper/one"
    (place / "uevent").write_text("MAJOR=8\n")
    assert device_name(8, 1, str(tmp_path)) == "/dev/mapper/one", "asked once"


def test_device_without_a_node_has_no_name(tmp_path):
    assert device_name(0, 40, str(tmp_path)) == ""
    place = tmp_path / "dev" / "block" / "8:2"
    place.mkdir(parents=True)
    (place / "uevent").write_text("MAJOR=8\n")
    assert device_name(8, 2, str(tmp_path)) == ""
    assert device_of("/proc") == ""
