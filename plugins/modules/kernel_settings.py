#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_settings
short_description: Load kernel modules and set sysctls, with a way back
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Loads kernel modules and sets sysctls now, and writes the files that do so at each start of the host.
  - The values that sysctls had before are noted. A sysctl that is not wanted any more gets back its value
    from before, unless somebody else has changed it since.
  - What a container is not allowed to load or to set is a warning.
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.node
options:
  modules:
    description:
      - Kernel modules. Modules that are loaded already, or built into the kernel, are left as they are.
      - A module that is not wanted any more stays loaded until the next start.
    type: list
    elements: str
    default: []
  sysctl:
    description:
      - Values by key, such as C(net.ipv4.ip_forward).
    type: dict
    default: {}
  modules_file:
    description:
      - File of C(modules-load.d) that is written. It is removed when there are no O(modules).
    type: path
    default: /etc/modules-load.d/pvecri.conf
  sysctl_file:
    description:
      - File of C(sysctl.d) that is written. It is removed when there is no O(sysctl).
    type: path
    default: /etc/sysctl.d/60-pvecri.conf
  record:
    description:
      - File in which former values are noted. It is removed when there is no O(sysctl).
    type: path
    default: /usr/lib/pvecri/sysctl.json
"""

EXAMPLES = r"""
- name: Let the kernel forward packets
  pvecri.runtime.kernel_settings:
    modules: [overlay, br_netfilter]
    sysctl:
      net.ipv4.ip_forward: 1

- name: Give back what was before
  pvecri.runtime.kernel_settings:
"""

RETURN = r"""
loaded:
  description: Modules that were loaded, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [br_netfilter]
sysctl:
  description: Sysctls that were set or given back, with their new values.
  returned: success
  type: dict
  sample: {net.ipv4.ip_forward: "1"}
"""

import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.host import kernel, managed

ARGUMENT_SPEC: dict[str, t.Any] = {
    "modules": {"type": "list", "elements": "str", "default": []},
    "sysctl": {"type": "dict", "default": {}},
    "modules_file": {"type": "path", "default": "/etc/modules-load.d/pvecri.conf"},
    "sysctl_file": {"type": "path", "default": "/etc/sysctl.d/60-pvecri.conf"},
    "record": {"type": "path", "default": "/usr/lib/pvecri/sysctl.json"},
}


def files(params: dict[str, t.Any], sysctl: dict[str, str]) -> list[managed.Wanted]:
    """Return the files as they are wanted."""
    texts = {
        params["modules_file"]: params["modules"],
        params["sysctl_file"]: [f"{key} = {value}" for key, value in sysctl.items()],
    }
    return [
        managed.Wanted(path=path, content="\n".join([managed.MARKER, *lines, ""]) if lines else None)
        for path, lines in texts.items()
    ]


def perform(params: dict[str, t.Any], context: Context) -> Outcome:
    """Compare files and kernel with what is wanted, note what was before, and bring it about."""
    sysctl = kernel.check(params["modules"], params["sysctl"])
    record = kernel.load_record(params["record"])
    restored = kernel.to_restore(record, sysctl)
    changes, _kept = managed.plan(files(params, sysctl))
    found = kernel.plan(params["modules"], sysctl)
    warnings: list[str] = []
    if not context.check_mode:
        note = kernel.noted(record, found, sysctl)
        # Noted before anything is set: a run that is cut short must not take its own values for former ones.
        if note and note != record:
            kernel.save_record(params["record"], {**record, **note})
        managed.apply(changes, SubprocessRunner())
        warnings = kernel.apply(found, SubprocessRunner())
        again = kernel.plan(params["modules"], sysctl)
        # What cannot be done here is no change, this time or the next.
        found.load = [name for name in found.load if name not in again.load]
        found.values = {key: value for key, value in found.values.items() if key not in again.values}
        found.values |= {key: value for key, value in restored.items() if not kernel.write(key, value)}
        if note != record and (note or os.path.exists(params["record"])):
            kernel.save_record(params["record"], note) if note else os.unlink(params["record"])
    else:
        warnings = kernel.drop_impossible(found, SubprocessRunner())
        found.values |= restored
    values = {"loaded": found.load, "sysctl": found.values}
    before = {key: kernel.read(key) if context.check_mode else found.before.get(key) for key in found.values}
    diff: list[dict[str, t.Any]] = [change.diff() for change in changes]
    if found.values or found.load:
        diff.append({"before": {"sysctl": before}, "after": values})
    return Outcome(bool(changes or found.load or found.values), diff, values, warnings)


def main() -> t.NoReturn:
    run_module(ARGUMENT_SPEC, perform)


if __name__ == "__main__":
    main()
