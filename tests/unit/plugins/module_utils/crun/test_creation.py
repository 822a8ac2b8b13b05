# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a create leaves behind on the host; the create itself is tried with crun."""

from __future__ import annotations

import os
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import creation


@pytest.mark.parametrize(
    ("owner", "given"),
    [((0, 0), []), ((100000, 100000), [(os.devnull, 0, 0)]), ((0, 5), [(os.devnull, 0, 0)])],
    ids=["untouched", "given-away", "group"],
)
def test_null_device_is_taken_back(monkeypatch, owner, given) -> None:
    calls = []
    uid, gid = owner
    monkeypatch.setattr(creation.os, "stat", lambda _path: types.SimpleNamespace(st_uid=uid, st_gid=gid))
    monkeypatch.setattr(creation.os, "chown", lambda *args: calls.append(args))
    creation._reclaim_null()
    assert calls == given


def test_null_device_that_cannot_be_taken_back_hinders_nobody(monkeypatch) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(creation.os, "stat", lambda _path: types.SimpleNamespace(st_uid=1, st_gid=1))
    monkeypatch.setattr(creation.os, "chown", refuse)
    creation._reclaim_null()
