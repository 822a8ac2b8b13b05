#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: crun_container_info
short_description: Look at containers that crun runs
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Returns the containers of M(pvecri.runtime.crun_container) on the target host, all or those that match,
    with their states, addresses and limits of use.
  - Everything is read from files. No program is started, so hundreds of containers cost little.
  - Containers that kubelet made are not among them.
attributes:
  idempotent:
    support: full
extends_documentation_fragment:
  - pvecri.runtime.attributes.info
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.runtime
  - pvecri.runtime.paths
options:
  name:
    description:
      - Names of containers, or patterns in which C(*) stands for any text, C(?) for one character and
        C([a-z]) for one of a set. A container must match one of them.
      - If empty, all containers are returned. A name that nothing matches is no error.
    type: list
    elements: str
    default: []
  labels:
    description:
      - Labels that a container must have, all of them, with these values. An empty value, V(null) in YAML,
        stands for any.
    type: dict
    default: {}
  states:
    description:
      - States of which a container must have one. If empty, any.
    type: list
    elements: str
    choices: [created, running, paused, stopped]
    default: []
  log_lines:
    description:
      - How many lines from the end of each log are returned.
    type: int
    default: 0
  stats:
    description:
      - Whether to return what running containers use of CPU, memory, processes and block devices.
    type: bool
    default: false
seealso:
  - module: pvecri.runtime.crun_container
"""

EXAMPLES = r"""
- name: Look at all containers
  pvecri.runtime.crun_container_info:
  register: all

- name: Show the last lines of web servers that have ended
  pvecri.runtime.crun_container_info:
    name:
      - web-*
    states:
      - stopped
    log_lines: 20
  register: ended

- name: See what the shop's containers use
  pvecri.runtime.crun_container_info:
    labels:
      app: shop
    stats: true
  register: shop
"""

RETURN = r"""
containers:
  description: The containers, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: web
    id:
      description: Its id for crun, which is its name.
      type: str
      sample: web
    state:
      description: V(created), V(running), V(paused) or V(stopped).
      type: str
      sample: running
    pid:
      description: Process id of its first process on the host. Not set if it has none.
      type: int
      sample: 4711
    exit_code:
      description:
        - How its first process ended; 128 and the number of the signal if a signal ended it. Not set if it
          has not ended or nobody saw it end.
      type: int
      sample: 0
    oom_killed:
      description: Whether the kernel killed a process of it for want of memory.
      type: bool
      sample: false
    created_at:
      description: When it was created, in ISO 8601.
      type: str
      sample: "2026-03-01T12:00:00.000+00:00"
    started_at:
      description: When it was started. Not set if it was not.
      type: str
      sample: "2026-03-01T12:00:00.100+00:00"
    finished_at:
      description: When it ended. Not set if it has not.
      type: str
      sample: "2026-03-01T13:00:00.000+00:00"
    image:
      description: What it was made from. Not set if that was no image.
      type: dict
      contains:
        reference:
          description: Name of the image when the container was made, in full.
          type: str
          sample: docker.io/library/nginx:1.27
        digest:
          description: Digest of the manifest.
          type: str
          sample: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
        id:
          description: Digest of the configuration, without its algorithm. The same content has the same id.
          type: str
          sample: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    bundle:
      description: Directory of its bundle. Not set if that is lost.
      type: str
      sample: /var/lib/pvecri/bundles/play/web
    rootfs:
      description: Path of its root file system on the host. It is empty while it is not mounted.
      type: str
      sample: /var/lib/pvecri/bundles/play/web/rootfs
    spec_hash:
      description: SHA-256 of what was asked for. It is the same as long as the same is asked for.
      type: str
      sample: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    labels:
      description: Labels of the image and those that were asked for.
      type: dict
      sample: {app: web}
    log_path:
      description: File with its output.
      type: str
      sample: /var/lib/pvecri/logs/play/web.log
    network:
      description: How it reaches others, as the option of that name. Not set if the bundle decides that.
      type: str
      sample: pvecri
    network_namespace:
      description: Path of its network namespace. Not set if that is the host's or not known.
      type: str
      sample: /run/pvecri/netns/play/web
    ip_addresses:
      description: Addresses that it has of its own.
      type: list
      elements: str
      sample: [10.124.0.5]
    ports:
      description: Published ports.
      type: list
      elements: dict
      contains:
        host_ip:
          description: Address of the host; empty is every address.
          type: str
          sample: ""
        host_port:
          description: Port of the host.
          type: int
          sample: 8080
        container_port:
          description: Port in the container.
          type: int
          sample: 80
        protocol:
          description: V(tcp), V(udp) or V(sctp).
          type: str
          sample: tcp
    restart_policy:
      description: Its restart policy.
      type: str
      sample: unless-stopped
    problems:
      description:
        - What is wrong with it beyond its state, for example V(monitor_lost) if its output is no longer
          logged because conmon has died.
      type: list
      elements: str
      sample: []
    log:
      description: The last lines that it wrote, to standard output and standard error.
      returned: with O(log_lines) above 0
      type: list
      elements: str
      sample: [ready]
    stats:
      description: What it uses. Not set if it has no process. What the kernel does not count is not set.
      returned: with O(stats=true)
      type: dict
      contains:
        cpu_usage_ns:
          description: CPU time since it was created, in nanoseconds.
          type: int
          sample: 120000000
        cpu_throttled_ns:
          description: Time that it wanted to run and its limit kept it from, in nanoseconds.
          type: int
          sample: 0
        memory_bytes:
          description: Memory that it uses, with its part of the page cache.
          type: int
          sample: 8388608
        memory_working_set_bytes:
          description: Memory that it uses without page cache that was not used for some time.
          type: int
          sample: 4194304
        memory_limit_bytes:
          description: Most memory that it can use. Not set if it is not limited.
          type: int
          sample: 134217728
        oom_kills:
          description: How many of its processes the kernel killed for want of memory.
          type: int
          sample: 0
        pids:
          description: Its processes and threads.
          type: int
          sample: 3
        read_bytes:
          description: Bytes read from block devices.
          type: int
          sample: 1048576
        written_bytes:
          description: Bytes written to block devices.
          type: int
          sample: 0
"""

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.container.info import Query, look
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.options.paths import (
    paths_argument_spec,
    paths_from_options,
)


def argument_spec() -> dict[str, dict[str, t.Any]]:
    """Return the options of the module."""
    return {
        "name": {"type": "list", "elements": "str", "default": []},
        "labels": {"type": "dict", "default": {}},
        "states": {
            "type": "list",
            "elements": "str",
            "choices": ["created", "running", "paused", "stopped"],
            "default": [],
        },
        "log_lines": {"type": "int", "default": 0},
        "stats": {"type": "bool", "default": False},
        **paths_argument_spec(),
    }


def perform(params: dict[str, t.Any], _context: Context) -> Outcome:
    """Look at the containers that the parameters name."""
    if params["log_lines"] < 0:
        raise InvalidSpec("log_lines", "a number of lines is 0 or more")
    query = Query(
        names=tuple(params["name"]),
        labels={
            key: None if value is None or value == "" else str(value)
            for key, value in params["labels"].items()
        },
        states=frozenset(params["states"]),
        log_lines=params["log_lines"],
        has_stats=params["stats"],
    )
    engine = Engine(paths_from_options(params), SubprocessRunner())
    return Outcome(values={"containers": look(engine, query)})


def main() -> t.NoReturn:
    run_module(argument_spec(), perform)


if __name__ == "__main__":
    main()
