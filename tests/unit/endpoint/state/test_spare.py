# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.state import spare
from pvecri.state.records import Phase


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> Paths:
    return Paths(str(tmp_path / "s"), str(tmp_path / "r"))


def bundle(name: str, extra: dict[str, object]) -> BundleRecord:
    return BundleRecord(
        name=name, instance="i", created=1.0, spec_hash="", request={}, source={}, identity={}, extra=extra
    )


def test_sandbox_copy_is_read_back(paths: Paths) -> None:
    record = records.sandbox(ips=("10.0.0.1",))
    assert spare.load_sandbox(paths, record.id) is None
    os.makedirs(spare.sandbox_directory(paths, record.id))
    assert spare.load_sandbox(paths, record.id) is None
    spare.save_sandbox(paths, record)
    assert spare.load_sandbox(paths, record.id) == record
    (name,) = os.listdir(spare.sandbox_directory(paths, record.id))
    path = os.path.join(spare.sandbox_directory(paths, record.id), name)
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_sandbox_copy_of_another_boot_is_stopped(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    record = records.sandbox()
    os.makedirs(spare.sandbox_directory(paths, record.id))
    spare.save_sandbox(paths, record)
    monkeypatch.setattr(procfs, "boot_id", lambda: "another boot")
    found = spare.load_sandbox(paths, record.id)
    assert found is not None
    assert (found.phase, found.message) == (Phase.STOPPED, "the host was restarted")


def test_sandbox_copy_that_is_damaged_or_anothers_is_refused(paths: Paths) -> None:
    one, two = records.sandbox(), records.sandbox()
    for record in (one, two):
        os.makedirs(spare.sandbox_directory(paths, record.id))
        spare.save_sandbox(paths, record)
    path = os.path.join(spare.sandbox_directory(paths, one.id), "record.json")
    os.rename(path, os.path.join(spare.sandbox_directory(paths, two.id), "record.json"))
    with pytest.raises(ValueError, match="that of sandbox"):
        spare.load_sandbox(paths, two.id)
    pathlib.Path(path).write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        spare.load_sandbox(paths, one.id)


def test_container_copy_is_read_back_from_its_bundle() -> None:
    record = records.container("s", resources=b"\x01")
    assert spare.load_container(bundle(record.id, spare.container_extra(record))) == record
    assert spare.load_container(bundle(record.id, {})) is None
    with pytest.raises(ValueError, match="that of container"):
        spare.load_container(bundle(records.new_id(), spare.container_extra(record)))
