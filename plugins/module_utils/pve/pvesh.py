# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send requests to the Proxmox VE API through ``pvesh``, as root on a node: no login, no certificate.

    client = PveshClient(SubprocessRunner())
    client.get("/access/users", full=True)

It has the verbs of `client.PveClient`.  ``pvesh`` takes parameters as arguments, which
every process of the host may read: what holds a secret is refused.  What it prints
may be a secret, so no error repeats its standard output.
Source: PVE/CLI/pvesh.pm of pve-manager.
"""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    ApiTimeout,
    CommandTimeout,
    CoreError,
    MissingDependency,
    Unsupported,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import Path, encode_params

_COMMANDS = {"GET": "get", "POST": "create", "PUT": "set", "DELETE": "delete"}

#: Parameters of the API that hold a secret.
_SECRET = re.compile(r"(?i)password|secret|otp|ticket|^keys$|^value$|private|^key$|tfa")

#: A host name cannot hold what separates a status from a text: ``400 Parameter verification failed.``
_STATUS = re.compile(r"(?P<status>[345]\d\d) (?P<text>.+)")
_FIELD = re.compile(r"(?P<name>[A-Za-z][\w-]*): (?P<text>.+)")


class PveshClient:
    """Act as root@pam on the node that this process runs on."""

    #: root@pam itself, as with its password.
    is_root = True

    def __init__(self, runner: Runner, *, program: str = "pvesh", timeout_s: float = 30.0) -> None:
        """Prepare; nothing is started before the first call."""
        self._runner = runner
        self._program = program
        self._timeout_s = timeout_s

    def get(self, path: Path, **params: t.Any) -> t.Any:
        """Read ``path``."""
        return self.request("GET", path, params)

    def post(self, path: Path, **params: t.Any) -> t.Any:
        """Create or start something."""
        return self.request("POST", path, params)

    def put(self, path: Path, **params: t.Any) -> t.Any:
        """Change something."""
        return self.request("PUT", path, params)

    def delete(self, path: Path, **params: t.Any) -> t.Any:
        """Remove something."""
        return self.request("DELETE", path, params)

    def request(self, method: str, path: Path, params: t.Mapping[str, t.Any] | None = None) -> t.Any:
        """Send one request and return its data; ``None`` where pvesh prints nothing.

        Raises InvalidSpec, MissingPrivilege and ApiError as the HTTPS client does,
        ApiTimeout, MissingDependency without pvesh, Unsupported for a secret parameter.
        """
        argv = request_argv(self._program, method, path, params or {})
        where = argv[2]
        try:
            done = self._runner.run(argv, timeout_s=self._timeout_s, check=False)
        except CommandTimeout as exc:
            # Without its cause: that one knows what pvesh had printed.
            error: CoreError = ApiTimeout(
                f"{method} {where} was not answered by pvesh within {self._timeout_s:g} s",
                method=method,
                path=where,
                maybe_done=method != "GET",
                hint="Look at the state before repeating it; a cluster file system without quorum is the "
                f"usual cause ({exc.argv[0]} get /cluster/status)",
            )
        except MissingDependency as exc:
            raise MissingDependency(
                f"program '{self._program}' was not found",
                hint="Run the task on a node of the Proxmox VE cluster, or use transport: https",
            ) from exc
        else:
            if done.rc == 0:
                return _decoded(done.stdout, f"{method} {where}")
            error = _error(method, where, done.rc, done.stderr)
        raise error


def request_argv(program: str, method: str, path: Path, params: t.Mapping[str, t.Any]) -> list[str]:
    """Return the argument list of one request; raises Unsupported for a secret parameter.

    pvesh splits the path at slashes and decodes nothing, so no segment may hold one.
    """
    segments = path.strip("/").split("/") if isinstance(path, str) else [str(part) for part in path]
    for segment in segments:
        if "/" in segment or segment in ("", ".", ".."):
            raise Unsupported(
                f"pvesh cannot name {segment!r} in the path of a request", hint="Use the HTTPS API"
            )
    argv = [program, _COMMANDS[method], "/" + "/".join(segments), "--output-format", "json"]
    for name, value in encode_params(params).items():
        if _SECRET.search(name):
            raise Unsupported(
                f"'{name}' would be visible in the arguments of pvesh", hint="Use the HTTPS API for it"
            )
        for item in value if isinstance(value, list) else [value]:
            # One word: a value that begins with dashes stays a value.
            argv.append(f"--{name}={item}")
    return argv


def _decoded(text: str, request: str) -> t.Any:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    raise ApiError(
        f"{request}: pvesh prints no JSON",
        hint="Run it by hand on the node: 'pvesh get /version --output-format json' must print an object",
    )


def _error(method: str, path: str, rc: int, stderr: str) -> CoreError:
    """Return the error for what pvesh printed: a status where the API gave one, and a text."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    first = next((found for line in lines if (found := _STATUS.fullmatch(line))), None)
    if first is None:
        said = next(iter(lines), f"exit code {rc}")
        return answers.error_of_answer(500, said, {}, method=method, path=path, host="pvesh")
    fields = {found["name"]: found["text"] for line in lines if (found := _FIELD.fullmatch(line))}
    body = {"message": first["text"], "errors": fields}
    return answers.error_of_answer(
        int(first["status"]), first["text"], body, method=method, path=path, host="pvesh"
    )
