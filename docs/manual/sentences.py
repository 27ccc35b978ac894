"""Reads from the source what it says when it refuses: the sentence, its status, and the kind of problem or exception."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gateway

PACKAGE = Path(gateway.__file__).parent


@dataclass(frozen=True)
class Said:
    """One call that refuses: its arguments as a reader of the answer sees them; what is computed stands in `{}`."""

    name: str
    arguments: tuple[str, ...]


def said(folder: str, *names: str) -> list[Said]:
    """Every call of one of these names in a module or folder of the gateway, in order, but for the demo."""
    place = PACKAGE / folder
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    return [one for file in files if "demo" not in file.parts for one in _calls(ast.parse(file.read_text()), names)]


def _calls(module: ast.Module, names: tuple[str, ...]) -> Iterator[Said]:
    constants = _assigned(module.body)
    for function in _functions(module):
        known = constants | _assigned(ast.walk(function)) if function is not module else constants
        for node in _own(function):
            if isinstance(node, ast.Call) and (name := _name(node.func)) in names:
                yield Said(name, tuple(_text(argument, known) for argument in node.args))


def _functions(module: ast.Module) -> Iterator[ast.AST]:
    yield module
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _own(top: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function in their order, without those of functions inside it."""
    for node in ast.iter_child_nodes(top):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from _own(node)


def _assigned(nodes: Iterator[ast.AST] | list[ast.stmt]) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.expr, known: dict[str, ast.expr], depth: int = 0) -> str:
    match node:
        case ast.Constant(value):
            return f"{value:g}" if isinstance(value, float) else str(value)
        case ast.JoinedStr(values):
            return "".join(_text(value, known, depth) for value in values)
        case ast.FormattedValue(value):
            return _computed(value, known, depth)
        case ast.BinOp(left, ast.Add(), right):
            return _text(left, known, depth) + _text(right, known, depth)
        case ast.List([*elements]) | ast.Tuple([*elements]):
            return "; ".join(_text(element, known, depth) for element in elements)
        case ast.Name(name) if depth < 3 and isinstance(known.get(name), ast.Constant | ast.JoinedStr | ast.BinOp):
            return _text(known[name], known, depth + 1)
        case _:
            return _computed(node, known, depth)


def _computed(node: ast.expr, known: dict[str, ast.expr], depth: int) -> str:
    """A limit as its figure; anything else by the last name in it, as a place to be filled."""
    if isinstance(node, ast.Name) and node.id.isupper() and node.id in known:
        return _text(known[node.id], known, depth + 1)
    names = [
        name
        for part in ast.walk(node)
        if (name := _name(part) if isinstance(part, ast.Attribute | ast.Name) else "") and not hasattr(builtins, name)
    ]
    return "{" + (names[0] if names else "…").strip("_").lower() + "}"


def yielded(module: str) -> list[str]:
    """Every sentence that a module's functions yield, in order."""
    tree = ast.parse((PACKAGE / module).read_text())
    constants = _assigned(tree.body)
    found: list[str] = []
    for function in _functions(tree):
        known = constants | _assigned(ast.walk(function))
        values = [node.value for node in _own(function) if isinstance(node, ast.Yield)]
        found += [_text(value, known) for value in values if isinstance(value, ast.Constant | ast.JoinedStr)]
    return found
