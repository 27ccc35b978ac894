"""Makes docs/api.md: the OpenAPI document of the public port as a page, operation by operation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from gateway.web.openapi import document

Json = dict[str, Any]
HEAD: Final = """# The API of the public port

Made by `make references` from the OpenAPI 3.1 document that every gateway serves at `/_waitroom/openapi.json`; a test
compares. A walk through it with real requests and answers is in [http.md](http.md); the operator port is
[there](http.md#the-operator-port), too. What each problem means is in
[errors.md](errors.md#the-gateways-own-answers).
"""


def page() -> str:
    """The whole of docs/api.md."""
    contract = document()
    parts = contract["components"]
    blocks = [HEAD, f"Version {contract['info']['version']}. {contract['info']['description']}", "## Operations"]
    blocks.append("\n".join(_overview(contract["paths"])))
    for path, item in contract["paths"].items():
        blocks += ["\n".join(one) for one in _operations(path, item, parts)]
    blocks.append("## Schemas")
    blocks += ["\n".join(_schema(name, schema)) for name, schema in parts["schemas"].items()]
    blocks += ["## Headers of answers", "\n".join(_headers(parts["headers"]))]
    blocks += ["## Credentials", "\n".join(_credentials(parts["securitySchemes"]))]
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def _methods(item: Json) -> dict[str, Json]:
    """Operations of a path; those that differ in nothing but the method are one."""
    found: dict[str, Json] = {}
    for method, call in item.items():
        if method == "parameters":
            continue
        same = next((names for names, other in found.items() if _is_alike(other, call)), None)
        if same is None:
            found[method.upper()] = call
        else:
            found[f"{same}, {method.upper()}"] = found.pop(same)
    return found


def _is_alike(one: Json, other: Json) -> bool:
    return all(one[key] == other[key] for key in ("responses", "summary"))


def _title(methods: str, path: str) -> str:
    return f"{'Any method' if methods.count(',') > 4 else methods} {path}"


def _overview(paths: dict[str, Json]) -> Iterator[str]:
    yield "| call | does |"
    yield "| --- | --- |"
    for path, item in paths.items():
        for methods, call in _methods(item).items():
            yield f"| `{_title(methods, path)}` | [{call['summary']}](#{call['operationId'].lower()}) |"


def _operations(path: str, item: Json, parts: Json) -> Iterator[Iterable[str]]:
    for methods, call in _methods(item).items():
        yield _operation(_title(methods, path), call, item.get("parameters", []), parts)


def _operation(title: str, call: Json, parameters: list[Json], parts: Json) -> Iterator[str]:
    yield f"### {call['operationId']}\n"
    yield f"`{title}`: {call['summary']}\n"
    ways = [next(iter(way), "") for way in call["security"]]
    yield f"Credentials: {', '.join(f'`{way}`' if way else 'none' for way in ways)}.\n"
    if parameters:
        yield "| parameter | in | allowed | says |"
        yield "| --- | --- | --- | --- |"
        for parameter in (_resolved(one, parts) for one in parameters):
            where = f"{parameter['in']}{', required' if parameter['required'] else ''}"
            yield f"| `{parameter['name']}` | {where} | {_kind(parameter['schema'])} | {parameter['description']} |"
        yield ""
    if "requestBody" in call:
        yield from _body(call["requestBody"])
    yield "| status | answer | body | headers |"
    yield "| --- | --- | --- | --- |"
    for status, answer in call["responses"].items():
        bodies = ", ".join(_content(kind, one) for kind, one in answer.get("content", {}).items())
        headers = ", ".join(f"`{name}`" for name in answer.get("headers", {}))
        yield f"| {status} | {answer['description']} | {bodies or '-'} | {headers or '-'} |"


def _body(body: Json) -> Iterator[str]:
    for kind, content in body["content"].items():
        needed = "required" if body["required"] else "optional"
        yield f"Body, {needed}, `{kind}`:\n"
        yield from _fields(content["schema"])
        yield ""


def _content(kind: str, content: Json) -> str:
    reference = content["schema"].get("$ref", "")
    name = reference.rpartition("/")[2]
    return f"[{name}](#{name.lower()}-document) (`{kind}`)" if name else f"`{kind}`"


def _schema(name: str, schema: Json) -> Iterator[str]:
    yield f"### {name} document\n"
    yield from _fields(schema)
    for example in schema.get("examples", []):
        yield f"\n```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```"


def _fields(schema: Json) -> Iterator[str]:
    yield "| field | is | says |"
    yield "| --- | --- | --- |"
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        inner, can_be_null = _inner(field)
        kind = _kind(inner) + (", or null" if can_be_null else "") + ("" if name in required else "; may be left out")
        yield f"| `{name}` | {kind} | {inner.get('description', '')} |"


def _inner(schema: Json) -> tuple[Json, bool]:
    """The schema itself where it may be null besides."""
    return (schema["anyOf"][0], True) if "anyOf" in schema else (schema, False)


def _kind(schema: Json) -> str:
    """What is allowed, in words."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    kind: str = schema["type"]
    if kind == "object":
        inner = [f"`{name}` ({_kind(_inner(one)[0])})" for name, one in schema.get("properties", {}).items()]
        return f"object: {', '.join(inner)}" if inner else "object"
    if kind == "array":
        inside = _kind(schema["items"]) if "items" in schema else "anything"
        count = f"{schema['minItems']} x " if schema.get("minItems") == schema.get("maxItems", "") else ""
        return f"array of {count}{inside}"
    words = [schema.get("format", kind)]
    words += [f"from {schema['minimum']}"] if "minimum" in schema else []
    words += [f"to {schema['maximum']}"] if "maximum" in schema else []
    words += [f"{schema['minLength']} characters or more"] if "minLength" in schema else []
    words += [f"{schema['maxLength']} characters at most"] if "maxLength" in schema else []
    words += [f"`{schema['pattern']}`".replace("|", "\\|")] if "pattern" in schema else []
    return ", ".join(words)


def _resolved(reference: Json, parts: Json) -> Json:
    found: Json = parts["parameters"][reference["$ref"].rpartition("/")[2]]
    return found


def _headers(headers: dict[str, Json]) -> Iterator[str]:
    yield "| header | is | says |"
    yield "| --- | --- | --- |"
    for name, header in headers.items():
        yield f"| `{name}` | {_kind(header['schema'])} | {header['description']} |"


def _credentials(schemes: dict[str, Json]) -> Iterator[str]:
    yield "| name | is | says |"
    yield "| --- | --- | --- |"
    for name, scheme in schemes.items():
        yield f"| `{name}` | {scheme['in']} `{scheme['name']}` | {scheme['description']} |"
