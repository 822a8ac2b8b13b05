#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: crun_container
short_description: Run OCI containers with crun
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Makes, starts, stops, pauses, changes and removes containers that crun runs on the target host, without
    any daemon. conmon watches each of them, so they outlive the task, and their output is logged.
  - A container is made from an image, a tarball, a directory or an OCI bundle. What was asked for is kept
    beside it, and compared option by option with what the next run asks for. Only if something differs that
    needs it, the container is made anew; a change of the state alone never does that.
  - Limits are changed while the container runs.
  - With O(detach=false) a container is a job. The task waits for its end and returns its exit code and
    output.
requirements:
  - crun, conmon
  - skopeo, for images
  - containernetworking-plugins, for networks by CNI
notes:
  - A task either says the whole container, with O(image), O(tarball), O(directory) or O(bundle), or names an
    existing one and says what shall become of it. In the second form O(state) is what counts. Options that
    are given besides are changed if that does not need a new container; all others stay as they are.
  - What is compared is what was asked for, not what the runtime made of it. An image counts as the same if
    it has the same content, whatever its name.
  - Whoever kills the module at any moment leaves a container that the next run of the same task completes.
  - Two tasks that work on the same container at the same time wait for each other.
  - The writable part of the root file system is lost when a container is made anew. Named volumes and bind
    mounts are not.
attributes:
  check_mode:
    support: full
    details:
      - No image is fetched and no registry is asked. For an image that the host does not have yet, and with
        O(pull.policy=always) or V(newer), the prediction relies on the name of the image.
  idempotent:
    support: partial
    details:
      - O(state=restarted), O(recreate=always), O(signal) and O(rerun=always) with an ended container do
        something every time, because they say so.
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.runtime
  - pvecri.runtime.source
  - pvecri.runtime.container
  - pvecri.runtime.paths
