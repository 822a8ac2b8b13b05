# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer for one subject which rules of a policy accept a value, as a bit mask over the rules."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.selection.automaton import (
    Bank,
    Node,
    bits,
    size,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.patterns import Pattern
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import Condition, Rule, Subject

#: Values whose answers are kept; real requests repeat themselves.
_KEPT_VALUES = 20_000

#: Positions of one bank: its sets of positions are bit masks, whose size counts for each position.
_BANK_SIZE = 2_000


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
        self._number_patterns(pattern for condition in conditions.values() for pattern in condition.patterns)
        self._rules_with = [0] * len(self._numbers)
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
            for number in bits(self._match(value)):
                rules |= self._rules_with[number]
            if len(self._known) >= _KEPT_VALUES:
                self._known.clear()
            self._known[value] = rules
        return rules

    def matching(self, condition: Condition, value: str) -> Pattern:
        """Return the first pattern of ``condition`` that matches ``value``, which it accepts."""
        mask = self._match(value)
        return next(pattern for pattern in condition.patterns if mask >> self._numbers[pattern] & 1)

    def _match(self, value: str) -> int:
        number = self._exact.get(value)
        mask = 0 if number is None else 1 << number
        for bank, first in self._banks:
            mask |= bank.match(value) << first
        return mask

    def _number_patterns(self, patterns: t.Iterable[Pattern]) -> None:
        """Number the patterns: those that match one text alone, then the others bank by bank."""
        wanted = sorted(dict.fromkeys(patterns), key=lambda pattern: not pattern.is_exact)
        self._numbers = {pattern: number for number, pattern in enumerate(wanted)}
        self._exact = {pattern.text: number for pattern, number in self._numbers.items() if pattern.is_exact}
        self._banks: list[tuple[Bank, int]] = []
        nodes: list[Node] = []
        first, places = len(self._exact), 0
        for pattern in wanted[first:]:
            if nodes and places + size(pattern.node) > _BANK_SIZE:
                self._banks.append((Bank(nodes), first))
                first, places, nodes = first + len(nodes), 0, []
            nodes.append(pattern.node)
            places += size(pattern.node)
        if nodes:
            self._banks.append((Bank(nodes), first))
