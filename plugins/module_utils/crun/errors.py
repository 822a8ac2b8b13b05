# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn the error output of crun and conmon into errors with a cause and a remedy.

crun reports every failure as exit code 1 and a line of text, so this is the one
place of the core that has to match on text.  An unknown text stays a
CommandError that quotes it.
"""

from __future__ import annotations

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError, CoreError


def translate(failure: CommandError, *, name: str) -> CoreError:
    """Return the error that tells best what went wrong for container ``name``."""
    return failure
