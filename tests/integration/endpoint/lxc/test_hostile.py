# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What asks for too much or for nonsense is answered by its field, and never leaves anything behind."""

from __future__ import annotations

import pytest

from pvecri.api import cri_pb2 as pb


def mount(source: str, target: str, **fields):
    return {"mounts": [pb.Mount(host_path=source, container_path=target, **fields)]}


@pytest.mark.parametrize("propagation", ["PROPAGATION_PRIVATE", "PROPAGATION_HOST_TO_CONTAINER"])
def test_whole_host_can_be_shown(lab, propagation):
    """As monitoring agents want it: the guest's own directory, which not even root can enter there, is in it."""
    wish = mount("/", "/host", readonly=True, propagation=pb.MountPropagation.Value(propagation))
    container = lab.run(**wish)
    assert "etc" in lab.sh(container, "ls /host").split()
    lab.cri.stop(container)
    lab.cri.remove(container)
    assert lab.node.vmids() == []
    assert lab.files() == []
