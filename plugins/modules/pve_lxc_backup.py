#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pve_lxc_backup
short_description: Back up, restore and prune Proxmox VE containers
version_added: "0.1.0"
description:
  - Makes a backup of an LXC container with vzdump, restores a container from one, prunes old ones by rules,
    or removes one.
  - A backup counts as made only when the storage lists it with a size, and as removed when it is no longer
    listed.
author:
  - The pvecri authors (@pvecri)
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.pve
  - pvecri.runtime.pve
attributes:
  idempotent:
    support: partial
    details:
      - O(state=present) makes a backup every time unless O(max_age) is given.
      - O(state=restored) with O(force=true) overwrites the container every time.
options:
  vmid:
    description:
      - Number of the container, for O(state=restored) the one to be made. Required unless O(state=absent).
    type: int
  storage:
    description:
      - Storage that holds the backups. Its content types must include C(backup).
    type: str
    required: true
  node:
    description:
      - Node to work on. The default is the container's node, or for O(state=restored) of a container that
        does not exist, and for O(state=absent), the only node that has the storage, or any that shares it.
    type: str
  state:
    description:
      - V(present) makes a backup, unless there is one that is at most O(max_age) old.
      - V(restored) restores the container from O(backup) if there is no container of that number. One that
        exists is left alone unless O(force=true).
      - V(pruned) removes the backups of the container that the rules in O(keep) do not keep.
      - V(absent) removes O(backup).
    type: str
    choices: [present, absent, restored, pruned]
    default: present
  backup:
    description:
      - Volume id of a backup, for example V(local:backup/vzdump-lxc-201-2026_01_31-02_00_00.tar.zst).
        Required for O(state=absent).
      - With O(state=restored), V(latest) means the newest backup of O(source_vmid), and is the default.
    type: str
  max_age:
    description:
      - With O(state=present), seconds that a backup may be old to be good enough, by the node's clock.
        O(notes) and O(protected) are then set on that one.
      - V(0) makes a backup every time.
    type: int
    default: 0
  mode:
    description:
      - How a running container is kept consistent. V(snapshot) lets it run, V(suspend) suspends it for a
        moment, V(stop) stops it and starts it again.
    type: str
    choices: [snapshot, suspend, stop]
    default: snapshot
  compress:
    description:
      - Compression of the archive. V(none) writes it plain. A backup server ignores it.
    type: str
    choices: [none, gzip, lzo, zstd]
    default: zstd
  notes:
    description:
      - Text to store with the backup. The default is to have none, and to leave that of an existing backup
        alone.
    type: str
  protected:
    description:
      - Whether the backup is protected against removal and pruning. The default is not to be, and to leave
        that of an existing backup alone.
    type: bool
  bwlimit:
    description:
      - Limit of the input and output of the backup in KiB/s. V(0) means none. The default is that of the
        node.
      - Needs C(Sys.Modify) on C(/).
    type: int
  keep:
    description:
      - With O(state=pruned), how many backups to keep, newest first. Each rule keeps the newest backup of
        each period that has one, and looks only at what the rules before it did not cover. Required then,
        with at least one number above 0.
    type: dict
    suboptions:
      last:
        description: Number of backups to keep whatever their time, by default 0.
        type: int
      hourly:
        description: Number of hours to keep one backup each for, by default 0.
        type: int
      daily:
        description: Number of days to keep one backup each for, by default 0.
        type: int
      weekly:
        description: Number of weeks to keep one backup each for, by default 0.
        type: int
      monthly:
        description: Number of months to keep one backup each for, by default 0.
        type: int
      yearly:
        description: Number of years to keep one backup each for, by default 0.
        type: int
  source_vmid:
    description:
      - With O(state=restored) and O(backup=latest), id of the container whose newest backup is meant. The
        default is O(vmid).
    type: int
  target_storage:
    description:
      - With O(state=restored), storage for the container's volumes. The default leaves the choice to
        Proxmox VE.
    type: str
  pool:
    description:
      - With O(state=restored), resource pool that the restored container joins. By default it joins none.
    type: str
  force:
    description:
      - With O(state=restored), overwrite a container of that number, which must be stopped. What is in it
        is lost.
    type: bool
    default: false
  unique:
    description:
      - With O(state=restored), give the container new hardware addresses, for a copy beside the original.
    type: bool
    default: false
  start:
    description:
      - With O(state=restored), have the container running afterwards, also if it existed already.
    type: bool
    default: false
  adopt:
    description:
      - With O(state=restored), whether a container of that number that was not made by this collection
        (that lacks the tag C(pvecri)), or that is of a Kubernetes pod (tag C(pvecri-cri)), may be
        overwritten with O(force=true). The task fails otherwise.
      - It does not get the tag; a restored container has the tags that it had when it was backed up.
      - Making and removing backups and O(start) do not need it, because nothing of a container is lost.
    type: bool
    default: false
