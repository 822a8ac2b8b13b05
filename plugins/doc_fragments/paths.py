# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the options by which modules say where on the host everything is kept."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  state_dir:
    description:
      - Absolute path of the directory that holds images, bundles, volumes and logs.
      - Its file system must be able to hold the writable part of an overlay, as ext4, XFS, Btrfs and
        ZFS 2.2 are.
      - All tasks that work with the same containers must name the same directory.
    type: path
    default: /var/lib/pvecri
  run_dir:
    description:
      - Absolute path of the directory that holds locks, secrets and the state of running containers. It
        need not survive a reboot.
    type: path
    default: /run/pvecri
"""
