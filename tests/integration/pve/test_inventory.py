# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build inventories from a fake cluster, in this process and by ansible-inventory."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from ansible import constants as C
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.doc_fragments import constructed, inventory_cache

from ansible_collections.pvecri.runtime.plugins.doc_fragments import pve as fragment
from ansible_collections.pvecri.runtime.plugins.inventory import pve as plugin

NAME = "pvecri.runtime.pve"
BIN = pathlib.Path(sys.executable).parent


@pytest.fixture(scope="module", autouse=True)
def definitions():
    """Tell Ansible of the plugin's options, which its loader does in a real run."""
    pages = [part.ModuleDocFragment.DOCUMENTATION for part in (fragment, constructed, inventory_cache)]
    options = {
        name: option
        for page in [*pages, plugin.DOCUMENTATION]
        for name, option in yaml.safe_load(page)["options"].items()
    }
    C.config.initialize_plugin_configuration_definitions("inventory", NAME, options)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Keep the caller's own cluster out of the tests."""
    for name in list(os.environ):
        if name.startswith(("PVE_", "PROXMOX_")):
            monkeypatch.delenv(name)


@pytest.fixture
def cluster(pve_cluster):
    pve = pve_cluster.pve
    pve.pools["prod"] = set()
    pve.add_ct(
        201,
        "web-1",
        status="running",
        pool="prod",
        config={
            "tags": "prod;web",
            "net0": "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=192.0.2.7/24",
        },
    )
    pve.add_ct(202, "twin", node="pve2")
    pve.add_ct(203, "twin", node="pve2")
    pve.add_ct(204, "base", template=True)
    pve.add_vm(300, "vm")
    pve_cluster.forget_requests()
    return pve_cluster


@pytest.fixture
def build(cluster, tmp_path):
    """Return a function that parses a source with these options and returns the inventory."""

    def run(*, cache=True, options_cache=False, **options):
        path = tmp_path / "containers.pve.yml"
        if options_cache:
            folder = str(tmp_path / "cache")
            options.update({"cache": True, "cache_plugin": "jsonfile", "cache_connection": folder})
        path.write_text(yaml.safe_dump({"plugin": NAME, **cluster.options(), **options}))
        source = make()
        inventory = InventoryData()
        source.parse(inventory, DataLoader(), str(path), cache=cache)
        if options_cache:
            source.update_cache_if_changed()
        inventory.reconcile_inventory()
        return inventory

    return run


def make():
    source = plugin.InventoryModule()
    source._load_name = NAME
    source._redirected_names = [NAME]
    return source


def hosts(inventory):
    return sorted(inventory.hosts)


def test_hosts_and_variables(cluster, build):
    inventory = build()
    assert hosts(inventory) == ["twin-202", "twin-203", "web-1"]
    assert sorted(host.name for host in inventory.groups["pve_containers"].hosts) == hosts(inventory)
    variables = inventory.hosts["web-1"].vars
    assert {key: variables[key] for key in variables if key.startswith(("pve_", "ansible_"))} == {
        "ansible_pct_vmid": 201,
        "pve_vmid": 201,
        "pve_name": "web-1",
        "pve_node": "pve1",
        "pve_status": "running",
        "pve_tags": ["prod", "web"],
        "pve_pool": "prod",
        "pve_lock": None,
        "pve_template": False,
        "pve_ha_state": None,
        "pve_cpus": 1.0,
        "pve_memory": 512 * 1024**2,
        "pve_disk": 8 * 1024**3,
    }
    assert len(cluster.requests_seen()) == 1


def test_templates_on_demand(build):
    assert "base" in hosts(build(templates=True))


def test_groups_are_constructed(build):
    inventory = build(
        keyed_groups=[{"key": "pve_tags", "prefix": "tag"}],
        groups={"up": "pve_status == 'running'"},
        compose={"ansible_host": "pve_node"},
    )
    for group in ("tag_web", "tag_prod", "up"):
        assert [host.name for host in inventory.groups[group].hosts] == ["web-1"]
    assert inventory.hosts["twin-202"].vars["ansible_host"] == "pve2"


def test_addresses(cluster, build):
    inventory = build(addresses=True)
    variables = inventory.hosts["web-1"].vars
    assert variables["ansible_host"] == "192.0.2.7"
    assert variables["pve_addresses"]["eth0"] == ["192.0.2.7"]
    assert "ansible_host" not in inventory.hosts["twin-202"].vars
    assert len(cluster.requests_seen()) == 2, "only running containers are asked"


