# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a fake cluster what fakepve only answers but does not keep: roles, users, tokens and permissions.

fakepve invents an answer to every request below /access and stores nothing; its tokens
have all that their user has.  Here roles, users and tokens are made and go, a permission on a
path hides those above it, a token with privilege separation has what both it and its user
have, and a permission that names a role, user or token that is gone is forgotten, as in Proxmox VE
(pve-access-control).  `make_pvesh` writes a ``pvesh`` that asks such a cluster.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import pathlib
import sys
import textwrap
import time
import typing as t
import uuid

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.tests.support.fakepve import FakeCluster

Values = dict[str, t.Any]

_ROLE_VARS = pathlib.Path(__file__).parents[2] / "roles/cri_endpoint/vars/pve.yml"

BUILT_IN = {"Administrator": ("VM.Audit", "Sys.Audit"), "NoAccess": (), "PVEAuditor": ("VM.Audit",)}


@dataclasses.dataclass
class AccessDouble:
    """The state of the routes; tests look into it and set it."""

    pve: t.Any
    roles: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    users: dict[str, Values] = dataclasses.field(default_factory=lambda: {"root@pam": {"enable": 1}})
    tokens: dict[str, Values] = dataclasses.field(default_factory=dict)
    #: ``(path, kind, who, role)`` to whether it is for all below.
    acl: dict[tuple[str, str, str, str], bool] = dataclasses.field(default_factory=dict)
    #: Called before a request is answered, with method and path; may raise, or change the state.
    before: t.Callable[[str, str], None] = lambda _method, _path: None

    def routes(self) -> list[tuple[str, str, t.Any]]:
        """Return the routes as fakepve registers them."""
        user, token = "/access/users/{userid}", "/access/users/{userid}/token/{tokenid}"
        table = [
            ("GET", "/access/roles", self._roles),
            ("POST", "/access/roles", self._add_role),
            ("PUT", "/access/roles/{roleid}", self._set_role),
            ("DELETE", "/access/roles/{roleid}", self._remove_role),
            ("GET", "/access/users", self._users),
            ("POST", "/access/users", self._add_user),
            ("PUT", user, self._set_user),
            ("DELETE", user, self._remove_user),
            ("POST", token, self._add_token),
            ("PUT", token, self._set_token),
            ("DELETE", token, self._remove_token),
            ("GET", "/access/acl", self._acl),
            ("PUT", "/access/acl", self._set_acl),
        ]
        return [(method, path, self._announced(method, path, handler)) for method, path, handler in table]

    def _announced(self, method: str, path: str, handler: t.Any) -> t.Any:
        async def serve(values: Values, user: str) -> t.Any:
            self.before(method, path)
            self._forget()
            return handler(values)

        return serve

    def _forget(self) -> None:
        """Drop permissions of what is gone, as each reading of user.cfg does."""
        known = {"user": self.users, "token": self.tokens, "group": {}}
        roles = self.roles.keys() | BUILT_IN.keys()
        for key in list(self.acl):
            _path, kind, who, role = key
            if (kind != "group" and who not in known[kind]) or role not in roles:
                del self.acl[key]

    def give(self, kind: str, who: str, path: str, role: str, *, propagate: bool = True) -> None:
        """Give a permission."""
        self.acl[path, kind, who, role] = propagate

    def entries(self, who: str) -> set[tuple[str, str, bool]]:
        """Return the permissions of a user or token as path, role and whether for all below."""
        self._forget()
        return {(path, role, on) for (path, _kind, name, role), on in self.acl.items() if name == who}

    def secret(self, token: str) -> str | None:
        """Return the secret of a token."""
        return t.cast("str | None", self.pve.apitokens.get(token))

    # ---------------------------------------------------------------- roles

    def _roles(self, _values: Values) -> list[Values]:
        roles = {**{name: set(privs) for name, privs in BUILT_IN.items()}, **self.roles}
        return [
            {"roleid": name, "privs": ",".join(sorted(privs)), "special": int(name in BUILT_IN)}
            for name, privs in roles.items()
        ]

    def _add_role(self, values: Values) -> None:
        name = values["roleid"]
        if name.lower().startswith("pve"):
            text = "cannot use role ID starting with the (case-insensitive) 'PVE' namespace"
            raise _refused(400, "Parameter verification failed.", {"roleid": text})
        if name in self.roles or name in BUILT_IN:
            raise _refused(500, f"create role failed: role '{name}' already exists")
        self.roles[name] = _split(values.get("privs"))

    def _set_role(self, values: Values) -> None:
        name = values["roleid"]
        if name in BUILT_IN:
            raise _refused(500, f"auto-generated role '{name}' cannot be modified")
        self.roles[name] = _split(values.get("privs"))

    def _remove_role(self, values: Values) -> None:
        if self.roles.pop(values["roleid"], None) is None:
            raise _refused(500, f"delete role failed: role '{values['roleid']}' does not exist")

    # ---------------------------------------------------------------- users and tokens

    def _users(self, values: Values) -> list[Values]:
        found = []
        for name, user in self.users.items():
            tokens = [
                {"tokenid": full.partition("!")[2], **token}
                for full, token in self.tokens.items()
                if full.startswith(f"{name}!")
            ]
            more = {"groups": "", **({"tokens": tokens} if tokens else {})} if values.get("full") else {}
            found.append({"userid": name, "realm-type": "pve", **user, **more})
        return found

    def _add_user(self, values: Values) -> None:
        name = values.pop("userid")
        if name in self.users:
            raise _refused(500, f"create user failed: user '{name}' already exists")
        self.users[name] = {"enable": 1, **values}

    def _set_user(self, values: Values) -> None:
        self.users[values.pop("userid")].update(values)

    def _remove_user(self, values: Values) -> None:
        name = values["userid"]
        del self.users[name]
        for token in [token for token in self.tokens if token.startswith(f"{name}!")]:
            del self.tokens[token]
            del self.pve.apitokens[token]

    def _add_token(self, values: Values) -> Values:
        full = f"{values['userid']}!{values['tokenid']}"
        if values["userid"] not in self.users:
            raise _refused(500, f"no such user ('{values['userid']}')")
        if full in self.tokens:
            raise _refused(400, "Parameter verification failed.", {"tokenid": "Token already exists."})
        info = {"privsep": int(values.get("privsep", 1))}
        info |= {name: values[name] for name in ("expire", "comment") if values.get(name) is not None}
        self.tokens[full] = info
        self.pve.apitokens[full] = str(uuid.uuid4())
        return {"info": info, "value": self.pve.apitokens[full], "full-tokenid": full}

    def _set_token(self, values: Values) -> Values:
        info = self.tokens[f"{values['userid']}!{values['tokenid']}"]
        info |= {name: int(values[name]) for name in ("privsep", "expire") if values.get(name) is not None}
        # Proxmox VE leaves a comment alone when an empty one is sent.
        info |= {"comment": values["comment"]} if values.get("comment") else {}
        return info

    def _remove_token(self, values: Values) -> None:
        full = f"{values['userid']}!{values['tokenid']}"
        if full not in self.tokens:
            raise _refused(500, f"no such token '{values['tokenid']}' for user '{values['userid']}'")
        del self.tokens[full]
        del self.pve.apitokens[full]

    # ---------------------------------------------------------------- permissions

    def _acl(self, _values: Values) -> list[Values]:
        return [
            {"path": path, "type": kind, "ugid": who, "roleid": role, "propagate": int(on)}
            for (path, kind, who, role), on in self.acl.items()
        ]

    def _set_acl(self, values: Values) -> None:
        for kind in ("user", "group", "token"):
            for who in _split(values.get(f"{kind}s")):
                known = {"user": self.users, "token": self.tokens, "group": {who: 1}}[kind]
                if who not in known:
                    raise _refused(500, f"ACL update failed: {kind} '{who}' does not exist")
                for role in _split(values["roles"]):
                    if role not in self.roles and role not in BUILT_IN:
                        raise _refused(500, f"ACL update failed: role '{role}' does not exist")
                    key = (values["path"], kind, who, role)
                    if values.get("delete"):
                        self.acl.pop(key, None)
                    else:
                        self.acl[key] = bool(int(values.get("propagate", 1)))

    def held(self, who: str, path: str) -> set[str]:
        """Return the privileges of a user or token on a path, as PVE::RPCEnvironment computes them."""
        if who not in self.tokens:
            return self._of("user", who, path)
        token = self.tokens[who]
        if token.get("expire") and token["expire"] <= time.time():
            return set()
        of_user = self._of("user", who.partition("!")[0], path)
        return of_user & self._of("token", who, path) if token["privsep"] else of_user

    def _of(self, kind: str, who: str, path: str) -> set[str]:
        found = self._along(kind, who, path)
        if path.startswith("/vms/"):
            vmid = int(path.split("/")[2])
            for pool in (name for name, members in self.pve.pools.items() if vmid in members):
                found |= self._along(kind, who, f"/pool/{pool}")
        return found

    def _along(self, kind: str, who: str, path: str) -> set[str]:
        parts = [part for part in path.split("/") if part]
        roles: set[str] = set()
        for depth in range(len(parts) + 1):
            here = "/" + "/".join(parts[:depth])
            at = {
                role
                for (where, of, name, role), on in self.acl.items()
                if (where, of, name) == (here, kind, who) and (on or depth == len(parts))
            }
            # The roles of a deeper path replace those from above.
            roles = at or roles
        return {privilege for role in roles for privilege in self.roles.get(role, BUILT_IN.get(role, ()))}


