# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have Ansible write the role's files, and read them as the host's programs do."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import time
import tomllib
import typing as t

import pytest
import yaml

from ansible_collections.pvecri.runtime.tests.support.role_variables import HOST, ROLE, evaluate
from pvecri.config.load import parse

MARKER = "# Managed by Ansible (pvecri.runtime.cri_endpoint)"
FILES, GONE, KEY = "__cri_endpoint_files", "__cri_endpoint_files_to_remove", "__cri_endpoint_state_key"
SECRET, UNWANTED = "__cri_endpoint_secret_files", "__cri_endpoint_unwanted_units"
RULE = {"name": 'a "quoted" one', "match": {"repository": "**/db-*"}, "runtime": "pve-lxc"}
CONFLIST = {"cniVersion": "1.0.0", "name": "mine", "plugins": [{"type": "ptp"}]}
KUBELET = {**HOST, "facts": {**HOST["facts"], "units": {"kubelet.service": {}}}}
CIDRS = (["10.88.0.0/16"], ["fd00:88::/64"], ["10.1.0.0/24", "fd00:88::/64"])
#: Read by a task, once the role is at a node of Proxmox VE.
PVE = yaml.safe_load((ROLE / "vars/pve.yml").read_text())
NODE = {
    "is_node": True,
    "node": "pve1",
    "rootfs_storage": "tank",
    "template_storage": "local",
    "problems": [],
}
PACKAGES = "__cri_endpoint_more_packages"
RELOADED = {"cri_endpoint_config": {"log": {"level": "debug", "slow_rpc_s": 1.5}}}
#: What plays set, by a name for it.
GIVEN: dict[str, dict[str, t.Any]] = {
    "plain": {"wanted": [FILES, SECRET, GONE, KEY], "__cri_endpoint_former_certificates": {"files": []}},
    "much": {
        "cri_endpoint_state_dir": "/srv/pvecri",
        "cri_endpoint_config": {
            "log": {"level": "debug"},
            "images": {"pinned": ["docker.io/library/a:1"]},
            "server": {"socket": "/elsewhere.sock", "max_concurrent_rpcs": 50},
        },
        "cri_endpoint_policy": {"default": "crun", "rules": [RULE]},
        "cri_endpoint_signature_policy": {"default": [{"type": "reject"}]},
        "cri_endpoint_environment": {"HTTPS_PROXY": "http://p:1", "ODD": 'a "b" \\c $d'},
        # As -e on the command line and surveys give them.
        "cri_endpoint_crictl": "false",
        "cri_endpoint_rotate_logs": "never",
        "cri_endpoint_masquerade": "false",
    },
    **{
        f"cidrs{number}": {
            "cri_endpoint_pod_cidrs": cidrs,
            "cri_endpoint_network_mtu": 1450,
            "cri_endpoint_bridge": "pods0",
        }
        for number, cidrs in enumerate(CIDRS)
    },
    "custom": {"cri_endpoint_network": "custom", "cri_endpoint_cni_conflist": CONFLIST},
    "none": {
        "cri_endpoint_network": "none",
        "wanted": [FILES, SECRET, UNWANTED],
        "__cri_endpoint_host": {
            **HOST,
            "facts": {**HOST["facts"], "units": {"pvecri-network.service": {}, "pvecri-logs.timer": {}}},
        },
    },
    # The expression of the task that looks at a host.
    "time": {
        "wanted": ["time"],
        "time": yaml.safe_load((ROLE / "tasks/host.yml").read_text())[1]["pvecri.runtime.cri_host_info"][
            "time"
        ],
    },
    "reloaded": {**RELOADED, "wanted": [KEY], "cri_endpoint_policy": {"default": "crun"}},
    "limit": {"wanted": [KEY], "cri_endpoint_config": {"runtime": {"pids_limit": 5}}},
    "environment": {"wanted": [KEY], "cri_endpoint_environment": {"A": "b"}},
    "release": {
        "wanted": [KEY],
        "__cri_endpoint_host": {**HOST, "releases": {"all": [], "current": "0.1.0-111111111111"}},
    },
    "kubelet": {"__cri_endpoint_host": KUBELET},
    "pve": {
        **PVE,
        "__cri_endpoint_pve_host": {"pve": NODE},
        "cri_endpoint_pve_pool": "pods",
        "wanted": [FILES, KEY, PACKAGES],
    },
    "pve-off": {
        **PVE,
        # As -e on the command line gives it.
        "cri_endpoint_pve": "False",
        "__cri_endpoint_pve_records": {"matched": 2},
        "wanted": [FILES, KEY, PACKAGES, "__cri_endpoint_refusals"],
    },
    "no-pve": {
        **PVE,
        "__cri_endpoint_pve_host": {"pve": {"is_node": False, "problems": []}},
        "wanted": [FILES, KEY, PACKAGES],
    },
    "always": {"__cri_endpoint_host": KUBELET, "cri_endpoint_rotate_logs": "always"},
}

