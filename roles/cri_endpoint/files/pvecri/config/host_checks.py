# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare a configuration with the host: what it names has to be there."""

from __future__ import annotations

import grp
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.config.load import ConfigError, Loaded
from pvecri.config.model import PveConfig, StreamingConfig
from pvecri.config.policy import configured_policy


def host_problems(loaded: Loaded) -> list[str]:
    """Return what keeps the endpoint from working with this configuration here."""
    problems = [f"{loaded.place(*key)}: {'.'.join(key)}: {text}" for key, text in _problems(loaded)]
    try:
        configured_policy(loaded)
    except ConfigError as exc:
        problems += exc.problems
    return problems


def _problems(loaded: Loaded) -> t.Iterator[tuple[tuple[str, str], str]]:
    config = loaded.config
    for key in ("crun", "conmon"):
        path = getattr(config.runtime, key)
        if not os.access(path, os.X_OK):
            yield ("runtime", key), f"there is no program '{path}'"
    group = config.server.socket_group
    if not group.isdigit() and not _is_group(group):
        yield ("server", "socket_group"), f"there is no group '{group}'"
    for section, key in (
        ("network", "conf_template"),
        ("images", "registries_conf"),
        ("images", "policy_file"),
        ("images", "authfile"),
        ("streaming", "tls_cert"),
        ("streaming", "tls_key"),
        ("streaming", "tls_client_ca"),
    ):
        path = getattr(getattr(config, section), key)
        if path and not os.access(path, os.R_OK):
            yield (section, key), f"the file '{path}' cannot be read"
    if text := _access_problem(config.pve):
        yield ("pve", "access_file"), text
    if problem := _certificate_problem(config.streaming):
        yield problem
    for path in config.images.additional_stores:
        if not os.path.isdir(path):
            yield ("images", "additional_stores"), f"there is no directory '{path}'"


def _access_problem(pve: PveConfig) -> str | None:
    """Return what is wrong with the access to Proxmox VE; on a host that has none nothing is."""
    path = pve.access_file
    if pve.enabled == "true" and not os.path.lexists(path):
        return f"the file '{path}' cannot be read; the role writes it"
    if pve.enabled == "false" or not os.path.lexists(path):
        return None
    from ansible_collections.pvecri.runtime.plugins.module_utils.pve import token_file  # noqa: PLC0415

    try:
        found = token_file.read(path)
    except (OSError, InvalidSpec) as exc:
        return f"the file '{path}' cannot be read: {exc}"
    if found.credentials is None:
        return f"the file '{path}' does not say host, port, user, token_id and secret"
    return None


def _certificate_problem(streaming: StreamingConfig) -> tuple[tuple[str, str], str] | None:
    files = [path for path in (streaming.tls_cert, streaming.tls_key, streaming.tls_client_ca) if path]
    if not files or not all(os.access(path, os.R_OK) for path in files):
        return None
    # With it comes OpenSSL, of which a daemon without certificates has no need.
    from pvecri.streaming.tls import Tls  # noqa: PLC0415

    try:
        Tls(streaming)
    except InvalidSpec as exc:
        section, _unused, key = exc.field.partition(".")
        return (section, key), exc.problem
    return None


def _is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
