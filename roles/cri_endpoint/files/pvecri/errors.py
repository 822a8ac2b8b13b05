# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add to the core's errors those of a daemon that many clients use.

CoreError
├ Unavailable       UNAVAILABLE
├ TooBusy           RESOURCE_EXHAUSTED
│ └ TooSlow
└ Untouched         nothing was begun: as it is, the object can take the same call again
  ├ Unreached       an Unavailable as well
  └ Locked          a WrongState as well
"""

from __future__ import annotations

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, WrongState


class Unavailable(CoreError):
    """Refuse a request for now; the client should try again."""

    code = "unavailable"


class TooBusy(CoreError):
    """Refuse a request because too many others are in flight."""

    code = "too_busy"


class TooSlow(TooBusy):
    """End a stream whose client does not read."""

    code = "too_slow"


class Untouched(CoreError):
    """Refuse a request before anything was begun."""


class Unreached(Untouched, Unavailable):
    """Report that who has to do it could not be asked, or cannot begin anything now."""

    code = "unavailable"


class Locked(Untouched, WrongState):
    """Report that somebody else has locked the object."""

    code = "wrong_state"
