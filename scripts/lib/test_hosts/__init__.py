# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts for tests: Debian booted with systemd in namespaces, reached by ssh.

cli        the commands of scripts/hosts
machine    one host: its record, up, down, reboot
keeper     the process that holds a running host
network    a network namespace with a way out, per host
cgroups    a control group per host
roots      root file systems and packages, made once
ground     paths, locks, processes
"""
