# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open HTTPS sessions to Proxmox VE on proxmoxer's session and token login.

proxmoxer logs in by ticket outside its session, with a fixed 5 s time-out, no
second factor in 1.2.0 and no way to log in again; and it cannot pin a
certificate.  So its session class and its token login are used, and the ticket
login, the time-outs and the pinning are added here.
"""

from __future__ import annotations

import dataclasses
import http.cookiejar
import re
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    InvalidSpec,
    LoginFailed,
    MissingDependency,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import totp

try:
    # requests first: proxmoxer ends the whole process when it is missing.
    import requests
    import requests.adapters
    from proxmoxer.backends import https as proxmoxer_https

    MISSING: ImportError | None = None
except ImportError as exc:
    MISSING = exc

#: A ticket is valid for 2 hours and can buy its successor until then.
_RENEW_TICKET_S = 3600.0

#: Connections kept open per client; what fans out must stay below it.
POOL_SIZE = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """Where and as whom to speak with Proxmox VE; secrets stay out of its repr."""

    host: str
    user: str
    port: int = 8006
    password: str | None = dataclasses.field(default=None, repr=False)
    #: Name of the token without user, or whole as ``user@realm!name``.
    token_id: str | None = None
    token_secret: str | None = dataclasses.field(default=None, repr=False)
    #: Ready code, base32 secret or otpauth address; needs ``password``.
    totp: str | None = dataclasses.field(default=None, repr=False)
    validate_certs: bool = True
    ca_path: str | None = None
    #: SHA-256 of the server's certificate, hexadecimal, colons allowed.
    fingerprint: str | None = None
    connect_timeout_s: float = 10.0
    api_timeout_s: float = 30.0
    task_timeout_s: float = 600.0

    def checked(self) -> Connection:
        """Return this connection with its token split from the user; raise InvalidSpec."""
        user, token_id = self.user, self.token_id
        if token_id and "!" in token_id:
            owner, token_id = token_id.split("!", 1)
            if user and user != owner:
                raise InvalidSpec("api_token_id", f"belongs to '{owner}', but api_user is '{user}'")
            user = owner
        if not self.host:
            raise InvalidSpec("api_host", "is missing", hint="Give it, or set PVE_HOST")
        if "@" not in user:
            raise InvalidSpec("api_user", f"'{user}' has no realm", hint="Write it like root@pam or me@pve")
        if token_id and not self.token_secret:
            raise InvalidSpec("api_token_secret", "is missing beside api_token_id")
        if not token_id and not self.password:
            raise InvalidSpec(
                "api_password", "is missing", hint="Give it, or api_token_id and api_token_secret"
            )
        if self.ca_path and not self.validate_certs:
            raise InvalidSpec(
                "validate_certs",
                "is false, but ca_path names authorities to check the certificate with",
                hint="Leave out one of the two",
            )
        if self.totp and not totp.is_code(self.totp):
            totp.parse_secret(self.totp)
        pin = re.sub(r"[:\s]", "", self.fingerprint or "").lower()
        if self.fingerprint and not re.fullmatch(r"[0-9a-f]{64}", pin):
            raise InvalidSpec(
                "fingerprint",
                "is not the SHA-256 fingerprint of a certificate (64 hexadecimal digits)",
                hint="On the node: openssl x509 -noout -fingerprint -sha256 -in /etc/pve/local/pve-ssl.pem",
            )
        return dataclasses.replace(self, user=user, token_id=token_id, fingerprint=pin or None)

    @property
    def base_url(self) -> str:
        """Return the address of the JSON API; IPv6 addresses get their brackets."""
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        return f"https://{host}:{self.port}/api2/json"

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the values that must never be shown."""
        return tuple(s for s in (self.password, self.token_secret, self.totp) if s)


def require_libraries() -> None:
    """Raise MissingDependency when proxmoxer or requests cannot be imported."""
    if MISSING is not None:
        raise MissingDependency(
            f"the Python package proxmoxer cannot be used: {MISSING}",
            hint="Install the Debian packages python3-proxmoxer and python3-requests where the task runs",
        ) from MISSING


def open_session(connection: Connection) -> requests.Session:
    """Return a session with pooled connections and the TLS rules of ``connection``.

    A pinned fingerprint replaces the check against authorities, unless a CA file
    is named too; then both must agree.
    """
    require_libraries()
    session = proxmoxer_https.ProxmoxHttpSession()
    session.headers["Accept"] = "application/json"
    # The ticket travels in a header of our own: no cookie of the server may displace it.
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    session.mount("https://", _PinnedAdapter(connection.fingerprint))
    return t.cast("requests.Session", session)


def tls_verify(connection: Connection) -> bool | str:
    """Return what requests takes as ``verify``."""
    if connection.ca_path:
        return connection.ca_path
    return connection.validate_certs and connection.fingerprint is None


