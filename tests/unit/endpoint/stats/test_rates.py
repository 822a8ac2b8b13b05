# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rates from two readings."""

from __future__ import annotations

import pytest

from pvecri.stats.rates import Rates

S = 1_000_000_000


@pytest.mark.parametrize(
    ("readings", "rates"),
    [
        ([(0, 0), (2 * S, S)], [None, S // 2]),
        # Too soon to say anything new.
        ([(0, 0), (S // 2, S // 2)], [None, None]),
        ([(0, 0), (S, S), (S + 1, 2 * S)], [None, S, S]),
        # The clock was set back by an hour.
        (
            [(0, 0), (2 * S, S), (-3600 * S, 2 * S), (-3598 * S, 4 * S)],
            [None, S // 2, S // 2, S],
        ),
        # It began anew.
        ([(0, 5 * S), (2 * S, S), (4 * S, 2 * S)], [None, None, S // 2]),
    ],
)
def test_rate_is_taken_over_a_second_at_least(readings, rates):
    known = Rates()
    assert [known.cores("one", *reading) for reading in readings] == rates


def test_rate_of_what_is_gone_is_forgotten():
    known = Rates()
    known.cores("one", 0, 0)
    known.cores("two", 0, 0)
    known.forget("one")
    known.forget("one")
    assert known.cores("one", 2 * S, S) is None
    assert known.cores("two", 2 * S, S) == S // 2
