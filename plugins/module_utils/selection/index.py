# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer for one subject which rules of a policy accept a value, as a bit mask over the rules."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.selection.automaton import Bank, bits
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.patterns import Pattern
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import Condition, Rule, Subject

#: Values whose answers are kept; real requests repeat themselves.
_KEPT_VALUES = 20_000


class SubjectIndex:
    """All conditions that a policy has on one subject, matched in one pass over the value.

    Threads may share it: what they write at the same time is the same.
    """

    def __init__(self, subject: Subject, rules: t.Sequence[Rule]) -> None:
        conditions = {
            number: rule.conditions[subject]
            for number, rule in enumerate(rules)
            if subject in rule.conditions
        }
        wanted = dict.fromkeys(pattern for condition in conditions.values() for pattern in condition.patterns)
        self._numbers = {pattern: number for number, pattern in enumerate(wanted)}
        self._bank = Bank([pattern.node for pattern in wanted])
        self._rules_with = [0] * len(wanted)
        self._unconcerned = (1 << len(rules)) - 1
        self._absent = 0
        for number, condition in conditions.items():
            self._unconcerned &= ~(1 << number)
            self._absent |= condition.absent << number
            for pattern in condition.patterns:
                self._rules_with[self._numbers[pattern]] |= 1 << number
        self._known: dict[str, int] = {}

    def rules_for(self, value: str | None) -> int:
        """Return the rules that accept ``value`` (None: there is none), those without condition included."""
        if value is None:
            return self._unconcerned | self._absent
        rules = self._known.get(value)
        if rules is None:
            rules = self._unconcerned
            for number in bits(self._bank.match(value)):
                rules |= self._rules_with[number]
            if len(self._known) >= _KEPT_VALUES:
                self._known.clear()
            self._known[value] = rules
        return rules

    def matching(self, condition: Condition, value: str) -> Pattern:
        """Return the first pattern of ``condition`` that matches ``value``, which it accepts."""
        mask = self._bank.match(value)
        return next(pattern for pattern in condition.patterns if mask >> self._numbers[pattern] & 1)
