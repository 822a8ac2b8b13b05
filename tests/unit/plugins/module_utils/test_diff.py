# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.pvecri.runtime.plugins.module_utils.diff import Difference, DifferenceTracker


def test_tracker_equal_values_are_no_difference() -> None:
    tracker = DifferenceTracker()
    assert tracker.add("memory_bytes", 64, 64) is False
    assert not tracker
    assert tracker.as_diff() == {"before": {}, "after": {}}


def test_tracker_keeps_order_and_sides() -> None:
    tracker = DifferenceTracker()
    assert tracker.add("b", 1, 2)
    assert tracker.add("a", None, "new")
    assert tracker.add("c", "old", None)
    assert tracker.keys() == ["b", "a", "c"]
    assert "a" in tracker
    assert "z" not in tracker
    assert next(iter(tracker)) == Difference("b", 1, 2)
    assert tracker.as_diff() == {"before": {"b": 1, "c": "old"}, "after": {"b": 2, "a": "new"}}


def test_tracker_false_and_zero_are_values() -> None:
    tracker = DifferenceTracker()
    tracker.add("onboot", True, False)
    tracker.add("cores", 0, 1)
    assert tracker.as_diff() == {
        "before": {"onboot": True, "cores": 0},
        "after": {"onboot": False, "cores": 1},
    }


def test_tracker_secret_shows_neither_side() -> None:
    tracker = DifferenceTracker()
    tracker.add("password", "old-pw", "new-pw", secret=True)
    tracker.add("token", None, "tok", secret=True)
    tracker.add("gone", "was", None, secret=True)
    shown = repr(tracker.as_diff())
    assert not any(word in shown for word in ("old-pw", "new-pw", "tok'", "was"))
    assert tracker.before()["password"] != tracker.after()["password"]
