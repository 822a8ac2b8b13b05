# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell versions."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

import pvecri
from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed, missing_program
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError
from pvecri.config.model import Config, NetworkConfig
from pvecri.support import versions as versions_module
from pvecri.support.versions import cni_versions, program_version, versions


class FakeRunner:
    """Answers by the program's name; an exception is raised."""

    def __init__(self, answers: dict[str, t.Any]) -> None:
        self.answers = answers
        self.calls: list[dict[str, t.Any]] = []

    def run(self, argv: t.Sequence[str], **options: t.Any) -> Completed:
        self.calls.append({"argv": list(argv), **options})
        answer = self.answers[pathlib.Path(argv[0]).name]
        if isinstance(answer, Exception):
            raise answer
        return Completed(list(argv), 0, answer, "")


def test_program_version() -> None:
    runner = FakeRunner(
        {
            "crun": "crun version 1.8.1\ncommit: x\nspec: 1.0.0\n",
            "skopeo": "skopeo version 1.9.3-dev+1\n",
            "odd": "no number\n",
            "gone": missing_program("gone"),
            "broken": CommandError("'broken' failed"),
        }
    )
    assert {name: program_version(name, runner) for name in runner.answers} == {
        "crun": "1.8.1",
        "skopeo": "1.9.3-dev+1",
        "odd": "no number",
        "gone": "missing",
        "broken": "fails: 'broken' failed",
    }


def test_cni_versions_groups_plugins_by_what_they_speak(tmp_path: pathlib.Path) -> None:
    for name in ("bridge", "ptp", "new", "junk", "notes"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o644 if name == "notes" else 0o755)
    old = '{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}'
    new = '{"supportedVersions": ["1.0.0", "1.1.0", "0.10.0"]}'
    runner = FakeRunner({"bridge": old, "ptp": old, "new": new, "junk": "usage: junk"})
    found = cni_versions(("/no/such/folder", str(tmp_path)), runner)
    assert found == "1.0.0: bridge ptp; 1.1.0: new"
    assert runner.calls[0]["env"] == {"CNI_COMMAND": "VERSION"}
    assert cni_versions(("/no/such/folder",), runner) == "missing"


def test_versions_tells_of_proxmox_lxc_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("crun", "conmon", "skopeo", "lxc-start", "pveversion")
    runner = FakeRunner(
        {**dict.fromkeys(names, "6.0.4"), "pveversion": "pve-manager/9.0.3/025864202ebb6109 (running …)"}
    )
    monkeypatch.setattr(versions_module.shutil, "which", lambda name: f"/usr/bin/{name}")
    found = versions(Config(network=NetworkConfig(plugin_dirs=())), runner)
    assert (found["LXC"], found["Proxmox VE"]) == ("6.0.4", "9.0.3/025864202ebb6109")
    assert ["pveversion"] in [call["argv"] for call in runner.calls]
    monkeypatch.setattr(versions_module.shutil, "which", lambda _name: None)
    found = versions(Config(network=NetworkConfig(plugin_dirs=())), runner)
    assert not {"LXC", "Proxmox VE"} & set(found)


def test_versions_names_everything_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions_module.shutil, "which", lambda _name: None)
    runner = FakeRunner(dict.fromkeys(("crun", "conmon", "skopeo"), "version 1.2.3"))
    found = versions(Config(network=NetworkConfig(plugin_dirs=())), runner)
    assert found["pvecri"] == pvecri.__version__
    assert found["crun"] == found["conmon"] == found["skopeo"] == "1.2.3"
    assert found["CNI"] == "missing"
    assert {"CRI", "Python", "SQLite", "nghttp2", "protobuf", "uvloop", "kernel"} <= set(found)
