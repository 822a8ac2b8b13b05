# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Redeem tokens once, soon, and for what they were given."""

from __future__ import annotations

import re

import pytest

from pvecri.errors import TooBusy
from pvecri.streaming.tokens import LIFETIME_S, MAX_OUTSTANDING, Tokens


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens[str]:
    return Tokens(clock=clock)


def test_redeem_gives_the_request_once(tokens):
    token = tokens.issue("exec", "request")
    assert tokens.redeem("exec", token) == "request"
    assert tokens.redeem("exec", token) is None


def test_redeem_gives_nothing_for_another_kind_and_leaves_the_token(tokens):
    token = tokens.issue("exec", "request")
    assert tokens.redeem("attach", token) is None
    assert tokens.redeem("exec", token) == "request"


@pytest.mark.parametrize("garbage", ["", "x", "/", "\0", "\ud800", "é" * 1000])
def test_redeem_gives_nothing_for_garbage(tokens, garbage):
    tokens.issue("exec", "request")
    assert tokens.redeem("exec", garbage) is None


def test_redeem_gives_nothing_after_the_lifetime(tokens, clock):
    token = tokens.issue("exec", "first")
    clock.now += LIFETIME_S - 0.1
    later = tokens.issue("exec", "second")
    assert len(tokens) == 2
    clock.now += 0.2
    assert tokens.redeem("exec", token) is None
    assert tokens.redeem("exec", later) == "second"


def test_issue_makes_tokens_that_fit_a_path_and_are_long(tokens):
    made = {tokens.issue("exec", "request") for _unused in range(100)}
    assert len(made) == 100
    # 43 characters of 6 bits each: 256 bits.
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in made)


def test_issue_refuses_when_too_many_are_out_until_one_is_gone(tokens, clock):
    made = [tokens.issue("exec", "request") for _unused in range(MAX_OUTSTANDING)]
    with pytest.raises(TooBusy, match="1000 requests for streams wait"):
        tokens.issue("exec", "one more")
    assert tokens.redeem("exec", made[500]) == "request"
    tokens.issue("exec", "one more")
    clock.now += LIFETIME_S
    assert len(tokens) == 0
    tokens.issue("exec", "again")


def test_clear_forgets_all(tokens):
    token = tokens.issue("exec", "request")
    tokens.clear()
    assert tokens.redeem("exec", token) is None


def test_tokens_are_not_kept_themselves(tokens):
    token = tokens.issue("exec", "request")
    assert token not in repr(vars(tokens))
