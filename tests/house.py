"""Reads the project's own source for ``test_house_rules.py``: which files there are, how large things are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("api_spec", "policies", "adapters", "broker")
NOT_OURS = {".git", ".venv", "static", "node_modules"}  # static: third-party assets of the docs page

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
HTTP_VERBS = {"get", "post", "put", "patch", "delete", "route"}


@dataclass(frozen=True)
class Source:
    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    def at(self, node: ast.stmt | ast.expr) -> str:
        return f"{self.name}:{node.lineno} {getattr(node, 'name', '')}".rstrip()

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All of them; a walk through everything takes a second, and each rule would need its own."""
        return tuple(ast.walk(self.tree))

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        return (node for node in self.nodes if isinstance(node, FUNCTION))

    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in self.nodes if isinstance(node, ast.ClassDef))


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """The Python files below the folders."""
    return tuple(parsed(path) for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


@cache
def parsed(path: Path) -> Source:
    text = path.read_text()
    return Source(path, text, ast.parse(text))


def ours() -> tuple[Source, ...]:
    return sources(*PACKAGES)


def text_files() -> Iterator[tuple[str, str]]:
    """Every file of the project that is text, by its name."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(
            part.startswith(".") and part not in (".ci", ".gitignore", ".dockerignore") for part in parts
        )
        if hidden or NOT_OURS.intersection(parts) or "__pycache__" in parts or not path.is_file():
            continue
        try:
            yield str(path.relative_to(ROOT)), path.read_text()
        except UnicodeDecodeError:
            continue


# ---- sizes -------------------------------------------------------------------------------------------


def length(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Lines without the docstring and the decorators."""
    docstring = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    return lines - ((docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0)


def lines_of_code(source: Source) -> int:
    """Without docstrings, comments and blank lines."""
    documented = {
        line
        for node in source.nodes
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTION)) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    lines = enumerate(map(str.strip, source.text.splitlines()), 1)
    return sum(1 for at, line in lines if line and not line.startswith("#") and at not in documented)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in named)


def decorators(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """The last word of each: ``get`` of ``@blueprint.get("/jobs")``."""
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        yield called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def calls(source: Source, name: str) -> Iterator[ast.Call]:
    for node in source.nodes:
        if isinstance(node, ast.Call) and name in (
            getattr(node.func, "attr", ""),
            getattr(node.func, "id", ""),
        ):
            yield node
