"""Claims of a campaign's runs by configuration: locks of files, or leases in MongoDB."""

from __future__ import annotations

from functools import partial

from controller.campaigns.claims import LEASE_S, LOCKS, Claims, LeaseClaims
from controller.domain.errors import InputError
from controller.ports import Store


def claims_of(url: str, ttl_s: float = LEASE_S) -> Claims:
    """Return the claims in the store at ``url``, or those of one machine without a URL.

    Raises:
        InputError: not a URL of MongoDB, or its client is not installed.
    """
    if not url:
        return LOCKS
    open_claims(url).close()  # connects to nothing: shows a wrong URL before any run
    return LeaseClaims(partial(open_claims, url), ttl_s)


def open_claims(url: str) -> Store:
    """Open the store of claims.

    Raises:
        InputError: not a URL of MongoDB, or its client is not installed.
    """
    try:
        from controller.store.mongo import open_mongo
    except ModuleNotFoundError as error:
        raise InputError(
            "--claims", "needs MongoDB's client", remedy="pip install 'edgelm[testbed]'"
        ) from error
    return open_mongo(url)
