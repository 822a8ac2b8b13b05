# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the look-up of users and groups in files that nobody vouches for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec import users
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import ResolvedUser, resolve_user

PASSWD = """root:x:0:0:root:/root:/bin/sh
web:x:1000:1000::/home/web:/bin/sh
# a comment:x:1:1
short:x:5
bad:x:abc:1::/:/bin/sh
huge:x:4294967295:1::/:/bin/sh
relative:x:7:7::home:/bin/sh
nohome:x:8:8:::
second:x:1000:50::/second:

web:x:9999:9999::/fake:/bin/sh
"""
GROUP = """root:x:0:
web:x:1000:
audio:x:29:web,other
video:x:44:other,web
extra:x:2000:web
broken
bad:x:-1:web
nogid:x::web
empty:x:77
"""


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (None, ResolvedUser(home="/root", name="root")),
        ("", ResolvedUser(home="/root", name="root")),
        ("root", ResolvedUser(home="/root", name="root")),
        ("0", ResolvedUser(home="/root", name="root")),
        (
            "web",
            ResolvedUser(uid=1000, gid=1000, additional_gids=(29, 44, 2000), home="/home/web", name="web"),
        ),
        (
            "1000",
            ResolvedUser(uid=1000, gid=1000, additional_gids=(29, 44, 2000), home="/home/web", name="web"),
        ),
        ("web:audio", ResolvedUser(uid=1000, gid=29, home="/home/web", name="web")),
        ("web:5", ResolvedUser(uid=1000, gid=5, home="/home/web", name="web")),
        (":audio", ResolvedUser(gid=29, home="/root", name="root")),
        ("4711", ResolvedUser(uid=4711)),
        ("4711:4712", ResolvedUser(uid=4711, gid=4712)),
        ("4294967294", ResolvedUser(uid=4294967294)),
        ("short", ResolvedUser(uid=5, gid=0, home="/", name="short")),
        ("relative", ResolvedUser(uid=7, gid=7, home="/", name="relative")),
        ("nohome", ResolvedUser(uid=8, gid=8, home="/", name="nohome")),
        ("second", ResolvedUser(uid=1000, gid=50, home="/second", name="second")),
    ],
)
def test_resolve_user(user, expected):
    assert resolve_user(PASSWD, GROUP, user) == expected


@pytest.mark.parametrize(
    ("user", "supplementary", "merge", "expected"),
    [
        ("web", (), False, ()),
        ("web", ("audio", "5"), False, (5, 29)),
        ("web", ("5", "empty"), True, (5, 29, 44, 77, 2000)),
        ("web", ("1000", "web"), False, ()),
        ("4711", ("audio",), True, (29,)),
        ("web:audio", ("video",), True, (44,)),
    ],
)
def test_resolve_user_groups(user, supplementary, merge, expected):
    found = resolve_user(PASSWD, GROUP, user, supplementary, merge)
    assert found.additional_gids == expected


@pytest.mark.parametrize(
    ("user", "supplementary", "merge", "expected"),
    [
        ("web", ("5",), False, (5, 1000)),
        ("web", ("5",), True, (5, 29, 44, 1000, 2000)),
        ("web:audio", (), True, (29, 44, 2000)),
        ("web:audio", (), False, (29,)),
        ("4711", (), True, (0,)),
    ],
)
def test_resolve_user_groups_of_pods(user, supplementary, merge, expected):
    found = resolve_user(PASSWD, GROUP, user, supplementary, merge, pod_groups=True)
    assert found.additional_gids == expected


@pytest.mark.parametrize(
    ("user", "supplementary", "field", "message"),
    [
        ("nobody", (), "user", "no user 'nobody' in /etc/passwd"),
        ("bad", (), "user", "no user 'bad'"),
        ("huge", (), "user", "no user 'huge'"),
        ("web:nobody", (), "user", "no group 'nobody' in /etc/group"),
        ("web:", (), "user", "no group after the colon"),
        ("4294967295", (), "user", "is not an id"),
        ("99999999999999999999", (), "user", "is not an id"),
        ("0:4294967295", (), "user", "is not an id"),
        ("-1", (), "user", "no user '-1'"),
        ("١", (), "user", "no user"),
        ("web", ("audio", "none"), "supplementary_groups[1]", "no group 'none'"),
        ("web", ("nogid",), "supplementary_groups[0]", "no group 'nogid'"),
    ],
)
def test_resolve_user_refuses(user, supplementary, field, message):
    with pytest.raises(InvalidSpec, match=message) as caught:
        resolve_user(PASSWD, GROUP, user, supplementary)
    assert caught.value.field == field


def test_resolve_user_without_files():
    assert resolve_user("", "", None) == ResolvedUser()


def test_resolve_user_looks_at_a_bounded_part(monkeypatch):
    monkeypatch.setattr(users, "MAX_TEXT", 1000)
    filler = "".join(f"u{i}:x:{i}:{i}::/:\n" for i in range(100, 1000))
    assert resolve_user(filler, "", "u100").uid == 100
    with pytest.raises(InvalidSpec):
        resolve_user(filler, "", "u999")


def test_resolve_user_passes_over_an_endless_line():
    passwd = "web:x:1:1::/" + "a" * (1 << 17) + "\nweb:x:2:2::/:\n"
    assert resolve_user(passwd, "", "web").uid == 2


@given(passwd=st.text(), group=st.text(), user=st.sampled_from([None, "0", "7:8", "4711"]))
def test_resolve_user_survives_anything(passwd, group, user):
    found = resolve_user(passwd, group, user)
    assert found.home.startswith("/")
    assert found.uid == int((user or "0").split(":")[0])


@given(
    text=st.text(alphabet="a:0x,\n\r\x0b\x1c\u2028# ", max_size=60), name=st.text(alphabet="ab", min_size=1)
)
def test_resolve_user_finds_or_refuses(text, name):
    try:
        found = resolve_user(text, text, name)
    except InvalidSpec:
        return
    assert found.name == name
    assert f"{name}:" in text
