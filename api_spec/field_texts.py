"""The string below each field of a class, which documents it: for the pages that are made of such classes."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping


def texts(of: type) -> Mapping[str, str]:
    """By the field's name, in one line each, in the order of the class."""
    body = ast.parse(inspect.getsource(sys.modules[of.__module__])).body
    found = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == of.__name__)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(found.body, found.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
