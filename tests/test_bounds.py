"""Nothing is without a bound and no wait without an end: the table of docs/failures.md, and what the sources await and gather.

What cannot be told from the text of a source (that a bound is kept) is in the tests of its module; here nobody adds a wait, a
queue or a set that has none without writing down what ends it.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import gateway

PACKAGE = Path(gateway.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "failures.md"
# Awaited where nothing in sight sets a deadline -> what ends it all the same.
WAITS = {
    "app.py _keep_state: to_thread": "a disk; a loop of its own",
    "app.py _scraped: to_thread": "a disk; operators alone ask for it",
    "app.py _serve: get": "a signal: it is what the process is there for",
    "app.py _write_figures: run_in_executor": "a disk; a loop of its own",
    "app.py stop: gather": "Listener.close has a grace",
    "part.py follow: open_connection": "a socket that is connected already",
    "queue/batching.py submit: future": "WAIT_MAX_S until it is sent, CALL_TIMEOUT_S for the call",
    "queue/claims.py claim: future": "hold_s, looked at in every pass",
    "queue/claims.py step: wait": "a loop that waits for work",
    "queue/connect.py close: to_thread": "EmbeddedServer.stop kills it in the end",
    "queue/connect.py open_redis: to_thread": "EmbeddedServer.start has a deadline",
    "queue/room.py _asking: call": "what it is handed: a call of the store, or a batch",
    "tasks.py close: wait": "RECANCEL_S, again and again: tasks end when they are cancelled",
    "web/backend.py take: turn": "timeout_s, by a timer",
    "web/exchange.py _copy: drain": "Connection._check_writing cuts who takes nothing",
    "web/exchange.py _send_body: drain": "write_timeout",
    "web/exchange.py run: wait": "an upload that was cancelled",
    "web/pool.py head: more": "Link.more has a deadline",
    "web/pool.py next_piece: more": "Link.more has a deadline",
    "web/ready.py write_eof: drain": "Connection._check_writing cuts who takes nothing",
    "web/websocket.py tunnel: more": "Link.more has a deadline",
    "workers.py _begin: create_subprocess_exec": "READY_S; a process that begins, and a socket that is connected already",
    "workers.py _begin: open_connection": "READY_S; a process that begins, and a socket that is connected already",
    "workers.py _begin: wait": "READY_S; a process that begins, and a socket that is connected already",
    "workers.py _reload: to_thread": "reading a file, in a chore of its own",
    "workers.py _retire: wait": "a worker that was killed",
    "workers.py _start: gather": "READY_S",
    "workers.py _watch: readline": "its first word: READY_S; its end: it is made to; a disk",
    "workers.py _watch: to_thread": "its first word: READY_S; its end: it is made to; a disk",
    "workers.py _end_of: wait": "its first word: READY_S; its end: it is made to; a disk",
    "workers.py run: gather": "a signal; and workers that are made to stop",
    "workers.py run: get": "a signal; and workers that are made to stop",
}
# What grows -> the most it can hold.
GROWS = {
    "app.py _serve": "signals, and the parent's end",
    "workers.py run": "signals",
    "workers.py __init__": "as many processes as workers",
    "tasks.py __init__": "as many tasks as were started",
    "queue/batching.py __init__": "PENDING_MAX",
    "queue/room.py __init__": "numbers that there are",
    "queue/spent.py __init__": "SPENT_MAX",
    "rules/verified.py __init__": "ADMISSIONS_REMEMBERED",
    "rules/headers.py to_upstream": "two names",
    "rules/routes.py readings": "the readings of one target",
    "rules/audit.py merge": "the records it is asked to judge: a command",
    "rules/fairness.py __init__": "the records it is asked to judge: a command",
    "rules/fairness.py _begin": "the same",
    "web/backend.py __init__": "the share's limit",
    "web/exchange.py __init__": "requests in flight",
    "web/pool.py __init__": "links that were in flight at once",
    "web/turns.py __init__": "one a connection; the flows there are",
}
WAITING = {
    "wait",
    "get",
    "drain",
    "readany",
    "readline",
    "read",
    "readexactly",
    "readuntil",
    "wait_closed",
    "more",
    "acquire",
}
WAITING |= {
    "open_connection",
    "create_connection",
    "create_subprocess_exec",
    "to_thread",
    "run_in_executor",
    "gather",
    "aclose",
}
GATHERING = {"deque", "Queue", "OrderedDict", "set", "defaultdict"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        if "demo" not in file.parts:  # a crowd and a bank that end with the demo
            yield file.relative_to(PACKAGE).as_posix(), ast.parse(file.read_text())


def found(module: str, node: ast.AST, function: str = "", *, is_timed: bool = False) -> Iterator[tuple[str, ast.AST]]:
    """Every node with the name of its function, without those for which `asyncio.timeout` stands around an await."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        function, is_timed = node.name, False
    if isinstance(node, ast.AsyncWith):
        is_timed = is_timed or any(ast.unparse(item.context_expr).startswith("asyncio.timeout(") for item in node.items)
    if not (is_timed and isinstance(node, ast.Await)):
        yield f"{module} {function}".strip(), node
    for child in ast.iter_child_nodes(node):
        yield from found(module, child, function, is_timed=is_timed)


