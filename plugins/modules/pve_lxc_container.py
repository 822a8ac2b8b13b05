#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pve_lxc_container
short_description: Manage LXC containers on Proxmox VE
version_added: "0.1.0"
author:
  - The pvecri authors (@pvecri)
description:
  - Creates, updates, moves, starts, stops, converts and removes LXC containers through the Proxmox VE
    API, one or many in a task.
  - Only options that are named are managed; everything else of a container stays as it is. What is named
    is compared both ways and key by key, and only what differs is sent, guarded against others who write
    at the same time.
  - Containers can be made from templates, from OCI images and by cloning.
  - An interrupted task is completed by the next run, whatever it was doing.
requirements:
  - skopeo on the host that runs the task, for O(image)
notes:
  - A datacenter that restricts tags (C(user-tag-access)) must allow the tag C(pvecri), and for
    O(verify=intent) those that start with C(pvecri-spec-).
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.pve
  - pvecri.runtime.pve
  - pvecri.runtime.pve_lxc_container
attributes:
  idempotent:
    support: partial
    details:
      - O(state=restarted) restarts the container each time.
options:
  concurrency:
    description:
      - Number of entries of O(containers) that are worked on at the same time, 1 to 16.
    type: int
    default: 4
  verify:
    description:
      - V(full) reads the configuration of each container and finds whatever differs. This is the default
        without O(containers).
      - V(intent) compares with what was last asked for, which is remembered as a hash in a tag
        C(pvecri-spec-…) of the container. An unchanged run then costs one request for the cluster and one
        for each node, however many containers there are. Changes that others make are found as far as the
        list of a node shows them - name, state, node, tags, pool, memory, cores, lock, membership in high
        availability, conversion to a template. This is the default with O(containers).
    type: str
    choices: [full, intent]
seealso:
  - module: pvecri.runtime.pve_lxc_snapshot
  - module: pvecri.runtime.pve_lxc_backup
  - name: Privileges on Proxmox VE
    description: Which privilege each option needs.
    link: https://github.com/pvecri/runtime/blob/main/docs/pve-privileges.md
  - name: Coming from community.proxmox
    description: Which option does what an option of the established module does.
    link: https://github.com/pvecri/runtime/blob/main/docs/coming-from-community-proxmox.md
"""

EXAMPLES = r"""
- name: Run a container on whichever node has most room
  pvecri.runtime.pve_lxc_container:
    hostname: web-1
    state: started
    ostemplate: local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst
    rootfs: local-lvm:8
    memory: 1024
    cores: 2
    networks:
      net0: {name: eth0, bridge: vmbr0, ip: dhcp, firewall: true}
    features: {nesting: true}
    onboot: true

- name: Give it more memory and a larger disk, and take its second interface away
  pvecri.runtime.pve_lxc_container:
    hostname: web-1
    memory: 2048
    rootfs: local-lvm:16
    networks:
      net1: null

- name: Run an application from an OCI image
  pvecri.runtime.pve_lxc_container:
    vmid: 200
    node: pve1
    hostname: app-1
    state: started
    image: registry.example.org/team/app:1.4
    storage: local-lvm
    env:
      LISTEN: 0.0.0.0:8080
    mounts:
      mp0: local-lvm:4,mp=/var/lib/app,backup=1
    networks:
      net0: name=eth0,bridge=vmbr0,ip=192.0.2.10/24,gw=192.0.2.1

- name: Clone a template
  pvecri.runtime.pve_lxc_container:
    hostname: db-1
    clone: "9000"
    clone_type: linked
    state: started

- name: Move it to another node and make it highly available
  pvecri.runtime.pve_lxc_container:
    hostname: db-1
    node: pve2
    ha: {max_restart: 2}

- name: Many containers in one task, eight at a time
  pvecri.runtime.pve_lxc_container:
    ostemplate: local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst
    storage: local-lvm
    state: started
    memory: 512
    vmid_range: {first: 3000, last: 3999}
    concurrency: 8
    containers:
      - hostname: worker-1
      - hostname: worker-2
      - hostname: scheduler
        memory: 2048

