"""Owns the shape of waitroom.toml: its tables, keys, defaults and bounds; a field's description is what is allowed.

Nothing is coerced (`strict`) and nothing is ignored (`extra="forbid"`). What depends on two keys is in `relations.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from gateway import notation
from gateway.model import NUMBER_MAX, SEEN_MODULUS, Rate

T = TypeVar("T")


def _written(parse: Callable[[str], T]) -> BeforeValidator:
    """Takes text only, and turns it into what it says."""

    def parse_text(value: object) -> T:
        if not isinstance(value, str):
            raise ValueError("text in quotes is wanted")  # noqa: TRY004 - pydantic takes this for bad input
        return parse(value)

    return BeforeValidator(parse_text)


def _duration(low_s: float, high_s: float, why: str = "") -> Any:
    low, high = notation.duration_text(low_s), notation.duration_text(high_s)
    return Field(ge=low_s, le=high_s, description=f'{notation.DURATION_ALLOWED}; from "{low}" to "{high}"{why}')


def _whole(low: int, high: int, unit: str, why: str = "") -> Any:
    return Field(ge=low, le=high, description=f"a whole number of {unit} from {low} to {high}{why}")


Duration = Annotated[float, _written(notation.parse_duration)]
Seconds = Annotated[int, _written(lambda text: _whole_seconds(notation.parse_duration(text)))]
Size = Annotated[int, _written(notation.parse_size)]
RateText = Annotated[Rate, _written(notation.parse_rate), Field(description=notation.RATE_ALLOWED)]
Host = Annotated[str, _written(notation.parse_host), Field(description=notation.HOST_ALLOWED)]
PathPattern = Annotated[str, _written(notation.parse_path), Field(description=notation.PATH_ALLOWED)]
Origin = Annotated[str, _written(notation.parse_origin), Field(description=notation.ORIGIN_ALLOWED)]
Address = Annotated[tuple[str, int], _written(notation.parse_address), Field(description=notation.ADDRESS_ALLOWED)]
Network = Annotated[
    str,
    _written(notation.parse_network),
    Field(description='an IP address or a network without host bits: "10.0.0.0/24", "2001:db8::/32"'),
]
FileName = Annotated[
    str,
    Field(pattern=r"\A[^\x00]{1,4096}\Z", description="a file's name, relative to the folder of waitroom.toml"),
]
Name = Annotated[
    str, Field(pattern=r"\A[a-z0-9][a-z0-9_-]{0,62}\Z", description='1 to 63 of a-z, 0-9, "_" and "-", such as "bank"')
]
RoomId = Annotated[str, _written(notation.parse_room_id), Field(description=notation.ROOM_ID_ALLOWED)]
HeaderName = Annotated[
    str,
    Field(
        pattern=r"\A(?i:(?!waitroom-|connection\Z|host\Z|cookie\Z))[A-Za-z0-9-]{1,64}\Z",
        description='a header\'s name of letters, digits and "-", none of the gateway\'s own: "X-Customer-Id"',
    ),
]
Language = Annotated[
    str, Field(pattern=r"\A[a-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z", description='a language tag, such as "ko" or "en"')
]
# Scheme, host and port only: the target's own bytes are the path.
UpstreamUrl = Annotated[
    str,
    _written(notation.parse_upstream_url),
    Field(description=notation.UPSTREAM_URL_ALLOWED),
]


def _whole_seconds(seconds: float) -> int:
    if not seconds.is_integer():
        raise ValueError("whole seconds are wanted")
    return int(seconds)


class Table(BaseModel):
    """A table of the file. `SPECIMEN` stands in for keys that are faulty, so that the others are still judged."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, hide_input_in_errors=True, regex_engine="python-re"
    )
    SPECIMEN: ClassVar[dict[str, Any]] = {}


