# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the release that this file belongs to, whatever link leads here."""

import fcntl
import gc
import os
import sys

# What is imported stays: to look for garbage in it takes a tenth of the start.  The daemon enables it again.
gc.disable()

RELEASE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# Held until this process ends: a release in use is not removed.
IN_USE = os.open(os.path.join(RELEASE, "RELEASE"), os.O_RDONLY | os.O_CLOEXEC)
fcntl.flock(IN_USE, fcntl.LOCK_SH)
sys.path.insert(0, RELEASE)

from pvecri.cli import main  # noqa: E402

sys.exit(main())
