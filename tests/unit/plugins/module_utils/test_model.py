# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import model

SPEC = model.ContainerSpec(name="web", command=("httpd", "-f"), env=(("PORT", "80"),))


def test_to_plain_leaves_defaults_out() -> None:
    assert model.to_plain(SPEC) == {"name": "web", "command": ["httpd", "-f"], "env": [["PORT", "80"]]}


def test_to_plain_hides_secrets_but_sees_their_change() -> None:
    def plain(password: str, content: bytes) -> object:
        mount = model.Mount(kind=model.MountKind.SECRET, destination="/run/key", content=content)
        return model.to_plain(
            dataclasses.replace(SPEC, env=(("PW", password),), secret_env=frozenset({"PW"}), mounts=(mount,))
        )

    shown = repr(plain("hunter2", b"top"))
    assert "hunter2" not in shown
    assert "top" not in shown
    hashes = {
        model.spec_hash(plain(*pair))
        for pair in (("hunter2", b"top"), ("hunter3", b"top"), ("hunter2", b"tip"))
    }
    assert len(hashes) == 3


def test_repr_of_a_secret_mount_hides_its_content() -> None:
    assert "top" not in repr(model.Mount(kind=model.MountKind.SECRET, destination="/k", content=b"top"))


@pytest.mark.parametrize(
    "change",
    [
        {"command": ("httpd",)},
        {"entrypoint": ()},
        {"resources": model.Resources(memory_bytes=1)},
        {"namespaces": model.Namespaces(network="host")},
        {"security": model.Security(masked_paths=())},
    ],
)
def test_spec_hash_changes_with_every_field(change: dict[str, object]) -> None:
    other = dataclasses.replace(SPEC, **change)  # type: ignore[arg-type]
    assert model.spec_hash(model.to_plain(other)) != model.spec_hash(model.to_plain(SPEC))


def test_paths_keep_the_two_owners_apart() -> None:
    play, cri = model.Paths(), model.Paths(owner=model.Owner.CRI)
    for name in ("bundles", "volumes", "runtime_root", "exits", "logs", "locks"):
        assert getattr(play, name) != getattr(cri, name)
        assert getattr(play, name).startswith(("/var/lib/pvecri/", "/run/pvecri/"))
    assert play.storage == cri.storage == "/var/lib/pvecri/storage"
    assert (play.exits, cri.exits) == ("/var/lib/pvecri/exits/play", "/run/pvecri/exits/cri")
    assert play.storage_run == "/run/pvecri/storage"


def test_host_wide_names_differ_by_owner_and_state_directory(tmp_path) -> None:
    places = [
        model.Paths(),
        model.Paths(owner=model.Owner.CRI),
        model.Paths(state_dir=str(tmp_path / "a")),
        model.Paths(state_dir=str(tmp_path / "b")),
        model.Paths(state_dir=str(tmp_path / "b"), owner=model.Owner.CRI),
    ]
    names = [paths.host_wide("web") for paths in places]
    assert names[0] == "web"
    assert len(set(names)) == len(places)
