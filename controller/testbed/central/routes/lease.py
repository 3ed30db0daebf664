"""Routes of who may use the testbed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from controller.lease import Held
from controller.testbed.central.service import Conflict, Controller
from controller.testbed.handshake import refuse


class LeaseWanted(BaseModel):
    """Lease to take, or to keep."""

    model_config = ConfigDict(extra="forbid")

    holder: Annotated[str, Field(min_length=1, max_length=200)]
    ttl_s: Annotated[FiniteFloat, Field(gt=0, le=86400)] = 60.0
    fence: Annotated[int, Field(ge=1)] | None = None  # of the lease to keep; none: take it


def lease_routes(controller: Controller) -> APIRouter:
    """Return the routes of who may use the testbed."""
    routes = APIRouter()

    @routes.put("/v1/lease")
    async def take(body: LeaseWanted) -> Response:
        """Take the testbed's lease, or keep it for longer. 409 says who has it until when."""
        try:
            if body.fence is None:
                lease = await controller.take_lease(body.holder, body.ttl_s)
            else:
                lease = await controller.keep_lease(body.holder, body.fence, body.ttl_s)
        except Held as error:
            return JSONResponse({"problem": str(error), "lease": asdict(error.lease)}, 409)
        except Conflict as error:
            return refuse(409, str(error))
        return JSONResponse(asdict(lease))

    @routes.get("/v1/lease")
    async def look() -> Response:
        """Return the lease in force, null if the testbed is free."""
        lease = await controller.lease()
        return JSONResponse(lease and asdict(lease))

    @routes.delete("/v1/lease")
    async def release(holder: Annotated[str, Query(min_length=1, max_length=200)]) -> Response:
        """Give the testbed back. If it is another's, nothing happens."""
        await controller.release_lease(holder)
        return JSONResponse({})

    return routes
