# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemon asks of the kernel for itself; in a process of its own, whose traits these are."""

from __future__ import annotations

import subprocess
import sys

ASK = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)"
PROGRAM = f"""
import subprocess, sys
from pvecri.daemon.process import leave_no_core
leave_no_core()
{ASK}
subprocess.run([sys.executable, "-c", {ASK!r}], check=True)
"""


def test_daemon_leaves_no_core_and_its_children_may() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]
