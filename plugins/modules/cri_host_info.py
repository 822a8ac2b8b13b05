#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cri_host_info
short_description: Tell what keeps a host from becoming a CRI node, and what it has already
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Looks at distribution, processor, kernel, control groups, overlayfs, other runtimes, networks, space,
    name, clock, ports and files in the way, and says of everything that is wrong what to do about it.
  - Tells which packages are installed, which releases of the endpoint are there, and with which state its
    daemon runs.
  - Whether overlayfs works is found out by an overlay that only the module sees, in a directory that it
    removes.
  - Old hosts are told that they are too old. Python 3.8 is enough for that.
extends_documentation_fragment:
  - pvecri.runtime.attributes.info
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.node
options:
  state_dir:
    description:
      - Directory of the endpoint's state. It need not exist.
    type: path
    default: /var/lib/pvecri
  lib_dir:
    description:
      - Directory of the endpoint's releases.
    type: path
    default: /usr/lib/pvecri
  socket:
    description:
      - The endpoint's socket.
    type: path
    default: /run/pvecri/pvecri.sock
  unit:
    description:
      - The endpoint's unit of systemd.
    type: str
    default: pvecri.service
  other_runtimes:
    description:
      - Units of other runtimes, which must be neither active nor enabled.
    type: list
    elements: str
    default: [containerd.service, crio.service, cri-docker.service]
  other_units:
    description:
      - Further units of which to tell the state in RV(facts).
    type: list
    elements: str
    default: []
  kubelet_managed:
    description:
      - Whether the play tells kubelet its runtime's socket, so that another one is no problem.
    type: bool
    default: false
  cni_dir:
    description:
      - Directory of CNI configurations.
    type: path
    default: /etc/cni/net.d
  cni_file:
    description:
      - Name of the CNI configuration that is to count. Empty if it does not matter.
    type: str
    default: ""
  pod_cidrs:
    description:
      - Networks that pods are to be in, and the host not.
    type: list
    elements: str
    default: []
  bridge:
    description:
      - Interface by which the host is in O(pod_cidrs) once there are pods.
    type: str
    default: ""
  state_free_mib:
    description:
      - Space that O(state_dir) needs, in MiB.
    type: int
    default: 2048
  usr_free_mib:
    description:
      - Space that C(/usr) needs, in MiB.
    type: int
    default: 300
  max_clock_skew_s:
    description:
      - How far the clock may be from O(time) when no service synchronises it, in seconds.
    type: float
    default: 60.0
  time:
    description:
      - The right time, in seconds since 1970. Without it the clock is not compared.
    type: float
  ports:
    description:
      - TCP ports that have to be free, or the daemon's.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description:
          - The number.
        type: int
        required: true
      what:
        description:
          - What it is for, used in the message.
        type: str
        required: true
  managed:
    description:
      - Paths of files that the role writes. What lies there must have O(marker) in its first kilobyte.
    type: list
    elements: path
    default: []
  reloaded:
    description:
      - Paths of files that the daemon reads when it is started and when it is reloaded.
    type: list
    elements: path
    default: []
  marker:
    description:
      - What stands in files that the role made.
    type: str
    default: "# Managed by Ansible (pvecri.runtime.cri_endpoint)"
  packages:
    description:
      - Debian packages of which to tell the versions.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Look at the hosts
  pvecri.runtime.cri_host_info:
  register: host

- name: Show what is wrong with each
  ansible.builtin.debug:
    msg: "{{ host.problems | map(attribute='problem') }}"
"""

RETURN = r"""
problems:
  description: What is wrong, empty for a host that can become a node.
  returned: success
  type: list
  elements: dict
  contains:
    check:
      description: Name of the check.
      type: str
      returned: always
      sample: clock
    problem:
      description: What was found.
      type: str
      returned: always
      sample: no service keeps the clock right, and it is 90 s behind the controller's
    remedy:
      description: What to do about it.
      type: str
      returned: always
      sample: Install chrony (or systemd-timesyncd)
checks:
  description: Names of all checks.
  returned: success
  type: list
  elements: str
  sample: [distribution, architecture]
