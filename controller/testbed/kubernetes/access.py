"""Access to a cluster's API: who we are there, and its errors as ours.

Objects are the API's own JSON documents. The official client brings what is hard: kubeconfigs,
service accounts, certificates, connections.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client, config
from kubernetes.utils.quantity import parse_quantity

from controller.domain.errors import EdgelmError, InputError, Permanent, Transient

Document = dict[str, Any]

TIMEOUT: Final = aiohttp.ClientTimeout(total=15.0, sock_connect=5.0)
LINE_S: Final = 5.0  # beyond the server's own time-out, in which a watch may be silent
METHODS: Final = {
    "get": "GET", "list": "GET", "watch": "GET", "create": "POST", "update": "PUT",
    "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE",
}  # fmt: skip
MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json"
BUSY: Final = (408, 429)


class Missing(Permanent):
    """An object, or a kind of object, that is not there."""


class Conflict(Permanent):
    """An object of this name is there, or another version of it."""


class Refused(Permanent):
    """A call that the cluster refuses: no permission, a policy, an object that it cannot take."""


class Expired(Transient):
    """A version from which the server cannot watch any more: list again."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the API as people name it: verb, resource, namespace, name."""

    verb: str
    resource: str  # "pods", or "pods/resize"
    namespace: str = ""
    name: str = ""
    group: str = "v1"  # or "apps/v1"

    @property
    def path(self) -> str:
        kind, _, part = self.resource.partition("/")
        parts = ["/api" if "/" not in self.group else "/apis", self.group]
        parts += ["namespaces", self.namespace] if self.namespace else []
        return "/".join([*parts, kind, *filter(None, [self.name, part])])

    def __str__(self) -> str:
        name = f" {self.name}" if self.name else ""
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{name}{where}"


class ClusterApi:
    """A cluster's API. :func:`open_api` makes one."""

    def __init__(self, api: client.ApiClient, source: str) -> None:
        self._api, self._source = api, source
        self.calls = 0

    @property
    def url(self) -> str:
        return str(self._api.configuration.host)

    async def close(self) -> None:
        await self._api.close()

    async def call(
        self,
        call: Call,
        body: Document | None = None,
        query: Mapping[str, str] | None = None,
        kind: str = JSON,
    ) -> Document:
        """Make a call; return the document that answers.

        Raises:
            Transient: no answer, or one that asks for patience.
            Missing, Conflict, Expired, Refused: by what the cluster says.
            Permanent: it does not know who asks.
        """
        answer = await self._request(call, body, query or {}, kind, TIMEOUT)
        try:
            text = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unanswered(call, error) from error
        if answer.status >= 400:
            raise self._problem(call, answer.status, text)
        document: Document = json.loads(text)
        return document

    async def watch(
        self, call: Call, query: Mapping[str, str], wait_s: int
    ) -> AsyncIterator[Document]:
        """Yield a watch's events until the server ends it, after ``wait_s``.

        Raises:
            Transient: the connection breaks, or nothing has come for longer than ``wait_s``.
            Expired: the version is too old.
        """
        asked = {**query, "watch": "true", "timeoutSeconds": str(wait_s)}
        quiet = aiohttp.ClientTimeout(sock_connect=TIMEOUT.sock_connect, sock_read=wait_s + LINE_S)
        answer = await self._request(call, None, asked, JSON, quiet)
        try:
            if answer.status >= 400:
                raise self._problem(call, answer.status, await answer.read())
            async for line in answer.content:
                event: Document = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise self._problem(call, status.get("code", 500), json.dumps(status).encode())
                yield event
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._unanswered(call, error) from error
        finally:
            answer.close()

    async def _request(
        self,
        call: Call,
        body: Document | None,
        query: Mapping[str, str],
        kind: str,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": JSON, "Content-Type": kind}
        url = self.url + call.path + (f"?{urlencode(query)}" if query else "")
        self.calls += 1
        try:
            await self._api.update_params_for_auth(
                headers, [], ["BearerToken"], call.path, METHODS[call.verb], body
            )
            answer = await self._api.call_api(
                METHODS[call.verb], url, headers, body, _request_timeout=timeout
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unanswered(call, error) from error
        response: aiohttp.ClientResponse = answer.response
        return response

    def _unanswered(self, call: Call, error: Exception) -> EdgelmError:
        if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLError):
            return Permanent(
                f"cannot {call}: the certificate of {self.url} is not the one that {self._source} "
                f"trusts ({error}); fetch the cluster's kubeconfig again"
            )
        return Transient(
            f"cannot {call}: {self.url} does not answer ({type(error).__name__}); see that the API "
            f"server runs and that {self._source} names it"
        )

    def _problem(self, call: Call, status: int, text: bytes) -> EdgelmError:
        said = _message(text)
        if status == 401:
            return Permanent(
                f"cannot {call}: {self.url} does not know who asks; the credentials in "
                f"{self._source} have expired or are another cluster's: fetch them again"
            )
        if status == 403:
            return Refused(
                f"may not {call}: {said}; `edgelm manifests` has the roles that edgelm needs"
            )
        if status == 404:
            return Missing(f"cannot {call}: {said}")
        if status == 409:
            return Conflict(f"cannot {call}: {said}")
        if status == 410:
            return Expired(f"cannot {call}: {said}")
        if status >= 500 or status in BUSY:
            return Transient(f"cannot {call}: {said} (HTTP {status})")
        return Refused(f"cannot {call}: {said} (HTTP {status})")


async def open_api(kubeconfig: Path | None = None) -> ClusterApi:
    """Return the API that a kubeconfig names, without one that of the pod's own cluster.

    Raises:
        InputError: no such file, it cannot be read, or this is no pod.
    """
    # A default configuration of another part of the process must not be ours.
    settings = client.Configuration()
    settings.client_session_kwargs = {"trust_env": False}  # an API is reached directly
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=settings)
        else:
            await asyncio.to_thread(kubeconfig.read_bytes)  # a message that says why not
            await config.load_kube_config(
                str(kubeconfig), client_configuration=settings, persist_config=False
            )
        return ClusterApi(client.ApiClient(settings), str(kubeconfig or "the service account"))
    except config.ConfigException as error:
        if kubeconfig is None:
            raise InputError(
                "--kubernetes", f"needs a cluster, and this is no pod of one ({error})",
                remedy="outside of a pod, give --kubeconfig FILE",
            ) from error  # fmt: skip
        raise _unusable(kubeconfig, str(error)) from error
    except OSError as error:
        raise InputError(
            "--kubeconfig", f"cannot be read: {error.strerror or error}", value=str(kubeconfig),
            remedy="give the file that `kubectl --kubeconfig FILE get nodes` works with",
        ) from error  # fmt: skip
    except Exception as error:  # whatever a YAML reader, or a helper for credentials, raises
        raise _unusable(kubeconfig, f"{type(error).__name__}: {error}") from error


def _unusable(kubeconfig: Path | None, why: str) -> InputError:
    return InputError(
        "--kubeconfig", f"is no kubeconfig ({' '.join(why.split())})", value=str(kubeconfig),
        remedy="give the file that `kubectl --kubeconfig FILE get nodes` works with",
    )  # fmt: skip


def _message(text: bytes) -> str:
    """Return what the API's Status document says."""
    try:
        document = json.loads(text)
        return str(document["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200].decode("utf-8", "replace").strip() or "no reason given"


def quantity(text: str) -> float:
    """Return the number that a quantity of Kubernetes means.

    Raises:
        ValueError: it is none.
    """
    return float(parse_quantity(text))
