# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.state import codec
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord

SANDBOX = records.sandbox(ips=("10.0.0.1", "fd00::1"), has_pause=True, extra={"a": [1]})
CONTAINER = records.container(
    SANDBOX.id,
    resources=b"\x08\x01\xff",
    mounts=(b"\x01", b""),
    groups=(1, 2),
    exit_code=3,
    phase=Phase.EXITED,
    selection={"rule": "x"},
)


@pytest.mark.parametrize("record", [SANDBOX, CONTAINER])
def test_codec_brings_a_record_back_through_json(record: codec.Record) -> None:
    plain = json.loads(json.dumps(codec.to_plain(record)))
    assert codec.from_plain(type(record), plain) == (record, {})


def test_codec_leaves_fields_out_and_takes_them_from_elsewhere() -> None:
    plain = codec.to_plain(SANDBOX, without=("config", "id"))
    assert "config" not in plain
    back, _unknown = codec.from_plain(SandboxRecord, plain, config=b"new", id="i")
    assert (back.config, back.id) == (b"new", "i")


def test_codec_gives_unknown_keys_apart() -> None:
    plain = {**codec.to_plain(SANDBOX), "colour": "blue"}
    assert codec.from_plain(SandboxRecord, plain) == (SANDBOX, {"colour": "blue"})


def test_codec_fills_what_an_older_version_did_not_write() -> None:
    plain = codec.to_plain(CONTAINER)
    del plain["mounts"], plain["exit_code"]
    back, _unknown = codec.from_plain(ContainerRecord, plain)
    assert (back.mounts, back.exit_code) == ((), None)


@pytest.mark.parametrize(
    "broken",
    [
        {"phase": "sleeping"},
        {"created_at_ns": "1"},
        {"created_at_ns": True},
        {"exit_code": 1.5},
        {"exit_code": 1 << 31},
        {"created_at_ns": 1 << 63},
        {"groups": [None]},
        {"groups": [1 << 63]},
        {"ips": [5]},
        {"log_path": "\ud800"},
        {"extra": {"image_name": "\udc80"}},
        {"config": "§"},
        {"config": 5},
        {"mounts": "text"},
        {"mounts": [1]},
        {"ips": "text"},
        {"extra": []},
        {"has_pause": 1},
        {"id": None},
    ],
)
def test_codec_refuses_what_is_no_record(broken: dict[str, t.Any]) -> None:
    kind = SandboxRecord if {"ips", "has_pause"} & broken.keys() else ContainerRecord
    plain = codec.to_plain(SANDBOX if kind is SandboxRecord else CONTAINER)
    with pytest.raises(ValueError):  # noqa: PT011 - any that says what is wrong
        codec.from_plain(kind, {**plain, **broken})


@pytest.mark.parametrize("plain", [[], "text", None])
def test_codec_refuses_what_is_no_object(plain: t.Any) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        codec.from_plain(SandboxRecord, plain)


def test_codec_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match="lacks id, name"):
        codec.from_plain(SandboxRecord, {"config": "", "created_at_ns": 1})
