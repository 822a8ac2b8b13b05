# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the options by which every Proxmox VE module reaches the API."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  api_host:
    description:
      - Name or address of any node of the Proxmox VE cluster, optionally with a port as in V(pve1:8006).
      - If not set, the environment variable E(PVE_HOST) or E(PROXMOX_HOST) is used; one of them is required.
    type: str
  api_port:
    description:
      - TCP port of the API. It wins over a port in O(api_host).
      - If not set, E(PVE_PORT) or E(PROXMOX_PORT) is used, else V(8006).
    type: int
  api_user:
    description:
      - User with realm, for example V(root@pam) or V(ansible@pve).
      - If not set, E(PVE_USER) or E(PROXMOX_USER) is used.
      - Not needed when O(api_token_id) has the form V(user@realm!name).
    type: str
  api_password:
    description:
      - Password of O(api_user). Used to log in by ticket when no O(api_token_id) is given.
      - If not set, E(PVE_PASSWORD) or E(PROXMOX_PASSWORD) is used.
    type: str
  api_token_id:
    description:
      - Name of an API token of O(api_user), or the whole V(user@realm!name). It wins over O(api_password).
      - A token can never do what only C(root@pam) may do, such as bind mounts, whatever its privileges.
      - If not set, E(PVE_TOKEN_ID) or E(PROXMOX_TOKEN_ID) is used.
    type: str
  api_token_secret:
    description:
      - Secret of the API token. If not set, E(PVE_TOKEN_SECRET) or E(PROXMOX_TOKEN_SECRET) is used.
    type: str
  api_totp:
    description:
      - Second factor (TOTP) of O(api_user) for a login by password. Tokens need none.
      - Either a ready code of 6 digits, or the base32 secret or C(otpauth://totp/) address from which
        the code is computed.
      - Proxmox VE accepts each code once. A second login within the same 30 seconds waits for the next code.
      - If not set, E(PVE_TOTP) or E(PROXMOX_TOTP) is used.
    type: str
  validate_certs:
    description:
      - Whether the server's certificate must come from a trusted authority and fit O(api_host).
      - V(false) contradicts O(ca_path), and giving both is refused.
      - If not set, E(PVE_VALIDATE_CERTS) or E(PROXMOX_VALIDATE_CERTS) is used.
    type: bool
    default: true
  ca_path:
    description:
      - PEM file or directory of the authorities to trust, for example a copy of the cluster's
        C(/etc/pve/pve-root-ca.pem).
      - If not set, E(PVE_CA_PATH) or E(PROXMOX_CA_PATH) is used, else the system's authorities.
    type: path
  fingerprint:
    description:
      - SHA-256 fingerprint of the server's certificate, as the web interface shows it.
      - Only that certificate is accepted, and no authority is asked unless O(ca_path) is given too.
      - If not set, E(PVE_FINGERPRINT) or E(PROXMOX_FINGERPRINT) is used.
    type: str
  connect_timeout:
    description:
      - Seconds to wait for the TCP connection.
    type: float
    default: 10
  api_timeout:
    description:
      - Seconds to wait for the answer to one request.
      - At least V(4), because Proxmox VE holds a refused login back for 3 seconds.
    type: float
    default: 30
  task_timeout:
    description:
      - Seconds to wait for one Proxmox VE task, such as a creation, a start or a backup.
      - A task that takes longer is not stopped; the module fails and names it.
    type: float
    default: 600
requirements:
  - proxmoxer (Debian package C(python3-proxmoxer), 1.2.0 or later)
  - requests (Debian package C(python3-requests))
"""
