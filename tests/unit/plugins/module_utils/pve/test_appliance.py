# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which template of Proxmox's list a name stands for."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.pve.appliance import newest

FILES = (
    "debian-12-standard_12.7-1_amd64.tar.zst",
    "debian-12-standard_12.12-1_amd64.tar.zst",
    "debian-12-standard_12.12-1_arm64.tar.zst",
    "debian-12-standard-extra_99-1_amd64.tar.zst",
    "alpine-3.22-default_20250617_amd64.tar.xz",
    "alpine-3.22-default_20250617rc1_amd64.tar.xz",
    "proxmox-mail-gateway-8.2-standard_8.2-1_all.tar.zst",
    "app_1234567890abcdef.tar",
    "notes.txt",
)


@pytest.mark.parametrize(
    ("name", "architecture", "file"),
    [
        ("debian-12-standard", "amd64", FILES[1]),
        ("debian-12-standard", "arm64", FILES[2]),
        ("debian-12-standard", "riscv64", None),
        ("debian-12", "amd64", None),
        ("alpine-3.22-default", "amd64", FILES[4]),
        ("proxmox-mail-gateway-8.2-standard", "amd64", FILES[6]),
        ("app", "amd64", None),
    ],
)
def test_newest(name, architecture, file):
    assert newest(FILES, name, architecture) == file
    assert newest((), name, architecture) is None
