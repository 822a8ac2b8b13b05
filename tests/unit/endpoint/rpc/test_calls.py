# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read from a call's fields until when its client waits."""

from __future__ import annotations

from unittest import mock

import pytest

from pvecri.rpc.calls import Call, Refusal
from pvecri.rpc.status import Code


def opened(**fields: bytes) -> Call:
    """Return a call of the time 100 with some fields, ``_`` for a hyphen."""
    call = Call(mock.Mock(), 1)
    call.fields = {b":method": b"POST", b":path": b"/x", b"content-type": b"application/grpc"}
    call.fields.update({name.replace("_", "-").encode(): value for name, value in fields.items()})
    call.open({b"/x": mock.Mock()}, lambda: 100.0)
    return call


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"2H", 7200.0),
        (b"3M", 180.0),
        (b"10S", 10.0),
        (b"1500m", 1.5),
        (b"99999999u", 99.999999),
        (b"5000n", 5e-6),
        (b"0S", 0.0),
    ],
)
def test_deadline_is_as_far_off_as_the_client_says(text: bytes, seconds: float) -> None:
    assert opened(grpc_timeout=text).deadline == pytest.approx(100.0 + seconds, abs=1e-9)


def test_call_without_a_deadline_waits_for_ever() -> None:
    assert opened().deadline is None


@pytest.mark.parametrize("text", [b"", b"10", b"S", b"-1S", b"1s", b"123456789S", b"1.5S"])
def test_deadline_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(Refusal, match="grpc-timeout") as refused:
        opened(grpc_timeout=text)
    assert refused.value.code is Code.INTERNAL
