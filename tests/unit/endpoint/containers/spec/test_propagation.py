# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold that a mount is only asked to propagate where the kernel lets it."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.api import cri_pb2 as pb
from pvecri.containers.spec.mounts import check_propagation, propagating

MOUNTINFO = """\
20 1 8:1 / / rw shared:1 - ext4 /dev/a rw
21 20 8:1 / /private rw - ext4 /dev/a rw
22 20 8:1 / /slave\\040one rw master:1 - ext4 /dev/a rw
23 20 8:1 / /both rw shared:4 master:1 - ext4 /dev/a rw
24 20 8:1 / /over rw shared:5 - ext4 /dev/a rw
25 24 8:1 / /over rw - ext4 /dev/a rw
"""
BOTH, INTO, NONE = (
    pb.PROPAGATION_BIDIRECTIONAL,
    pb.PROPAGATION_HOST_TO_CONTAINER,
    pb.PROPAGATION_PRIVATE,
)


@pytest.mark.parametrize(
    ("path", "mode", "is_allowed"),
    [
        ("/srv", BOTH, True),
        ("/", BOTH, True),
        ("/private/x", BOTH, False),
        ("/private", INTO, False),
        ("/private", NONE, True),
        ("/privateer", BOTH, True),
        ("/slave one/x", INTO, True),
        ("/slave one/x", BOTH, False),
        ("/both", BOTH, True),
        ("/over/x", INTO, False),
        ("/link", BOTH, False),
    ],
)
def test_check_propagation(path, mode, is_allowed):
    mounts = [pb.Mount(container_path="/a", host_path="/x"), pb.Mount(host_path=path, propagation=mode)]

    def real(name):
        return "/private" if name == "/link" else name

    assert propagating(mounts) is (mode != NONE)
    if is_allowed:
        check_propagation(mounts, MOUNTINFO, real)
        return
    with pytest.raises(InvalidSpec) as caught:
        check_propagation(mounts, MOUNTINFO, real)
    assert caught.value.field == "config.mounts[1].propagation"


def test_check_propagation_without_mounts():
    with pytest.raises(InvalidSpec):
        check_propagation([pb.Mount(host_path="/x", propagation=BOTH)], "", str)
