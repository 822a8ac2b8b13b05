# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know which privilege each change of a container needs, and name the missing ones beforehand.

A server that refuses the third of four requests leaves half of the work done.
So a user who is not root@pam is asked for first: one request, and only when
something is to be changed.  Where this table is more generous than the server,
the server's own refusal names the privilege.
Source: ``check_ct_modify_config_perm`` in pve-container's src/PVE/LXC.pm and the
permissions in the Proxmox VE 9 API schema.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import MissingPrivilege
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_keys as keys
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import props
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_plan import Actual, Plan, Verb

#: Privilege on the container that each config key needs; everything else is VM.Config.Options.
PRIVILEGES = {
    "cores": "VM.Config.CPU",
    "cpulimit": "VM.Config.CPU",
    "cpuunits": "VM.Config.CPU",
    "memory": "VM.Config.Memory",
    "swap": "VM.Config.Memory",
    "net": "VM.Config.Network",
    "nameserver": "VM.Config.Network",
    "searchdomain": "VM.Config.Network",
    "hostname": "VM.Config.Network",
    "rootfs": "VM.Config.Disk",
    "mp": "VM.Config.Disk",
    "unused": "VM.Config.Disk",
    "features": "VM.Allocate",
}
_OPTIONS = "VM.Config.Options"

#: Keys that only root@pam itself may set.
ROOT_ONLY = frozenset({"dev", "hookscript"})

#: Of a create request, what is no config key.
_NOT_CONFIG = frozenset(
    {
        "vmid",
        "ostemplate",
        "storage",
        "pool",
        "unprivileged",
        "password",
        "ssh-public-keys",
        "bwlimit",
        "ignore-unpack-errors",
    }
)

_NEW_VOLUME = re.compile(r"([A-Za-z][\w.-]*):\d+(?:\.\d+)?(?:,|$)")


@dataclasses.dataclass(frozen=True, slots=True)
class Requirement:
    """One of ``privileges`` on one of ``paths``, for the sake of ``what``."""

    what: str
    paths: tuple[str, ...]
    privileges: tuple[str, ...]

    def is_met(self, held: t.Mapping[str, t.Container[str]]) -> bool:
        """Say whether ``held`` (path → privileges, as GET /access/permissions) has it.

        A path that ends in ``/*`` is met anywhere below, too.
        """
        places = {above for path in self.paths for above in _upwards(path.removesuffix("/*"))}
        prefixes = tuple(path[:-1] for path in self.paths if path.endswith("/*"))
        return any(
            privilege in privileges
            for path, privileges in held.items()
            if path in places or path.startswith(prefixes)
            for privilege in self.privileges
        )


def _upwards(path: str) -> list[str]:
    """Return a path and all above it; privileges are inherited."""
    parts = [part for part in path.split("/") if part]
    return ["/" + "/".join(parts[:count]) for count in range(len(parts), -1, -1)]


def privilege_of(key: str) -> str:
    """Return the privilege that a config key needs, or ``root@pam``."""
    parts = keys.split_index(key)
    name = parts[0] if parts else key
    return "root@pam" if name in ROOT_ONLY else PRIVILEGES.get(name, _OPTIONS)


def root_only(
    put: t.Mapping[str, t.Any],
    delete: t.Iterable[str] = (),
    *,
    config: t.Mapping[str, t.Any],
    unprivileged: bool,
) -> list[str]:
    """Return the keys of a change that only root@pam itself may make, with the reason.  Pure."""
    found = []
    for key in (*put, *delete):
        value = put.get(key)
        if privilege_of(key) == "root@pam":
            found.append(key)
        elif key == "features":
            if not unprivileged:
                found.append("features (of a privileged container)")
            elif other := _other_features(config.get("features"), value):
                found.append(f"features ({', '.join(other)})")
        elif value is not None and (key == "rootfs" or keys.is_indexed(key, "mp")):
            volume = props.actual(value, props.MOUNT).get("volume", "")
            if volume.startswith("/"):
                found.append(f"{key} ({'device' if volume.startswith('/dev/') else 'bind mount'})")
    return found


def _other_features(before: t.Any, after: t.Any) -> list[str]:
    """Return the features that change besides nesting."""
    old, new = props.actual(before, props.FEATURES), props.actual(after, props.FEATURES)
    return sorted(k for k in {*old, *new} if k != "nesting" and old.get(k, "0") != new.get(k, "0"))


def for_create(params: t.Mapping[str, t.Any], *, ha: bool, start: bool) -> list[Requirement]:
    """Return what a create request and its follow-ups need.  Pure."""
    vm = _guest_paths(params["vmid"], params.get("pool"))
    template_storage = str(params["ostemplate"]).partition(":")[0]
    found = [
        Requirement("creating a container", vm, ("VM.Allocate",)),
        Requirement(
            "the template",
            (f"/storage/{template_storage}",),
            ("Datastore.AllocateSpace", "Datastore.Audit", "Datastore.Allocate"),
        ),
    ]
    put = {key: value for key, value in params.items() if key not in _NOT_CONFIG}
    found += _for_config(put, (), vm)
    if not params.get("unprivileged"):
        found.append(Requirement("unprivileged: false", ("/",), ("Sys.Modify",)))
    return found + _follow_ups(vm, ha=ha, start=start)


