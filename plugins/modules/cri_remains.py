#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cri_remains
short_description: Remove what pods and containers left on a host whose CRI endpoint goes
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Ends containers and their monitors, and removes mounts, namespaces, control groups, the bridge of pods if
    nothing uses it, and the directories of the endpoint. Containers of plays in these directories are
    removed, too.
  - The endpoint must not run. It is not needed.
  - The chains of the CNI plugin portmap go when no port of anybody is forwarded.
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.node
options:
  state_dir:
    description:
      - Directory of records, bundles and images.
    type: path
    default: /var/lib/pvecri
  run_dir:
    description:
      - Directory of what a restart of the host loses.
    type: path
    default: /run/pvecri
  keep_state:
    description:
      - Whether O(state_dir) stays, with images and records.
    type: bool
    default: false
  bridge:
    description:
      - Bridge of the pods. It stays if something else uses it.
    type: str
    default: ""
  network:
    description:
      - Name of the pods' network, of which CNI keeps addresses.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Remove what pods left
  pvecri.runtime.cri_remains:
    bridge: pvecri0
    network: pvecri
"""

RETURN = r"""
removed:
  description: What was removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [mount /run/pvecri/sandboxes/1/ns/net, /run/pvecri]
running:
  description: Containers that ran, and pods with namespaces.
  returned: success
  type: list
  elements: str
  sample: [container 0123456789ab]
"""

import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.host import remains

ARGUMENT_SPEC: dict[str, t.Any] = {
    "state_dir": {"type": "path", "default": "/var/lib/pvecri"},
    "run_dir": {"type": "path", "default": "/run/pvecri"},
    "keep_state": {"type": "bool", "default": False},
    "bridge": {"type": "str", "default": ""},
    "network": {"type": "str", "default": ""},
}

#: As many names as a directory has that is nobody's own: /var/lib has two.
_LEAST_DEPTH = 2


def place(params: dict[str, t.Any]) -> remains.Place:
    """Return the options as the core takes them; raises InvalidSpec for a directory of everybody."""
    for key in ("state_dir", "run_dir"):
        path = os.path.normpath(params[key])
        if not os.path.isabs(path) or len(path.strip("/").split("/")) < _LEAST_DEPTH or path == "/var/lib":
            raise InvalidSpec(key, f"'{params[key]}' holds more than an endpoint's data")
    return remains.Place(
        state_dir=os.path.normpath(params["state_dir"]),
        run_dir=os.path.normpath(params["run_dir"]),
        bridge=params["bridge"],
        network=params["network"],
        keep_state=params["keep_state"],
    )


def perform(params: dict[str, t.Any], context: Context) -> Outcome:
    """Find what is left, and remove it."""
    ours = place(params)
    runner = SubprocessRunner()
    there = remains.find(ours, runner)
    found = there.describe()
    if found and not context.check_mode:
        remains.remove(ours, runner)
    values = {"removed": found, "running": there.running()}
    diff = {"before": {"remains": found}, "after": {"remains": []}}
    return Outcome(bool(found), diff, values)


def main() -> t.NoReturn:
    run_module(ARGUMENT_SPEC, perform)


if __name__ == "__main__":
    main()
