# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what critest reports and hold it against the list of known failures."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import typing as t
import xml.etree.ElementTree as ET

_REASON_LENGTH = 300


@dataclasses.dataclass(frozen=True)
class Spec:
    """One spec and how it ended: passed, failed or skipped."""

    name: str
    status: str
    reason: str = ""
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Known:
    """One line of the list: specs that ``pattern`` finds cannot pass, for a reason."""

    pattern: re.Pattern[str]
    reason: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Everything that is worth a line."""

    specs: tuple[Spec, ...]
    known: tuple[Known, ...]

    def _with(self, status: str) -> list[Spec]:
        return sorted((spec for spec in self.specs if spec.status == status), key=lambda spec: spec.name)

    def _reason(self, spec: Spec) -> str | None:
        return next((known.reason for known in self.known if known.pattern.search(spec.name)), None)

    @property
    def unexpected(self) -> list[Spec]:
        """Return the specs that failed and are not on the list."""
        return [spec for spec in self._with("failed") if self._reason(spec) is None]

    @property
    def mended(self) -> list[Spec]:
        """Return the specs that are on the list and passed."""
        return [spec for spec in self._with("passed") if self._reason(spec) is not None]

    def lines(self) -> list[str]:
        """Return one line for each spec that did not simply pass."""
        lines = [f"skipped: {spec.name}: {spec.reason}" for spec in self._with("skipped")]
        for spec in self._with("failed"):
            known = self._reason(spec)
            lines.append(
                f"FAILED: {spec.name}: {spec.reason}"
                if known is None
                else f"known failure: {spec.name}: {known}"
            )
        lines += [f"now passes: {spec.name}: remove it from known.txt" for spec in self.mended]
        return lines

    def summary(self) -> str:
        """Return the closing line; known failures count as failed, since they did not pass."""
        counts = {status: len(self._with(status)) for status in ("passed", "failed", "skipped")}
        return ", ".join(f"{count} {status}" for status, count in counts.items())


def read_junit(path: pathlib.Path, *, selected: bool = False) -> tuple[Spec, ...]:
    """Read ginkgo's JUnit file.

    Nodes around the specs count only when they fail.  With ``selected`` what a filter left out is not listed.
    """
    specs = []
    for case in ET.parse(path).getroot().iter("testcase"):
        name = case.get("name", "")
        is_spec = name.startswith("[It] ")
        status, reason = _verdict(case)
        if (not is_spec and status != "failed") or (selected and status == "skipped" and not reason):
            continue
        name = re.sub(r"\s+", " ", name.removeprefix("[It] "))
        missing = "left out by a filter" if status == "skipped" else ""
        specs.append(Spec(name, status, reason or missing, float(case.get("time", 0))))
    return tuple(specs)


def read_known(path: pathlib.Path) -> tuple[Known, ...]:
    """Read the list: a regular expression, blanks around a `#`, the reason; a line each."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, mark, reason = line.partition(" # ")
        if not mark or not reason.strip():
            raise SystemExit(f"error: {path}:{number}: a reason is missing; write: REGEX # REASON")
        try:
            found.append(Known(re.compile(pattern.strip()), reason.strip()))
        except re.error as exc:
            raise SystemExit(f"error: {path}:{number}: not a regular expression: {exc}") from exc
    return tuple(found)


def _verdict(case: ET.Element) -> tuple[str, str]:
    status = case.get("status", "passed")
    for tag, verdict in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        node = case.find(tag)
        if node is not None:
            return verdict, _one_line(node)
    return ("passed" if status == "passed" else "skipped"), ""


def _one_line(node: ET.Element) -> str:
    text = node.get("message") or node.text or ""
    text = re.sub(r"^skipped( - )?", "", text)
    # Behind a message, Go's dump of the error says nothing more.
    text = text.partition("Unexpected error:")[0].strip() or text
    return re.sub(r"\s+", " ", text).strip()[:_REASON_LENGTH]


def slowest(specs: t.Iterable[Spec], count: int = 5) -> list[str]:
    """Return the specs that took longest, a line each."""
    ranked = sorted(specs, key=lambda spec: -spec.seconds)[:count]
    return [f"{spec.seconds:6.1f} s  {spec.name}" for spec in ranked]
