# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load the policy that a configuration names, and compare a configuration with the host."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.pvecri.runtime.tests.support.certificates import Authority
from pvecri.config.host_checks import host_problems
from pvecri.config.load import ConfigError, Loaded, parse
from pvecri.config.model import Config
from pvecri.config.policy import configured_policy


def loaded(text: str) -> Loaded:
    return parse(text.encode(), "/etc/c.toml")


def test_policy_by_default_is_the_collection_s() -> None:
    assert [rule.name for rule in configured_policy(Loaded(Config(), None, {})).rules] == ["lxc-images"]


def test_policy_may_stand_in_the_configuration() -> None:
    policy = configured_policy(loaded('[runtime.policy]\ndefault = "pve-lxc"\nhandlers = {fast = "crun"}\n'))
    assert policy.default == "pve-lxc"
    assert dict(policy.handlers) == {"fast": "crun"}


def test_policy_that_is_wrong_names_the_line() -> None:
    with pytest.raises(ConfigError) as caught:
        configured_policy(loaded('[log]\n[runtime.policy]\ndefault = "docker"\n'))
    (problem,) = caught.value.problems
    assert problem.startswith("/etc/c.toml:2: runtime.policy.default: ")


def test_policy_file_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text('{"default": "pve-lxc"}')
    assert configured_policy(loaded(f'[runtime]\npolicy_file = "{path}"')).default == "pve-lxc"


def test_policy_file_that_is_missing_names_the_line() -> None:
    with pytest.raises(ConfigError, match=r"/etc/c.toml:2: runtime.policy_file: .*cannot be read"):
        configured_policy(loaded('[runtime]\npolicy_file = "/none.toml"'))


def test_host_problems_name_what_is_not_there(tmp_path: pathlib.Path) -> None:
    found = host_problems(
        loaded(
            f'[runtime]\ncrun = "{tmp_path}/crun"\nconmon = "/bin/true"\npolicy_file = "/none.toml"\n'
            '[server]\nsocket_group = "no-such-group"\n'
            '[network]\nconf_template = "/none.template"\n'
            '[images]\nregistries_conf = "/none.conf"\nadditional_stores = ["/none", "/"]\n'
        )
    )
    assert [text.partition(": ")[2].partition(": ")[0] for text in found] == [
        "runtime.crun",
        "server.socket_group",
        "network.conf_template",
        "images.registries_conf",
        "images.additional_stores",
        "runtime.policy_file",
    ]
    assert found[0] == f"/etc/c.toml:2: runtime.crun: there is no program '{tmp_path}/crun'"


@pytest.mark.parametrize(
    ("enabled", "content", "words"),
    [
        ("auto", None, ""),
        ("false", "{}", ""),
        ("true", None, "the file '{path}' cannot be read; the role writes it"),
        ("auto", "{}", "the file '{path}' does not say host, port, user, token_id and secret"),
        ("auto", '{"host": "h", "port": 1, "user": "u@pve", "token_id": "t", "secret": "s"}', ""),
    ],
    ids=["none", "off", "wanted", "empty", "good"],
)
def test_host_problems_tell_of_the_access_to_proxmox(
    tmp_path: pathlib.Path, enabled: str, content: str | None, words: str
) -> None:
    path = tmp_path / "pve.json"
    if content is not None:
        path.write_text(content)
    text = '[runtime]\ncrun = "/bin/true"\nconmon = "/bin/true"\n[server]\nsocket_group = "0"\n'
    found = host_problems(loaded(f'{text}[pve]\nenabled = "{enabled}"\naccess_file = "{path}"\n'))
    expected = [f"/etc/c.toml:8: pve.access_file: {words.format(path=path)}"] if words else []
    assert found == expected


@pytest.mark.parametrize("group", ["root", "12345"])
def test_host_problems_is_empty_where_all_is_well(group: str) -> None:
    text = f'[runtime]\ncrun = "/bin/true"\nconmon = "/bin/true"\n[server]\nsocket_group = "{group}"\n'
    assert host_problems(loaded(text)) == []


def test_host_problems_tell_of_certificates_that_are_none(tmp_path: pathlib.Path) -> None:
    own = Authority(tmp_path).server("node", "DNS:node")
    (tmp_path / "text").write_text("nothing")
    text = '[runtime]\ncrun = "/bin/true"\nconmon = "/bin/true"\n[streaming]\n'
    good = f'{text}tls_cert = "{own.cert}"\ntls_key = "{own.key}"\n'
    assert host_problems(loaded(good)) == []
    assert ":5: streaming.tls_cert: " in host_problems(loaded(good.replace(own.cert, f"{tmp_path}/text")))[0]
    assert (
        ":7: streaming.tls_client_ca: "
        in host_problems(loaded(f'{good}tls_client_ca = "{tmp_path}/text"'))[0]
    )
    (missing,) = host_problems(loaded(good.replace(own.key, "/none.key")))
    assert missing.endswith("streaming.tls_key: the file '/none.key' cannot be read")
