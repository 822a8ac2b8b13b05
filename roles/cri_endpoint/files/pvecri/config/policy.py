# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load the policy that the configuration names or holds."""

from __future__ import annotations

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import (
    Policy,
    compile_policy,
    load_policy,
)
from pvecri.config.load import ConfigError, Loaded


def configured_policy(loaded: Loaded) -> Policy:
    """Return the policy; raises ConfigError that names the file, and the line where it is set."""
    runtime = loaded.config.runtime
    try:
        if runtime.policy_file:
            return load_policy(runtime.policy_file, field="runtime.policy_file")
        return compile_policy(runtime.policy or None, field="runtime.policy")
    except InvalidSpec as exc:
        key = ("runtime", "policy_file" if runtime.policy_file else "policy")
        raise ConfigError([f"{loaded.place(*key)}: {exc}"]) from exc
