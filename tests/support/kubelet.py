# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say where the program is that stands in for kubelet's proxy and kubectl; its source is beside this file.

scripts/test builds it and names it in the environment (PVECRI_KUBELET).
"""

from __future__ import annotations

import os

#: The program, or the empty string.
PROGRAM = os.environ.get("PVECRI_KUBELET", "")


def missing() -> str | None:
    """Return why it cannot be run, or None."""
    if not PROGRAM:
        return "needs tests/support/kubelet: scripts/test builds it with Go, or set PVECRI_KUBELET to it"
    return None if os.access(PROGRAM, os.X_OK) else f"needs tests/support/kubelet: {PROGRAM} is no program"
