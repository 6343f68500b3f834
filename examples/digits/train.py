"""Train a small neural network to read handwritten digits, and leave it as a JSON file.

Writes ``model.json`` below BROKER_OUTPUT_DIR: the weights, the pixel scale and the accuracy on held-back
images.  JSON, because a model in it can be read without running anything that is in the file.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from data import DARKEST, split
from sklearn.neural_network import MLPClassifier


def main() -> None:
    options = read_options()
    train_images, test_images, train_digits, test_digits = split(options.seed)
    network = MLPClassifier(
        (options.hidden,),
        learning_rate_init=options.learning_rate,
        batch_size=options.batch_size,
        random_state=options.seed,
    )
    print(f"training on {len(train_images)} images, {len(test_images)} are held back", flush=True)
    accuracy = 0.0
    for epoch in range(1, options.epochs + 1):
        network.partial_fit(train_images / DARKEST, train_digits, classes=range(10))
        accuracy = float(network.score(test_images / DARKEST, test_digits))
        print(f"epoch {epoch:2}  loss {network.loss_:.4f}  accuracy {accuracy:.4f}", flush=True)
    path = save(network, accuracy, vars(options))
    print(f"accuracy {accuracy:.4f} on held-back images; the model is in {path}", flush=True)


def read_options() -> argparse.Namespace:
    """From the arguments; in an array job the learning rate is the task's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    learning_rate = float(os.environ.get("BROKER_PARAM_LEARNING_RATE", "0.003"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def save(network: Any, accuracy: float, options: dict[str, Any]) -> Path:
    """Under another name first, so that nobody ever reads half a model."""
    layers = [
        {"weights": weights.round(6).tolist(), "biases": biases.round(6).tolist()}
        for weights, biases in zip(network.coefs_, network.intercepts_, strict=True)
    ]
    model = {"scale": DARKEST, "accuracy": accuracy, "options": options, "layers": layers}
    path = Path(os.environ.get("BROKER_OUTPUT_DIR", ".")) / "model.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(model))
    part.replace(path)
    return path


if __name__ == "__main__":
    main()
