# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove temporary files and directories that killed processes left behind."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time

from ansible_collections.pvecri.runtime.plugins.module_utils.files import remove_tree

#: No pull or copy takes as long; whatever is older has nobody any more.
STALE_S = 86400.0


def sweep(directory: str, name: re.Pattern[str], *, now_s: float | None = None) -> None:
    """Remove this user's entries of a directory whose whole name fits and that are older than a day.

    What cannot be removed is left: sweeping must not keep anything from being done.
    """
    oldest_s = (time.time() if now_s is None else now_s) - STALE_S
    with contextlib.suppress(OSError):
        for entry in os.listdir(directory):
            if name.fullmatch(entry):
                _remove_stale(os.path.join(directory, entry), oldest_s)


def sweep_dead(directory: str, name: re.Pattern[str]) -> None:
    """Remove files whose name fits and whose process, its group ``pid``, is gone.

    The caller holds the lock under which such files are written.
    """
    with contextlib.suppress(OSError):
        for entry in os.listdir(directory):
            found = name.fullmatch(entry)
            if found and not os.path.exists(f"/proc/{found['pid']}"):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(directory, entry))


def _remove_stale(path: str, oldest_s: float) -> None:
    with contextlib.suppress(OSError):
        # The directory may be everybody's: links are not followed, others' entries not touched.
        status = os.lstat(path)
        if status.st_uid != os.geteuid() or status.st_mtime > oldest_s:
            return
        if stat.S_ISDIR(status.st_mode):
            remove_tree(path)
        elif stat.S_ISREG(status.st_mode):
            os.unlink(path)