Render = t.Callable[[str], dict[str, t.Any]]


@pytest.fixture(scope="module")
def render(tmp_path_factory) -> Render:
    """Return a function that gives the files, by name, and more, for one of `GIVEN`."""
    found = evaluate(tmp_path_factory.mktemp("render"), GIVEN, [FILES, SECRET])

    def get(name: str) -> dict[str, t.Any]:
        values = found[name]
        files = {
            os.path.basename(file["path"]): file for file in values.get(FILES, []) + values.get(SECRET, [])
        }
        return {**values, "files": files, "gone": values.get(GONE), "key": values.get(KEY)}

    return get


@pytest.fixture(scope="module")
def plain(render) -> dict[str, t.Any]:
    """Return what a play without any variable gives."""
    return render("plain")


def is_there(file: dict[str, t.Any]) -> bool:
    return file.get("state", "present") == "present"


def test_defaults_write_what_a_node_needs(plain):
    there = [name for name, file in plain["files"].items() if is_there(file)]
    assert there == [
        "config.toml", "10-pvecri.conflist", "crictl.yaml", "pvecri-network.service", "pvecri-logs.service",
        "pvecri-logs.timer", "pvecri.service",
    ]  # fmt: skip
    for name in there:
        file = plain["files"][name]
        assert file.get("owned") or file["content"].startswith(MARKER), name
        assert file["content"].endswith("\n"), name
    assert plain["files"]["config.toml"]["mode"] == "0600"


def test_config_is_what_the_daemon_reads(plain):
    loaded = parse(plain["files"]["config.toml"]["content"].encode(), "config.toml")
    assert loaded.config.server.socket == "/run/pvecri/pvecri.sock"
    assert loaded.config.paths.state_dir == "/var/lib/pvecri"


def test_config_says_what_the_role_found_at_proxmox(render, plain):
    values = render("pve")
    pve = parse(values["files"]["config.toml"]["content"].encode(), "config.toml").config.pve
    assert (pve.enabled, pve.access_file, pve.node) == ("true", "/etc/pvecri/pve.json", "pve1")
    assert (pve.rootfs_storage, pve.template_storage, pve.pool) == ("tank", "local", "pods")
    assert pve.vmid_range == (900000, 999999)
    # The daemon asks over HTTPS, and learns of its new sections by a restart.
    assert values[PACKAGES] == ["python3-proxmoxer", "python3-requests"]
    assert values["key"] != plain["key"]


def test_config_leaves_proxmox_to_the_daemon_where_there_is_none(render, plain):
    values = render("no-pve")
    assert "[pve]" not in values["files"]["config.toml"]["content"]
    assert (values[PACKAGES], values["key"]) == ([], plain["key"])


def test_config_without_proxmox_says_so_and_containers_keep_it(render):
    values = render("pve-off")
    assert tomllib.loads(values["files"]["config.toml"]["content"])["pve"] == {"enabled": "false"}
    (refusal,) = values["__cri_endpoint_refusals"]
    assert refusal["check"] == "pve_containers"
    assert "2 containers under Proxmox LXC" in refusal["problem"]
    assert "pvecri drain" in refusal["remedy"]


