# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the table of what the demo made, from the JSON file that its playbook wrote.

    python demo_report.py [--url] REPORT

``--url`` prints the address of the web server alone.
"""

from __future__ import annotations

import argparse
import json
import pathlib


def table(rows: list[list[str]]) -> str:
    """Return ``rows`` as columns under the first of them, which is underlined."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)


def main() -> None:
    """Read the report and print it."""
    parser = argparse.ArgumentParser(description="Print what the demo made.")
    parser.add_argument("--url", action="store_true", help="print the web server's address only")
    parser.add_argument("report", type=pathlib.Path)
    arguments = parser.parse_args()
    report = json.loads(arguments.report.read_text())
    if arguments.url:
        print(report["url"])
        return
    print(table([["what", "name", "how"], *([str(cell) for cell in row] for row in report["made"])]))


if __name__ == "__main__":
    main()