seealso:
  - module: pvecri.runtime.pve_lxc_container
  - module: pvecri.runtime.pve_lxc_snapshot
"""

EXAMPLES = r"""
- name: Have a backup that is at most a day old
  pvecri.runtime.pve_lxc_backup:
    vmid: 201
    storage: backups
    max_age: 86400
    notes: Taken by the nightly play

- name: Keep a backup of each of the last 7 days and 4 weeks
  pvecri.runtime.pve_lxc_backup:
    vmid: 201
    storage: backups
    state: pruned
    keep:
      daily: 7
      weekly: 4

- name: Try the newest backup out in a copy
  pvecri.runtime.pve_lxc_backup:
    vmid: 9201
    source_vmid: 201
    storage: backups
    state: restored
    target_storage: local-lvm
    unique: true
    start: true

- name: Remove one backup
  pvecri.runtime.pve_lxc_backup:
    storage: backups
    backup: backups:backup/vzdump-lxc-201-2026_01_31-02_00_00.tar.zst
    state: absent
"""

RETURN = r"""
backup:
  description: The backup that was made, found good enough, restored from or removed. Null if there is none.
  returned: success
  type: dict
  contains: &backup
    volid:
      description: Volume id of the backup.
      returned: success
      type: str
      sample: backups:backup/vzdump-lxc-201-2026_01_31-02_00_00.tar.zst
    vmid:
      description: The container that it was taken of.
      returned: success
      type: int
      sample: 201
    time:
      description: When it was taken, in seconds since 1970.
      returned: success
      type: int
      sample: 1769824800
    size:
      description: Its size in bytes.
      returned: success
      type: int
      sample: 183500800
    notes:
      description: The text stored with it.
      returned: success
      type: str
      sample: Taken by the nightly play
    protected:
      description: Whether it is protected against removal.
      returned: success
      type: bool
      sample: false
    format:
      description: Format of the archive.
      returned: success
      type: str
      sample: tar.zst
backups:
  description: >-
    The backups on the storage after the module ran, oldest first, of the container, or for
    O(state=restored) of O(source_vmid), or for O(state=absent) without O(vmid) of all containers. In check
    mode those before.
  returned: success
  type: list
  elements: dict
  contains: *backup
removed:
  description: Volume ids of the backups that were removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: []
