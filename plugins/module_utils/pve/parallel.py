# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Call a function for many items at once, but not for too many."""

from __future__ import annotations

import concurrent.futures
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError

Item = t.TypeVar("Item")
Answer = t.TypeVar("Answer")

#: More requests at once than this make a pveproxy slower, not faster.
DEFAULT_LIMIT = 8


def each(
    items: t.Iterable[Item], function: t.Callable[[Item], Answer], *, limit: int = DEFAULT_LIMIT
) -> list[Answer | CoreError]:
    """Return ``function(item)`` for every item, in order, with ``limit`` at a time.

    A CoreError stands in the place of the answer that it prevented and stops
    nothing else; any other exception is a defect and is raised.
    """
    todo = list(items)

    def guarded(item: Item) -> Answer | CoreError:
        try:
            return function(item)
        except CoreError as exc:
            return exc

    if len(todo) <= 1 or limit <= 1:
        return [guarded(item) for item in todo]
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(limit, len(todo))) as pool:
        return list(pool.map(guarded, todo))
