# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print how many tests passed, failed and were skipped, read from JUnit files."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET


def main() -> None:
    """Print three numbers."""
    roots = [ET.parse(path).getroot() for path in sys.argv[1:]]  # noqa: S314
    suites = [suite for root in roots for suite in root.iter("testsuite")]
    total, failed, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites for name in names)
        for names in (("tests",), ("failures", "errors"), ("skipped",))
    )
    print(total - failed - skipped, failed, skipped)


if __name__ == "__main__":
    main()
