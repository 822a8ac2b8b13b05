# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the configuration of an image into what shapes a container.

Follows the OCI image specification 1.1 (config.md); Docker's own field
``Healthcheck`` (times in nanoseconds) is read as well.  An image is foreign
input: what has the wrong type is refused with the name of the field.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import HealthCheck, ImageConfig

_NS = 1_000_000_000


def parse_image_config(document: t.Any) -> ImageConfig:
    """Return the `ImageConfig` of a parsed configuration; raises InvalidSpec naming the bad field."""
    whole = _mapping(document, "image configuration")
    inner = _mapping(whole.get("config"), "config")
    return ImageConfig(
        entrypoint=_texts(inner.get("Entrypoint"), "config.Entrypoint"),
        command=_texts(inner.get("Cmd"), "config.Cmd"),
        env=_environment(inner.get("Env")),
        cwd=_text(inner.get("WorkingDir"), "config.WorkingDir"),
        user=_text(inner.get("User"), "config.User"),
        volumes=tuple(sorted(_mapping(inner.get("Volumes"), "config.Volumes"))),
        exposed_ports=tuple(sorted(_mapping(inner.get("ExposedPorts"), "config.ExposedPorts"))),
        labels=_pairs(inner.get("Labels"), "config.Labels"),
        stop_signal=_text(inner.get("StopSignal"), "config.StopSignal") or None,
        health_check=_health_check(inner.get("Healthcheck")),
        architecture=_text(whole.get("architecture"), "architecture"),
        os=_text(whole.get("os"), "os") or "linux",
        variant=_text(whole.get("variant"), "variant"),
    )


def _mapping(value: t.Any, field: str) -> dict[str, t.Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidSpec(field, "the image has something else than an object there")
    return value


def _text(value: t.Any, field: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidSpec(field, "the image has something else than a text there")
    return value


def _texts(value: t.Any, field: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidSpec(field, "the image has something else than a list of texts there")
    return tuple(value)


def _pairs(value: t.Any, field: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, _text(item, f"{field}.{key}")) for key, item in sorted(_mapping(value, field).items()))


def _environment(value: t.Any) -> tuple[tuple[str, str], ...]:
    """Split ``NAME=value``; a line without '=' is a variable without value, a later line wins."""
    found: dict[str, str] = {}
    for line in _texts(value, "config.Env"):
        name, _unused, text = line.partition("=")
        if name:
            found[name] = text
    return tuple(found.items())


def _health_check(value: t.Any) -> HealthCheck | None:
    raw = _mapping(value, "config.Healthcheck")
    test = _texts(raw.get("Test"), "config.Healthcheck.Test")
    if not test or test[0] == "NONE":
        return None
    if test[0] == "CMD-SHELL":
        command = ("/bin/sh", "-c", *test[1:2])
    else:
        command = test[1:] if test[0] == "CMD" else test
    if not command:
        return None
    default = HealthCheck(command=command)
    return HealthCheck(
        command=command,
        interval_s=_seconds(raw, "Interval") or default.interval_s,
        timeout_s=_seconds(raw, "Timeout") or default.timeout_s,
        start_period_s=_seconds(raw, "StartPeriod"),
        retries=int(_number(raw, "Retries")) or default.retries,
    )


def _number(raw: dict[str, t.Any], key: str) -> float:
    value = raw.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InvalidSpec(f"config.Healthcheck.{key}", "the image has no number of 0 or more there")
    return value


def _seconds(raw: dict[str, t.Any], key: str) -> float:
    return _number(raw, key) / _NS
