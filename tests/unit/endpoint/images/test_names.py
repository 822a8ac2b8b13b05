# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients write is a reference, an id or the begin of one, and never anything else."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import INTERNAL
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from pvecri.images import names

HEX = "0123456789abcdef" * 4
ONE, TWO, INDEX = (f"sha256:{digit * 64}" for digit in "12f")


@pytest.mark.parametrize(
    ("text", "id_", "prefix", "reference"),
    [
        (HEX, HEX, "", None),
        (f"sha256:{HEX}", HEX, "", None),
        ("sha256:0123", "", "0123", None),
        ("abc", "", "abc", "docker.io/library/abc:latest"),
        ("ab", "", "", "docker.io/library/ab:latest"),
        ("abc:1", "", "", "docker.io/library/abc:1"),
        (f"a/b@{ONE}", "", "", f"docker.io/a/b@{ONE}"),
        (f"a/b:1@{ONE}", "", "", f"docker.io/a/b:1@{ONE}"),
        ("sha256:xyz", "", "", "docker.io/library/sha256:xyz"),
    ],
)
def test_parse_asked(text, id_, prefix, reference):
    asked = names.parse_asked(text)
    assert (asked.id, asked.prefix) == (id_, prefix)
    assert (asked.reference.canonical if asked.reference else None) == reference


@given(st.text(alphabet=string.printable + "äß\0", max_size=80))
def test_parse_asked_says_no_or_something_harmless(text):
    try:
        asked = names.parse_asked(text)
    except InvalidSpec:
        return
    assert asked.id or asked.prefix or asked.reference
    shown = asked.reference.canonical if asked.reference else asked.id or asked.prefix
    assert shown.isascii()
    assert ".." not in shown.split("/")
    assert not shown.startswith(("/", "-"))


@pytest.mark.parametrize("parse", [names.parse_asked, names.parse_pull])
def test_what_is_far_too_long_is_refused_at_once(parse):
    with pytest.raises(InvalidSpec, match="has 20000000 characters"):
        parse("a" * 20_000_000)
    assert parse(f"quay.io/{'a' * 240}:{'t' * 128}@sha512:{'0' * 128}")


def test_parse_pull_wants_a_reference():
    assert names.parse_pull("busybox").canonical == "docker.io/library/busybox:latest"
    for text in (HEX, f"{INTERNAL}/oci:1", "localhost/pvecri/x"):
        with pytest.raises(InvalidSpec):
            names.parse_pull(text)
    assert names.parse_pull("localhost/pvecri-x").repository == "pvecri-x"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("quay.io/a/b:1", ("quay.io/a/b", "1", "")),
        ("quay.io:443/a", ("quay.io:443/a", "", "")),
        ("quay.io:443/a:x", ("quay.io:443/a", "x", "")),
        (f"quay.io:443/a@{ONE}", ("quay.io:443/a", "", ONE)),
        (f"quay.io/a:1@{ONE}", ("quay.io/a", "1", ONE)),
    ],
)
def test_split_name(name, parts):
    assert names.split_name(name) == parts


@pytest.mark.parametrize(
    ("given_names", "digests", "indexes", "tags", "repo_digests"),
    [
        ((), (ONE,), (), [], []),
        (("r.io/a:1",), (ONE,), (), ["r.io/a:1"], [f"r.io/a@{ONE}"]),
        (("r.io/a:1", "r.io/a:2"), (ONE,), (), ["r.io/a:1", "r.io/a:2"], [f"r.io/a@{ONE}"]),
        (("r.io/a:1",), (ONE, INDEX), (INDEX,), ["r.io/a:1"], [f"r.io/a@{INDEX}"]),
        ((f"r.io/a@{ONE}",), (ONE, INDEX), (INDEX,), [], [f"r.io/a@{ONE}"]),
        ((f"r.io/a@{TWO}", "s.io/b:1"), (ONE,), (), ["s.io/b:1"], [f"r.io/a@{TWO}", f"s.io/b@{ONE}"]),
        (("r.io/a:1", f"{INTERNAL}/oci:x"), (ONE,), (), ["r.io/a:1"], [f"r.io/a@{ONE}"]),
        (("r.io/a:1",), ("",), (), ["r.io/a:1"], []),
    ],
)
def test_repository_names(given_names, digests, indexes, tags, repo_digests):
    image = Image(id=HEX, digest=digests[0], digests=digests, names=given_names)
    assert names.repository_names(image, indexes) == (tags, repo_digests)


def test_what_is_public():
    assert names.is_public(Image(id=HEX, digest=ONE))
    assert names.is_public(Image(id=HEX, digest=ONE, names=("r.io/a:1", f"{INTERNAL}/oci:x")))
    assert not names.is_public(Image(id=HEX, digest=ONE, names=(f"{INTERNAL}/oci:x",)))