def test_variables_come_through(render):
    files = render("much")["files"]
    config = tomllib.loads(files["config.toml"]["content"])
    assert config["paths"]["state_dir"] == "/srv/pvecri"
    assert config["log"] == {"level": "debug"}
    assert config["images"]["pinned"] == ["docker.io/library/a:1"]
    assert config["images"]["policy_file"] == "/etc/pvecri/signature-policy.json"
    assert config["runtime"]["policy_file"] == "/etc/pvecri/policy.json"
    # The role's own socket: units and crictl name it.
    assert config["server"] == {"socket": "/run/pvecri/pvecri.sock", "max_concurrent_rpcs": 50}
    assert json.loads(files["policy.json"]["content"])["rules"] == [RULE]
    assert json.loads(files["signature-policy.json"]["content"]) == {"default": [{"type": "reject"}]}
    lines = files["environment"]["content"].splitlines()
    assert lines[1:] == ['HTTPS_PROXY="http://p:1"', 'ODD="a \\"b\\" \\\\c $d"']
    assert (files["environment"]["mode"], files["environment"]["secret"]) == ("0600", True)
    for name in ("crictl.yaml", "pvecri-logs.timer", "pvecri-logs.service", "pvecri-network.service"):
        assert not is_there(files[name]), name
    assert "RequiresMountsFor=/srv/pvecri" in files["pvecri.service"]["content"]


@pytest.mark.parametrize(
    ("number", "routes"), [(0, ["0.0.0.0/0"]), (1, ["::/0"]), (2, ["0.0.0.0/0", "::/0"])]
)
def test_conflist_of_the_bridge(render, number, routes):
    given, cidrs = render(f"cidrs{number}"), CIDRS[number]
    conflist = json.loads(given["files"]["10-pvecri.conflist"]["content"])
    bridge, *others = conflist["plugins"]
    assert (conflist["name"], bridge["bridge"], bridge["mtu"], bridge["ipMasq"]) == (
        "pvecri",
        "pods0",
        1450,
        False,
    )
    assert [each["subnet"] for group in bridge["ipam"]["ranges"] for each in group] == cidrs
    assert [route["dst"] for route in bridge["ipam"]["routes"]] == routes
    for route, cidr in zip(routes, cidrs, strict=True):
        assert ipaddress.ip_network(route).version == ipaddress.ip_network(cidr).version
    assert [plugin["type"] for plugin in others] == ["portmap", "bandwidth"]
    unit = given["files"]["pvecri-network.service"]["content"]
    start = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert shlex.split(start[1])[1:] == ["up", *cidrs]


def test_network_of_others(render):
    files = render("custom")["files"]
    assert json.loads(files["10-pvecri.conflist"]["content"]) == CONFLIST
    assert not is_there(files["pvecri-network.service"])
    assert not is_there(render("none")["files"]["10-pvecri.conflist"])


def test_crictl_is_led_to_the_socket(plain):
    settings = yaml.safe_load(plain["files"]["crictl.yaml"]["content"])
    assert settings["runtime-endpoint"] == settings["image-endpoint"] == "unix:///run/pvecri/pvecri.sock"


def test_key_changes_with_what_wants_a_restart_alone(render, plain):
    assert f"PVECRI_STATE_KEY={plain['key']}\n" in plain["files"]["pvecri.service"]["content"]
    assert render("reloaded")["key"] == plain["key"]
    keys = {render(name)["key"] for name in ("plain", "limit", "environment", "release")}
    assert len(keys) == 4


def test_everything_that_is_written_is_removed(plain):
    gone = {file["path"] for file in plain["gone"]}
    assert {file["path"] for file in plain["files"].values()} <= gone
    assert {file.get("state") for file in plain["gone"]} == {"absent"}


def test_kubelet_rotates_the_logs_itself(render):
    assert not is_there(render("kubelet")["files"]["pvecri-logs.timer"])
    assert is_there(render("always")["files"]["pvecri-logs.timer"])


def test_units_that_are_no_longer_wanted_are_stopped_before_their_files_go(render):
    assert render("none")[UNWANTED] == ["pvecri-network.service"]
    tasks = yaml.safe_load((ROLE / "tasks/configure.yml").read_text())
    names = [task["name"] for task in tasks]
    assert names.index("Stop what is no longer wanted") < names.index("Write the configuration")


def test_host_is_told_the_time_whatever_the_time_zone(render):
    assert abs(float(render("time")["time"]) - time.time()) < 600


def test_controllers_are_those_that_are_promised():
    promised = yaml.safe_load((ROLE.parents[1] / "meta/runtime.yml").read_text())["requires_ansible"]
    role = yaml.safe_load((ROLE / "meta/main.yml").read_text())["galaxy_info"]["min_ansible_version"]
    first = yaml.safe_load((ROLE / "tasks/host.yml").read_text())[0]["ansible.builtin.assert"]["that"]
    assert (promised, role) == (f">={role}.0", role)
    assert f"'{role}'" in first