def test_addresses_that_cannot_be_read_leave_the_host(cluster, build):
    cluster.pve.fail("GET", "/nodes/pve1/lxc/201/interfaces", 500, "no")
    assert build(addresses=True).hosts["web-1"].vars["pve_addresses"] == {}


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ({}, None),
        ({"lo": ["127.0.0.1", "::1"]}, None),
        ({"lo": ["127.0.0.1"], "eth0": ["fe80::1", "2001:db8::1"]}, "2001:db8::1"),
        ({"eth0": ["2001:db8::1", "192.0.2.7"]}, "192.0.2.7"),
        ({"eth0": ["169.254.1.1", "192.0.2.7"], "eth1": ["192.0.2.8"]}, "192.0.2.7"),
    ],
)
def test_first_address(addresses, expected):
    assert plugin.first_address(addresses) == expected


def test_options_of_the_environment(cluster, build, monkeypatch):
    for name, value in {**cluster.environment(), "PVE_VALIDATE_CERTS": "no"}.items():
        monkeypatch.setenv(name, value)
    # With authorities to check by, not to check is refused.
    monkeypatch.delenv("PVE_CA_PATH")
    without = dict.fromkeys(cluster.options())
    assert hosts(build(**{**without, "task_timeout": 1.0})) == ["twin-202", "twin-203", "web-1"]


@pytest.mark.parametrize(
    ("variable", "value", "option"),
    [("PVE_PORT", "many", "api_port"), ("PVE_VALIDATE_CERTS", "maybe", "validate_certs")],
)
def test_variable_that_cannot_be_read_names_its_option(cluster, build, monkeypatch, variable, value, option):
    for name, content in {**cluster.environment(), variable: value}.items():
        monkeypatch.setenv(name, content)
    with pytest.raises(AnsibleParserError, match=f"{option}: .*'{value}'"):
        build(**dict.fromkeys(cluster.options()))


def test_addresses_that_are_none_are_passed_over():
    assert plugin.first_address({"eth0": ["dhcp", "fe80::1%eth0", "10.0.0.2"]}) == "10.0.0.2"


def test_file_wins_over_the_environment(build, monkeypatch):
    monkeypatch.setenv("PVE_HOST", "elsewhere.invalid")
    assert build().hosts


def test_cache_saves_the_request(cluster, build):
    first, second = (build(options_cache=True) for _unused in range(2))
    assert hosts(first) == hosts(second)
    assert len(cluster.requests_seen()) == 1
    build(options_cache=True, cache=False)
    assert len(cluster.requests_seen()) == 2, "a refresh reads again"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"api_token_secret": "wrong"}, "refused the login"),
        ({"api_user": None, "api_token_id": None}, "api_user"),
        ({"api_host": "pve.invalid"}, "no connection to"),
    ],
)
def test_failures_name_file_and_cause(build, options, text):
    with pytest.raises(AnsibleParserError, match=text) as caught:
        build(**options)
    assert "containers.pve.yml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"), [("pve.yml", True), ("x.pve.yaml", True), ("pve.json", False), ("hosts.yml", False)]
)
def test_verify_file(tmp_path, name, expected):
    (tmp_path / name).write_text("")
    assert make().verify_file(str(tmp_path / name)) is expected


def test_ansible_inventory(cluster, tmp_path):
    (tmp_path / "containers.pve.yml").write_text(plugin.EXAMPLES)
    collections = next(p for p in sys.path if os.path.isdir(os.path.join(p, "ansible_collections", "pvecri")))
    done = subprocess.run(
        [BIN / "ansible-inventory", "-i", "containers.pve.yml", "--list"],
        cwd=tmp_path,
        env={
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": collections,
            "ANSIBLE_INVENTORY_ENABLED": NAME,
            **cluster.environment(),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert listed["running"]["hosts"] == ["web-1"]
    assert listed["node_pve2"]["hosts"] == ["twin-202", "twin-203"]
    variables = listed["_meta"]["hostvars"]["web-1"]
    plain = {
        key: text["__ansible_unsafe"] if isinstance(text, dict) else text for key, text in variables.items()
    }
    assert (plain["ansible_connection"], plain["ansible_host"]) == ("pvecri.runtime.pct", "pve1")
