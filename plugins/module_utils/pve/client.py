# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send requests to the Proxmox VE API, with time-outs, a login and clear errors.

    client = PveClient(Connection("pve1.example.org", "ops@pve", token_id="x", token_secret="…"))
    client.get("/nodes/pve1/lxc/100/config", current=True)
    client.put(("nodes", "pve1", "lxc", 100, "config"), cores=2, delete=None)

A client may be used by several threads.  Nothing is sent before the first call.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import typing as t
import urllib.parse

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    ApiTimeout,
    CoreError,
    InvalidSpec,
    LoginFailed,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import session as sessions
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection

with contextlib.suppress(ImportError):
    import requests

if t.TYPE_CHECKING:
    from requests import Response

#: ``/nodes/pve1/lxc``, or its segments; a segment may hold a slash, as volume ids do.
Path: t.TypeAlias = "str | t.Sequence[str | int]"

#: Waits before the second and third try of a GET whose connection broke.
_RETRY_WAITS_S = (0.1, 0.5)

_LOGIN_PATH = "/access/ticket"

#: More than the resources of the largest clusters; beyond it, it is no Proxmox VE that answers.
LARGEST_ANSWER_BYTES = 128 * 1024**2
_CHUNK_BYTES = 64 * 1024


class PveClient:
    """One login at one Proxmox VE host, with its connections kept open."""

    def __init__(
        self,
        connection: Connection,
        *,
        login: sessions.Login | None = None,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare; raises InvalidSpec for unusable data, MissingDependency without proxmoxer."""
        self.connection = connection.checked()
        self._session = sessions.open_session(self.connection)
        self._login = login or sessions.login_of(self.connection)
        self._sleep = sleep
        self._count_lock = threading.Lock()
        self._requests = 0

    @property
    def requests(self) -> int:
        """Return how many requests were sent, logins and repeats included."""
        return self._requests

    @property
    def is_root(self) -> bool:
        """Say whether this is root@pam itself, who alone may do some things; a token never is."""
        return self.connection.user == "root@pam" and not self.connection.token_id

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, path: Path, **params: t.Any) -> t.Any:
        """Read ``path``; repeated when the connection breaks."""
        return self.request("GET", path, params)

    def post(self, path: Path, **params: t.Any) -> t.Any:
        """Create or start something; sent once."""
        return self.request("POST", path, params)

    def put(self, path: Path, **params: t.Any) -> t.Any:
        """Change something; sent once."""
        return self.request("PUT", path, params)

    def delete(self, path: Path, **params: t.Any) -> t.Any:
        """Remove something; sent once."""
        return self.request("DELETE", path, params)

    def upload(self, path: Path, body: t.Any, content_type: str, *, timeout_s: float) -> t.Any:
        """POST ``body`` as it is: bytes, or an object with ``read`` and ``__len__`` that is streamed.

        ``timeout_s`` bounds each wait for the server, which answers only when it has
        all of the body.  Sent once.  Raises as `request` does.
        """
        route = quote_path(path)
        self._login.fresh(self._send_login)
        return self._send("POST", route, {}, self._login.auth, body=(body, content_type), timeout_s=timeout_s)

    def request(self, method: str, path: Path, params: t.Mapping[str, t.Any] | None = None) -> t.Any:
        """Send one request and return the ``data`` of its answer.

        ``params`` go as form data, or as query for GET and DELETE: True and False
        become 1 and 0, entries that are None are left out, a list is sent as a
        repeated parameter.  For names that are no Python identifiers
        (``ssh-public-keys``) call this instead of the verbs, or pass ``**{…}``.

        Raises InvalidSpec (400), LoginFailed (401), MissingPrivilege (403),
        ApiTimeout, and ApiError for everything else.
        """
        route = quote_path(path)
        values = encode_params(params or {})
        self._login.fresh(self._send_login)
        mark = self._login.mark()
        try:
            return self._attempt(method, route, values)
        except LoginFailed as exc:
            # A 401 means that nothing was done, so even a write may be repeated.
            if not self._login.renew(self._send_login, mark):
                raise sessions.login_hint(exc, self.connection) from exc
        return self._attempt(method, route, values)

    def _attempt(self, method: str, route: str, values: dict[str, t.Any]) -> t.Any:
        waits = iter(_RETRY_WAITS_S if method == "GET" else ())
        while True:
            try:
                return self._send(method, route, values, self._login.auth)
            except ApiError as exc:
                wait_s = next(waits, None)
                if wait_s is None or not _is_broken_connection(exc.__cause__):
                    raise
            self._sleep(wait_s)

    def _send_login(self, form: dict[str, str]) -> dict[str, t.Any]:
        try:
            data = self._send("POST", _LOGIN_PATH, form, None)
        except LoginFailed as exc:
            raise sessions.login_hint(exc, self.connection) from exc
        return data if isinstance(data, dict) else {}

    def _send(
        self,
        method: str,
        route: str,
        values: t.Mapping[str, t.Any],
        auth: t.Any,
        *,
        body: tuple[t.Any, str] | None = None,
        timeout_s: float | None = None,
    ) -> t.Any:
        connection = self.connection
        sent, content_type = body or (None, None)
        in_query = method in ("GET", "DELETE")
        with self._count_lock:
            self._requests += 1
        # proxmoxer's session takes every body for a dictionary that may hold files.
        send = functools.partial(requests.Session.request, self._session) if body else self._session.request
        try:
            answer = send(
                method,
                connection.base_url + route,
                params=dict(values) if in_query else None,
                data=sent if body else None if in_query else dict(values),
                headers={"Content-Type": content_type} if content_type else None,
                auth=auth or sessions.NoAuth(),
                timeout=(connection.connect_timeout_s, timeout_s or connection.api_timeout_s),
                verify=sessions.tls_verify(connection),
                allow_redirects=False,
                stream=True,
            )
            with answer:
                content = self._content(answer, method, route)
        except (requests.exceptions.RequestException, OSError) as exc:
            raise self._lost(exc, method, route) from exc
        return self._decoded(answer, content, method, route)

    def _content(self, answer: Response, method: str, route: str) -> bytes:
        """Return the body of an answer, refusing one that would fill the memory."""
        parts: list[bytes] = []
        size = 0
        for part in answer.iter_content(_CHUNK_BYTES):
            size += len(part)
            if size > LARGEST_ANSWER_BYTES:
                raise ApiError(
                    f"{method} {urllib.parse.unquote(route)}: {self.connection.host} answers with more than "
                    f"{LARGEST_ANSWER_BYTES // 1024**2} MiB",
                    status=answer.status_code,
                    hint="Check api_host and api_port: something else seems to listen there",
                )
            parts.append(part)
        return b"".join(parts)

    def _decoded(self, answer: Response, content: bytes, method: str, route: str) -> t.Any:
        host = f"{self.connection.host}:{self.connection.port}"
        path = urllib.parse.unquote(route)
        body = answers.parse_body(content.decode("utf-8", "replace"))
        if answer.status_code >= 300:
            reason = answers.decode_reason(answer.reason)
            error = answers.error_of_answer(
                answer.status_code, reason, body, method=method, path=path, host=host
            )
            raise self._scrubbed(error)
        if "data" not in body:
            raise ApiError(
                f"{method} {path}: {host} does not answer like a Proxmox VE API",
                status=answer.status_code,
                method=method,
                path=path,
                hint="Check api_host and api_port: something else seems to listen there",
            )
        return body["data"]

    def _scrubbed(self, error: CoreError) -> CoreError:
        """Take our secrets out of an error's texts, should the server have repeated one."""
        texts = {name: value for name, value in vars(error).items() if isinstance(value, str)}
        for secret in self.connection.secrets:
            texts = {name: value.replace(secret, "********") for name, value in texts.items()}
        vars(error).update(texts)
        return error

    def _lost(self, exc: Exception, method: str, route: str) -> ApiError:
        """Return the error for a request that got no answer."""
        connection = self.connection
        where = f"{connection.host}:{connection.port}"
        path = urllib.parse.unquote(route)
        about: dict[str, t.Any] = {"method": method, "path": path, "reason": _cause(exc)}
        if isinstance(exc, requests.exceptions.ConnectTimeout):
            return ApiTimeout(
                f"{where} did not take the connection within {connection.connect_timeout_s:g} s",
                hint="Check the address, that the host is up and that no firewall drops port "
                f"{connection.port}; or raise connect_timeout",
                **about,
            )
        if isinstance(exc, requests.exceptions.SSLError) or _is_tls_setup(exc):
            return self._tls_error(exc, where, about)
        # A lost login did nothing: the request that needed it was not sent.
        lost_write = method != "GET" and route != _LOGIN_PATH and not _is_unsent(exc)
        unknown = ", and whether it was carried out is unknown" if lost_write else ""
        if _is_timeout(exc):
            return ApiTimeout(
                f"{method} {path} was not answered by {where} within {connection.api_timeout_s:g} s{unknown}",
                hint="Look at the state before repeating it; a hanging node or storage is the usual cause. "
                "Raise api_timeout for a slow one",
                maybe_done=lost_write,
                **about,
            )
        return ApiError(
            f"no connection to {where}: {_cause(exc)}{unknown}",
            hint="Check api_host and api_port, and that pveproxy runs there",
            maybe_done=lost_write,
            **about,
        )

    def _tls_error(self, exc: Exception, where: str, about: dict[str, t.Any]) -> ApiError:
        connection = self.connection
        if connection.fingerprint and "ingerprint" in str(exc):
            message = f"{where} shows another certificate than the one pinned by 'fingerprint'"
            hint = "If it was renewed on purpose, pin the new one; if not, somebody is in between"
        elif connection.ca_path and _is_tls_setup(exc):
            message, hint = f"ca_path '{connection.ca_path}' cannot be read", "Give a PEM file or directory"
        else:
            message = f"TLS with {where} failed: {_cause(exc)}"
            hint = "Give the cluster's CA as ca_path (a copy of /etc/pve/pve-root-ca.pem), or a fingerprint"
        return ApiError(message, hint=hint, **about)


def quote_path(path: Path) -> str:
    """Return ``path`` with each segment quoted and one slash in front.

    Raises InvalidSpec for an empty segment or one of dots: either would name
    another object than the caller means.
    """
    segments = path.strip("/").split("/") if isinstance(path, str) else [str(part) for part in path]
    for segment in segments:
        if segment in ("", ".", ".."):
            raise InvalidSpec(
                "", f"the API path {'/'.join(map(str, segments))!r} has an empty or dotted part"
            )
    return "".join("/" + urllib.parse.quote(segment, safe=":@!=+,") for segment in segments)


def encode_params(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return ``params`` as Proxmox VE takes them: no None, booleans as 0 and 1."""
    encoded: dict[str, t.Any] = {}
    for name, value in params.items():
        if isinstance(value, (list, tuple)):
            encoded[name] = [_encode(item) for item in value]
        elif value is not None:
            encoded[name] = _encode(value)
    return encoded


def _encode(value: t.Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _cause(exc: BaseException) -> str:
    """Return the innermost reason in a few words, without requests' nested representations."""
    seen = exc
    for _depth in range(8):
        inner = getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in seen.args if isinstance(arg, BaseException)), None)
        if inner is None:
            break
        seen = inner
    text = str(seen.args[-1]) if isinstance(seen, OSError) and seen.args else str(seen)
    return text.rpartition(">: ")[2].strip() or type(seen).__name__


def _is_unsent(exc: BaseException) -> bool:
    """Say whether the connection was never made, so that the request cannot have arrived."""
    text = repr(exc)
    return "NewConnectionError" in text or "NameResolutionError" in text


def _is_broken_connection(exc: BaseException | None) -> bool:
    """Say whether trying again may help: not after a time-out, and not when TLS said no."""
    broken = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)
    is_final = exc is not None and (isinstance(exc, requests.exceptions.SSLError) or _is_timeout(exc))
    return isinstance(exc, broken) and not is_final


def _is_timeout(exc: BaseException) -> bool:
    """Say whether the server was too slow; requests calls it a lost connection within an answer."""
    return isinstance(exc, requests.exceptions.Timeout) or "ReadTimeoutError" in repr(exc)


def _is_tls_setup(exc: BaseException) -> bool:
    # requests raises a bare OSError for a CA file that is missing.
    return isinstance(exc, OSError) and not isinstance(exc, requests.exceptions.RequestException)
