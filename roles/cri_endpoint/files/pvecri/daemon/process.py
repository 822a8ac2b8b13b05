# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemon's process asks of the kernel for itself alone."""

from __future__ import annotations

import ctypes
import os

_PR_SET_DUMPABLE = 4


def leave_no_core() -> None:
    """Write no core file, whatever the limit is, which is there for containers (prctl(2)).

    The daemon's memory holds logins and tokens, and its working directory is the host's root: a daemon
    that the watchdog ends would leave them there.  Programs that it starts are not concerned.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), f"prctl(PR_SET_DUMPABLE): {os.strerror(ctypes.get_errno())}")
