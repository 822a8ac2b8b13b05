# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the automata to brute force over all short texts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.selection import automaton
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.automaton import (
    ANY_CHAR,
    ANY_TEXT,
    Alt,
    Bank,
    Chars,
    Repeat,
    SearchLimit,
    Seq,
    bits,
    char_set,
    literal,
    size,
)

TEXTS = ["".join(chars) for length in range(5) for chars in itertools.product("ab/", repeat=length)]

CHARS = st.sampled_from([literal("a"), literal("b"), char_set([(97, 98)]), ANY_CHAR, Chars(())])
NODES = st.recursive(
    CHARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: Seq(tuple(items))),
        st.lists(inner, min_size=1, max_size=3).map(lambda items: Alt(tuple(items))),
        st.tuples(
            inner, st.sampled_from([(0, None), (1, None), (0, 1), (2, 2), (2, None), (1, 3), (0, 0)])
        ).map(lambda pair: Repeat(pair[0], *pair[1])),
    ),
    max_leaves=6,
)


def language(node, limit=4):
    """Return all texts over the three letters up to ``limit``, by the definition of the operators."""
    match node:
        case Chars(ranges):
            return {char for char in "ab/" if any(low <= ord(char) <= high for low, high in ranges)}
        case Alt(items):
            return set().union(*(language(item) for item in items))
        case Seq(items):
            texts = {""}
            for item in items:
                texts = {a + b for a in texts for b in language(item) if len(a + b) <= limit}
            return texts
        case Repeat(item, least, most):
            once, texts, found = language(item), {""}, set()
            for count in range((most if most is not None else least + limit) + 1):
                if count >= least:
                    found |= texts
                texts = {a + b for a in texts for b in once if len(a + b) <= limit}
            return found
    raise AssertionError(node)


@given(st.lists(NODES, min_size=1, max_size=4))
def test_match_is_what_the_operators_mean(nodes):
    bank = Bank(nodes)
    expected = [language(node) for node in nodes]
    for text in TEXTS:
        assert set(bits(bank.match(text))) == {
            number for number, texts in enumerate(expected) if text in texts
        }


@settings(max_examples=300)
@given(NODES, NODES, NODES)
def test_shortest_finds_what_there_is_and_nothing_else(first, second, third):
    found = Bank([first, second, third]).shortest(required=0b001, one_of=0b010, forbidden=0b100)
    candidates = (language(first) & language(second)) - language(third)
    if found is None:
        assert not candidates
    else:
        assert Bank([first, second, third]).match(found) == 0b011
        assert len(found) <= min(map(len, candidates), default=len(found))


@given(NODES)
def test_size_counts_the_positions(node):
    assert size(node) >= 0
    assert Bank([node])._owned[0].bit_length() <= size(node)


@pytest.mark.parametrize(
    ("ranges", "negated", "expected"),
    [
        ([], False, ()),
        ([], True, ((0, automaton.MAX_CODE),)),
        ([(97, 99), (98, 101), (102, 102), (110, 110)], False, ((97, 102), (110, 110))),
        ([(97, 99)], True, ((0, 96), (100, automaton.MAX_CODE))),
        ([(0, 99)], True, ((100, automaton.MAX_CODE),)),
        ([(100, automaton.MAX_CODE)], True, ((0, 99),)),
    ],
)
def test_char_set_merges_and_negates(ranges, negated, expected):
    assert char_set(ranges, negated=negated).ranges == expected


def test_match_reads_every_code_point():
    bank = Bank([ANY_TEXT, literal("\U0010ffff"), literal("\0")])
    assert bank.match("\U0010ffff") == 0b011
    assert bank.match("\0") == 0b101
    assert bank.match("\ud800") == 0b001


def test_match_forgets_transitions_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(automaton, "_KEPT_TRANSITIONS", 10)
    bank = Bank([literal("abc"), ANY_TEXT])
    for number in range(200):
        assert bank.match(chr(0x4E00 + number) * 3) == 0b10
    assert bank.match("abc") == 0b11
    assert len(bank._states) <= 12


def test_shortest_gives_up_on_large_searches():
    many = Seq((ANY_TEXT, literal("a"), Repeat(char_set([(97, 98)]), 40, 40)))
    with pytest.raises(SearchLimit):
        Bank([many, many, ANY_TEXT]).shortest(required=0b011, forbidden=0b100)


def test_shortest_without_conditions_is_the_empty_text():
    assert Bank([literal("a")]).shortest() == ""
    assert Bank([literal("a")]).shortest(required=1) == "a"
