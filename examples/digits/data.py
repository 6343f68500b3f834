"""Handwritten digits that ship with scikit-learn: 1,797 images of 8 x 8 pixels, each from 0 to 16."""

from __future__ import annotations

from typing import Any

HELD_BACK = 0.25  # of the images, for the question "how good is it on what it has never seen?"
DARKEST = 16


def split(seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Images to train with and held-back ones, then their digits; the same for the same seed."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, digits = load_digits(return_X_y=True)
    return tuple(train_test_split(images, digits, test_size=HELD_BACK, random_state=seed, stratify=digits))