if MISSING is None:

    class _PinnedAdapter(requests.adapters.HTTPAdapter):
        """Keep a pool of connections, each to the one certificate that is pinned, if one is."""

        def __init__(self, fingerprint: str | None) -> None:
            self._pin: dict[str, t.Any] = {"assert_fingerprint": fingerprint} if fingerprint else {}
            super().__init__(pool_connections=2, pool_maxsize=POOL_SIZE)

        def init_poolmanager(self, *args: t.Any, **kwargs: t.Any) -> None:
            """Hand the pin to urllib3, which checks it before anything is sent."""
            super().init_poolmanager(*args, **{**kwargs, **self._pin})

    class NoAuth(proxmoxer_https.ProxmoxHTTPAuthBase):  # type: ignore[misc]
        """Attach nothing, and keep requests from looking for a password in ~/.netrc."""

        timeout = None
        verify_ssl = True

        def __init__(self) -> None:
            """Need nothing of what proxmoxer's own logins take."""

        def __call__(self, request: t.Any) -> t.Any:
            """Return ``request`` as it is."""
            return request

    class TicketAuth(proxmoxer_https.ProxmoxHTTPAuthBase):  # type: ignore[misc]
        """Attach a ticket to requests, and the CSRF token to those that write."""

        def __init__(self) -> None:
            self.ticket = ""
            self.csrf_token = ""
            # proxmoxer 2 reads these of every login object; each request overrides them.
            self.timeout = None
            self.verify_ssl = True

        def __call__(self, request: t.Any) -> t.Any:
            """Return ``request`` with the ticket."""
            request.headers["Cookie"] = f"PVEAuthCookie={self.ticket}"
            if request.method != "GET":
                request.headers["CSRFPreventionToken"] = self.csrf_token
            return request


class Login(t.Protocol):
    """A way to prove who we are; ``auth`` goes to every request."""

    auth: t.Any

    def fresh(self, send: Send) -> None:
        """Make ``auth`` usable, logging in if need be."""

    def renew(self, send: Send, stale: object) -> bool:
        """Log in again after a 401; return whether a repeat makes sense."""

    def mark(self) -> object:
        """Return what identifies the present login, for `renew`."""


#: ``send(form) -> data`` posts to /access/ticket without a login.
Send = t.Callable[[dict[str, str]], dict[str, t.Any]]


class TokenLogin:
    """Send an API token with every request."""

    def __init__(self, connection: Connection) -> None:
        self.auth = proxmoxer_https.ProxmoxHTTPApiTokenAuth(
            connection.user, connection.token_id, connection.token_secret, service="PVE"
        )

    def fresh(self, send: Send) -> None:
        """Do nothing: a token needs no login."""

    def renew(self, send: Send, stale: object) -> bool:
        """Say no: a refused token stays refused."""
        return False

    def mark(self) -> object:
        """Return nothing in particular."""
        return None


class TicketLogin:
    """Buy a ticket with a password and a second factor; renew it before it expires."""

    def __init__(
        self,
        connection: Connection,
        *,
        clock: t.Callable[[], float] = time.monotonic,
        wall_clock: t.Callable[[], float] = time.time,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self.auth = TicketAuth()
        self._connection = connection
        self._clock = clock
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._born_s: float | None = None
        self._logins = 0

    def mark(self) -> object:
        """Return the number of the present ticket."""
        return self._logins

    def fresh(self, send: Send) -> None:
        """Log in the first time, and renew the ticket when half its life is over."""
        with self._lock:
            if self._born_s is None:
                self._log_in(send)
            elif self._clock() - self._born_s >= _RENEW_TICKET_S:
                try:
                    # A ticket that is still valid serves as password and needs no second factor.
                    self._keep(send({"username": self._connection.user, "password": self.auth.ticket}))
                except LoginFailed:
                    self._log_in(send)

    def renew(self, send: Send, stale: object) -> bool:
        """Log in again unless another thread already did since ``stale``."""
        with self._lock:
            if self._logins == stale:
                self._log_in(send)
            return True

    def _log_in(self, send: Send) -> None:
        connection = self._connection
        answer = send({"username": connection.user, "password": connection.password or ""})
        if answer.get("NeedTFA"):
            answer = self._second_factor(send, str(answer.get("ticket", "")))
        self._keep(answer)

    def _keep(self, answer: dict[str, t.Any]) -> None:
        if not answer.get("ticket") or answer.get("NeedTFA"):
            raise LoginFailed(
                f"{self._connection.host} gave no ticket for {self._connection.user}",
                hint="Check user, password and second factor",
            )
        self.auth.ticket = str(answer["ticket"])
        self.auth.csrf_token = str(answer.get("CSRFPreventionToken", ""))
        self._born_s = self._clock()
        self._logins += 1

    def _second_factor(self, send: Send, challenge: str) -> dict[str, t.Any]:
        given = (self._connection.totp or "").strip()
        form = {"username": self._connection.user, "tfa-challenge": challenge}
        if not given:
            raise LoginFailed(
                f"{self._connection.host} asks {self._connection.user} for a second factor",
                status=401,
                hint="Give api_totp (a code, or the secret itself), or use an API token, which needs none",
            )
        if totp.is_code(given):
            if self._logins:
                raise LoginFailed(
                    "the ticket is no longer valid and the one-time code is used up",
                    status=401,
                    hint="Give the TOTP secret as api_totp instead of a code, or use an API token",
                )
            return send({**form, "password": f"totp:{given}"})
        secret = totp.parse_secret(given)
        try:
            return send({**form, "password": f"totp:{secret.code_at(self._wall_clock())}"})
        except LoginFailed:
            # Each code is good for one login only: an earlier task may have spent this one.
            self._sleep(secret.seconds_left(self._wall_clock()) + 0.1)
            return send({**form, "password": f"totp:{secret.code_at(self._wall_clock())}"})


def login_of(connection: Connection) -> Login:
    """Return the login for ``connection``: its token if it has one, else its password."""
    return TokenLogin(connection) if connection.token_id else TicketLogin(connection)


def login_hint(exc: LoginFailed, connection: Connection) -> LoginFailed:
    """Return ``exc`` told apart by what was used, so that the advice fits."""
    what = (
        f"token '{connection.user}!{connection.token_id}'"
        if connection.token_id
        else f"user '{connection.user}'"
    )
    exc.message = f"{exc.message} ({what})"
    return exc
