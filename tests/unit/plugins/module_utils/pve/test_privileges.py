# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the privilege table, its page and the modules' options together."""

from __future__ import annotations

import importlib
import pathlib
import re

import pytest
import yaml

from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_options, lxc_privileges
from ansible_collections.pvecri.runtime.tests.support import pve_privileges as privileges

ROOT = pathlib.Path(__file__).parents[5]
PAGE = ROOT / "docs" / "pve-privileges.md"
MODULES = sorted({need.module for need in privileges.MATRIX} - {"all", "pve_lxc_container", "cri_endpoint"})
ENDPOINT = [need for need in privileges.MATRIX if need.module == "cri_endpoint"]


def words(module):
    return {
        word
        for need in privileges.MATRIX
        if need.module == module
        for word in re.split(r"[,\s=]+", need.subject)
    }


def test_page_holds_the_table():
    assert privileges.as_markdown() in PAGE.read_text()


def test_page_holds_the_commands():
    assert privileges.as_commands("ansible@pve", "play") in PAGE.read_text()


def test_every_container_option_has_a_row_or_needs_nothing():
    options = set(lxc_options.container_options())
    known = words("pve_lxc_container") | privileges.FREE_OPTIONS
    assert options - known == set(), "say in pve_privileges.py which privilege these options need"


def test_free_options_exist():
    assert set(lxc_options.container_options()) >= privileges.FREE_OPTIONS


@pytest.mark.parametrize("module", MODULES)
def test_rows_name_options_that_exist(module):
    documentation = importlib.import_module(
        f"ansible_collections.pvecri.runtime.plugins.modules.{module}"
    ).DOCUMENTATION
    options = yaml.safe_load(documentation)["options"]
    for need in privileges.MATRIX:
        if need.module == module:
            first = re.split(r"[,\s=]+", need.subject)[0]
            assert first in options or first == "listing", need.subject
            for state in re.findall(r"state=(\w+)", need.subject):
                assert state in options["state"]["choices"]


def test_roles_hold_each_privilege_of_the_table_and_no_other():
    in_roles = {privilege for role in privileges.roles() for privilege in role.privileges}
    modules = ("all", *privileges.FOR_CONTAINERS)
    rows = [need for need in privileges.MATRIX if need.module in modules and not need.is_root_only]
    in_table = {name for need in rows for name in need.privileges}
    assert in_roles == in_table


@pytest.mark.parametrize("role", privileges.roles())
def test_roles_have_names_that_proxmox_takes(role):
    assert not role.name.lower().startswith("pve")


def test_endpoint_gets_what_the_table_says_and_no_more():
    variables = yaml.safe_load((ROOT / "roles/cri_endpoint/vars/pve.yml").read_text())
    given = {
        key: set(re.findall(r"'((?:VM|Datastore|Sys|SDN|Pool)\.[A-Za-z.]+)'", str(value)))
        for key, value in variables.items()
    }
    assert given.pop("__cri_endpoint_pve_roles") == {name for need in ENDPOINT for name in need.privileges}
    # Not without being told to.
    assert "cri_endpoint_pve_privileged" in variables["__cri_endpoint_pve_privileged_roles"]
    assert given.pop("__cri_endpoint_pve_privileged_roles") == {"Sys.Modify"}
    assert not any(given.values())


def test_roles_of_one_module_are_smaller():
    (container, storage) = privileges.roles(("pve_lxc_snapshot",))
    assert container.privileges == ("VM.Audit", "VM.PowerMgmt", "VM.Snapshot", "VM.Snapshot.Rollback")
    assert storage.privileges == ("Datastore.Audit",)


@pytest.mark.parametrize("key", sorted({*lxc_privileges.PRIVILEGES, *lxc_privileges.ROOT_ONLY} - {"unused"}))
def test_checks_before_a_change_ask_for_what_the_table_says(key):
    option = {"net": "networks", "mp": "mounts", "dev": "devices"}.get(key, key)
    rows = [
        need
        for need in privileges.MATRIX
        if need.module == "pve_lxc_container" and option in re.split(r"[,\s=]+", need.subject)
    ]
    wanted = privileges.ROOT_ONLY if key in lxc_privileges.ROOT_ONLY else lxc_privileges.PRIVILEGES[key]
    assert any(wanted in need.privileges for need in rows)
