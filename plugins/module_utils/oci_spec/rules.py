# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check what a JSON schema cannot say of ``config.json``: rules between fields.

Each rule is a generator that gets the whole configuration, whose values have the
types of the schema, and yields problems.  The sections named are those of the OCI
runtime specification 1.2.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import RLIMITS
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.problem import Problem
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.rules_linux import LINUX_RULES, Config

Rule = t.Callable[[Config], t.Iterator[Problem]]


def check_rules(config: Config) -> t.Iterator[Problem]:
    """Yield every problem between fields."""
    for rule in RULES:
        yield from rule(config)


def _version(config: Config) -> t.Iterator[Problem]:
    """Hold ociVersion to SemVer 2.0.0 (config.md, «Specification version») and to version 1."""
    version = config["ociVersion"]
    if not re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", version):
        yield Problem("$.ociVersion", "oci-version", f"'{version}' is not a semantic version")
    elif not version.startswith("1."):
        yield Problem("$.ociVersion", "oci-version", f"'{version}' is not a version 1.x")


def _root(config: Config) -> t.Iterator[Problem]:
    """Want a root: only Hyper-V containers have none (config.md, «Root»)."""
    if "root" not in config:
        yield Problem("$", "root-required", "'root' is missing")
    elif not config["root"]["path"] or "\0" in config["root"]["path"]:
        yield Problem("$.root.path", "root-path", "is not a path")


def _process(config: Config) -> t.Iterator[Problem]:
    """Want something to run in an absolute directory (config.md, «Process»)."""
    process = config.get("process")
    if process is None:
        return
    if not process["cwd"].startswith("/"):
        yield Problem("$.process.cwd", "cwd-absolute", f"'{process['cwd']}' is not an absolute path")
    if not process.get("args"):
        yield Problem("$.process.args", "args-required", "there is nothing to run")
    for i, text in enumerate(process.get("env", ())):
        name, equals, _value = text.partition("=")
        if not name or not equals or "\0" in text:
            # The value may be a secret: only its place is told.
            yield Problem(f"$.process.env[{i}]", "env-form", "is not NAME=value")
    for i, text in enumerate(process.get("args", ())):
        if "\0" in text:
            yield Problem(f"$.process.args[{i}]", "args-form", "holds a NUL character")
    if "consoleSize" in process and not process.get("terminal"):
        yield Problem("$.process.consoleSize", "console-terminal", "a console's size needs 'terminal'")
    score = process.get("oomScoreAdj", 0)
    if not -1000 <= score <= 1000:
        yield Problem("$.process.oomScoreAdj", "oom-score-range", f"{score} is not in -1000 to 1000")


def _rlimits(config: Config) -> t.Iterator[Problem]:
    """Want each limit once, known, and soft not above hard (config.md, «POSIX process»)."""
    seen: set[str] = set()
    for i, limit in enumerate(config.get("process", {}).get("rlimits", ())):
        path, kind = f"$.process.rlimits[{i}]", limit["type"]
        if kind in seen:
            yield Problem(f"{path}.type", "rlimit-duplicate", f"{kind} is limited twice")
        seen.add(kind)
        if kind not in RLIMITS:
            yield Problem(f"{path}.type", "rlimit-unknown", f"Linux does not know {kind}")
        if limit["soft"] > limit["hard"]:
            yield Problem(f"{path}.soft", "rlimit-soft-hard", f"{limit['soft']} is above {limit['hard']}")


def _capabilities(config: Config) -> t.Iterator[Problem]:
    """Want names of capabilities, and sets that the kernel can hold (capabilities(7))."""
    sets: dict[str, list[str]] = config.get("process", {}).get("capabilities", {})
    for key in ("bounding", "permitted", "effective", "inheritable", "ambient"):
        for i, name in enumerate(sets.get(key, ())):
            path = f"$.process.capabilities.{key}[{i}]"
            if not re.fullmatch(r"CAP_[A-Z0-9_]+", name):
                yield Problem(path, "capability-name", f"'{name}' is not a capability (CAP_…)")
            elif key == "effective" and name not in sets.get("permitted", ()):
                yield Problem(path, "capability-effective", f"{name} is not permitted")
            elif key == "ambient" and name not in sets.get("permitted", ()):
                yield Problem(path, "capability-ambient", f"{name} is not permitted")


def _hooks(config: Config) -> t.Iterator[Problem]:
    """Want absolute paths of programs (config.md, «POSIX-platform Hooks»)."""
    for stage, hooks in config.get("hooks", {}).items():
        for i, hook in enumerate(hooks if isinstance(hooks, list) else ()):
            if isinstance(hook, dict) and not str(hook.get("path", "/")).startswith("/"):
                path = f"$.hooks.{stage}[{i}].path"
                yield Problem(path, "hook-absolute", f"'{hook['path']}' is not an absolute path")


def _annotations(config: Config) -> t.Iterator[Problem]:
    """Want names for annotations (config.md, «Annotations»)."""
    if "" in config.get("annotations", {}):
        yield Problem("$.annotations", "annotation-name", "an annotation has an empty name")


RULES: t.Final[tuple[Rule, ...]] = (
    _version,
    _root,
    _process,
    _rlimits,
    _capabilities,
    _hooks,
    _annotations,
    *LINUX_RULES,
)
