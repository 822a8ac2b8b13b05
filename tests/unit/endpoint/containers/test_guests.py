# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod has one guest of Proxmox VE, its annotation may name it, and a guest is never checkpointed."""

from __future__ import annotations

import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import compile_policy
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import Runtime
from pvecri.api import cri_pb2 as pb
from pvecri.checkpoints.restoring import refuse_guest
from pvecri.checkpoints.service import CheckpointService
from pvecri.containers import selection
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord

POD = "5" * 64
LXC, CRUN = (
    {"runtime": runtime.value, "reason": "a rule says so"} for runtime in (Runtime.PVE_LXC, Runtime.CRUN)
)


def record(name, *, phase=Phase.RUNNING, chosen=LXC, at=1, ident="a"):
    config = pb.ContainerConfig(metadata=pb.ContainerMetadata(name=name))
    return ContainerRecord(
        id=ident * 64,
        name=f"{name}_0_{POD}",
        sandbox_id=POD,
        config=config.SerializeToString(),
        created_at_ns=at,
        selection=chosen,
        phase=phase,
    )


@pytest.mark.parametrize(
    ("others", "found"),
    [
        ([], ""),
        ([record("side", chosen=CRUN)], ""),
        ([record("init", phase=Phase.EXITED)], ""),
        ([record("app", phase=Phase.CREATING)], ""),
        # kubelet made another attempt, and takes this one away when it comes to it.
        ([record("app", phase=Phase.CREATED)], ""),
        ([record("side", chosen=CRUN), record("db")], "db"),
        *(([record("db", phase=phase)], "db") for phase in (Phase.CREATING, Phase.CREATED, Phase.UNKNOWN)),
    ],
    ids=range(9),
)
def test_other_guest_is_one_that_has_not_ended(others, found):
    assert selection.other_guest(others, "app") == found


@pytest.mark.parametrize(
    ("mine", "is_refused"),
    [
        (record("app", at=3, ident="c"), True),
        (record("app", at=1, ident="c"), False),
        # Of two of the same moment one goes on: the id decides.
        (record("app", at=2, ident="c"), True),
        (record("app", at=2, ident="a"), False),
        (record("app", at=3, ident="c", chosen=CRUN), False),
    ],
    ids=["later", "earlier", "tie-greater", "tie-less", "crun"],
)
def test_of_two_guests_at_once_the_first_goes_on(mine, is_refused):
    of_pod = [mine, record("db", at=2, ident="b", phase=Phase.CREATING)]
    if not is_refused:
        selection.refuse_second(of_pod, mine)
        return
    with pytest.raises(
        Unsupported, match=r"'db' runs under Proxmox LXC already.*because a rule says so"
    ) as caught:
        selection.refuse_second(of_pod, mine)
    assert selection.GUEST in caught.value.hint


POLICY = compile_policy(
    {
        "default": "crun",
        "handlers": {"lxc": "pve-lxc", "crun": "crun"},
        "rules": [{"name": "r", "match": {"repository": ["**/db-*"]}, "runtime": "pve-lxc"}],
    }
)


@pytest.mark.parametrize(
    ("image", "handler", "meant", "runtime"),
    [
        ("nginx", "lxc", None, "pve-lxc"),
        ("nginx", "lxc", "app", "pve-lxc"),
        ("nginx", "lxc", "db", "crun"),
        # Nobody is meant: all go to crun.
        ("nginx", "lxc", "", "crun"),
        ("nginx", "crun", "app", "crun"),
        # A rule is the administrator's.
        ("db-main", "", "other", "pve-lxc"),
        ("nginx", "", "app", "crun"),
    ],
)
def test_annotation_of_the_pod_names_the_container_that_its_handler_means(image, handler, meant, runtime):
    config = pb.ContainerConfig(metadata=pb.ContainerMetadata(name="app"), image=pb.ImageSpec(image=image))
    pod = pb.PodSandboxConfig(annotations={} if meant is None else {selection.GUEST: meant})
    unnamed = Image(id="1" * 64, digest="sha256:" + "2" * 64)
    chosen = selection.select(POLICY, config, pod, handler, unnamed)
    assert chosen.runtime == runtime
    if runtime == "crun" and handler == "lxc":
        assert (
            chosen.reason
            == f"the pod's annotation {selection.GUEST} names another of its containers ('{meant}')"
        )


def test_restore_as_a_guest_is_refused():
    refuse_guest(types.SimpleNamespace(runtime=Runtime.CRUN))
    with pytest.raises(Unsupported, match=r"cannot be restored.*because the image says so"):
        refuse_guest(types.SimpleNamespace(runtime=Runtime.PVE_LXC, reason="the image says so"))


@pytest.fixture
def service(tmp_path):
    records = {each.id: each for each in (record("db", ident="b"), record("side", ident="c", chosen=CRUN))}
    registry = types.SimpleNamespace(
        container=records.__getitem__,
        containers_of=lambda _pod: list(records.values()),
        sandbox=lambda _id: SandboxRecord(id=POD, name="p", config=b"", created_at_ns=1, phase=Phase.READY),
    )
    context = types.SimpleNamespace(
        registry=registry,
        paths=types.SimpleNamespace(state_dir=str(tmp_path)),
        crun=types.SimpleNamespace(
            checkpoints=types.SimpleNamespace(check_host=lambda: pytest.fail("nothing else was looked at"))
        ),
    )
    return CheckpointService(context)


def test_checkpoint_of_a_guest_is_refused(service, tmp_path):
    with pytest.raises(Unsupported, match=r"\(db\) runs under Proxmox LXC"):
        service.checkpoint_container("b" * 64, str(tmp_path / "x.tar"))


def test_checkpoint_of_a_pod_with_a_guest_is_refused(service, tmp_path):
    with pytest.raises(Unsupported, match=r"\(db\) runs under Proxmox LXC") as caught:
        service.checkpoint_pod(POD, str(tmp_path / "x.tar"))
    assert "name the other containers" in caught.value.hint
