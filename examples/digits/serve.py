"""Serve a model that ``train.py`` has left, over HTTP, with the standard library alone.

    GET  /health    200 once the model is loaded
    POST /predict   {"images": [[64 pixels from 0 to 16], ...]} -> {"digits": [...], "replica": "..."}

Takes BROKER_INPUT_MODEL (a path or a file URI) and BROKER_PORT.
"""

from __future__ import annotations

import json
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGEST_BODY = 1024 * 1024
REPLICA = f"{os.environ.get('BROKER_REPLICA', '0')} (process {os.getpid()})"


class Network:
    """Fully connected layers; between two of them, what is negative becomes zero."""

    def __init__(self, model: dict[str, Any]) -> None:
        self.scale = model["scale"]
        # Column by column, because that is how an output is summed up.
        self.layers = [
            (list(zip(*layer["weights"], strict=True)), layer["biases"]) for layer in model["layers"]
        ]

    def digit(self, pixels: list[float]) -> int:
        values = [pixel / self.scale for pixel in pixels]
        for depth, (columns, biases) in enumerate(self.layers):
            values = [
                bias + sum(value * weight for value, weight in zip(values, column, strict=True))
                for column, bias in zip(columns, biases, strict=True)
            ]
            if depth < len(self.layers) - 1:
                values = [max(0.0, value) for value in values]
        return values.index(max(values))


class Handler(BaseHTTPRequestHandler):
    network: Network

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(200, {"ready": True, "replica": REPLICA})
        else:
            self.answer(404, {"error": "there are GET /health and POST /predict"})

    def do_POST(self) -> None:
        if self.path != "/predict":
            self.answer(404, {"error": "there are GET /health and POST /predict"})
            return
        length = int(self.headers.get("Content-Length", 0))
        if length > LARGEST_BODY:
            self.answer(413, {"error": f"{LARGEST_BODY} bytes at most"})
            return
        try:
            images = json.loads(self.rfile.read(length))["images"]
            digits = [self.network.digit(pixels) for pixels in images]
        except (ValueError, KeyError, TypeError):
            self.answer(400, {"error": 'send {"images": [[64 pixels from 0 to 16], ...]}'})
            return
        self.answer(200, {"digits": digits, "replica": REPLICA})

    def answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    model = json.loads(path_of(os.environ["BROKER_INPUT_MODEL"]).read_text())
    Handler.network = Network(model)
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["BROKER_PORT"])), Handler)
    signal.signal(signal.SIGTERM, lambda *_: exit(0))
    print(f"serving a model with accuracy {model['accuracy']:.4f} as replica {REPLICA}", flush=True)
    server.serve_forever()


def path_of(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file:") else Path(uri)


if __name__ == "__main__":
    main()
