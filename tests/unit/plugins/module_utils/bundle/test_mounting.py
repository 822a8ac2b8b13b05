# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images among a bundle's mounts can be shown with the owners of a user namespace that is yet to come."""

from __future__ import annotations

import os
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import mounting, rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import HostMount
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap

MAPS = (IdMap(container_id=0, host_id=100_000, size=65536),)


@pytest.fixture
def bundle(tmp_path):
    store = tmp_path / "overlay"
    layers = []
    for number, name in enumerate(("top", "bottom")):
        layer = store / name / "diff"
        (layer / "data").mkdir(parents=True)
        (layer / "data" / name).write_text(name)
        os.chown(layer / "data" / name, number, number)
        layers.append(str(layer))
    mounts = (
        HostMount(target="images/0", layers=tuple(layers)),
        HostMount(target="images/1", layers=tuple(layers), sub_path="data/bottom"),
        HostMount(target="images/2", layers=tuple(layers[:1])),
        HostMount(target="volumes/3", source=str(store), sub_path="top"),
    )
    record = types.SimpleNamespace(
        mounts=mounts, layers=(), rootfs="rootfs", request={"namespaces": {"user": "host"}}
    )
    path = str(tmp_path / "bundle")
    os.mkdir(path)
    mounting.mount_all(path, record)
    yield path, record
    mounting.unmount_all(path, record)
    assert syscalls.mounts_below(path) == []


def owners(path):
    return {
        name: os.stat(os.path.join(path, name)).st_uid
        for name in ("images/0/data/top", "images/0/data/bottom", "images/1", "images/2/data/top")
    }


def test_images_are_shown_with_shifted_owners(bundle):
    path, record = bundle
    names = ("images/0/data/top", "images/0/data/bottom", "images/1", "images/2/data/top")
    assert owners(path) == dict(zip(names, (0, 1, 1, 0), strict=True))
    # Twice is as good as once.
    for _time in range(2):
        mounting.show_images_as(path, record, MAPS, MAPS)
        # That of one layer is no overlay, and is left to who binds it.
        assert owners(path) == dict(zip(names, (100_000, 100_001, 100_001, 0), strict=True))
    assert len(syscalls.mounts_below(path)) == 4
    with pytest.raises(OSError, match="Read-only"):
        open(os.path.join(path, "images/0/new"), "wb").close()
    assert not rootfs.unmount(os.path.join(path, "images/1.whole"))
