# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare a configuration with the host: what it names has to be there."""

from __future__ import annotations

import grp
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
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
    yield from _pve_problems(config.pve)
    if problem := _access_problem(config.pve):
        yield ("pve", "access_file"), problem
    if problem := _certificate_problem(config.streaming):
        yield problem
    for path in config.images.additional_stores:
        if not os.path.isdir(path):
            yield ("images", "additional_stores"), f"there is no directory '{path}'"


def _access_problem(pve: PveConfig) -> str | None:
    """Return what is wrong with the access to Proxmox VE; on a host that has none nothing is."""
    path = pve.access_file
    if pve.enabled == "false" or (pve.enabled == "auto" and not os.path.lexists(path)):
        return None
    from ansible_collections.pvecri.runtime.plugins.module_utils.pve import token_file  # noqa: PLC0415

    try:
        found = token_file.read(path)
    except (OSError, InvalidSpec) as exc:
        return f"the file '{path}' cannot be read: {exc}"
    if not found.exists:
        return f"there is no file '{path}', and pve.enabled is 'true'"
    if found.credentials is None:
        return f"the file '{path}' does not say host, port, user, token_id and secret"
    return None


def _pve_problems(pve: PveConfig) -> t.Iterator[tuple[tuple[str, str], str]]:
    is_there = os.path.exists(pve.access_file)
    if pve.enabled == "false" or (pve.enabled == "auto" and not is_there):
        return
    if not is_there:
        yield ("pve", "access_file"), f"there is no file '{pve.access_file}'; the role writes it"
    else:
        # Loads what speaks with Proxmox VE, which others do without.
        from ansible_collections.pvecri.runtime.plugins.module_utils.pve import token_file  # noqa: PLC0415

        try:
            if token_file.read(pve.access_file).credentials is None:
                yield (
                    ("pve", "access_file"),
                    f"'{pve.access_file}' is no file with a token; the role writes it",
                )
        except (CoreError, OSError) as exc:
            yield ("pve", "access_file"), f"'{pve.access_file}' cannot be read: {exc}"
    if not os.path.isdir(os.path.join(pve.config_dir, "lxc")):
        yield ("pve", "config_dir"), f"there is no '{pve.config_dir}/lxc': this is no node of Proxmox VE"


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
