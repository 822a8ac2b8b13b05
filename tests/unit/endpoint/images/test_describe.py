# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The id of a stack of layers, and the errors that kubelet knows."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    NotFound,
)
from pvecri.images.describe import chain_id
from pvecri.images.errors import RegistryUnavailable, SignatureRejected, classify


def test_chain_id():
    # sha256 of "a b", and of that with " c" behind it.
    two = "sha256:c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c2034ae8c38e6fcc6d65"
    assert chain_id([]) == ""
    assert chain_id(["a"]) == "a"
    assert chain_id(["a", "b"]) == two
    assert chain_id(["a", "b", "c"]) == chain_id([two, "c"])


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("x cannot be fetched: dial tcp 127.0.0.1:1: connect: connection refused", RegistryUnavailable),
        ("x cannot be fetched: dial tcp: lookup r.example: no such host", RegistryUnavailable),
        (
            "x cannot be fetched: dial tcp: lookup r.example: Temporary failure in name resolution",
            RegistryUnavailable,
        ),
        ("x cannot be fetched: received unexpected HTTP status: 502 Bad Gateway", RegistryUnavailable),
        ("x cannot be fetched: Source image rejected: A signature was required", SignatureRejected),
        ("x cannot be fetched: unauthorized: authentication required", CommandError),
    ],
)
def test_classify(message, kind):
    error = CommandError(message, argv=["skopeo"], rc=1, stderr="text", hint="do this")
    found = classify(error)
    assert found.__class__ is kind
    assert found.argv == ["skopeo"]
    assert found.hint == "do this"
    if kind is not CommandError:
        assert str(found).startswith(f"{kind.word}: {message}")


def test_classify_leaves_others_alone():
    for error in (NotFound("connection refused"), CommandTimeout("no such host")):
        assert classify(error) is error
