# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts of guests are where the links of their images lead, and never outside."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.pve.destinations import real_path, resolved


@pytest.fixture
def rootfs(tmp_path):
    root = tmp_path / "rootfs"
    for name in ("run/lock", "var/lib", "etc", "opt/app/real"):
        (root / name).mkdir(parents=True)
    (root / "etc/hosts").touch()
    for link, target in {
        "var/run": "/run",
        "var/lock": "../run/lock",
        "etc/resolv.conf": "../run/resolve/stub.conf",
        "opt/out": "../../../../../etc",
        "opt/up": "app/real/..",
        "opt/a": "b",
        "opt/b": "/opt/a",
        "opt/root": "/",
        "dev": "/etc",
    }.items():
        (root / link).symlink_to(target)
    return str(root)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/data", "/data"),
        ("/data/../x/./y", "/x/y"),
        ("/var/run/secrets/token", "/run/secrets/token"),
        ("/var/run", "/run"),
        ("/var/lock/x", "/run/lock/x"),
        ("/etc/hosts", "/etc/hosts"),
        ("/etc/hosts/below", "/etc/hosts/below"),
        ("/etc/resolv.conf", "/run/resolve/stub.conf"),
        # A link that leads up and up ends at the guest's own root.
        ("/opt/out/passwd", "/etc/passwd"),
        ("/opt/up/x", "/opt/app/x"),
        ("/dev/shm", "/dev/shm"),
        ("/var/run/../x", "/x"),
    ],
)
def test_links_of_the_image_are_followed_inside_it(rootfs, path, expected):
    assert real_path(path, rootfs, "mounts[0].destination") == expected


@pytest.mark.parametrize(("path", "words"), [("/opt/a/x", "lead nowhere"), ("/opt/root", "rootfs itself")])
def test_links_that_lead_nowhere_are_refused(rootfs, path, words):
    with pytest.raises(InvalidSpec, match=words) as caught:
        real_path(path, rootfs, "mounts[3].destination")
    assert caught.value.field == "mounts[3].destination"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/run/secrets/token", "/run/secrets/token"),
        ("/var/lock", "/run/lock"),
        ("/var/runner", "/var/runner"),
        ("/srv", "/srv"),
    ],
)
def test_templates_have_the_usual_links(path, expected):
    assert real_path(path, None, "x") == expected


def test_mounts_keep_what_they_are_and_are_sorted_again(rootfs):
    config = {
        "process": {"args": ["x"]},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/var/run/a/b", "type": "bind", "source": "/1", "options": ["ro"]},
            {"destination": "/opt/up", "type": "bind", "source": "/2"},
            {"destination": "/var/run", "type": "bind", "source": "/3"},
        ],
    }
    found = resolved(config, rootfs)
    assert [(each["destination"], each["source"]) for each in found["mounts"]] == [
        ("/proc", "proc"),
        ("/run", "/3"),
        ("/opt/app", "/2"),
        ("/run/a/b", "/1"),
    ]
    assert found["mounts"][3]["options"] == ["ro"]
    assert found["process"] == {"args": ["x"]}
    assert config["mounts"][1]["destination"] == "/var/run/a/b"
    assert resolved({}, rootfs) == {"mounts": []}
