# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Join the core to Ansible: the one file below ``plugins/modules`` that knows it.

A module's ``main()`` builds its argument spec, hands a function to `run_module`
and is done.  The function gets plain parameters, reads the actual state, plans,
applies the plan unless in check mode, and returns an `Outcome`.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import zip_imports

# Modules import this file first: what follows, Ansible's own part included, loads faster then.
zip_imports.compile_once(__spec__.loader)

from ansible.module_utils.basic import AnsibleModule, env_fallback  # noqa: E402

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError  # noqa: E402
from ansible_collections.pvecri.runtime.plugins.module_utils.files import host_trouble  # noqa: E402

#: env_fallback is passed on to what describes options that modules share.
__all__ = ["Context", "Outcome", "env_fallback", "run_module"]


@dataclasses.dataclass(slots=True)
class Outcome:
    """What a module answers; ``values`` are its own return keys."""

    changed: bool = False
    #: ``{"before": …, "after": …}``, or a list of such for many objects.
    diff: t.Any = None
    values: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    warnings: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """What the core may know of the run."""

    check_mode: bool
    diff_mode: bool
    #: Print a progress line to the log of the host (syslog), never a secret.
    log: t.Callable[[str], None]


def run_module(
    argument_spec: dict[str, t.Any],
    perform: t.Callable[[dict[str, t.Any], Context], Outcome],
    **module_options: t.Any,
) -> t.NoReturn:
    """Run ``perform(params, context)`` as an Ansible module and exit.

    ``module_options`` go to AnsibleModule (``mutually_exclusive``, ``required_if``, …).
    A CoreError becomes ``fail_json`` with the keys of its ``details()`` (its ``warnings``
    become the module's), and so does an OSError that the host is to blame for; anything
    else is a defect and keeps its traceback.
    """
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True, **module_options)
    context = Context(module.check_mode, module._diff, module.log)  # noqa: SLF001 - Ansible has no public name for it
    try:
        outcome = perform(module.params, context)
    except CoreError as exc:
        details = exc.details()
        for warning in details.pop("warnings", ()):
            module.warn(warning)
        module.fail_json(msg=str(exc), **details)
    except OSError as exc:
        foreseen = host_trouble(exc)
        if foreseen is None:
            raise
        module.fail_json(msg=str(foreseen), **foreseen.details())
    for warning in outcome.warnings:
        module.warn(warning)
    result: dict[str, t.Any] = {"changed": outcome.changed, **outcome.values}
    if context.diff_mode and outcome.diff is not None:
        result["diff"] = outcome.diff
    module.exit_json(**result)