def for_clone(params: t.Mapping[str, t.Any], origin: int, *, ha: bool, start: bool) -> list[Requirement]:
    """Return what a clone request and its follow-ups need.  Pure."""
    vm = _guest_paths(params["newid"], params.get("pool"))
    found = [
        Requirement("cloning the original", _guest_paths(origin), ("VM.Clone",)),
        Requirement("creating a container", vm, ("VM.Allocate",)),
        Requirement("tags and description", vm, (_OPTIONS,)),
    ]
    if params.get("storage"):
        found.append(
            Requirement("its volumes", (f"/storage/{params['storage']}",), ("Datastore.AllocateSpace",))
        )
    return found + _follow_ups(vm, ha=ha, start=start)


def _follow_ups(vm: tuple[str, ...], *, ha: bool, start: bool) -> list[Requirement]:
    found = [Requirement("starting it", vm, ("VM.PowerMgmt",))] if start else []
    return found + ([Requirement("ha", ("/",), ("Sys.Console",))] if ha else [])


_POWER = {Verb.START: "starting it", Verb.REBOOT: "restarting it", Verb.SHUTDOWN: "stopping it"}
_HA = frozenset({Verb.HA_ADD, Verb.HA_UPDATE, Verb.HA_REMOVE})


def for_plan(made: Plan, actual: Actual) -> list[Requirement]:
    """Return what the steps of a plan for an existing container need.  Pure."""
    vm = _guest_paths(actual.vmid)
    found: list[Requirement] = []
    for step in made.steps:
        values = step.values
        if step.verb in _POWER:
            found.append(Requirement(_POWER[step.verb], vm, ("VM.PowerMgmt",)))
        elif step.verb in _HA:
            found.append(Requirement("ha", ("/",), ("Sys.Console",)))
        elif step.verb is Verb.CONFIGURE:
            found += _for_config(values["put"], values["delete"], vm)
        elif step.verb is Verb.UNPROTECT:
            found.append(Requirement("protection", vm, (_OPTIONS,)))
        elif step.verb in (Verb.RESIZE, Verb.MOVE):
            found += _for_disk(step.values, actual, vm)
        elif step.verb is Verb.MIGRATE:
            found.append(Requirement("moving it to another node", vm, ("VM.Migrate",)))
        elif step.verb is Verb.POOL:
            found += _for_pool(values, vm)
        elif step.verb in (Verb.TEMPLATE, Verb.DESTROY):
            found.append(Requirement(step.verb.value, vm, ("VM.Allocate",)))
    return found


def _for_config(
    put: t.Mapping[str, t.Any], delete: t.Iterable[str], vm: tuple[str, ...]
) -> list[Requirement]:
    found = []
    for key in (*put, *delete):
        privilege = privilege_of(key)
        if privilege != "root@pam":
            found.append(Requirement(key, vm, (privilege,)))
        new = (
            _NEW_VOLUME.match(str(put.get(key, "")))
            if key == "rootfs" or keys.is_indexed(key, "mp")
            else None
        )
        if new:
            found.append(Requirement(key, (f"/storage/{new[1]}",), ("Datastore.AllocateSpace",)))
        # Which zone a bridge belongs to is the server's to know: it names the path if need be.
        if keys.is_indexed(key, "net") and props.actual(put.get(key), props.NET).get("bridge"):
            found.append(Requirement(key, ("/sdn/zones/*",), ("SDN.Use",)))
    return found


def _for_disk(values: t.Mapping[str, t.Any], actual: Actual, vm: tuple[str, ...]) -> list[Requirement]:
    disk = values["disk"]
    volume = props.actual(actual.config.get(disk), props.MOUNT).get("volume", "")
    storage = values.get("storage") or volume.partition(":")[0]
    return [
        Requirement(disk, vm, ("VM.Config.Disk",)),
        Requirement(disk, (f"/storage/{storage}",), ("Datastore.AllocateSpace",)),
    ]


def _for_pool(values: t.Mapping[str, t.Any], vm: tuple[str, ...]) -> list[Requirement]:
    pools = [pool for pool in (values["leave"], values["join"]) if pool]
    found = [Requirement("pool", (f"/pool/{pool}",), ("Pool.Allocate",)) for pool in pools]
    return [*found, Requirement("pool", vm, ("VM.Allocate", "Permissions.Modify"))]


def _guest_paths(vmid: int, pool: str | None = None) -> tuple[str, ...]:
    # Which pool an existing container is in is not always known: any pool's privilege counts.
    return (f"/vms/{vmid}", f"/pool/{pool}" if pool else "/pool/*")


Permissions = t.Mapping[str, t.Container[str]]


def may(held: Permissions, path: str, privilege: str) -> bool:
    """Say whether a privilege is held on a path."""
    return Requirement("", (path,), (privilege,)).is_met(held)


def check(
    client: PveClient,
    requirements: t.Sequence[Requirement],
    root_keys: t.Sequence[str],
    held: t.Callable[[], Permissions],
) -> None:
    """Raise MissingPrivilege naming everything that is missing, before anything is touched.

    ``held`` is only called for users who are not root@pam itself.
    """
    if client.is_root:
        return
    if root_keys:
        raise MissingPrivilege(
            f"only root@pam itself may set {', '.join(root_keys)}",
            privilege="root@pam",
            hint="Log in as root@pam with its password: no API token may, not even one of root@pam. "
            "Or leave the options out",
        )
    missing = [need for need in requirements if not need.is_met(held())]
    if missing:
        texts = list(
            dict.fromkeys(f"{' or '.join(m.privileges)} on {m.paths[0]} (for {m.what})" for m in missing)
        )
        raise MissingPrivilege(
            f"the Proxmox VE user '{client.connection.user}' lacks {'; '.join(texts)}",
            privilege=missing[0].privileges[0],
            path=missing[0].paths[0],
            hint="Give the user, and a token with privilege separation too, a role that has them there",
        )
