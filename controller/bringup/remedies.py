"""What to do about the failures that people meet."""

from __future__ import annotations

import re
from typing import Final

UNREACHABLE: Final = (
    "is it running, and does its SSH port answer from here? The same command goes on from there"
)
# Pattern in a task's message -> remedy. The first that is found counts; roles put remedies that
# only they know into their own messages.
REMEDIES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), remedy)
    for pattern, remedy in (
        (
            r"quota exceeded",
            "free some of the project's quota or ask for more, then the same command goes on",
        ),
        (r"no valid host", "no host has room for the flavour: ask the cloud's administrator"),
        (
            r"permission denied \(publickey",
            "the machine does not know our key: is ansible_user the image's, and this the folder "
            "that made the machine?",
        ),
        (
            r"host key verification failed|identification has changed",
            "a machine was made anew at an old address: remove its line of keys/known_hosts",
        ),
        (r"failed to connect to the host via ssh", UNREACHABLE),
        (
            r"missing sudo password|a password is required",
            "give the user sudo without a password, or set EDGELM_BECOME_PASSWORD",
        ),
        (
            r"no space left on device",
            "free disk space there (df -h), then the same command goes on",
        ),
        (
            r"could not get lock|lock-frontend|unable to acquire the dpkg",
            "another package manager is at work there: wait for it, then the same command goes on",
        ),
        (
            r"decryption failed|no vault secrets|vault password",
            "give the vault's password: --vault-password-file FILE or ANSIBLE_VAULT_PASSWORD_FILE",
        ),
        (
            r"unauthori[sz]ed|401",
            "credentials have expired or are wrong: renew them in clouds.yaml",
        ),
        (
            r"temporary failure in name resolution|could not resolve|network is unreachable",
            "the machine does not reach the internet: its router, DNS, or an offline source",
        ),
    )
)


def remedy_for(message: str, state: str) -> str:
    """Return what to do about a failed task, "" if nothing more than its message is known."""
    for pattern, remedy in REMEDIES:
        if pattern.search(message):
            return remedy
    return UNREACHABLE if state == "unreachable" else ""
