# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading

import pytest

from pvecri.daemon.crowd import Stuck, each


def test_each_does_all_of_them() -> None:
    done: list[int] = []
    assert each(range(100), done.append, limit_s=20) == []
    assert sorted(done) == list(range(100))
    assert each([], done.append, limit_s=20) == []


def test_each_reports_what_fails_and_goes_on() -> None:
    done: list[int] = []

    def act(number: int) -> None:
        if number % 10 == 3:
            raise ValueError(str(number))
        done.append(number)

    failures = each(range(50), act, limit_s=20, workers=3)
    assert sorted(item for item, _problem in failures) == [3, 13, 23, 33, 43]
    assert all(isinstance(problem, ValueError) for _item, problem in failures)
    assert len(done) == 45


@pytest.mark.parametrize("workers", [1, 3])
def test_each_leaves_what_hangs_behind(workers: int) -> None:
    done: list[int] = []
    leave = threading.Event()

    def act(number: int) -> None:
        if number < 4:
            leave.wait(60)
            # Nobody listens any more.
            raise ValueError
        done.append(number)

    failures = each(range(40), act, limit_s=0.1, workers=workers)
    leave.set()
    assert sorted(item for item, _problem in failures) == [0, 1, 2, 3]
    assert all(isinstance(problem, Stuck) for _item, problem in failures)
    assert sorted(done) == list(range(4, 40))
