# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell whether pods can get a network."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from pvecri.status.network import NetworkStatus


@pytest.fixture
def plugins(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bridge", "host-local"):
        (folder / name).write_text("")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def conf(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "net.d"


def network(name: str = "pods", kind: str = "bridge", ipam: str = "host-local") -> str:
    plugin = {"type": kind, "ipam": {"type": ipam}}
    return json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": [plugin]})


def status(conf: pathlib.Path, plugins: pathlib.Path) -> NetworkStatus:
    return NetworkStatus(str(conf), ("/no/such/folder", str(plugins)))


def test_problem_follows_the_directory(conf: pathlib.Path, plugins: pathlib.Path) -> None:
    looked = status(conf, plugins)
    assert looked.problem() == f"there is no network configuration in {conf}. Put a .conflist file there"
    conf.mkdir()
    assert looked.config() is None
    path = conf / "10-pods.conflist"
    path.write_text("{")
    assert f"{path}: " in str(looked.problem())
    path.write_text(network())
    assert looked.problem() is None
    found = looked.config()
    assert found is not None
    assert found.name == "pods"
    path.unlink()
    assert looked.config() is None


def test_problem_names_the_plugins_that_are_missing(conf: pathlib.Path, plugins: pathlib.Path) -> None:
    conf.mkdir()
    path = conf / "10-pods.conflist"
    path.write_text(network(kind="macvlan", ipam="dhcp"))
    looked = status(conf, plugins)
    assert looked.problem() == (
        f"network 'pods' of {path} needs the CNI plugins macvlan, dhcp, "
        f"which are not in /no/such/folder, {plugins}"
    )
    for name in ("macvlan", "dhcp"):
        (plugins / name).write_text("")
        (plugins / name).chmod(0o755)
    assert looked.problem() is None


def test_files_are_read_again_only_when_something_changed(
    conf: pathlib.Path, plugins: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf.mkdir()
    path = conf / "10-pods.conflist"
    path.write_text(network())
    looked = status(conf, plugins)
    assert looked.problem() is None
    monkeypatch.setattr("pvecri.status.network.find_config", lambda *_unused: pytest.fail("read again"))
    assert looked.problem() is None
    monkeypatch.undo()
    # Rewritten in place: the directory itself does not change.
    path.write_text(network("other"))
    os.utime(path, ns=(1, 1))
    found = looked.config()
    assert found is not None
    assert found.name == "other"


def test_the_first_of_several_networks_counts(conf: pathlib.Path, plugins: pathlib.Path) -> None:
    conf.mkdir()
    (conf / "20-b.conflist").write_text(network("b"))
    (conf / "10-a.conflist").write_text(network("a"))
    found = status(conf, plugins).config()
    assert found is not None
    assert found.name == "a"
