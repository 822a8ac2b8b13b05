# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the attributes that every module of the collection has in common.

Use ``pvecri.runtime.attributes`` together with the part for the module's action
group, ``pvecri.runtime.attributes.runtime``, ``….node`` or ``….pve``.
Read-only modules list ``pvecri.runtime.attributes.info`` before these: of two
fragments the first wins, and what a module says in its own ``attributes`` block
wins over both, key by key.
"""

from __future__ import annotations


class ModuleDocFragment:
    # Every module plans first, so both modes are full unless the module says otherwise.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description:
      - Can run in C(check_mode) and predict the changed status without modifying the target.
    support: full
  diff_mode:
    description:
      - Returns what has changed, or would change in C(check_mode), when in diff mode.
    support: full
  idempotent:
    description:
      - A second run with the same arguments, outside check mode, reports no change.
    support: full
  platform:
    description:
      - Operating systems that the module runs on.
    support: full
    platforms: linux
"""

    RUNTIME = r"""
options: {}
attributes:
  action_group:
    description:
      - Use C(group/pvecri.runtime.runtime) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - pvecri.runtime.runtime
"""

    PVE = r"""
options: {}
attributes:
  action_group:
    description:
      - Use C(group/pvecri.runtime.pve) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - pvecri.runtime.pve
"""

    NODE = r"""
options: {}
attributes:
  action_group:
    description:
      - Use C(group/pvecri.runtime.node) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - pvecri.runtime.node
"""

    # A module that changes nothing has nothing to show in diff mode.
    INFO = r"""
options: {}
attributes:
  check_mode:
    description:
      - Can run in C(check_mode); the module never modifies the target.
    support: full
    details:
      - The module is read-only, so check mode makes no difference to it.
  diff_mode:
    description:
      - Returns what has changed, or would change in C(check_mode), when in diff mode.
    support: N/A
    details:
      - The module is read-only.
"""
