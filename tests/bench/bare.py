"""What accepting is measured against: a Flask route that decodes the same JSON and does one SET of it.

``python -m tests.bench.bare`` serves it as the broker serves its API: the same gunicorn settings, the same
Redis, its client as the library has it.
"""

from __future__ import annotations

import secrets
from typing import Any

import redis
from flask import Flask, request

from broker.settings import load_settings
from broker.store.connection import OPTIONS
from broker.web.server import Server, options_for


def make_app(redis_url: str) -> Flask:
    app = Flask("bare")
    client = redis.Redis.from_url(redis_url, **OPTIONS)

    @app.post("/jobs")
    def store() -> Any:
        document = request.get_json()
        name = secrets.token_hex(13)
        client.set(f"bare:{name}", request.get_data())
        return {"id": name, "name": document["name"]}, 202

    return app


def main() -> None:
    settings = load_settings()
    options = options_for(settings)
    for ours in ("post_worker_init", "child_exit"):  # about event streams and request times, which it has not
        del options[ours]
    Server(lambda: make_app(settings.redis_url), options).run()


if __name__ == "__main__":
    main()
