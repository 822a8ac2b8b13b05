# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have Ansible write the role's files, and read them as the host's programs do."""

from __future__ import annotations

import ipaddress
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib
import typing as t

import pytest
import yaml

from pvecri.config.load import parse

ROOT = pathlib.Path(__file__).parents[4]
ROLE = ROOT / "roles/cri_endpoint"
MARKER = "# Managed by Ansible (pvecri.runtime.cri_endpoint)"
HOST = {
    "problems": [],
    "packages": {},
    "releases": {"all": [], "current": "0.1.0-000000000000"},
    "installed": True,
    "daemon": {},
    "facts": {"units": {}},
}
PLAY = """
- hosts: localhost
  gather_facts: false
  vars_files: ["{role}/defaults/main.yml", "{role}/vars/main.yml"]
  tasks:
    - ansible.builtin.copy:
        dest: "{{{{ result }}}}"
        content: >-
          {{{{ {{'files': __cri_endpoint_files, 'key': __cri_endpoint_state_key, 'gone': __cri_endpoint_files_to_remove}}
               | to_json }}}}
        mode: "0600"
"""

Render = t.Callable[..., dict[str, t.Any]]


@pytest.fixture(scope="module")
def render(tmp_path_factory) -> Render:
    """Return a function that gives the files, by name, for variables of a play."""
    top = tmp_path_factory.mktemp("render")
    (top / "play.yml").write_text(PLAY.format(role=ROLE))
    (top / "templates").symlink_to(ROLE / "templates")

    def run(**variables: t.Any) -> dict[str, t.Any]:
        given = {
            "role_path": str(ROLE), "result": str(top / "result.json"), "__cri_endpoint_host": HOST,
            "ansible_python_interpreter": sys.executable, **variables,
        }  # fmt: skip
        (top / "given.json").write_text(json.dumps(given))
        argv = [
            str(pathlib.Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            "localhost,",
            "-c",
            "local",
        ]
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(sys.path),
            "ANSIBLE_HOME": str(top),
        }
        done = subprocess.run(
            [*argv, "-e", f"@{top}/given.json", str(top / "play.yml")],
            cwd=top, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads((top / "result.json").read_text())
        files = {os.path.basename(file["path"]): file for file in found["files"]}
        return {**found, "files": files}

    return run


@pytest.fixture(scope="module")
def plain(render) -> dict[str, t.Any]:
    """Return what a play without any variable gives."""
    return render()


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


def test_variables_come_through(render):
    rule = {"name": 'a "quoted" one', "match": {"repository": "**/db-*"}, "runtime": "pve-lxc"}
    given = {
        "cri_endpoint_state_dir": "/srv/pvecri",
        "cri_endpoint_config": {
            "log": {"level": "debug"}, "images": {"pinned": ["docker.io/library/a:1"]},
            "server": {"socket": "/elsewhere.sock", "max_concurrent_rpcs": 50},
        },
        "cri_endpoint_policy": {"default": "crun", "rules": [rule]},
        "cri_endpoint_signature_policy": {"default": [{"type": "reject"}]},
        "cri_endpoint_environment": {"HTTPS_PROXY": "http://p:1", "ODD": 'a "b" \\c $d'},
        "cri_endpoint_crictl": False,
        "cri_endpoint_rotate_logs": "never",
        "cri_endpoint_masquerade": False,
    }  # fmt: skip
    files = render(**given)["files"]
    config = tomllib.loads(files["config.toml"]["content"])
    assert config["paths"]["state_dir"] == "/srv/pvecri"
    assert config["log"] == {"level": "debug"}
    assert config["images"]["pinned"] == ["docker.io/library/a:1"]
    assert config["images"]["policy_file"] == "/etc/pvecri/signature-policy.json"
    assert config["runtime"]["policy_file"] == "/etc/pvecri/policy.json"
    # The role's own socket: units and crictl name it.
    assert config["server"] == {"socket": "/run/pvecri/pvecri.sock", "max_concurrent_rpcs": 50}
    assert json.loads(files["policy.json"]["content"])["rules"] == [rule]
    assert json.loads(files["signature-policy.json"]["content"]) == {"default": [{"type": "reject"}]}
    lines = files["environment"]["content"].splitlines()
    assert lines[1:] == ['HTTPS_PROXY="http://p:1"', 'ODD="a \\"b\\" \\\\c $d"']
    assert files["environment"]["mode"] == "0600"
    for name in ("crictl.yaml", "pvecri-logs.timer", "pvecri-logs.service", "pvecri-network.service"):
        assert not is_there(files[name]), name
    assert "RequiresMountsFor=/srv/pvecri" in files["pvecri.service"]["content"]


@pytest.mark.parametrize(
    ("cidrs", "routes"),
    [
        (["10.88.0.0/16"], ["0.0.0.0/0"]),
        (["fd00:88::/64"], ["::/0"]),
        (["10.1.0.0/24", "fd00:88::/64"], ["0.0.0.0/0", "::/0"]),
    ],
)
def test_conflist_of_the_bridge(render, cidrs, routes):
    given = render(cri_endpoint_pod_cidrs=cidrs, cri_endpoint_network_mtu=1450, cri_endpoint_bridge="pods0")
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
    own = {"cniVersion": "1.0.0", "name": "mine", "plugins": [{"type": "ptp"}]}
    files = render(cri_endpoint_network="custom", cri_endpoint_cni_conflist=own)["files"]
    assert json.loads(files["10-pvecri.conflist"]["content"]) == own
    assert not is_there(files["pvecri-network.service"])
    files = render(cri_endpoint_network="none")["files"]
    assert not is_there(files["10-pvecri.conflist"])


def test_crictl_is_led_to_the_socket(plain):
    settings = yaml.safe_load(plain["files"]["crictl.yaml"]["content"])
    assert settings["runtime-endpoint"] == settings["image-endpoint"] == "unix:///run/pvecri/pvecri.sock"


def test_key_changes_with_what_wants_a_restart_alone(render, plain):
    def key(**given):
        return render(**given)["key"]

    assert f"PVECRI_STATE_KEY={plain['key']}\n" in plain["files"]["pvecri.service"]["content"]
    reloaded = {"cri_endpoint_config": {"log": {"level": "debug", "slow_rpc_s": 1.5}}}
    assert key(**reloaded, cri_endpoint_policy={"default": "crun"}) == plain["key"]
    others = {**HOST, "releases": {"all": [], "current": "0.1.0-111111111111"}}
    different = {
        key(cri_endpoint_config={"runtime": {"pids_limit": 5}}),
        key(cri_endpoint_environment={"A": "b"}),
        key(__cri_endpoint_host=others),
        plain["key"],
    }
    assert len(different) == 4


def test_everything_that_is_written_is_removed(plain):
    gone = {file["path"] for file in plain["gone"]}
    assert {file["path"] for file in plain["files"].values()} <= gone
    assert {file.get("state") for file in plain["gone"]} == {"absent"}


def test_kubelet_rotates_the_logs_itself(render):
    kubelet = {**HOST, "facts": {"units": {"kubelet.service": {}}}}
    assert not is_there(render(__cri_endpoint_host=kubelet)["files"]["pvecri-logs.timer"])
    always = render(__cri_endpoint_host=kubelet, cri_endpoint_rotate_logs="always")
    assert is_there(always["files"]["pvecri-logs.timer"])
