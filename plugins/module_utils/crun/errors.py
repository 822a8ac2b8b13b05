# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn the error output of crun and conmon into errors with a cause and a remedy.

crun reports nearly every failure as exit code 1 and a line of text, so this is
the one place of the core that has to match on text.  A text that no rule of
`error_rules` knows stays a CommandError that quotes it.
"""

from __future__ import annotations

import functools
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.error_rules import RULES, Rule
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    CoreError,
    InvalidSpec,
)


@functools.cache
def _compiled() -> tuple[tuple[re.Pattern[str], Rule], ...]:
    """Return the rules with their patterns; compiled when something fails, which most runs never see."""
    return tuple((re.compile(rule.pattern, re.IGNORECASE | re.MULTILINE), rule) for rule in RULES)


def translate(failure: CommandError, *, name: str) -> CoreError:
    """Return the error that tells best what went wrong for container ``name``.

    A time-out is its own cause and comes back as it is.
    """
    if isinstance(failure, CommandTimeout):
        return failure
    text = failure.stderr.strip() or failure.stdout.strip()
    for pattern, rule in _compiled():
        match = pattern.search(text)
        if match:
            return _as_error(rule, match, name)
    return CommandError(
        f"crun failed for container '{name}': {_one_line(text) or 'without a message'}",
        argv=failure.argv,
        rc=failure.rc,
        stdout=failure.stdout,
        stderr=failure.stderr,
    )


def shell_code(complaint: str) -> int | None:
    """Return what a shell would end with for a program that crun could not run, 127 or 126; else None."""
    for pattern, rule in _compiled():
        if pattern.search(complaint):
            return rule.shell_code
    return None


def _as_error(rule: Rule, match: re.Match[str], name: str) -> CoreError:
    groups: t.Iterable[str] = (group or "" for group in match.groups())
    problem = rule.problem.format(*groups, name=name)
    if rule.field is not None:
        return InvalidSpec(rule.field, problem, hint=rule.hint)
    return rule.kind(problem, hint=rule.hint)


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
