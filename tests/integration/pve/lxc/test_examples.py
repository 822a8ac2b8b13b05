# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the examples of pve_lxc_container as a playbook against a fake cluster."""

from __future__ import annotations

import shutil

import pytest

from ansible_collections.pvecri.runtime.tests.support.examples import examples_of, play_of, run_play
from ansible_collections.pvecri.runtime.tests.support.images import File, OciLayout, tar_layer


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_examples_run(cluster, run, tmp_path):
    cluster.pve.add_ct(9000, "template", config={"tags": "pvecri"})
    run(vmid=9000, state="template")
    layout = OciLayout(tmp_path / "layout")
    layout.add_image("1.4", [tar_layer([File("etc/motd", b"hello\n")])], {"Cmd": ["/app"]})
    examples = examples_of("pve_lxc_container")
    image = "registry.example.org/team/app:1.4"
    assert image in examples
    printed = run_play(
        play_of(examples.replace(image, f"oci:{layout.path}:1.4")), tmp_path, cluster.environment()
    )
    assert cluster.environment()["PVE_TOKEN_SECRET"] not in printed
    names = {ct.config.get("hostname"): ct for ct in cluster.pve.cts}
    assert "web-1" not in names
    assert names["app-1"].status == "running"
    assert "LISTEN=0.0.0.0:8080" in names["app-1"].config["env"]
    assert names["db-1"].node == "pve2"
    assert names["scheduler"].config["memory"] == 2048
    assert {"worker-1", "worker-2"} <= set(names)
