# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write TOML that reads back as the same."""

from __future__ import annotations

import datetime
import tomllib

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.filter.to_toml import FilterModule

to_toml = FilterModule().filters()["to_toml"]

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | TEXTS
    | st.datetimes()
    | st.dates()
    | st.times(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_to_toml_reads_back_as_the_same(document):
    assert tomllib.loads(to_toml(document)) == document


def test_to_toml_writes_sections_after_keys():
    document = {"server": {"socket": "/x", "a.b": [1, {"c": True}]}, "top": 0.5, "empty": {}}
    assert to_toml(document) == ('top = 0.5\n\n[server]\nsocket = "/x"\n"a.b" = [1, {c = true}]\n\n[empty]\n')
    assert to_toml({}) == ""


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "a dictionary is wanted, not list"),
        ({"log": {"level": None}}, "log.level: TOML has no null"),
        ({"log": {"level": {1, 2}}}, "log.level: TOML has no set"),
        ({"a": [1, {"b": object}]}, r"a\[1\].b: TOML has no type"),
        ({"a": 1 << 63}, "a: 9223372036854775808 has more than 64 bits"),
        ({"a": {1: 2}}, "a.1: keys are texts, not int"),
        ({1: 2}, "1: keys are texts, not int"),
        ({"a": "\ud800"}, "a: it is not Unicode text"),
    ],
)
def test_to_toml_refuses_what_toml_has_not(document, said):
    with pytest.raises(AnsibleFilterError, match=f"to_toml: {said}"):
        to_toml(document)


def test_to_toml_keeps_subclasses_plain():
    class Tagged(str):
        __slots__ = ()

    assert to_toml({"a": Tagged("x"), "d": datetime.date(2026, 1, 2)}) == 'a = "x"\nd = 2026-01-02\n'