class ServerTable(Table):
    """[server]: where the gateway listens and whom it believes."""

    public: Address = ("0.0.0.0", 8080)
    operator: Address = ("127.0.0.1", 9090)
    hosts: list[Host] = Field([], max_length=1000, description=f"a list of host names; each {notation.HOST_ALLOWED}")
    trusted_proxies: list[Network] = Field([], max_length=1000, description="a list of IP addresses or networks")
    scheme: Literal["https", "http"] = Field("https", description='"https", or "http" with --dev')
    workers: Annotated[int, _whole(1, 256, "processes")] = 1
    state_dir: Annotated[
        FileName, Field(description="a folder's name, relative to that of waitroom.toml; it is made if it is missing")
    ] = "state"
    stop_grace: Annotated[Duration, _duration(0.0, 300.0)] = 5.0
    header_bytes_max: Annotated[
        Size, Field(ge=8192, le=1_048_576, description=f'{notation.SIZE_ALLOWED}; from "8KiB" to "1MiB"')
    ] = 32_768
    connections_max: Annotated[int, _whole(16, 1_000_000, "connections")] = 20_000
    log_format: Literal["text", "json"] = Field("text", description='"text" or "json"')
    access_log: float = Field(
        0.0, ge=0.0, le=1.0, allow_inf_nan=False, description="a share of the requests from 0 (none) to 1 (all)"
    )
    request_id: Literal["pass", "make"] = Field("pass", description='"pass" or "make"')
    traces: float = Field(
        0.0, ge=0.0, le=1.0, allow_inf_nan=False, description="a share of the requests from 0 (none) to 1 (all)"
    )


class RedisTable(Table):
    """[redis]: where the queues are kept."""

    SPECIMEN = {"url": "embedded"}
    url: Annotated[str, _written(notation.parse_redis_url), Field(description=notation.REDIS_URL_ALLOWED)]


class TokensTable(Table):
    """[tokens]: what signs tickets and admissions, and what else is accepted."""

    SPECIMEN = {"signing_key_file": "x"}
    signing_key_file: Annotated[
        FileName, Field(description="a key file of ours; make one: waitroom keys new keys/waitroom.pem")
    ]
    verify_key_files: list[FileName] = Field([], max_length=16, description="a list of key files, 16 at most")
    issuer: str = Field(
        "waitroom",
        pattern=r"\A[!-\[\]-~]{1,120}\Z",
        description="1 to 120 visible ASCII characters, the address of the gateway by custom",
    )


class AuditTable(Table):
    """[audit]: the record of what the rooms did, to be judged afterwards."""

    stream: Annotated[
        Size,
        Field(
            ge=0,
            le=1_073_741_824,
            multiple_of=1_048_576,
            description=f'{notation.SIZE_ALLOWED}; whole MiB up to "1024MiB" for each room, "0B" for no record',
        ),
    ] = 16_777_216
    file: FileName | None = Field(
        None,
        description="a file's name, relative to the folder of waitroom.toml; what this gateway causes is added to it",
    )


class OperatorTable(Table):
    """[[operators]]: who may use the operator port."""

    SPECIMEN = {"name": "x", "role": "viewer", "token_file": "x"}
    name: Annotated[str, Field(pattern=r"\A[!-~]{1,64}\Z", description="1 to 64 visible ASCII characters")]
    role: Literal["viewer", "operator", "upstream"] = Field(description='"viewer", "operator" or "upstream"')
    token_file: FileName
    rooms: list[RoomId] = Field([], description="a list of room ids; empty: all rooms")


class UpstreamTable(Table):
    """[upstreams.NAME]: a backend and the limits the gateway keeps towards it."""

    SPECIMEN = {"urls": ["http://127.0.0.1"]}
    urls: list[UpstreamUrl] = Field(
        min_length=1, max_length=64, description=f"a list of 1 to 64 in [ ], each {notation.UPSTREAM_URL_ALLOWED}"
    )
    max_in_flight: Annotated[int, _whole(1, 100_000, "requests")] = 200
    connect_timeout: Annotated[Duration, _duration(0.05, 60.0)] = 2.0
    read_timeout: Annotated[Duration, _duration(0.1, 3600.0)] = 30.0
    write_timeout: Annotated[Duration, _duration(0.1, 3600.0)] = 30.0
    idle_timeout: Annotated[Duration, _duration(1.0, 86_400.0)] = 300.0
    signing_key_file: FileName | None = Field(
        None, description="the name of a file that holds a key of 32 bytes or more"
    )
    ca_file: FileName | None = Field(
        None,
        description="the name of a file of certificates (PEM) that vouch for the https:// URLs, in place of the system's",
    )


