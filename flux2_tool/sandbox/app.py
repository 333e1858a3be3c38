"""The sandbox as an ASGI application: its routes.

Facts: the service's paths, statuses and field names as its guide, SDK and model pages give them. It shares no code
with the client, so that a field misspelt there cannot pass here.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial

import httpx
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flux2_tool.sandbox import account, admin_api, files, generation, objects, persistent_files, tasks
from flux2_tool.sandbox.catalog import ACTIONS, Action, Service
from flux2_tool.sandbox.fault_middleware import ConnectionDropped, Handler, with_faults
from flux2_tool.sandbox.faults import Target
from flux2_tool.sandbox.multipart_uploads import MultipartUploads
from flux2_tool.sandbox.options import PollPath, SandboxOptions
from flux2_tool.sandbox.responses import error_response
from flux2_tool.sandbox.service import Clock, Sandbox, Sleep

_MOST_REQUEST_ID_CHARS = 512


class SandboxApp(Starlette):
    """An ASGI application whose state holds the `Sandbox`.

    It skips Starlette's error pages: a dropped connection must stay one.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(routes=_routes(sandbox))
        self.state.sandbox = sandbox
        self._sandbox = sandbox

        async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
            await error_response(sandbox.options, 404, "Not found")(scope, receive, send)

        self.router.default = not_found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; really close the connection where the server lets us."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        try:
            await self._serve(scope, receive, send)
        except ClientDisconnect:
            return
        except ConnectionDropped as exc:
            close = state.get("close_connection" if exc.flush else "abort_connection")
            if close is None:
                raise
            close()
            while (await receive())["type"] != "http.disconnect":
                pass

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        extra = [(b"x-request-id", self._sandbox.new_id("req_").encode())]
        serve: ASGIApp = self.router
        for name, value in scope["headers"]:
            if name == b"x-client-request-id":
                if len(value) <= _MOST_REQUEST_ID_CHARS and all(0x20 <= byte < 0x7F for byte in value):
                    extra.append((name, value))
                else:
                    serve = error_response(self._sandbox.options, 400, "X-Client-Request-Id is not valid")

        async def send_with_ids(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        await serve(scope, receive, send_with_ids)


def create_app(
    options: SandboxOptions | None = None,
    *,
    clock: Clock = time.time,
    rng: random.Random | None = None,
    sleep: Sleep = asyncio.sleep,
    callback_transport: httpx.AsyncBaseTransport | None = None,
) -> SandboxApp:
    """Make a sandbox. Its state, ledger and faults are at `app.state.sandbox`.

    Args:
        options: Its options; the defaults serve everything at believable speed.
        clock: Seconds since 1970. All states, lives and dates follow it.
        rng: Draws everything random, instead of one seeded from the options.
        sleep: Waits out the delays of faults, and for the ends of tasks that have a `callback_url`.
        callback_transport: Carries callbacks instead of sockets.
    """
    return SandboxApp(
        Sandbox(options or SandboxOptions(), clock=clock, sleep=sleep, rng=rng, callback_transport=callback_transport)
    )


def _routes(sandbox: Sandbox) -> list[BaseRoute]:
    def route(method: str, path: str, target: Target, handler: Handler) -> Route:
        return Route(path, with_faults(sandbox, target, handler), methods=[method])

    def poll(
        address: str, path: PollPath | None, service: Service | None = None, action: Action | None = None
    ) -> Route:
        respond = partial(generation.poll, sandbox, path=path, service=service, action=action)
        return route("GET", address, "poll", respond)

    def create(address: str, service: Service, name: tasks.Route, action: Action) -> Route:
        endpoint = generation.Endpoint(service=service, route=name, action=action)
        return Route(address, partial(generation.create, sandbox, endpoint=endpoint), methods=["POST"])

    # Polls come first: they are most of the traffic.
    routes: list[BaseRoute] = [poll(f"/v1/{action}/{{id}}", "guide", "flux_2", action) for action in ACTIONS]
    routes += [poll(f"/api/v1/flux_2/{action}/{{id}}", "service", "flux_2", action) for action in ACTIONS]
    routes += [create(f"/v1/{action}", "flux_2", "guide", action) for action in ACTIONS]
    routes += [create(f"/api/v1/flux_2/{action}", "flux_2", "service", action) for action in ACTIONS]
    routes += [
        poll("/api/v1/flux/text_to_image/{id}", "service", "flux", "text_to_image"),
        create("/api/v1/flux/text_to_image", "flux", "service", "text_to_image"),
        poll("/api/v1/flux_2/{id}", "service_plain", "flux_2"),
        poll("/api/v1/flux/{id}", "service_plain", "flux"),
        poll("/v1/tasks/{id}", "v1_tasks"),
        poll("/api/v1/tasks/{id}", "api_tasks"),
        poll(generation.RESULTS_PATH + "{id}", None),
        route("GET", "/storage/{name}", "storage", partial(objects.picture, sandbox)),
        route("GET", "/storage/files/{id}/{name}", "storage", partial(objects.uploaded, sandbox)),
        route("PUT", "/storage/uploads/{id}", "storage", partial(objects.upload, sandbox)),
        route("POST", "/api/v1/files/prepare", "files", partial(files.prepare, sandbox)),
        route("POST", "/api/v1/files/confirm", "files", partial(files.confirm, sandbox)),
        route("POST", "/api/v1/files", "files", partial(files.create, sandbox)),
        *persistent_files.routes(sandbox),
        *MultipartUploads(sandbox).routes(),
        route("GET", "/v1/models", "account", partial(account.models, sandbox)),
        route("GET", "/api/v1/me", "account", partial(account.info, sandbox)),
        route("GET", "/api/v1/me/balance", "account", partial(account.balance, sandbox)),
        route("GET", "/api/v1/price_schedules", "account", partial(account.price_schedules, sandbox)),
        route("POST", "/api/v1/price_quotes", "account", partial(account.price_quotes, sandbox)),
        *admin_api.routes(sandbox),
    ]
    return routes