- name: Remove a container, killing what does not stop within ten seconds
  pvecri.runtime.pve_lxc_container:
    hostname: web-1
    state: absent
    shutdown_timeout: 10
    force: true
"""

RETURN = r"""
container:
  description:
    - The container as it is now, or before the change in check mode. Null when it does not exist.
  returned: success, without O(containers)
  type: dict
  contains:
    vmid:
      description: Its id.
      returned: always
      type: int
      sample: 104
    node:
      description: The node that it is on.
      returned: always
      type: str
      sample: pve1
    hostname:
      description: Its host name.
      returned: always
      type: str
      sample: web-1
    status:
      description: V(running) or V(stopped).
      returned: always
      type: str
      sample: running
    tags:
      description: Its tags, without the one of O(verify=intent).
      returned: always
      type: list
      elements: str
      sample: [pvecri, web]
    template:
      description: Whether it is a template.
      returned: always
      type: bool
      sample: false
    pool:
      description: Its pool, or null when it has none or its pool did not have to be looked up.
      returned: always
      type: str
      sample: production
    unprivileged:
      description: Whether it runs in a user namespace of its own.
      returned: when its configuration was read
      type: bool
      sample: true
    description:
      description: Its notes.
      returned: when its configuration was read
      type: str
      sample: The shop's web server
    lock:
      description: The lock that is on it, or null.
      returned: when its configuration was read
      type: str
      sample: null
    ha_managed:
      description: Whether it is a resource of high availability.
      returned: when its configuration was read
      type: bool
      sample: false
    pending:
      description: Keys whose change waits for the next start. Only looked up with O(apply_pending).
      returned: when its configuration was read
      type: list
      elements: str
      sample: []
    networks:
      description: Its interfaces by key, each a dictionary.
      returned: when its configuration was read
      type: dict
      sample: {net0: {name: eth0, bridge: vmbr0, ip: dhcp, hwaddr: "BC:24:11:0A:0B:0C", type: veth}}
    mounts:
      description: Its mount points by key, each a dictionary.
      returned: when its configuration was read
      type: dict
      sample: {mp0: {volume: "local-lvm:vm-104-disk-1", mp: /data, size: 4G}}
    rootfs:
      description: Its root file system.
      returned: when its configuration was read
      type: dict
      sample: {volume: "local-lvm:vm-104-disk-0", size: 8G}
    env:
      description: Its environment variables, as far as the user may see them.
      returned: when its configuration was read
      type: dict
      sample: {LISTEN: "0.0.0.0:8080"}
    lxc:
      description: Its raw C(lxc.*) keys, each with a list of values.
      returned: when its configuration was read
      type: dict
      sample: {lxc.init.uid: ["1000"]}
    config:
      description: All its other configuration keys.
      returned: when its configuration was read
      type: dict
      sample: {arch: amd64, cores: 2, memory: 1024, ostype: debian, swap: 512}
containers:
  description: What became of each entry of O(containers), in order.
  returned: with O(containers), also when some of them failed
  type: list
  elements: dict
  contains:
    vmid:
      description: Id of the container, or null when it has none.
      returned: always
      type: int
      sample: 104
    hostname:
      description: Host name of the container.
      returned: always
      type: str
      sample: web-1
    changed:
      description: Whether it was, or in check mode would be, changed, also when it failed after that.
      returned: always
      type: bool
      sample: true
    failed:
      description: Whether it could not be made what was asked for.
      returned: always
      type: bool
      sample: false
    msg:
      description: What went wrong.
      returned: when it failed
      type: str
      sample: container 104 is protected against removal
    error:
      description: The kind of error.
      returned: when it failed
      type: str
      sample: wrong_state
    actions:
      description: As RV(actions). Of one that failed, what was done before.
      returned: always
      type: list
      elements: str
      sample: [configure, start]
    placement:
      description: As RV(placement).
      returned: when it was created
      type: dict
      sample: {node: pve1, storage: local-lvm, reason: the task names it, candidates: []}
    container:
      description: As RV(container), or null.
      returned: when it did not fail
      type: dict
      sample: {vmid: 104, node: pve1, hostname: web-1, status: running, tags: [pvecri], template: false}
