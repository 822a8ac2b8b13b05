# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and numbers of signals."""

from __future__ import annotations

import signal

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.signals import signal_number
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigkill", 9),
        (" hup ", 1),
        ("9", 9),
        (15, 15),
        (signal.SIGUSR1, signal.SIGUSR1),
        ("RTMIN+3", signal.SIGRTMIN + 3),
        ("SIGRTMAX-1", signal.SIGRTMAX - 1),
        ("64", 64),
    ],
)
def test_signal_number(value: int | str, number: int) -> None:
    assert signal_number(value) == number


@pytest.mark.parametrize(
    "value", ["", "NOPE", "SIG", "0", 0, 65, -1, "-9", "TERM KILL", "\u00b2", "RTMIN+99"]
)
def test_signal_number_refuses(value: int | str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        signal_number(value)
    assert caught.value.field == "signal"
