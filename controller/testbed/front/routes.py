"""Routes of the front door: one call each, described by OpenAPI."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from controller import __version__
from controller.testbed.front import fields
from controller.testbed.front.bodies import ChatBody, CompletionBody, ImageBody
from controller.testbed.front.door import CHAT, COMPLETION, IMAGES, FrontDoor, Holder
from controller.testbed.front.errors import Refused
from controller.testbed.front.users import Users


class ErrorDetail(BaseModel):
    """An error as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """Answer to a call that is refused or has failed."""

    error: ErrorDetail


REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "A field is unknown, not supported or wrong; `param` names it.",
        401: "The key is missing, wrong or revoked.",
        404: "The run has no such model.",
        408: "The body took too long.",
        413: "The body is too large.",
        415: "The body is not said to be JSON.",
        429: "Too many calls are under way; `Retry-After`.",
        500: "The engine, or the front door, failed.",
        503: "No run is on, or it takes none of these now; `Retry-After`.",
        504: "There was no result before the run's deadline.",
    }.items()
}


STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The answer; with `stream`, as server-sent events.",
        "content": {"text/event-stream": {}},
    }
}


def make_app(holder: Holder, users: Users) -> FastAPI:
    """Return the ASGI application of a node's front door. Nothing of the node's own HTTP is
    reached through it."""
    door = FrontDoor(holder, users)
    app = FastAPI(
        title="edgelm front door", version=__version__, responses=REFUSALS,
        docs_url=None, redoc_url=None,
    )  # fmt: skip

    @app.post("/v1/chat/completions", openapi_extra=_takes(ChatBody, fields.CHAT), responses=STREAM)
    async def chat(http: Request) -> Response:
        """Answer a conversation by a text-to-text LM, or caption an image by an image-to-text
        one."""
        return await door.serve(http, CHAT)

    @app.post(
        "/v1/completions",
        openapi_extra=_takes(CompletionBody, fields.COMPLETIONS),
        responses=STREAM,
    )
    async def completion(http: Request) -> Response:
        """Continue texts."""
        return await door.serve(http, COMPLETION)

    @app.post("/v1/images/generations", openapi_extra=_takes(ImageBody, fields.IMAGES))
    async def images(http: Request) -> Response:
        """Draw images."""
        return await door.serve(http, IMAGES)

    @app.get("/v1/models")
    async def models(http: Request) -> Response:
        """Return the LMs of the run."""
        return await door.models(http)

    @app.get("/v1/models/{model:path}")
    async def model(http: Request, model: str) -> Response:
        """Return one LM by its name or its checkpoint."""
        return await door.models(http, model)

    @app.get("/healthz", include_in_schema=False)
    async def health() -> Response:
        return JSONResponse({})

    @app.exception_handler(HTTPException)
    async def unknown(http: Request, error: HTTPException) -> Response:
        """Say in OpenAI's shape that there is no such route."""
        del http
        code = "method_not_allowed" if error.status_code == 405 else "unknown_url"
        message = "this front door has models, chat/completions, completions, images/generations"
        refused = Refused(error.status_code, code, message).response()
        refused.headers.update(error.headers or {})
        return refused

    return app


def _takes(body: type[BaseModel], table: dict[str, fields.Fate]) -> dict[str, Any]:
    """Return the description of a body that the door reads itself, after key and limits: its
    fields, and the values with which the others of the table are accepted."""
    schema = body.model_json_schema()
    parts, given = schema.pop("$defs", {}), schema["properties"]
    for name in given.keys() - set(schema["required"]):
        given[name] = {"anyOf": [given[name], {"type": "null"}]}
    for name, fate in table.items():
        if fate is fields.IGNORED:
            given[name] = {}
        elif fate is not fields.HONOURED:
            given[name] = {"enum": [*fate.neutral, None]}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _inlined(schema, parts)}},
        }
    }


def _inlined(schema: Any, parts: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(one, parts) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {key: _inlined(one, parts) for key, one in schema.items()}