facts:
  description: What was looked at. Keys can come and go with versions.
  returned: success
  type: dict
packages:
  description: Versions of O(packages), null for those that are not installed.
  returned: success
  type: dict
  sample: {crun: "1.21-1", skopeo: null}
releases:
  description: Releases of the endpoint that are there, and the current one.
  returned: success
  type: dict
  contains:
    all:
      description: Their names.
      type: list
      elements: str
      returned: always
    current:
      description: The one that is started, or null.
      type: str
      returned: always
installed:
  description: Whether anything of the endpoint is in O(lib_dir).
  returned: success
  type: bool
is_installing:
  description: Whether an installation of packages began of which it was not noted what it brought.
  returned: success
  type: bool
daemon:
  description: The unit of the daemon, empty if there is none.
  returned: success
  type: dict
  contains:
    active:
      description: Whether it runs.
      type: bool
      returned: if the unit exists
    enabled:
      description: Whether it is started with the host.
      type: bool
      returned: if the unit exists
    pid:
      description: The process, 0 if it does not run.
      type: int
      returned: if the unit exists
    state_key:
      description: What the role gave it to tell one state of files from another, or empty.
      type: str
      returned: if the unit exists
    file_key:
      description: The same of the unit's file, with which it would be started.
      type: str
      returned: if the unit exists
    is_stale:
      description: Whether one of O(reloaded) is younger than the last start or reload.
      type: bool
      returned: if the unit exists
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pvecri.runtime.plugins.module_utils.host import facts, preflight

#: Variable of the daemon's environment.
KEY = "PVECRI_STATE_KEY"

ARGUMENT_SPEC = {
    "state_dir": {"type": "path", "default": "/var/lib/pvecri"},
    "lib_dir": {"type": "path", "default": "/usr/lib/pvecri"},
    "socket": {"type": "path", "default": "/run/pvecri/pvecri.sock"},
    "unit": {"type": "str", "default": "pvecri.service"},
    "other_runtimes": {
        "type": "list",
        "elements": "str",
        "default": ["containerd.service", "crio.service", "cri-docker.service"],
    },
    "other_units": {"type": "list", "elements": "str", "default": []},
    "kubelet_managed": {"type": "bool", "default": False},
    "cni_dir": {"type": "path", "default": "/etc/cni/net.d"},
    "cni_file": {"type": "str", "default": ""},
    "pod_cidrs": {"type": "list", "elements": "str", "default": []},
    "bridge": {"type": "str", "default": ""},
    "state_free_mib": {"type": "int", "default": 2048},
    "usr_free_mib": {"type": "int", "default": 300},
    "max_clock_skew_s": {"type": "float", "default": 60.0},
    "time": {"type": "float"},
    "ports": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"port": {"type": "int", "required": True}, "what": {"type": "str", "required": True}},
    },
    "managed": {"type": "list", "elements": "path", "default": []},
    "reloaded": {"type": "list", "elements": "path", "default": []},
    "marker": {"type": "str", "default": "# Managed by Ansible (pvecri.runtime.cri_endpoint)"},
    "packages": {"type": "list", "elements": "str", "default": []},
}


# Not by ansible_edge: that wants the Python that old hosts have not, and they are to be told so.
def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    wanted = module.params
    found = facts.gather(wanted)
    daemon = found["units"].get(wanted["unit"], {})
    if daemon:
        daemon = {
            **daemon,
            "state_key": facts.environment(daemon["pid"]).get(KEY, ""),
            "is_stale": daemon["since"] < facts.newest(wanted["reloaded"]),
            "file_key": facts.unit_environment(facts.text(daemon["file"])).get(KEY, ""),
        }
    packages, releases = found.pop("packages"), found.pop("releases")
    module.exit_json(
        changed=False,
        installed=os.path.isdir(wanted["lib_dir"]),
        is_installing='"before"' in facts.text(os.path.join(wanted["lib_dir"], "packages.json")),
        problems=preflight.problems(found, wanted),
        checks=list(preflight.CHECKS),
        facts=found,
        packages=packages,
        releases=releases,
        daemon=daemon,
    )


if __name__ == "__main__":
    main()
