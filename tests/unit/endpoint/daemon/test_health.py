# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say whether the daemon can do its work."""

from __future__ import annotations

import pathlib

import pytest

from pvecri.config.model import Config, NetworkConfig, RuntimeConfig
from pvecri.daemon.health import Health

PLUGIN = '{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "thing"}]}'


@pytest.fixture
def config(tmp_path: pathlib.Path) -> Config:
    for name in ("crun", "conmon", "thing"):
        (tmp_path / name).touch(0o755)
    (tmp_path / "net.d").mkdir()
    (tmp_path / "net.d" / "1.conflist").write_text(PLUGIN)
    return Config(
        runtime=RuntimeConfig(crun=str(tmp_path / "crun"), conmon=str(tmp_path / "conmon")),
        network=NetworkConfig(conf_dir=str(tmp_path / "net.d"), plugin_dirs=(str(tmp_path),)),
    )


def test_all_is_well(config: Config) -> None:
    found = Health(config).readiness(None)
    assert found.is_ready
    assert found.text.splitlines() == ["requests: ok", "runtime: ok", "network: ok", "ready"]


def test_a_closed_gate_is_the_reason(config: Config) -> None:
    found = Health(config).readiness("the endpoint is starting")
    assert not found.is_ready
    assert found.text.splitlines()[::3] == ["requests: failed: the endpoint is starting", "not ready"]


def test_programs_are_looked_for_each_time(config: Config, tmp_path: pathlib.Path) -> None:
    health = Health(config)
    (tmp_path / "conmon").unlink()
    found = health.readiness(None)
    assert not found.is_ready
    assert f"runtime: failed: there is no program {tmp_path}/conmon" in found.text
    (tmp_path / "conmon").touch(0o755)
    assert health.readiness(None).is_ready


def test_without_proxmox_it_is_ready_and_says_so(config: Config) -> None:
    found = Health(config, lambda: "pve1 does not answer").readiness(None)
    assert found.is_ready
    assert found.text.splitlines()[3:] == ["proxmox: warning: pve1 does not answer", "ready"]
    assert "proxmox: ok\n" in Health(config, lambda: None).readiness(None).text


def test_without_a_network_it_is_ready_and_says_so(config: Config, tmp_path: pathlib.Path) -> None:
    (tmp_path / "thing").unlink()
    found = Health(config).readiness(None)
    assert found.is_ready
    assert "network: warning: network 'pods'" in found.text