"""

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import backups, cluster, guests, restores
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import ClusterView
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.options import (
    client_from_params,
    connection_argument_spec,
)

Params = dict[str, t.Any]


def perform(params: Params, context: Context) -> Outcome:
    client = client_from_params(params)
    view = cluster.read_cluster(client)
    return _STATES[params["state"]](client, view, params, context.check_mode)


def present(client: PveClient, view: ClusterView, params: Params, check_mode: bool) -> Outcome:
    guest = guests.locate(view, vmid=params["vmid"], node=params["node"])
    place = backups.find_place(view, params["storage"], node=guest.node)
    wanted = backups.BackupRequest(
        vmid=guest.vmid,
        mode=params["mode"],
        compress="0" if params["compress"] == "none" else params["compress"],
        notes=params["notes"],
        protected=params["protected"],
        max_age_s=params["max_age"],
        bandwidth_kib_s=params["bwlimit"],
    )
    actual = backups.read(client, place, vmid=guest.vmid)
    now_s, warnings = backups.server_time(client, guest.node) if wanted.max_age_s else (0, list[str]())
    steps = backups.plan_present(wanted, actual, now_s)
    may_wait = steps.create and wanted.max_age_s and not check_mode
    if may_wait and guests.wait_unlocked(client, guest, client.connection.task_timeout_s):
        # An interrupted play's backup may just have become the one that is young enough.
        actual = backups.read(client, place, vmid=guest.vmid)
        steps = backups.plan_present(wanted, actual, now_s)
    backup = steps.existing
    if steps.create and not check_mode:
        backup, said = backups.create(client, guest, place, wanted)
        warnings += said
    elif backup is not None and not check_mode:
        backup = backups.amend(client, place, backup, steps.changes)
    done = steps.has_steps and not check_mode
    listed = backups.read(client, place, vmid=guest.vmid) if done else actual
    return _outcome(steps, backup, listed, warnings)


def pruned(client: PveClient, view: ClusterView, params: Params, check_mode: bool) -> Outcome:
    guest = view.guests.get(params["vmid"])
    place = backups.find_place(
        view, params["storage"], node=params["node"] or (guest.node if guest else None)
    )
    steps = backups.plan_pruning(client, place, params["vmid"], params["keep"])
    warnings = list[str]()
    if steps.has_steps and not check_mode:
        warnings = backups.prune(client, place, params["vmid"], params["keep"], steps)
    return _outcome(steps, None, backups.read(client, place, vmid=params["vmid"]), warnings)


def absent(client: PveClient, view: ClusterView, params: Params, check_mode: bool) -> Outcome:
    _require_on_storage(params)
    place = backups.find_place(view, params["storage"], node=params["node"])
    actual = backups.read(client, place, vmid=params["vmid"])
    steps = backups.plan_removal([params["backup"]], actual)
    warnings = list[str]()
    if steps.has_steps and not check_mode:
        warnings = backups.remove(client, place, steps)
    removed = steps.remove[0] if steps.remove else None
    gone = () if check_mode else steps.remove
    return _outcome(steps, removed, [entry for entry in actual if entry not in gone], warnings)


def restored(client: PveClient, view: ClusterView, params: Params, check_mode: bool) -> Outcome:
    _require_on_storage(params)
    existing = view.guests.get(params["vmid"])
    if existing is not None and params["node"] not in (None, existing.node):
        raise Conflict(
            f"{params['vmid']} exists on node '{existing.node}', not on '{params['node']}'",
            hint="Leave out node, or restore into another vmid",
        )
    place = backups.find_place(view, params["storage"], node=existing.node if existing else params["node"])
    source = params["source_vmid"] or params["vmid"]
    wanted = restores.RestoreRequest(
        vmid=params["vmid"],
        target_storage=params["target_storage"],
        pool=params["pool"],
        force=params["force"],
        unique=params["unique"],
        start=params["start"],
        adopt=params["adopt"],
    )
    actual = backups.read(client, place)
    backup = backups.choose(actual, params["backup"] or "latest", source)
    container = existing if existing is not None and existing.type == "lxc" else None
    running = restores.settled(client, container, wait=not check_mode)
    steps = restores.plan(wanted, existing, running, backup)
    warnings = list[str]()
    if steps.has_steps and not check_mode:
        warnings = restores.apply(client, place.node, wanted, steps, backup)
    return _outcome(steps, backup, [entry for entry in actual if entry.vmid == source], warnings)


def _require_on_storage(params: Params) -> None:
    """Refuse a backup whose volume id is on another storage than the option, or not of a container."""
    volid = params["backup"] or "latest"
    if volid == "latest":
        if params["state"] == "absent":
            raise InvalidSpec("backup", "'latest' names none to remove", hint="Give the volume id")
        return
    if volid.partition(":")[0] != params["storage"]:
        raise InvalidSpec("backup", f"'{volid}' is not on storage '{params['storage']}'")
    if not backups.is_of_container(volid):
        raise InvalidSpec("backup", f"'{volid}' is not the name of a container's backup")


def _outcome(
    steps: backups.Plan | restores.Plan,
    backup: backups.Backup | None,
    listed: list[backups.Backup],
    warnings: list[str],
) -> Outcome:
    values: dict[str, t.Any] = {
        "backup": backup.as_dict() if backup else None,
        "backups": [entry.as_dict() for entry in listed],
        "removed": [entry.volid for entry in getattr(steps, "remove", ())],
    }
    return Outcome(steps.has_steps, steps.differences.as_diff(), values, warnings)


_STATES = {"present": present, "absent": absent, "restored": restored, "pruned": pruned}


def main() -> t.NoReturn:
    spec: dict[str, t.Any] = {
        "vmid": {"type": "int"},
        "storage": {"type": "str", "required": True},
        "node": {"type": "str"},
        "state": {"type": "str", "choices": list(_STATES), "default": "present"},
        "backup": {"type": "str"},
        "max_age": {"type": "int", "default": 0},
        "mode": {"type": "str", "choices": ["snapshot", "suspend", "stop"], "default": "snapshot"},
        "compress": {"type": "str", "choices": ["none", "gzip", "lzo", "zstd"], "default": "zstd"},
        "notes": {"type": "str"},
        "protected": {"type": "bool"},
        "bwlimit": {"type": "int"},
        "keep": {"type": "dict", "options": {period: {"type": "int"} for period in backups.KEEP_PERIODS}},
        "source_vmid": {"type": "int"},
        "target_storage": {"type": "str"},
        "pool": {"type": "str"},
        "force": {"type": "bool", "default": False},
        "unique": {"type": "bool", "default": False},
        "start": {"type": "bool", "default": False},
        "adopt": {"type": "bool", "default": False},
    }
    run_module(
        {**connection_argument_spec(), **spec},
        perform,
        required_if=[
            ("state", "present", ["vmid"]),
            ("state", "pruned", ["vmid", "keep"]),
            ("state", "restored", ["vmid"]),
            ("state", "absent", ["backup"]),
        ],
    )


if __name__ == "__main__":
    main()
