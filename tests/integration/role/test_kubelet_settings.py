# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what the role writes for kubelet and for the cluster against Kubernetes' own types."""

from __future__ import annotations

import json
import os
import pathlib
import re
import stat
import subprocess
import typing as t

import pytest
import yaml

from ansible_collections.pvecri.runtime.tests.support import kubelet
from ansible_collections.pvecri.runtime.tests.support.examples import run_play

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the role's tasks need root")

Json = dict[str, t.Any]

PLAY = """
- hosts: localhost
  gather_facts: false
  vars: {settings}
  tasks:
    - name: Lead kubelet to the endpoint
      ansible.builtin.import_role:
        name: pvecri.runtime.cri_endpoint
        tasks_from: kubelet.yml
  handlers:
    - name: Restart kubelet
      ansible.builtin.debug:
        msg: kubelet would be restarted
"""


class Place:
    """A directory in which the role leaves what is meant for a node."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.settings = root / "kubelet.conf.d" / "50-pvecri.conf"
        self.classes = root / "runtimeclasses.yaml"
        self.join = root / "join.yaml"

    def play(self, **more: t.Any) -> str:
        """Run the stage and return what Ansible printed."""
        settings = {
            "cri_endpoint_kubelet": True,
            # This machine's own kubelet, if there is one, is left alone.
            "cri_endpoint_kubelet_unit": "",
            "cri_endpoint_kubelet_config_dir": str(self.settings.parent),
            "cri_endpoint_runtime_classes_file": str(self.classes),
            "cri_endpoint_kubelet_join_file": str(self.join),
            **more,
        }
        return run_play(PLAY.format(settings=json.dumps(settings)), self.root, {})

    def understood(self, path: pathlib.Path) -> list[Json]:
        """Return what Kubernetes' own types make of a file."""
        if reason := kubelet.missing():
            pytest.skip(reason)
        done = subprocess.run(
            [kubelet.PROGRAM, "parse", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Place:
    return Place(tmp_path)


def test_settings_are_kubelets_own(place: Place) -> None:
    place.play(
        cri_endpoint_kubelet_settings={
            "failSwapOn": False,
            "systemReserved": {"memory": "4Gi"},
            "containerLogMaxFiles": 7,
        },
        cri_endpoint_kubelet_log_max_size="20Mi",
    )
    (settings,) = place.understood(place.settings)
    assert settings["containerRuntimeEndpoint"] == "unix:///run/pvecri/pvecri.sock"
    assert settings["imageServiceEndpoint"] == "unix:///run/pvecri/pvecri.sock"
    assert settings["cgroupDriver"] == "systemd"
    assert settings["containerLogMaxSize"] == "20Mi"
    assert settings["containerLogMaxFiles"] == 7
    assert settings["failSwapOn"] is False
    assert settings["systemReserved"] == {"memory": "4Gi"}


def test_settings_follow_the_endpoints_cgroup_driver(place: Place) -> None:
    place.play(cri_endpoint_config={"runtime": {"cgroup_driver": "cgroupfs"}})
    (settings,) = place.understood(place.settings)
    assert settings["cgroupDriver"] == "cgroupfs"


def test_a_misspelt_setting_is_seen_by_strict_types(place: Place) -> None:
    place.play(cri_endpoint_kubelet_settings={"failSwapOnn": False})
    with pytest.raises(AssertionError, match="failSwapOnn"):
        place.understood(place.settings)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"crun": "crun", "pve-lxc": "pve-lxc"}),
        ({"cri_endpoint_policy": {"handlers": {"fast": "crun"}}}, {"fast": "fast"}),
        ({"cri_endpoint_runtime_classes": [{"name": "lxc", "handler": "pve-lxc"}]}, {"lxc": "pve-lxc"}),
    ],
)
def test_runtime_classes(place: Place, given: Json, expected: dict[str, str]) -> None:
    place.play(**given)
    classes = place.understood(place.classes)
    assert {each["metadata"]["name"]: each["handler"] for each in classes} == expected


def test_runtime_class_with_overhead_and_scheduling(place: Place) -> None:
    overhead, scheduling = {"podFixed": {"memory": "64Mi"}}, {"nodeSelector": {"lxc": "true"}}
    place.play(
        cri_endpoint_runtime_classes=[
            {"name": "lxc", "handler": "pve-lxc", "overhead": overhead, "scheduling": scheduling}
        ]
    )
    (found,) = place.understood(place.classes)
    assert found["overhead"] == overhead
    assert found["scheduling"] == scheduling


def test_runtime_class_of_an_unknown_handler_is_refused(place: Place) -> None:
    with pytest.raises(AssertionError, match="asks for the handler 'kata'"):
        place.play(cri_endpoint_runtime_classes=[{"name": "kata"}])
    assert not place.classes.exists()


def test_join_configuration_is_secret(place: Place) -> None:
    token = "abcdef.0123456789abcdef"
    discovery = {"bootstrapToken": {"apiServerEndpoint": "10.0.0.10:6443", "token": token}}
    printed = place.play(
        cri_endpoint_kubelet_join={"discovery": discovery, "nodeRegistration": {"name": "pve1"}}
    )
    assert token not in printed
    assert stat.S_IMODE(place.join.stat().st_mode) == 0o600
    written = yaml.safe_load(place.join.read_text())
    assert written["kind"] == "JoinConfiguration"
    assert written["nodeRegistration"] == {"criSocket": "unix:///run/pvecri/pvecri.sock", "name": "pve1"}
    assert written["discovery"] == discovery


def test_a_second_run_changes_nothing(place: Place) -> None:
    assert not re.search(r"changed=0 ", place.play())
    assert re.search(r"changed=0 ", place.play())


def test_nothing_is_written_unless_asked_for(place: Place) -> None:
    place.play(cri_endpoint_kubelet=False)
    assert not place.settings.exists()
    assert not place.classes.exists()
