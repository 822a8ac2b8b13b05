# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the connection options that all Proxmox VE modules share, and read them.

The names are those of the established Proxmox modules, so that plays move over
without a rename; plugins/doc_fragments/pve.py documents them.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import env_fallback
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection

#: pveproxy holds a refused login back for 3 s: a shorter time-out would hide the reason.
_SHORTEST_API_TIMEOUT_S = 4.0
#: No socket waits for no time at all.
_SHORTEST_CONNECT_TIMEOUT_S = 0.1
#: A month; the system's own bounds, and infinity, are beyond it.
_LONGEST_TIMEOUT_S = 31 * 86400.0


def _from_env(name: str) -> tuple[t.Any, list[str]]:
    return (env_fallback, [f"PVE_{name}", f"PROXMOX_{name}"])


def connection_argument_spec() -> dict[str, dict[str, t.Any]]:
    """Return the argument spec of the connection options, to be merged into a module's own."""
    return {
        "api_host": {"type": "str", "fallback": _from_env("HOST")},
        "api_port": {"type": "int", "fallback": _from_env("PORT")},
        "api_user": {"type": "str", "fallback": _from_env("USER")},
        "api_password": {"type": "str", "no_log": True, "fallback": _from_env("PASSWORD")},
        "api_token_id": {"type": "str", "no_log": False, "fallback": _from_env("TOKEN_ID")},
        "api_token_secret": {"type": "str", "no_log": True, "fallback": _from_env("TOKEN_SECRET")},
        "api_totp": {"type": "str", "no_log": True, "fallback": _from_env("TOTP")},
        "validate_certs": {"type": "bool", "default": True, "fallback": _from_env("VALIDATE_CERTS")},
        "ca_path": {"type": "path", "fallback": _from_env("CA_PATH")},
        "fingerprint": {"type": "str", "fallback": _from_env("FINGERPRINT")},
        "connect_timeout": {"type": "float", "default": 10.0},
        "api_timeout": {"type": "float", "default": 30.0},
        "task_timeout": {"type": "float", "default": 600.0},
    }


def connection_from_params(params: t.Mapping[str, t.Any]) -> Connection:
    """Return the connection that a module's parameters describe; raises InvalidSpec."""
    for name, least_s in (
        ("connect_timeout", _SHORTEST_CONNECT_TIMEOUT_S),
        ("api_timeout", _SHORTEST_API_TIMEOUT_S),
        ("task_timeout", 0.0),
    ):
        # Written so that it holds for "not a number", too.
        if not params[name] >= least_s:
            raise InvalidSpec(name, f"must be at least {least_s:g} s, not {params[name]:g}")
        if params[name] > _LONGEST_TIMEOUT_S:
            raise InvalidSpec(name, f"must be at most {_LONGEST_TIMEOUT_S:.0f} s, not {params[name]:g}")
    host, port = _host_and_port(params["api_host"] or "", params["api_port"])
    return Connection(
        host=host,
        port=port,
        user=params["api_user"] or "",
        password=params["api_password"],
        token_id=params["api_token_id"],
        token_secret=params["api_token_secret"],
        totp=params["api_totp"],
        validate_certs=params["validate_certs"],
        ca_path=params["ca_path"],
        fingerprint=params["fingerprint"],
        connect_timeout_s=params["connect_timeout"],
        api_timeout_s=params["api_timeout"],
        task_timeout_s=params["task_timeout"],
    ).checked()


def client_from_params(params: t.Mapping[str, t.Any]) -> PveClient:
    """Return a client for a module's parameters; nothing is sent yet."""
    return PveClient(connection_from_params(params))


def _host_and_port(host: str, port: int | None) -> tuple[str, int]:
    """Split ``name:8006`` and ``[::1]:8006``; a port given by its own option wins."""
    found = re.fullmatch(r"(?P<host>\[[^\]]+\]|[^:]+):(?P<port>\d+)", host)
    if found:
        host, port = found["host"], port or int(found["port"])
    port = port or 8006
    if not 0 < port < 65536:
        raise InvalidSpec("api_port", f"{port} is no port")
    if "/" in host:
        raise InvalidSpec(
            "api_host", f"'{host}' is an address with scheme or path", hint="Give the host name only"
        )
    return host.strip("[]"), port