def is_wait(node: ast.AST) -> bool:
    if not isinstance(node, ast.Await):
        return False
    value = node.value
    return isinstance(value, ast.Name) or (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in WAITING
    )


def awaited(node: ast.AST) -> str:
    """The last name of what is called, or the name itself."""
    value = node.value if isinstance(node, ast.Await) else node
    return ast.unparse(value.func if isinstance(value, ast.Call) else value).rpartition(".")[2]


def is_gathering(node: ast.AST) -> bool:
    """An empty collection that has no bound of its own and may be kept; not `x.set(...)`."""
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    name = ast.unparse(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else ""
    return isinstance(value, ast.Call) and name in GATHERING and not value.args and not value.keywords


def test_every_wait_has_an_end() -> None:
    """Issue 4, overload: deadlines on every wait."""
    waits = {
        f"{name}: {awaited(node)}" for module, tree in sources() for name, node in found(module, tree) if is_wait(node)
    }
    assert waits == WAITS.keys(), "give it a deadline, or say here what ends it"


def test_everything_that_grows_has_a_bound() -> None:
    """Issue 4, overload: bounded queues everywhere."""
    grows = {name for module, tree in sources() for name, node in found(module, tree) if is_gathering(node)}
    assert grows == GROWS.keys(), "bound it, and say here by what"


def test_a_wait_without_a_deadline_would_be_seen() -> None:
    """A check that cannot fail is none."""
    source = (
        "async def f(x):\n async with asyncio.timeout(1):\n  await x\n q = asyncio.Queue()\n await q.get()\n await x"
    )
    nodes = list(found("m.py", ast.parse(source)))
    assert [ast.unparse(node) for _, node in nodes if is_wait(node)] == ["await q.get()", "await x"]
    assert [ast.unparse(node) for _, node in nodes if is_gathering(node)] == ["q = asyncio.Queue()"]


def test_the_table_says_what_the_sources_say() -> None:
    """What an operator reads is what holds."""
    table = PAGE.read_text().partition("### What may pile up")[2].partition("\n## ")[0]
    told = re.findall(r"`([a-z_.]+)\.((?:Limits\.[a-z_]+)|[A-Z_0-9]+) = ([\d.]+)`", table)
    assert len(told) > 20
    wrong = {name: value for module, name, value in told if figure(module, name) != float(value)}
    assert wrong == {}
    for module in re.findall(r"\| `([a-z_.]+)` \|", table):
        importlib.import_module(f"gateway.{module}")


def figure(module: str, name: str) -> float:
    found = importlib.import_module(f"gateway.{module}")
    holder, _, field = name.rpartition(".")
    if not holder:
        return float(getattr(found, name))
    kind = getattr(found, holder)
    assert is_dataclass(kind)
    default = next(one.default for one in fields(kind) if one.name == field)
    assert default is not MISSING
    return float(default)
