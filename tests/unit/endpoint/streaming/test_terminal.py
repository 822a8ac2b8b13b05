# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes of terminals in what clients send."""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.tests.support.channels import channel_pair
from pvecri.streaming.terminal import Size, SizeParser, Sizes

RunLoop = t.Callable[[t.Coroutine[t.Any, t.Any, None]], None]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{}",
        b"nothing",
        b"}{",
        b'{"Width":0,"Height":24}',
        b'{"Width":80,"Height":-1}',
        b'{"Width":80}',
        b'{"Width":1001,"Height":24}',
        b'{"Width":80.5,"Height":24}',
        b'{"Width":true,"Height":24}',
        b'{"Width":"80","Height":"24"}',
        b'{"Width":[80],"Height":null}',
        b'{"Width":80,"Height":24',
        b"{\xff}",
        b'{"Width":' + b"[" * 60_000 + b',"Height":1}',
        b'{"Width":' + b"9" * 5000 + b',"Height":1}',
    ],
)
def test_what_is_no_size_is_left_out(message: bytes) -> None:
    parser = SizeParser()
    assert parser.feed(message) == []
    assert parser.feed(b'}\n{"Width":80,"Height":24}') == [Size(80, 24)] or message.endswith(b"24")


def test_names_in_any_case() -> None:
    assert SizeParser().feed(b'{"width":1,"HEIGHT":2,"other":3}') == [Size(1, 2)]


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 1000)), max_size=20),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_cuts_do_not_matter(sizes: list[tuple[int, int]], cuts: list[int]) -> None:
    text = b"\n".join(json.dumps({"Width": w, "Height": h}).encode() for w, h in sizes)
    parser = SizeParser()
    found: list[Size] = []
    while text:
        cut = cuts[len(text) % len(cuts)]
        found += parser.feed(text[:cut])
        text = text[cut:]
    assert found == sizes


@given(st.binary(max_size=2000))
def test_any_bytes_do_no_harm(data: bytes) -> None:
    for size in SizeParser().feed(data):
        assert min(size) > 0
        assert max(size) <= 1000


def test_no_size_in_time_is_none(run_loop: RunLoop) -> None:
    async def work() -> None:
        ours, theirs = channel_pair()
        sizes = Sizes(ours)
        assert await sizes.first(0.01) is None
        await theirs.write(b'{"Width":1,"Height":2}')
        theirs.reset()
        await sizes.read()

    run_loop(work())
