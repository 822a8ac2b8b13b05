# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what is read from an image's configuration, and what is refused in it."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.config import parse_image_config
from ansible_collections.pvecri.runtime.plugins.module_utils.model import HealthCheck, ImageConfig

SECOND = 1_000_000_000


def test_parse_image_config_whole():
    document = {
        "architecture": "arm64",
        "os": "linux",
        "variant": "v8",
        "config": {
            "Entrypoint": ["/e"],
            "Cmd": ["a", "b"],
            "Env": ["A=1", "B=2=3", "C", "A=4", "=x"],
            "WorkingDir": "/w",
            "User": "web:1",
            "Volumes": {"/v": {}, "/a": {}},
            "ExposedPorts": {"80/tcp": {}},
            "Labels": {"b": "2", "a": "1"},
            "StopSignal": "SIGQUIT",
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5 * SECOND, "Retries": 7},
        },
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    assert parse_image_config(document) == ImageConfig(
        entrypoint=("/e",),
        command=("a", "b"),
        env=(("A", "4"), ("B", "2=3"), ("C", "")),
        cwd="/w",
        user="web:1",
        volumes=("/a", "/v"),
        exposed_ports=("80/tcp",),
        labels=(("a", "1"), ("b", "2")),
        stop_signal="SIGQUIT",
        health_check=HealthCheck(command=("x",), interval_s=5.0, retries=7),
        architecture="arm64",
        os="linux",
        variant="v8",
    )


@pytest.mark.parametrize("document", [{}, {"config": None}, {"config": {}}, {"config": {"Cmd": None}}, None])
def test_parse_image_config_empty(document):
    assert parse_image_config(document) == ImageConfig()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"Test": ["NONE"]}, None),
        ({"Test": []}, None),
        ({"Test": ["CMD"]}, None),
        ({}, None),
        ({"Test": ["CMD-SHELL", "curl x || exit 1"]}, ("/bin/sh", "-c", "curl x || exit 1")),
        ({"Test": ["CMD", "a", "b"]}, ("a", "b")),
        ({"Test": ["a", "b"]}, ("a", "b")),
    ],
)
def test_health_check_command(raw, expected):
    found = parse_image_config({"config": {"Healthcheck": raw}}).health_check
    assert (found and found.command) == expected


def test_health_check_times_default_to_dockers():
    raw = {"Test": ["CMD", "a"], "Timeout": SECOND // 2, "StartPeriod": 3 * SECOND, "Interval": 0}
    found = parse_image_config({"config": {"Healthcheck": raw}}).health_check
    assert (found.interval_s, found.timeout_s, found.start_period_s, found.retries) == (30.0, 0.5, 3.0, 3)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "image configuration"),
        ({"config": "x"}, "config"),
        ({"config": {"Cmd": "sh"}}, "config.Cmd"),
        ({"config": {"Entrypoint": [1]}}, "config.Entrypoint"),
        ({"config": {"Env": {"A": "1"}}}, "config.Env"),
        ({"config": {"User": 0}}, "config.User"),
        ({"config": {"Volumes": ["/v"]}}, "config.Volumes"),
        ({"config": {"Labels": {"a": 1}}}, "config.Labels.a"),
        (
            {"config": {"Healthcheck": {"Test": ["CMD", "a"], "Interval": "5s"}}},
            "config.Healthcheck.Interval",
        ),
        ({"config": {"Healthcheck": {"Test": ["CMD", "a"], "Retries": -1}}}, "config.Healthcheck.Retries"),
        ({"config": {"Healthcheck": {"Test": ["CMD", "a"], "Timeout": True}}}, "config.Healthcheck.Timeout"),
        ({"architecture": 64}, "architecture"),
    ],
)
def test_parse_image_config_refused(document, field):
    with pytest.raises(InvalidSpec) as caught:
        parse_image_config(document)
    assert caught.value.field == field