options:
  name:
    description:
      - Name of the container, at most 128 letters, digits, C(_), C(.) and C(-), beginning with a letter or
        digit. It is also its id for crun, and its default host name.
    type: str
    required: true
  state:
    description:
      - V(created) is a container that exists. A new one is created and not started. One that runs, is paused
        or has been stopped is left as it is, unless it has to be made anew.
      - V(started) is one that runs. What is paused is resumed. O(rerun) says what becomes of one that has
        ended by itself.
      - V(stopped) is one that exists and has no process. It keeps its root file system, and gives up its
        addresses and ports. It is asked to end by O(stop_signal), and killed after O(stop_timeout).
      - V(paused) is one that is started and frozen.
      - V(restarted) is one that is stopped, if need be, and started.
      - V(healthy) is one that is started and whose O(health_check) succeeds. The task waits for that, for at
        most O(wait_timeout).
      - V(absent) is one that does not exist, running or not. It is stopped as for V(stopped), then removed
        with its root file system, addresses, unit and default log. Named volumes and images stay.
    type: str
    choices: [created, started, stopped, paused, restarted, healthy, absent]
    default: started
  bundle:
    description:
      - Path of a directory that holds an OCI bundle, made by M(pvecri.runtime.oci_bundle) or anything else.
        It is not written into, but by the container into its root file system.
      - Its C(config.json) says what the container is. Of the other options only those about network, log,
        health, restarts and stopping go with it. Without O(network) the network is the bundle's own, too.
      - A changed C(config.json) is a changed container.
      - Mutually exclusive with O(image), O(tarball) and O(directory).
    type: path
  recreate:
    description:
      - V(auto) makes a container anew, or restarts it, only if a change needs that.
      - V(always) makes it anew every time.
      - V(never) fails, naming the options, if a change would need that.
    type: str
    choices: [auto, always, never]
    default: auto
  comparisons:
    description:
      - How options are compared with what the container was made with. The names are those of options of
        this module that shape a container, and V(*) for all that are not named.
      - V(strict) takes any difference as a change. V(ignore) takes none. V(allow_more_present) is for lists
        and dictionaries and takes only what is missing or different as a change, not what is there besides.
      - Options are V(strict) if nothing is said.
    type: dict
    default: {}
  detach:
    description:
      - With V(false) the task waits for the end of the container, and fails unless its exit code is 0.
      - It needs O(state=started) or O(state=restarted). The container stays, ended, until it is removed.
      - A task that finds the container running, for example because the play was interrupted, waits for that
        one.
    type: bool
    default: true
  timeout:
    description:
      - Longest time that a container may run with O(detach=false), for example V(10m) or V(1m30s). A plain
        number is seconds. It is stopped when its time is up, and the task fails.
      - If not set, there is no limit.
    type: str
  rerun:
    description:
      - Whether O(state=started) starts a container again that has ended by itself and is otherwise as asked
        for.
      - V(always) starts it, V(failed) only if it ended with an exit code other than 0 or nobody saw it end,
        and V(never) does not.
      - A container that was stopped by a task has not ended by itself, and one that is made anew always
        starts.
      - If not set, V(always), or V(failed) with O(detach=false). So a job that has succeeded is not repeated
        until something about it changes, and its task returns the output that it had.
    type: str
    choices: [always, failed, never]
  signal:
    description:
      - Signal to send to the main process of a container that ran before the task and was not restarted by
        it, for example V(HUP) or V(10). If not set, none is sent.
    type: str
  wait_timeout:
    description:
      - Longest time to wait with O(state=healthy), for example V(90s). A plain number is seconds.
    type: str
    default: 5m
  network:
    description:
      - V(none) is a network of its own with nothing but the loopback device.
      - V(host) is the network of the host.
      - A name is a network of its own that is joined to the CNI network of that name, from the files in
        C(/etc/cni/net.d). V(pvecri) is known without a file, as a bridge that hides its containers behind the
        host's address and can publish ports.
      - V(container:NAME) is the network of another container of this module.
      - An absolute path is an existing network namespace, for example V(/run/netns/blue).
      - If not set, V(none), or with O(bundle) what the bundle says.
      - A container keeps its addresses until it is stopped or removed, also when it is made anew.
    type: str
  published_ports:
    description:
      - Ports of the host that lead to ports of the container, as
        C([address:]host_port:container_port[/protocol]) with the protocol V(tcp), V(udp) or V(sctp), for
        example V(8080:80) or V(127.0.0.1:5353:53/udp).
        Ranges of the same length are possible on both sides.
      - They need a CNI network with the C(portmap) plugin.
    type: list
    elements: str
    default: []
  dns_servers:
    description:
      - Addresses of name servers for C(/etc/resolv.conf) of the container.
      - If not set, those of the CNI network, else those of the host.
    type: list
    elements: str
    default: []
  dns_search:
    description:
      - Domains in which names without a domain are looked up. If not set, as for O(dns_servers).
    type: list
    elements: str
    default: []
  dns_options:
    description:
      - Options of the resolver, for example V(ndots:2). If not set, as for O(dns_servers).
    type: list
    elements: str
    default: []
  etc_hosts:
    description:
      - Names and their addresses for C(/etc/hosts) of the container, besides its own and C(localhost).
    type: dict
    default: {}
  log:
    description:
      - How the output of the container is logged, in the format of the Kubernetes container runtime
        interface.
    type: dict
    suboptions:
      path:
        description:
          - Absolute path of the file. It stays when the container is removed.
          - If not set, a file below O(state_dir), which is removed with the container.
        type: path
      max_size:
        description:
          - Size at which a new file is begun, for example V(10MiB), at least V(16KiB). A plain number is
            bytes. If not set, the file grows.
        type: str
      max_files:
        description:
          - How many files are kept, with the one that is written. Older ones have a number at the end.
        type: int
        default: 1
  health_check:
    description:
      - How to find out whether the service in the container works. What is not set is as the image says.
      - Nothing runs checks all the time. They run while a task waits with O(state=healthy).
    type: dict
    suboptions:
      disabled:
        description: Whether there is no check, even if the image has one.
        type: bool
        default: false
      command:
        description:
          - Program and arguments that run in the container and end with 0 if all is well. No shell is
            involved unless it is named, as in V(["/bin/sh", "-c", "..."]).
        type: list
        elements: str
      interval:
        description:
          - Time between two checks, for example V(10s); a plain number is seconds. While a task waits,
            checks come more often at first. If neither task nor image says, 30 seconds.
        type: str
      timeout:
        description:
          - Longest time of one check, after which it counts as failed. If neither task nor image says, 30
            seconds.
        type: str
      start_period:
        description:
          - Time after the start in which failed checks do not count. If neither task nor image says, none.
        type: str
      retries:
        description:
          - How many intervals long checks may fail until the container counts as unhealthy and the task
            fails. If neither task nor image says, 3.
        type: int
  restart_policy:
    description:
      - V(no) leaves a container that has ended as it is.
      - V(on-failure) starts it again if its exit code was not 0, V(on-failure:5) at most five times.
      - V(always) starts it again and at boot. V(unless-stopped) does the same, but not at boot if it was
        stopped by a task.
      - All but V(no) need systemd as the init of the host. They make a unit C(pvecri-NAME.service), and the
        container is started and stopped through it.
      - If not set, V(no).
    type: str
  stop_timeout:
    description:
      - Time between O(stop_signal) and the end by force, for example V(30s). A plain number is seconds. With
        V(0) the container is killed at once.
      - If not set, 10 seconds.
    type: str
seealso:
  - module: pvecri.runtime.crun_container_info
  - module: pvecri.runtime.oci_bundle
"""

EXAMPLES = r"""
- name: Run a web server that the host's port 8080 leads to
  pvecri.runtime.crun_container:
    name: web
    image: docker.io/library/nginx:1.27
    network: pvecri
    published_ports:
      - "8080:80"
    resources:
      memory: 128MiB
      cpus: "0.5"
    restart_policy: unless-stopped

- name: Change its limit while it runs, and wait until it answers
  pvecri.runtime.crun_container:
    name: web
    state: healthy
    image: docker.io/library/nginx:1.27
    network: pvecri
    published_ports:
      - "8080:80"
    resources:
      memory: 256MiB
      cpus: "0.5"
    restart_policy: unless-stopped
    health_check:
      command: [curl, --fail, --silent, "http://127.0.0.1/"]
      interval: 5s

