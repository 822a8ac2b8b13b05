#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pve_access
short_description: Give a program its own access to the Proxmox VE API
version_added: "0.1.0"
description:
  - Makes roles, a user, an API token of it and its permissions, as one object, and keeps the token's secret
    in a file on the host that the task runs on.
  - Proxmox VE tells the secret of a token once, when it makes it. So when the file is missing, damaged or
    refused by the API, the token is made anew, and the result says why. A task that was killed in between
    is completed by the next run in the same way.
  - The secret appears nowhere but in that file, not in results, diffs, logs or arguments of programs.
  - What was made is recognised by the end of its comment, C((pvecri.runtime)) for a user and
    C((pvecri.runtime on HOST)) for a token. Users and tokens without it are refused, not changed.
  - Roles have no comment. One is changed only while nobody else has it, and removed only while nobody has
    it and its privileges are those in O(roles).
author:
  - The pvecri authors (@pvecri)
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.pve
  - pvecri.runtime.pve
options:
  transport:
    description:
      - How the API is reached.
      - V(https) is the API as all modules reach it, with the options O(api_host) and so on.
      - V(pvesh) is the program of that name on a node of the cluster, as root, on which the task must run.
        It needs no login and no Python package, and the options that start with C(api_) are not looked at,
        except for O(api_timeout).
    type: str
    choices: [https, pvesh]
    default: https
  pvesh_command:
    description: Program to run with O(transport=pvesh).
    type: str
    default: pvesh
  state:
    description:
      - V(present) makes everything that is missing and mends what differs.
      - V(absent) removes the token and its file. The user goes with its last token, and each role with the
        last permission that names it. RV(access.kept) tells what stays and why.
    type: str
    choices: [present, absent]
    default: present
  user:
    description:
      - User with realm, such as V(pvecri@pve). Hosts may share one, each with a token of its own.
      - One that is made has no password, so nobody can log in with it.
    type: str
    required: true
  token_id:
    description: Name of the token, without the user. Each host must have its own.
    type: str
    required: true
  roles:
    description:
      - Roles to make, each name with the list of its privileges. A role gets exactly these.
      - Proxmox VE refuses names that start with V(PVE), in any case. Default is to make none.
    type: dict
    default: {}
  acl:
    description:
      - Permissions of the user and, with O(privilege_separation=true), of the token.
      - Permissions of the token that are not named are removed, and of the user those that none of its
        tokens has. Default is to give none.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: What the permission is for, such as V(/vms) or V(/storage/local).
        type: str
        required: true
      role:
        description: Name of a role, one of O(roles) or another that exists.
        type: str
        required: true
      propagate:
        description: Whether it is for everything below O(acl[].path) too.
        type: bool
        default: true
  privilege_separation:
    description:
      - Whether the token has only the permissions in O(acl), whatever else its user gets later. Otherwise
        it has all of its user's.
    type: bool
    default: true
  expire:
    description: When the token ends, in seconds since 1970. V(0) is never.
    type: int
    default: 0
  comment:
    description:
      - Text in front of the mark in the comments of user and token. The default is V(Managed by Ansible)
        for what is made, and to keep what is there.
    type: str
  secret_file:
    description:
      - File for the secret, a JSON object with C(host), C(port), C(user), C(token_id), C(secret),
        C(ca_path) and C(fingerprint), with mode 0600. It is replaced as a whole or not at all. Its
        directory must exist.
      - Required with O(state=present). With O(state=absent) it is removed if it is of this token.
    type: path
  server:
    description:
      - How who reads O(secret_file) reaches the API, which is written into it, and how the module tries
        whether the API takes the token.
      - By default as O(api_host) and its companions say. With O(transport=pvesh) it is port 8006 of
        V(localhost), with the cluster's authority, or with the fingerprint of the administrator's own
        certificate when the node has one (C(/etc/pve/local/pveproxy-ssl.pem)).
    type: dict
    suboptions:
      host:
        description: Name or address. By default as described for O(server).
        type: str
      port:
        description: TCP port. By default as described for O(server).
        type: int
      ca_path:
        description: PEM file or directory of authorities. By default as described for O(server).
        type: path
      fingerprint:
        description: SHA-256 fingerprint of the certificate. By default as described for O(server).
        type: str
  adopt:
    description:
      - Whether a user, token or role that was not made by this collection, or a token of another host, may
        be used and changed. A token is made anew then, and whoever used it loses it. A user does not get
        the mark, so it stays with O(state=absent).
    type: bool
    default: false
seealso:
  - module: pvecri.runtime.pve_lxc_container
"""

EXAMPLES = r"""
- name: Give a program on each node the right to start and stop containers, without knowing any password
  pvecri.runtime.pve_access:
    transport: pvesh
    user: operator@pve
    token_id: "{{ inventory_hostname_short }}"
    roles:
      ContainerOperator: [VM.Audit, VM.PowerMgmt]
    acl:
      - path: /vms
        role: ContainerOperator
    secret_file: /etc/operator/pve.json

- name: Do the same from elsewhere, with a token until the end of the year 2030
  pvecri.runtime.pve_access:
    api_host: pve1.example.org
    api_user: root@pam
    api_password: "{{ vault_pve_password }}"
    user: operator@pve
    token_id: monitoring
    roles:
      ContainerAuditor: [VM.Audit]
    acl:
      - path: /pool/production
        role: ContainerAuditor
    expire: 1924988399
    secret_file: /etc/operator/monitoring.json