def install(pve: t.Any) -> AccessDouble:
    """Add the routes to a fake that has not started, and let it check permissions by them."""
    double = AccessDouble(pve)
    pve._routes_access_double = double.routes
    pve.acl = {} if pve.acl is None else pve.acl
    otherwise = pve.allowed

    def allowed(user: str, path: str, privilege: str) -> bool:
        if user in double.tokens or (user in double.users and user != "root@pam"):
            return privilege in double.held(user, path)
        return bool(otherwise(user, path, privilege))

    pve.allowed = allowed
    return double


def endpoint_roles(
    rootfs_storage: str, template_storage: str, node: str
) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """Return the roles that cri_endpoint makes, and the paths it gives them on, from its own variables."""
    import jinja2
    import yaml

    loaded = yaml.safe_load(_ROLE_VARS.read_text(encoding="utf-8"))
    places = {"rootfs_storage": rootfs_storage, "template_storage": template_storage, "node": node}
    values = {
        "cri_endpoint_pve_role_prefix": "CriEndpoint",
        "cri_endpoint_pve_pool": "",
        "__cri_endpoint_pve": places,
    }
    render = jinja2.Environment(autoescape=False).from_string
    roles = ast.literal_eval(render(loaded["__cri_endpoint_pve_roles"]).render(values))
    grants = [
        (render(entry["path"]).render(values), render(entry["role"]).render(values))
        for entry in loaded["__cri_endpoint_pve_acl"]
    ]
    return roles, grants


