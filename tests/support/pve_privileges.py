# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know which privileges of Proxmox VE each thing needs, in one table.

The tables of docs/pve-privileges.md are made from it (`as_markdown`), and the roles to
create are computed from it (`roles`).  Tests hold what the modules check and what an API
refuses against it.  The rules are those of Proxmox VE 9's API and of pve-container.
"""

from __future__ import annotations

import dataclasses

GUEST = "/vms/{vmid}"
STORAGE = "/storage/{storage}"
BRIDGE = "/sdn/zones/{zone}/{bridge}"
ROOT = "/"

#: What only root@pam itself may do, by password: no token and no other user, whatever its privileges.
ROOT_ONLY = "root@pam"


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """One row: what is asked for, and the privileges that it needs on a path."""

    #: Module without the collection's name.
    module: str
    #: Option names, or ``state=…`` and what happens then.
    subject: str
    privileges: tuple[str, ...]
    path: str = GUEST
    #: One of the privileges is enough.
    any_of: bool = False
    note: str = ""

    @property
    def is_root_only(self) -> bool:
        """Say whether no privilege is enough."""
        return self.privileges == (ROOT_ONLY,)


_CT = "pve_lxc_container"
_INFO = "pve_lxc_container_info"
_SNAPSHOT = "pve_lxc_snapshot"
_BACKUP = "pve_lxc_backup"

_SPACE = ("Datastore.AllocateSpace",)
_POOL_TOO = "On the pool that the container is in, or joins, is enough."

MATRIX: tuple[Need, ...] = (
    Need("all", "reading containers", ("VM.Audit",), note="Containers without it are invisible."),
    Need("all", "reading storages", ("Datastore.Audit",), STORAGE, note="Storages without it are invisible."),
    Need(_CT, "state=present, creating", ("VM.Allocate",), note=_POOL_TOO),
    Need(_CT, "storage, rootfs of a new container", _SPACE, STORAGE, note="On the storage of each volume."),
    Need(
        _CT,
        "ostemplate",
        ("Datastore.AllocateSpace", "Datastore.Audit"),
        STORAGE,
        any_of=True,
        note="On the storage of the template.",
    ),
    Need(
        _CT,
        "image, or ostemplate by name, putting it onto image_storage",
        ("Datastore.AllocateTemplate",),
        STORAGE,
        note="Only when the storage does not have it yet.",
    ),
    Need(_CT, "unprivileged=false", ("Sys.Modify",), ROOT, note="Only when the container is created."),
    Need(_CT, "clone", ("VM.Clone",), note="On the container that is cloned."),
    Need(_CT, "clone, the new container", ("VM.Allocate",), note=_POOL_TOO),
    Need(_CT, "clone, volumes", _SPACE, STORAGE),
    Need(_CT, "cores, cpulimit, cpuunits", ("VM.Config.CPU",)),
    Need(_CT, "memory, swap", ("VM.Config.Memory",)),
    Need(_CT, "rootfs, mounts", ("VM.Config.Disk",)),
    Need(_CT, "rootfs, mounts, new or larger volumes", _SPACE, STORAGE),
    Need(_CT, "networks, hostname, nameserver, searchdomain", ("VM.Config.Network",)),
    Need(_CT, "networks, each bridge or virtual network", ("SDN.Use",), BRIDGE),
    Need(
        _CT,
        "description, tags, onboot, protection, startup, cmode, console, tty, debug, timezone, arch, ostype, "
        "env, entrypoint, unset",
        ("VM.Config.Options",),
        note="Without it, env cannot be read either. Options in unset need what setting them needs.",
    ),
    Need(_CT, "features, nesting only", ("VM.Allocate",), note="On unprivileged containers only."),
    Need(_CT, "features, any other", (ROOT_ONLY,)),
    Need(_CT, "features on a privileged container", (ROOT_ONLY,)),
    Need(_CT, "mounts of a directory or device of the host", (ROOT_ONLY,)),
    Need(_CT, "devices", (ROOT_ONLY,)),
    Need(_CT, "hookscript", (ROOT_ONLY,)),
    Need(_CT, "ostemplate by absolute path", (ROOT_ONLY,)),
    Need(
        _CT,
        "lxc",
        (ROOT_ONLY,),
        note="Raw lines are not part of the API; they are written on the node as root.",
    ),
    Need(_CT, "state=started, stopped, restarted", ("VM.PowerMgmt",)),
    Need(_CT, "state=template", ("VM.Allocate",)),
    Need(_CT, "state=absent", ("VM.Allocate",)),
    Need(_CT, "migrate", ("VM.Migrate",)),
    Need(_CT, "pool", ("Pool.Allocate",), "/pool/{pool}"),
    Need(_CT, "ha", ("Sys.Console",), ROOT),
    Need(_CT, "ha, reading", ("Sys.Audit",), ROOT),
    Need(_SNAPSHOT, "state=present, absent", ("VM.Snapshot",)),
    Need(
        _SNAPSHOT,
        "state=rolledback",
        ("VM.Snapshot", "VM.Snapshot.Rollback"),
        any_of=True,
    ),
    Need(_SNAPSHOT, "start", ("VM.PowerMgmt",)),
    Need(_BACKUP, "state=present", ("VM.Backup",)),
    Need(_BACKUP, "state=present, the storage", _SPACE, STORAGE),
    Need(_BACKUP, "bwlimit", ("Sys.Modify",), ROOT),
    Need(
        _BACKUP,
        "max_age",
        ("Sys.Audit",),
        "/nodes/{node}",
        note="Without it this host's clock is used instead of the node's, with a warning.",
    ),
    Need(_BACKUP, "listing backups, state=absent, pruned, notes, protected", ("VM.Backup",)),
    Need(_BACKUP, "listing backups, state=absent, pruned, notes, protected, the storage", _SPACE, STORAGE),
    Need(_BACKUP, "state=restored", ("VM.Allocate",), note=_POOL_TOO),
    Need(_BACKUP, "state=restored, volumes", _SPACE, STORAGE),
    Need(_BACKUP, "start", ("VM.PowerMgmt",)),
)

#: Options of pve_lxc_container that need nothing of their own: they choose, or say how.
FREE_OPTIONS = frozenset(
    {
        "vmid",
        "vmid_range",
        "node",
        "state",
        "image_authfile",
        "image_tls_verify",
        "clone_type",
        "clone_snapshot",
        "password",
        "ssh_public_keys",
        "ignore_unpack_errors",
        "bwlimit",
        "comparisons",
        "adopt",
        "force",
        "apply_pending",
        "purge",
        "destroy_unreferenced_disks",
        "shutdown_timeout",
        "lock_timeout",
    }
)

#: Role name by the kind of path that it is given on.
_ROLES = {
    GUEST: ("PvecriContainer", "/vms"),
    STORAGE: ("PvecriStorage", "/storage/{storage}"),
    BRIDGE: ("PvecriNetwork", "/sdn/zones/{zone}"),
    "/pool/{pool}": ("PvecriPool", "/pool/{pool}"),
    "/nodes/{node}": ("PvecriNode", "/nodes"),
    ROOT: ("PvecriCluster", "/"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Role:
    """A role that holds no more than the table asks for, and the path to give it on."""

    name: str
    path: str
    privileges: tuple[str, ...]

    def create_command(self) -> str:
        """Return the command that makes the role."""
        return f"pveum role add {self.name} --privs {','.join(self.privileges)}"

    def grant_command(self, user: str) -> str:
        """Return the command that gives the role to a user."""
        return f"pveum acl modify {self.path} --users {user} --roles {self.name}"


def roles(modules: tuple[str, ...] = ()) -> tuple[Role, ...]:
    """Return the roles that all modules, or only the named ones, need."""
    found: dict[str, set[str]] = {}
    for need in MATRIX:
        if not need.is_root_only and (not modules or need.module in ("all", *modules)):
            found.setdefault(need.path, set()).update(need.privileges)
    return tuple(Role(*_ROLES[path], tuple(sorted(found[path]))) for path in _ROLES if path in found)


def as_markdown() -> str:
    """Return the tables of docs/pve-privileges.md, one for each module."""
    lines: list[str] = []
    for module in dict.fromkeys(need.module for need in MATRIX):
        lines += [f"### {'All modules' if module == 'all' else module}", ""]
        lines += ["| for | privilege | on | note |", "|---|---|---|---|"]
        lines += [_row(need) for need in MATRIX if need.module == module]
        lines.append("")
    return "\n".join(lines)


def as_commands(user: str, token: str) -> str:
    """Return the commands of docs/pve-privileges.md that make the roles, a user and its token."""
    lines = [role.create_command() for role in roles()]
    lines += [f"pveum user add {user}"]
    lines += [role.grant_command(user) for role in roles()]
    lines += [f"pveum user token add {user} {token} --privsep 0"]
    return "\n".join(lines)


def _row(need: Need) -> str:
    if need.is_root_only:
        return f"| {need.subject} | *root@pam only* | | {need.note} |"
    privileges = (" or " if need.any_of else ", ").join(f"`{name}`" for name in need.privileges)
    return f"| {need.subject} | {privileges} | `{need.path}` | {need.note} |"
