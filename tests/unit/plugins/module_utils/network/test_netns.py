# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinning where the kernel does not let us."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import MissingDependency
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns


def test_pin_without_the_privilege(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unshare(_flags: int) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(syscalls, "unshare", unshare)
    path = tmp_path / "ns"
    with pytest.raises(MissingDependency, match="CAP_SYS_ADMIN"):
        netns.pin(str(path))
    assert not path.exists()


def test_is_pinned() -> None:
    assert netns.is_pinned("/proc/self/ns/net")
    assert not netns.is_pinned("/proc/self/status")
    assert not netns.is_pinned("/no/such/file")
    assert not netns.is_pinned("/proc/self/status/x")


def test_run_inside_our_own_namespace_needs_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []
    monkeypatch.setattr(syscalls, "setns", lambda handle, kind: entered.append(os.fstat(handle).st_ino))
    assert netns.run_inside("/proc/self/ns/net", lambda: 5) == 5
    assert entered == [os.stat("/proc/self/ns/net").st_ino]
