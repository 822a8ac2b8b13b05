# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the small parts: notes, the choice of a runtime, calling commands off."""

from __future__ import annotations

import logging
import select

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import compile_policy
from pvecri.api import cri_pb2 as pb
from pvecri.containers import selection
from pvecri.containers.execute import Stop
from pvecri.containers.notes import Notes
from pvecri.stages import Stages

IMAGE = Image(id="1" * 64, digest="sha256:" + "2" * 64, names=("docker.io/library/db-main:1",))
UNNAMED = Image(id="1" * 64, digest="sha256:" + "2" * 64)


def test_notes_are_logged_once(caplog):
    notes = Notes(logging.getLogger("notes"))
    for container in ("a", "b"):
        notes.tell(container, ["one", "two"])
    assert notes.all() == {"one": 2, "two": 2}
    assert len(caplog.records) == 2
    assert caplog.records[0].container == "a"


def test_notes_have_an_end(caplog):
    notes = Notes(logging.getLogger("notes"))
    notes.tell("a", [str(number) for number in range(1000)])
    assert len(notes.all()) == len(caplog.records) == 100


@pytest.mark.parametrize(
    ("spec", "image", "expected"),
    [
        ({"image": "nginx"}, IMAGE, "docker.io/library/nginx:latest"),
        ({"image": "sha256:" + "1" * 64}, IMAGE, "docker.io/library/db-main:1"),
        ({"image": "1" * 12}, UNNAMED, "localhost/unnamed"),
        ({"image": "sha256:111"}, UNNAMED, "localhost/unnamed"),
        # Hexadecimal digits may be a name as well.
        ({"image": "cafe1234"}, IMAGE, "docker.io/library/cafe1234:latest"),
        ({"image": "1" * 64, "user_specified_image": "quay.io/a/b"}, IMAGE, "quay.io/a/b:latest"),
        ({"image": "1" * 64, "user_specified_image": "NOT A NAME"}, IMAGE, "docker.io/library/db-main:1"),
    ],
)
def test_image_name(spec, image, expected):
    assert selection.image_name(pb.ImageSpec(**spec), image) == expected


@pytest.mark.parametrize(
    ("image", "annotations", "handler", "runtime"),
    [
        ("nginx", {}, "", "crun"),
        ("db-main", {}, "", "pve-lxc"),
        ("nginx", {"runtime": "lxc"}, "", "pve-lxc"),
        ("nginx", {}, "lxc", "pve-lxc"),
        ("db-main", {}, "oci", "crun"),
    ],
)
def test_select(image, annotations, handler, runtime):
    policy = compile_policy(
        {
            "default": "crun",
            "handlers": {"lxc": "pve-lxc", "oci": "crun"},
            "rules": [
                {"name": "images", "match": {"repository": ["**/db-*"]}, "runtime": "pve-lxc"},
                {"name": "notes", "match": {"annotations": {"runtime": ["lxc"]}}, "runtime": "pve-lxc"},
            ],
        }
    )
    config = pb.ContainerConfig(image=pb.ImageSpec(image=image))
    pod = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(namespace="n"), annotations=annotations)
    chosen = selection.select(policy, config, pod, handler, UNNAMED)
    assert chosen.runtime == runtime


def test_stop_can_be_set_and_closed_at_any_time():
    stop = Stop()
    assert select.select([stop], [], [], 0)[0] == []
    stop.set()
    stop.set()
    assert select.select([stop], [], [], 0)[0] == [stop]
    stop.close()
    stop.close()
    stop.set()


def test_stages():
    stages = Stages()
    stages.done("one")
    stages.done("two")
    assert list(stages.times) == ["one_ms", "two_ms"]
    assert all(value >= 0 for value in stages.times.values())
