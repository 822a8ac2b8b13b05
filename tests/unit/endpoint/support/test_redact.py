# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take secrets out of what leaves the host."""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvecri.support.redact import redacted

SECRET = "hunter2-and-more"
HIDDEN = f"(hidden, {len(SECRET)} characters)"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"env": [f"KEY={SECRET}", "PATH=/bin"]}, {"env": [f"KEY={HIDDEN}", "PATH=/bin"]}),
        ({"env": [["KEY", SECRET]]}, {"env": [["KEY", HIDDEN]]}),
        ({"envs": [{"key": "K", "value": SECRET}]}, {"envs": [{"key": "K", "value": HIDDEN}]}),
        ({"env": {"K": SECRET, "HOME": "/root"}}, {"env": {"K": HIDDEN, "HOME": "/root"}}),
        ({"env": [SECRET]}, {"env": [HIDDEN]}),
        ({"env": [7]}, {"env": ["(hidden, 1 characters)"]}),
        ({"env": SECRET}, {"env": HIDDEN}),
        ({"env": None}, {"env": None}),
        ({"auths": {"r.test": {"auth": SECRET}}}, {"auths": {"r.test": {"auth": HIDDEN}}}),
        ({"password": SECRET, "passphrase": ""}, {"password": HIDDEN, "passphrase": ""}),
        ({"identityToken": SECRET}, {"identityToken": HIDDEN}),
        ({"has_secret": True}, {"has_secret": True}),
        ({"authfile": "/etc/auth.json"}, {"authfile": "/etc/auth.json"}),
        (
            {"annotations": {"last-applied": SECRET, "io.kubernetes.x": "1"}},
            {"annotations": {"last-applied": HIDDEN, "io.kubernetes.x": "1"}},
        ),
        ([{"a": ({"token": SECRET},)}], [{"a": [{"token": HIDDEN}]}]),
        ({"args": ["sleep", "1"], "n": 1, "f": 1.5}, {"args": ["sleep", "1"], "n": 1, "f": 1.5}),
    ],
)
def test_redacted(value: t.Any, shown: t.Any) -> None:
    assert redacted(value) == shown


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PLACES = st.sampled_from(
    [
        lambda: {"env": [f"NAME={SECRET}"]},
        lambda: {"env": [["NAME", SECRET]]},
        lambda: {"envs": [{"key": "NAME", "value": SECRET}]},
        lambda: {"annotations": {"x": SECRET}},
        lambda: {"password": SECRET},
    ]
)


@given(PLACES, st.lists(st.text(max_size=5) | st.none(), max_size=5), PLAIN)
def test_redacted_finds_secrets_at_any_depth(
    place: t.Callable[[], t.Any], way: list[str | None], other: t.Any
) -> None:
    value: t.Any = place()
    for step in way:
        value = [other, value] if step is None else {"other": other, step: value}
    assert SECRET not in json.dumps(redacted(value))