actions:
  description:
    - What was done, in order. In check mode what would be done.
    - If the work fails, what was done before. RV(ignore:changed) is true then if that is anything.
  returned: without O(containers), also when the work failed
  type: list
  elements: str
  sample: [create, configure, start]
vmid:
  description: Id of the container that the work failed on, if it was found or made.
  returned: failure, without O(containers)
  type: int
  sample: 104
placement:
  description: Where a new container went, and why.
  returned: when it was created, also when the work failed after that
  type: dict
  contains:
    node:
      description: The node.
      returned: always
      type: str
      sample: pve2
    storage:
      description: The storage for volumes that name none.
      returned: always
      type: str
      sample: local-lvm
    reason:
      description: Why this node.
      returned: always
      type: str
      sample: keeps 61% of its scarcest resource (memory) free
    candidates:
      description:
        - All nodes with their share of the scarcest resource, and why some were out of the question.
      returned: always
      type: list
      elements: dict
      sample: [{node: pve2, eligible: true, storage: local-lvm, score: 0.61, reason: keeps 61% free}]
"""

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_show
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_batch import (
    Interrupted,
    SomeFailed,
    Verify,
    reconcile_many,
    reconcile_one,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_options import (
    container_options,
    merged_options,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_parse import parse_spec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_session import Session
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.options import (
    client_from_params,
    connection_argument_spec,
)

MOST_AT_ONCE = 16


def perform(params: dict[str, t.Any], context: Context) -> Outcome:
    """Make one container, or all of a list, what is asked for."""
    if not 1 <= params["concurrency"] <= MOST_AT_ONCE:
        raise InvalidSpec("concurrency", f"{params['concurrency']} is not from 1 to {MOST_AT_ONCE}")
    if params["containers"] is None:
        return _perform_one(params, context)
    specs = [
        parse_spec(merged_options(params, entry), f"containers[{number}].")
        for number, entry in enumerate(params["containers"])
    ]
    verify = Verify(params["verify"] or Verify.INTENT)
    session = _session(params, context)
    answers = reconcile_many(session, specs, verify=verify, concurrency=params["concurrency"])
    shown = [lxc_show.answer(answer) for answer in answers]
    diff = lxc_show.differences(answers)
    warnings = [warning for answer in answers if answer.result for warning in answer.result.warnings]
    if any(answer.error for answer in answers):
        only = {"diff": diff} if context.diff_mode else {}
        raise SomeFailed(answers, {"containers": shown, "warnings": warnings, **only})
    return Outcome(any(answer.changed for answer in answers), diff, {"containers": shown}, warnings)


def _perform_one(params: dict[str, t.Any], context: Context) -> Outcome:
    spec = parse_spec(params)
    session = _session(params, context)
    if params["verify"] == Verify.INTENT:
        answer = reconcile_many(session, [spec], verify=Verify.INTENT, concurrency=1)[0]
    else:
        answer = reconcile_one(session, spec)
    if answer.error is not None:
        only = {"diff": lxc_show.differences([answer])} if context.diff_mode else {}
        warnings = answer.result.warnings if answer.result else []
        values = {**lxc_show.failure(answer), "warnings": warnings, **only}
        raise Interrupted(answer.error, values) from answer.error
    done = answer.result
    if done is None:
        settled = lxc_show.listed(answer.settled) if answer.settled else None
        return Outcome(False, {"before": {}, "after": {}}, {"container": settled, "actions": []})
    return Outcome(done.changed, done.differences.as_diff(), lxc_show.result(done), done.warnings)


def _session(params: dict[str, t.Any], context: Context) -> Session:
    return Session(client=client_from_params(params), check_mode=context.check_mode, log=context.log)


def main() -> t.NoReturn:
    options = container_options()
    run_module(
        {
            **connection_argument_spec(),
            **options,
            "containers": {"type": "list", "elements": "dict", "options": container_options()},
            "concurrency": {"type": "int", "default": 4},
            "verify": {"type": "str", "choices": ["full", "intent"]},
        },
        perform,
        mutually_exclusive=[("containers", "vmid"), ("containers", "hostname")],
        required_one_of=[("containers", "vmid", "hostname")],
    )


if __name__ == "__main__":
    main()