- name: Let it read its configuration again
  pvecri.runtime.crun_container:
    name: web
    signal: HUP

- name: Run a job to its end, once per release
  pvecri.runtime.crun_container:
    name: migrate-{{ release }}
    image: registry.example.com/shop:{{ release }}
    command: [bin/migrate]
    secret_env:
      DATABASE_URL: "{{ database_url }}"
    network: host
    detach: false
    timeout: 10m
  register: migration

- name: Show what the job said
  ansible.builtin.debug:
    var: migration.stdout_lines

- name: Keep what is mounted by hand, complain if something else needs a new container
  pvecri.runtime.crun_container:
    name: db
    image: docker.io/library/postgres:17
    network: host
    mounts:
      - type: volume
        source: db
        destination: /var/lib/postgresql/data
    comparisons:
      mounts: allow_more_present
      image: ignore
    recreate: never

- name: Run a container from a bundle
  pvecri.runtime.crun_container:
    name: tool
    bundle: /srv/bundles/tool
    state: created

- name: Stop a container, whatever it is
  pvecri.runtime.crun_container:
    name: web
    state: stopped

- name: Remove it
  pvecri.runtime.crun_container:
    name: web
    state: absent
"""

RETURN = r"""
container:
  description:
    - The container after the task, or as it would be in check mode as far as that is known. Empty if it does
      not exist.
  returned: always
  type: dict
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
      description: Directory of its bundle.
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
      description: What O(network) was. Not set if the bundle decides that.
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
      description: Restart policy, as O(restart_policy).
      type: str
      sample: unless-stopped
    problems:
      description:
        - What is wrong with it beyond its state, for example V(monitor_lost) if its output is no longer
          logged because conmon has died.
      type: list
      elements: str
      sample: []
health:
  description: What the last health check said.
  returned: success, with O(state=healthy) outside check mode
  type: dict
  contains:
    status:
      description: V(healthy). A container that is not makes the task fail, see RV(health_log).
      type: str
      sample: healthy
    rc:
      description: Exit code of the check.
      type: int
      sample: 0
    output:
      description: End of the check's output.
      type: str
      sample: ok
health_log:
  description:
    - What the last health check said before the task gave up. Its C(rc) is not set if the check did not end
      in time.
  returned: failure, with O(state=healthy)
  type: dict
  sample: {rc: 7, output: connection refused}
rc:
  description: Exit code of the container. Not set if nobody saw it end.
  returned: with O(detach=false) outside check mode
  type: int
  sample: 0
stdout:
  description: What the container wrote to its standard output, as far as the log still has it.
  returned: with O(detach=false) outside check mode
  type: str
  sample: done
stdout_lines:
  description: RV(stdout) line by line.
  returned: with O(detach=false) outside check mode
  type: list
  elements: str
  sample: [done]
stderr:
  description: What the container wrote to its standard error, as far as the log still has it.
  returned: with O(detach=false) outside check mode
  type: str
  sample: ""
stderr_lines:
  description: RV(stderr) line by line.
  returned: with O(detach=false) outside check mode
  type: list
  elements: str
  sample: []
actions:
  description: What was done, or would be done in check mode, in this order.
  returned: success
  type: list
  elements: str
  sample: [create the container, start the container]
error:
  description:
    - Kind of the failure, for example V(invalid_spec), V(not_found), V(conflict), V(wrong_state),
      V(unsupported), V(missing_dependency), V(unhealthy), V(container_failed), V(timeout) or
      V(command_failed).
  returned: failure
  type: str
  sample: invalid_spec
"""

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.container.argument_spec import (
    MUTUALLY_EXCLUSIVE,
    argument_spec,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.container.result import describe, planned
from ansible_collections.pvecri.runtime.plugins.module_utils.container.service import ContainerService
from ansible_collections.pvecri.runtime.plugins.module_utils.container.task_options import task_from_options
from ansible_collections.pvecri.runtime.plugins.module_utils.options.paths import paths_from_options


def perform(params: dict[str, t.Any], context: Context) -> Outcome:
    """Bring the container to what the parameters ask."""
    task = task_from_options(params)
    engine = Engine(paths_from_options(params), SubprocessRunner())
    result = ContainerService(engine).ensure(task, check=context.check_mode)
    container = describe(engine, result.observation)
    if context.check_mode:
        container = planned(container, result.plan, task.name)
    values: dict[str, t.Any] = {
        "container": container,
        "actions": [str(step) for step in result.plan.steps],
        **result.answers,
    }
    for stream in ("stdout", "stderr"):
        if stream in values:
            values[f"{stream}_lines"] = values[stream].splitlines()
    return Outcome(
        changed=result.plan.is_changed,
        diff=result.plan.differences.as_diff(),
        values=values,
        warnings=result.warnings,
    )


def main() -> t.NoReturn:
    run_module(argument_spec(), perform, mutually_exclusive=MUTUALLY_EXCLUSIVE)


if __name__ == "__main__":
    main()
