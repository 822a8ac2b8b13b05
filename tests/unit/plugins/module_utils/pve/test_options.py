# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the connection options: what they become, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from ansible_collections.pvecri.runtime.plugins.doc_fragments.pve import ModuleDocFragment
from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import options

SPEC = options.connection_argument_spec()


def params(**given):
    values = {name: spec.get("default") for name, spec in SPEC.items()}
    return {**values, "api_host": "pve1", "api_user": "root@pam", "api_password": "x", **given}


def test_connection_takes_every_option():
    connection = options.connection_from_params(
        params(
            api_host="h",
            api_port=1,
            api_user="u@pve",
            api_password="p",
            api_token_id="t",
            api_token_secret="s",
            api_totp="123456",
            ca_path="/ca",
            fingerprint="AA:" * 31 + "AA",
            connect_timeout=1.0,
            api_timeout=5.0,
            task_timeout=3.0,
        )
    )
    assert connection == options.Connection(
        "h", "u@pve", 1, "p", "t", "s", "123456", True, "/ca", "aa" * 32, 1.0, 5.0, 3.0
    )


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ({}, "pve1", 8006),
        ({"api_host": "pve1:444"}, "pve1", 444),
        ({"api_host": "pve1:444", "api_port": 8443}, "pve1", 8443),
        ({"api_host": "[fd00::1]:444"}, "fd00::1", 444),
        ({"api_host": "fd00::1"}, "fd00::1", 8006),
        ({"api_host": "[fd00::1]"}, "fd00::1", 8006),
    ],
)
def test_host_and_port(given, host, port):
    connection = options.connection_from_params(params(**given))
    assert (connection.host, connection.port) == (host, port)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"api_host": None}, "api_host"),
        ({"api_host": "https://pve1/"}, "api_host"),
        ({"api_port": 70000}, "api_port"),
        ({"api_port": -1}, "api_port"),
        ({"api_user": None}, "api_user"),
        ({"api_password": None}, "api_password"),
        ({"api_timeout": 3.0}, "api_timeout"),
        ({"api_timeout": float("inf")}, "api_timeout"),
        ({"api_timeout": float("nan")}, "api_timeout"),
        ({"connect_timeout": -1.0}, "connect_timeout"),
        ({"connect_timeout": 0.0}, "connect_timeout"),
        ({"connect_timeout": 1e12}, "connect_timeout"),
        ({"task_timeout": -0.5}, "task_timeout"),
    ],
)
def test_refusals_name_the_option(given, field):
    with pytest.raises(errors.InvalidSpec) as caught:
        options.connection_from_params(params(**given))
    assert caught.value.field == field


def test_client_sends_nothing_yet():
    assert options.client_from_params(params()).requests == 0


def test_secrets_are_no_log_and_nothing_else_is():
    hidden = {name for name, spec in SPEC.items() if spec.get("no_log")}
    assert hidden == {"api_password", "api_token_secret", "api_totp"}


def test_documentation_fits_the_spec():
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    assert set(documented) == set(SPEC)
    for name, spec in SPEC.items():
        assert documented[name]["type"] == spec["type"], name
        assert documented[name].get("default") == spec.get("default"), name
        if "fallback" in spec:
            for variable in spec["fallback"][1]:
                assert f"E({variable})" in str(documented[name]["description"]), variable


def test_unchecked_certificate_contradicts_ca_path():
    with pytest.raises(errors.InvalidSpec, match="ca_path") as caught:
        options.connection_from_params(params(validate_certs=False, ca_path="/ca"))
    assert caught.value.field == "validate_certs"
