# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve the Kubernetes Container Runtime Interface on this host."""

from __future__ import annotations

#: The version of the collection that this came with.
__version__ = "0.1.0"