- name: Take it away
  pvecri.runtime.pve_access:
    transport: pvesh
    user: operator@pve
    token_id: "{{ inventory_hostname_short }}"
    roles:
      ContainerOperator: [VM.Audit, VM.PowerMgmt]
    secret_file: /etc/operator/pve.json
    state: absent
"""

RETURN = r"""
access:
  description: What was worked on.
  returned: success
  type: dict
  contains:
    user:
      description: The user.
      returned: success
      type: str
      sample: operator@pve
    token_id:
      description: The token's full name.
      returned: success
      type: str
      sample: operator@pve!pve1
    roles:
      description: The roles that were asked for, with their privileges.
      returned: success
      type: dict
      sample: {"ContainerOperator": ["VM.Audit", "VM.PowerMgmt"]}
    acl:
      description: The permissions that were asked for.
      returned: success
      type: list
      elements: dict
      sample: [{"path": "/vms", "role": "ContainerOperator", "propagate": true}]
    secret_file:
      description: The file that holds the secret, or null.
      returned: success
      type: str
      sample: /etc/operator/pve.json
    renewed:
      description: Why an existing token was made anew, or would be in check mode, or null if it was not.
      returned: success
      type: str
      sample: the file is missing
    kept:
      description: With O(state=absent), what stays, and why.
      returned: success
      type: list
      elements: str
      sample: ["user 'operator@pve': it has other tokens (pve2)"]
"""

import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import access, access_apply, token_file
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.options import (
    client_from_params,
    connection_argument_spec,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.pvesh import PveshClient


def client_of(params: dict[str, t.Any]) -> PveClient | PveshClient:
    if params["transport"] == "https":
        return client_from_params(params)
    return PveshClient(
        SubprocessRunner(), program=params["pvesh_command"], timeout_s=max(params["api_timeout"], 1.0)
    )


def request_of(params: dict[str, t.Any]) -> access.Request:
    for name, privileges in params["roles"].items():
        if not isinstance(privileges, list) or not all(isinstance(item, str) for item in privileges):
            raise InvalidSpec(f"roles.{name}", "is no list of privileges", hint="Write it like [VM.Audit]")
    return access.Request(
        user=params["user"],
        token=params["token_id"],
        host=os.uname().nodename,
        roles={name: frozenset(privileges) for name, privileges in params["roles"].items()},
        grants=tuple(access.Grant(**entry) for entry in params["acl"]),
        privsep=params["privilege_separation"],
        expire=params["expire"],
        comment=params["comment"],
        adopt=params["adopt"],
    )


def server_of(params: dict[str, t.Any], client: PveClient | PveshClient) -> token_file.Server:
    given = {name: value for name, value in (params["server"] or {}).items() if value is not None}
    if isinstance(client, PveClient):
        usual = token_file.server_of_connection(client.connection)
        if not (client.connection.validate_certs or usual.fingerprint or given.keys() & token_file.PROOFS):
            raise InvalidSpec(
                "validate_certs",
                "is false, and a secret is not sent to a server that nobody knows",
                hint="Give fingerprint or ca_path",
            )
    else:
        usual = token_file.server_of_node(given)
    return token_file.merged(usual, given)


def perform(params: dict[str, t.Any], context: Context) -> Outcome:
    request = request_of(params)
    client = client_of(params)
    path = params["secret_file"]
    if params["state"] == "present":
        file = access_apply.SecretFile(path, server_of(params, client), params["api_timeout"])
        done = access_apply.make_present(client, request, file, check_mode=context.check_mode)
    else:
        done = access_apply.make_absent(client, request, path, check_mode=context.check_mode)
    differences = done.plan.differences
    values = {
        "user": request.user,
        "token_id": request.token_id,
        "roles": {name: sorted(privileges) for name, privileges in request.roles.items()},
        "acl": params["acl"],
        "secret_file": path,
        "renewed": done.renewal,
        "kept": done.plan.kept,
    }
    return Outcome(bool(differences), differences.as_diff(), {"access": values})


def main() -> t.NoReturn:
    spec: dict[str, t.Any] = {
        "transport": {"type": "str", "choices": ["https", "pvesh"], "default": "https"},
        "pvesh_command": {"type": "str", "default": "pvesh"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "user": {"type": "str", "required": True},
        "token_id": {"type": "str", "required": True, "no_log": False},
        "roles": {"type": "dict", "default": {}},
        "acl": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "path": {"type": "str", "required": True},
                "role": {"type": "str", "required": True},
                "propagate": {"type": "bool", "default": True},
            },
        },
        "privilege_separation": {"type": "bool", "default": True},
        "expire": {"type": "int", "default": 0},
        "comment": {"type": "str"},
        "secret_file": {"type": "path", "no_log": False},
        "server": {
            "type": "dict",
            "options": {
                "host": {"type": "str"},
                "port": {"type": "int"},
                "ca_path": {"type": "path"},
                "fingerprint": {"type": "str"},
            },
        },
        "adopt": {"type": "bool", "default": False},
    }
    run_module(
        {**connection_argument_spec(), **spec}, perform, required_if=[("state", "present", ["secret_file"])]
    )


if __name__ == "__main__":
    main()
