# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Things by name, as long as anybody uses them."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.named import Named


def test_all_who_use_a_name_at_a_time_have_the_same_thing() -> None:
    named = Named(object)
    with named.of("one") as first, named.of("one") as second, named.of("two") as other:
        assert first is second
        assert first is not other
        assert set(named._used) == {"one", "two"}
    assert named._used == {}


def test_thing_is_kept_for_the_last_user_and_made_anew_after_him() -> None:
    made: list[list[int]] = []

    def make() -> list[int]:
        made.append([len(made)])
        return made[-1]

    named = Named(make)
    first = named.of("one")
    held = first.__enter__()
    with named.of("one") as second:
        assert second is held
    with named.of("one") as third:
        assert third is held
    first.__exit__(None, None, None)
    with named.of("one") as fourth:
        assert fourth == [1]


def test_thing_is_dropped_after_a_failure() -> None:
    named = Named(object)
    with pytest.raises(ValueError, match="bad"), named.of("one"):
        raise ValueError("bad")
    assert named._used == {}
