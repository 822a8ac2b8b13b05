# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the runtime of a workload by a policy.

document   a policy as plain data, or a TOML, JSON or YAML file of it → rules
patterns   globs and regular expressions → languages
automaton  languages: match in one pass, find a text that lies in some and not in others
proofs     refuse rules that can never match
policy     the compiled policy: request → selection
"""