class MatchTable(Table):
    """One of a room's routes."""

    SPECIMEN = {"path": "/x"}
    path: PathPattern
    host: Host | None = Field(None, description=notation.HOST_ALLOWED)


class BypassTable(Table):
    """One way past a room's queue: by path or by source, one of the two."""

    path: PathPattern | None = Field(None, description=notation.PATH_ALLOWED)
    source: Network | None = Field(None, description='an IP address or network: "192.0.2.0/24"')
    name: str | None = Field(None, pattern=r"\A[ -~]{1,64}\Z", description="1 to 64 printable ASCII characters")


class RoomTable(Table):
    """[[rooms]]: a set of protected routes with one queue, its limits and its upstream."""

    SPECIMEN = {"id": "x", "match": [{"path": "/x"}], "upstream": "x", "drain_rate": "1/s", "active_max": 1}
    id: RoomId
    match: list[MatchTable] = Field(
        min_length=1,
        max_length=1000,
        description='a list of 1 to 1000 routes: [{ host = "bank.example", path = "/pay/*" }]',
    )
    entry: str | None = Field(
        None,
        pattern=r"\A/(?![/\\])[!-\[\]-~]{0,1023}\Z",
        description='a path and query on the same host, up to 1024 visible ASCII characters: "/points/cashout/"',
    )
    upstream: Name
    max_in_flight: int | None = Field(None, ge=1, le=100_000, description="a whole number of requests from 1 to 100000")
    drain_rate: RateText
    burst: int | None = Field(
        None, ge=2, le=notation.BURST_MAX, description=f"a whole number of entries from 2 to {notation.BURST_MAX}"
    )
    active_max: int = _whole(1, 10_000_000, "admissions at a time")
    paused: bool = Field(False, description="true or false")
    stock: int | None = Field(None, ge=0, le=NUMBER_MAX, description=f"a whole number from 0 to {NUMBER_MAX}")
    message: dict[Language, Annotated[str, Field(max_length=500, description="text of up to 500 characters")]] = Field(
        {}, max_length=20, description='texts of up to 500 characters by language: { ko = "...", en = "..." }'
    )
    session: Annotated[Seconds, _duration(30, 86_400)] = 600
    session_max: Annotated[Seconds, _duration(30, 604_800)] = 3600
    claim_window: Annotated[Seconds, _duration(90, 3600, ": hidden tabs look only once a minute")] = 120
    absence_max: Annotated[Seconds, _duration(120, 86_400, ": nobody is absent before two slices of 60 s")] = 600
    # Presence bitmaps hold numbers modulo SEEN_MODULUS: a longer line would count some visitors as others.
    waiting_max: Annotated[int, _whole(1, SEEN_MODULUS, "places")] = 5_000_000
    joins_per_s: Annotated[int, _whole(1, 1_000_000, "joins a second")] = 20_000
    bypass: list[BypassTable] = Field([], max_length=1000, description='a list of rules: [{ path = "/pay/static/*" }]')
    queueing_status: Literal[200, 202, 429, 503] = Field(429, description="200, 202, 429 or 503")
    origins: list[Origin] = Field([], max_length=100, description=f"a list of origins; each {notation.ORIGIN_ALLOWED}")
    opens_at: AwareDatetime | None = Field(
        None, description="a date and time with its offset (RFC 3339), without quotes: 2026-12-01T11:00:00+09:00"
    )
    closes_at: AwareDatetime | None = Field(
        None, description="a date and time with its offset (RFC 3339), without quotes: 2026-12-01T20:00:00+09:00"
    )
    board_poll: Annotated[Seconds, _duration(1, 60)] | None = None
    customer_header: HeaderName | None = None
    customer_secret_file: FileName | None = None


class DefaultTable(Table):
    """[default]: where everything goes that no room matches."""

    SPECIMEN = {"upstream": "x"}
    upstream: Name


ROOT_TABLES = ("server", "redis", "tokens", "audit", "operators", "upstreams", "rooms", "default")
