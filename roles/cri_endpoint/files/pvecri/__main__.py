# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the command line: ``python3 -m pvecri``."""

from __future__ import annotations

import gc
import sys

# What is imported stays: to look for garbage in it takes a tenth of the start.  The daemon enables it again.
gc.disable()

from pvecri.cli import main  # noqa: E402

sys.exit(main())
