# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the example inventories of the connection plugins through Ansible, and look at what each host gets."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import types
import typing as t

import pytest
import yaml

from ansible_collections.pvecri.runtime.plugins.connection import crun, pct

#: Variables of Ansible itself that the plugins pass on to how the host is reached.
OF_ANSIBLE = {"ansible_connection", "ansible_host", "ansible_user"}


def documented(plugin: types.ModuleType) -> set[str]:
    """Return the variables that set an option of the plugin."""
    options = yaml.safe_load(plugin.DOCUMENTATION)["options"].values()
    return {entry["name"] for option in options for entry in option.get("vars", [])}


def inventory(plugin: types.ModuleType, folder: pathlib.Path) -> dict[str, dict[str, t.Any]]:
    """Return the variables of each host, as ansible-inventory reads the examples."""
    (folder / "inventory.yml").write_text(plugin.EXAMPLES)
    argv = [pathlib.Path(sys.executable).parent / "ansible-inventory", "-i", "inventory.yml", "--list"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return t.cast("dict[str, dict[str, t.Any]]", json.loads(done.stdout)["_meta"]["hostvars"])


@pytest.mark.parametrize("plugin", [crun, pct], ids=["crun", "pct"])
def test_examples_are_inventories_of_documented_variables(
    plugin: types.ModuleType, tmp_path: pathlib.Path
) -> None:
    hosts = inventory(plugin, tmp_path)
    name = plugin.__name__.rpartition(".")[2]
    assert len(hosts) == 2
    for variables in hosts.values():
        assert variables["ansible_connection"] == f"pvecri.runtime.{name}"
        assert variables.keys() <= documented(plugin) | OF_ANSIBLE
