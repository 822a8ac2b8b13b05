# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name signals as people do."""

from __future__ import annotations

import signal

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

_REAL_TIME = range(signal.SIGRTMAX - signal.SIGRTMIN + 1)
_SIGNALS: dict[str, int] = {
    # Second names, too, such as SIGCLD.
    **{name: member.value for name, member in signal.Signals.__members__.items()},
    **{f"SIGRTMIN+{offset}": signal.SIGRTMIN + offset for offset in _REAL_TIME},
    **{f"SIGRTMAX-{offset}": signal.SIGRTMAX - offset for offset in _REAL_TIME},
}


def signal_number(value: int | str, field: str = "signal") -> int:
    """Return the number of a signal: a number, or a name with or without ``SIG``, in either case.

    Raises InvalidSpec for ``field``.
    """
    text = str(int(value)) if isinstance(value, int) else value.strip().upper()
    if text.isascii() and text.isdigit():
        if 0 < int(text) < signal.NSIG:
            return int(text)
    else:
        number = _SIGNALS.get(text if text.startswith("SIG") else "SIG" + text)
        if number is not None:
            return number
    raise InvalidSpec(field, f"'{value}' is no signal", hint="Give a name such as TERM, or a number")
