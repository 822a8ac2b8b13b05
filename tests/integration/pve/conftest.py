# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests that drive a fake Proxmox VE cluster on loopback."""

from __future__ import annotations

from ansible_collections.pvecri.runtime.tests.support.fakepve import pve_cluster
from ansible_collections.pvecri.runtime.tests.unit.plugins.modules.conftest import run_module

__all__ = ["pve_cluster", "run_module"]
