# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network configurations: read, refused, found, and handed to plugins."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.network import cni_config

PLUGIN = {"type": "bridge", "ipam": {"type": "host-local"}}
LIST: dict[str, t.Any] = {"cniVersion": "1.0.0", "name": "net", "plugins": [PLUGIN]}


def test_parse_list() -> None:
    config = cni_config.parse_config(LIST, "x", "/x")
    assert (config.name, config.cni_version, config.plugins, config.path) == ("net", "1.0.0", (PLUGIN,), "/x")
    assert config.disable_check is False
    assert config.plain() == LIST


def test_parse_single_plugin() -> None:
    config = cni_config.parse_config({"cniVersion": "0.3.1", "name": "net", **PLUGIN}, "x")
    assert (config.cni_version, config.plugins) == ("0.3.1", (PLUGIN,))


def test_parse_keeps_disable_check() -> None:
    for value in (True, "true"):
        config = cni_config.parse_config({**LIST, "disableCheck": value}, "x")
        assert config.disable_check
        assert config.plain()["disableCheck"] is True


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "x.name"),
        ({"name": "a/b"}, "x.name"),
        ({"name": 5}, "x.name"),
        ({"plugins": []}, "x.plugins"),
        ({"plugins": {}}, "x.plugins"),
        ({"plugins": [PLUGIN, {}]}, "x.plugins[1].type"),
        ({"plugins": [{"type": "../../bin/sh"}]}, "x.plugins[0].type"),
        ({"plugins": ["bridge"]}, "x.plugins[0].type"),
    ],
)
def test_parse_refuses(change: dict[str, t.Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        cni_config.parse_config({**LIST, **change}, "x")
    assert caught.value.field == field


@pytest.mark.parametrize("data", [None, [], "text", 5])
def test_parse_refuses_what_is_no_object(data: t.Any) -> None:
    with pytest.raises(InvalidSpec, match="no JSON object"):
        cni_config.parse_config(data, "x")


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("1.0.0", (0, 4, 0), True),
        ("0.4.0", (0, 4, 0), True),
        ("0.3.1", (0, 4, 0), False),
        ("x", (0, 4, 0), False),
    ],
)
def test_version_at_least(version: str, wanted: tuple[int, ...], expected: bool) -> None:
    config = cni_config.parse_config({**LIST, "cniVersion": version}, "x")
    assert config.version_at_least(*wanted) is expected


def test_find_takes_the_first_or_the_named(tmp_path: pathlib.Path) -> None:
    for file, name in (("20-b.conflist", "b"), ("10-a.conflist", "a"), ("30-c.conf", "c")):
        (tmp_path / file).write_text(json.dumps({**LIST, "name": name}))
    (tmp_path / "00-ignored.txt").write_text("x")
    assert cni_config.find_config(None, str(tmp_path)).name == "a"
    found = cni_config.find_config("c", str(tmp_path))
    assert (found.name, found.path) == ("c", str(tmp_path / "30-c.conf"))


def test_find_passes_over_what_cannot_be_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / "00-bad.conflist").write_text("{")
    (tmp_path / "01-deep.conflist").write_text("[" * 100_000)
    # Whoever opens it to read waits for a writer that never comes.
    os.mkfifo(tmp_path / "02-pipe.conflist")
    with pytest.raises(NotFound, match=r"00-bad\.conflist.*01-deep.*no regular file"):
        cni_config.find_config(None, str(tmp_path))
    (tmp_path / "10-a.conflist").write_text(json.dumps(LIST))
    assert cni_config.find_config(None, str(tmp_path)).name == "net"


@pytest.mark.parametrize("name", [None, "other"])
def test_find_nothing(tmp_path: pathlib.Path, name: str | None) -> None:
    with pytest.raises(NotFound, match="no network"):
        cni_config.find_config(name, str(tmp_path / "none"))


def test_find_our_own_network(tmp_path: pathlib.Path) -> None:
    assert cni_config.find_config("pvecri", str(tmp_path)) == cni_config.default_config()
    (tmp_path / "10.conflist").write_text(json.dumps({**LIST, "name": "pvecri"}))
    assert cni_config.find_config("pvecri", str(tmp_path)).plugins == (PLUGIN,), "the host's own counts"


def test_default_config() -> None:
    plain = cni_config.default_config(name="n", bridge="br7", subnets=["10.1.0.0/24", "fd00::/64"]).plain()
    assert plain == {
        "cniVersion": "1.0.0",
        "name": "n",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "br7",
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"subnets": []}, "subnets"),
        ({"subnets": ["10.0.0.0/24", "10.0.0.1/24"]}, "subnets[1]"),
        ({"subnets": ["x"]}, "subnets[0]"),
        ({"bridge": "a b"}, "bridge"),
        ({"bridge": "x" * 16}, "bridge"),
        ({"name": "a b"}, "default.name"),
    ],
)
def test_default_config_refuses(options: dict[str, t.Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        cni_config.default_config(**options)
    assert caught.value.field == field


def test_plugin_request() -> None:
    config = cni_config.parse_config(LIST, "x")
    plugin = {"type": "p", "capabilities": {"mac": True, "dns": False, "ips": True}, "own": 1}
    request = cni_config.plugin_request(config, plugin, {"mac": "m", "dns": {}, "bandwidth": {}}, {"ips": []})
    assert request == {
        "type": "p",
        "own": 1,
        "cniVersion": "1.0.0",
        "name": "net",
        "runtimeConfig": {"mac": "m"},
        "prevResult": {"ips": []},
    }
    assert cni_config.plugin_request(config, PLUGIN, {"mac": "m"}, None) == {
        **PLUGIN,
        "cniVersion": "1.0.0",
        "name": "net",
    }


@pytest.mark.parametrize(
    ("plugin", "capabilities", "idle"),
    [
        ({"type": "portmap"}, {}, True),
        ({"type": "portmap"}, {"portMappings": []}, True),
        ({"type": "portmap"}, {"portMappings": [{"hostPort": 80}]}, False),
        ({"type": "bandwidth"}, {}, True),
        ({"type": "bandwidth"}, {"bandwidth": {"ingressRate": 1000}}, False),
        ({"type": "bandwidth", "egressRate": 1000}, {}, False),
        ({"type": "firewall"}, {}, False),
        ({"type": "bridge"}, {}, False),
    ],
)
def test_is_idle_only_of_what_is_known_to_do_nothing(
    plugin: dict[str, object], capabilities: dict[str, object], idle: bool
) -> None:
    assert cni_config.is_idle(plugin, capabilities) is idle
