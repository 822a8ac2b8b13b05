# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say how long sessions of clients wait for what."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds; tests have shorter ones."""

    #: For the size of the client's terminal, before its command starts.
    size_s: float = 0.1
    #: For output of what an ended command left behind.
    drain_s: float = 1.0
    #: For the end of a command whose client is gone.
    gone_s: float = 4.0
    #: The same when the daemon stops.
    stopping_s: float = 0.5
    #: For a client to take the last word, when the daemon stops or the client is too slow.
    farewell_s: float = 1.0
    #: For the answer to an attached client's last input.
    answer_s: float = 0.2
    #: For an attached client to take enough that its container can go on.
    stall_s: float = 5.0
    #: For conmon to see the end of a client's input before it sees the end of its output.
    linger_s: float = 0.3
    #: For a client to take what is left when a session has ended.
    close_s: float = 300.0
