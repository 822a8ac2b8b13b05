# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call block devices by their names."""

from __future__ import annotations

import functools
import os


@functools.cache
def device_name(major: int, minor: int, sysfs: str = "/sys") -> str:
    """Return ``/dev/sda`` for a device's numbers; empty for one without a node, such as overlay's."""
    try:
        with open(f"{sysfs}/dev/block/{major}:{minor}/uevent", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("DEVNAME="):
                    return "/dev/" + line.removeprefix("DEVNAME=").strip()
    except OSError:
        pass
    return ""


def device_of(path: str) -> str:
    """Return the name of the device that holds a path."""
    number = os.stat(path).st_dev
    return device_name(os.major(number), os.minor(number))