def _split(text: t.Any) -> set[str]:
    return {part for part in str(text or "").split(",") if part}


def _refused(status: int, message: str, fields: dict[str, str] | None = None) -> Exception:
    from fakepve.model import PveError

    return t.cast("Exception", PveError(status, message, fields))


_PVESH = '''
    """Test double of Proxmox VE's pvesh: ask a fake cluster as root, print JSON and errors as pvesh does."""
    import json, ssl, sys, urllib.error, urllib.parse, urllib.request
    with open({log!r}, "a") as log:
        log.write(json.dumps(sys.argv[1:]) + "\\n")
    command, path, *rest = sys.argv[1:]
    if rest[:2] != ["--output-format", "json"] or not all(a.startswith("--") and "=" in a for a in rest[2:]):
        sys.exit("400 unable to parse option\\n")
    method = {{"get": "GET", "create": "POST", "set": "PUT", "delete": "DELETE"}}[command]
    params = [tuple(arg[2:].split("=", 1)) for arg in rest[2:]]
    query = urllib.parse.urlencode(params)
    url = {url!r} + urllib.parse.quote(path, safe="/!@")
    in_query = method in ("GET", "DELETE")
    request = urllib.request.Request(
        url + ("?" + query if query and in_query else ""),
        data=None if in_query else query.encode(), method=method,
        headers={{"Authorization": {login!r}}})
    try:
        answer = urllib.request.urlopen(request, context=ssl.create_default_context(cafile={ca!r}))
        data = json.load(answer)["data"]
    except urllib.error.HTTPError as exc:
        body = json.loads(exc.read() or b"{{}}")
        if exc.code == 400:
            print("400 Parameter verification failed.", file=sys.stderr)
            for name, text in body.get("errors", {{}}).items():
                print(f"{{name}}: {{text}}", file=sys.stderr)
            print("pvesh", command, path, "[OPTIONS]", file=sys.stderr)
        else:
            print(exc.reason, file=sys.stderr)
        sys.exit(255 if exc.code == 400 else 2)
    if data is not None:
        print(json.dumps(data, indent=3, sort_keys=True))
'''


@dataclasses.dataclass(frozen=True)
class Pvesh:
    """The program, and what it was called with."""

    path: str
    log: pathlib.Path

    def calls(self) -> list[list[str]]:
        """Return the arguments of every call so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


def make_pvesh(cluster: FakeCluster, directory: pathlib.Path, token_secret: str) -> Pvesh:
    """Write a ``pvesh`` into ``directory`` that acts as root on the fake cluster."""
    path, log = directory / "pvesh", directory / "pvesh.calls"
    text = textwrap.dedent(_PVESH).format(
        log=str(log),
        url=f"https://127.0.0.1:{cluster.port}/api2/json",
        login=f"PVEAPIToken=root@pam!root={token_secret}",
        ca=cluster.ca_path,
    )
    # Without site packages, the standard library is enough: each request starts it anew.
    path.write_text(f"#!{sys.executable} -IS\n{text}")
    os.chmod(path, 0o755)
    return Pvesh(str(path), log)
