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
_ENDPOINT = "cri_endpoint"
_ACCESS = "pve_access"

_TITLES = {"all": "All modules for containers", _ENDPOINT: "The role cri_endpoint: its endpoint"}

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
    Need(_ACCESS, "roles", ("Sys.Modify",), "/access"),
    Need(_ACCESS, "user", ("Realm.AllocateUser",), "/access/realm/{realm}"),
    Need(_ACCESS, "user, token_id", ("User.Modify",), "/access/groups"),
    Need(
        _ACCESS,
        "acl",
        ("Permissions.Modify",),
        ROOT,
        note="On the path of each permission; without Sys.Audit on /access only such paths are seen.",
    ),
    Need(_ENDPOINT, "making the container of an LXC pod", ("VM.Allocate",), note=_POOL_TOO),
    Need(_ENDPOINT, "its root file system", _SPACE, STORAGE, note="On the storage for root file systems."),
    Need(_ENDPOINT, "its template", ("Datastore.Audit",), STORAGE, note="On the storage for templates."),
    Need(
        _ENDPOINT,
        "downloading a template of Proxmox's list",
        ("Datastore.AllocateTemplate",),
        STORAGE,
        note="On the storage for templates. Images are put there by the endpoint itself.",
    ),
    Need(
        _ENDPOINT, "its host name", ("VM.Config.Network",), note="It gets no interface: pods have their own."
    ),
    Need(_ENDPOINT, "CPU of the pod, at the start and later", ("VM.Config.CPU",)),
    Need(_ENDPOINT, "memory of the pod, at the start and later", ("VM.Config.Memory",)),
    Need(_ENDPOINT, "size of its root file system", ("VM.Config.Disk",)),
    Need(_ENDPOINT, "environment, command, tags, description", ("VM.Config.Options",)),
    Need(_ENDPOINT, "starting and stopping it", ("VM.PowerMgmt",)),
    Need(_ENDPOINT, "removing it", ("VM.Allocate",)),
    Need(_ENDPOINT, "its state and configuration", ("VM.Audit",)),
    Need(_ENDPOINT, "state of the node and of its tasks", ("Sys.Audit",), "/nodes/{node}"),
)

#: The modules that the roles of the page are for.
FOR_CONTAINERS = (_CT, _SNAPSHOT, _BACKUP)

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

#: Role name by the kind of path that it is given on.  Proxmox VE takes none that begins with PVE or pve.
_ROLES = {
    GUEST: ("RuntimeContainer", "/vms"),
    STORAGE: ("RuntimeStorage", "/storage/{storage}"),
    BRIDGE: ("RuntimeNetwork", "/sdn/zones/{zone}"),
    "/pool/{pool}": ("RuntimePool", "/pool/{pool}"),
    "/nodes/{node}": ("RuntimeNode", "/nodes"),
    ROOT: ("RuntimeCluster", "/"),
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
    """Return the roles that all modules for containers, or only the named ones, need."""
    found: dict[str, set[str]] = {}
    for need in MATRIX:
        if (
            need.path in _ROLES
            and not need.is_root_only
            and need.module in ("all", *(modules or FOR_CONTAINERS))
        ):
            found.setdefault(need.path, set()).update(need.privileges)
    return tuple(Role(*_ROLES[path], tuple(sorted(found[path]))) for path in _ROLES if path in found)


def as_markdown() -> str:
    """Return the tables of docs/pve-privileges.md, one for each module."""
    lines: list[str] = []
    for module in dict.fromkeys(need.module for need in MATRIX):
        lines += [f"### {_TITLES.get(module, module)}", ""]
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
