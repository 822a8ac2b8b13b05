# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the bounded fan-out: order, errors in place, never more at once than allowed."""

from __future__ import annotations

import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import parallel


@pytest.mark.parametrize("limit", [0, 1, 3, 50])
def test_each_keeps_the_order(limit):
    assert parallel.each(range(10), lambda n: n * n, limit=limit) == [n * n for n in range(10)]


def test_each_never_has_more_at_once_than_the_limit():
    lock, gate = threading.Lock(), threading.Barrier(3)
    now, most = 0, 0

    def work(_item):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        gate.wait(30)  # passes only when three are in here together
        with lock:
            now -= 1

    parallel.each(range(9), work, limit=3)
    assert most == 3


@pytest.mark.parametrize("limit", [1, 4])
def test_each_puts_an_error_in_its_place(limit):
    def work(item):
        if item == 1:
            raise errors.NotFound("no 1")
        return item

    zero, one, two = parallel.each([0, 1, 2], work, limit=limit)
    assert (zero, two) == (0, 2)
    assert isinstance(one, errors.NotFound)


@pytest.mark.parametrize("limit", [1, 4])
def test_each_raises_a_defect(limit):
    with pytest.raises(ZeroDivisionError):
        parallel.each([1, 0], lambda n: 1 / n, limit=limit)


def test_each_of_nothing():
    assert parallel.each([], print) == []
