# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint that can checkpoint, for each file."""

from __future__ import annotations

from ansible_collections.pvecri.runtime.tests.support.checkpoints import clean, endpoint, gate

__all__ = ["clean", "endpoint", "gate"]
