"""A virtual waiting room: a gateway that holds the crowd in a fair line so that the bank behind it stands.

The tour, in reading order. Imports point down this list's layers only, from the command to the nouns; a test holds it.

The nouns
    model.py              what configuration, queue, tokens and answers are made of
    errors.py             broken infrastructure and refused configuration; bad input is a value
    tasks.py              every background task has an owner

The configuration: waitroom.toml and the environment in, a Config out
    config.py             the steps from file to Config, and all faults at once
    notation.py           rates, durations, hosts, paths: how people write them, and what is allowed
    schema.py             the tables of the file: keys, defaults, bounds
    environment.py        WAITROOM_<TABLE>_<KEY>, and ..._FILE for secrets
    draft.py              the document read table by table; every fault becomes a sentence
    relations.py          what must hold between keys, and why
    secretfile.py         small secret files: tokens, keys
    notes.py              what follows from the figures
    overview.py           what `waitroom check` prints
    reference.py          every setting as a table: `waitroom check --settings`
    capacity.py           what a crowd needs: `waitroom capacity`

The rules: pure decisions, no clock and no network
    rules/routes.py       whose request is this? host and target, in every spelling
    rules/policy.py       forward, admit, hold or turn away
    rules/board.py        positions, times and states from what a room publishes
    rules/tokens.py       tickets and admissions, minted and read
    rules/verified.py     admissions that were verified, remembered
    rules/keys.py         the keys they are signed with
    rules/pacing.py       settings as the door counts them
    rules/settings.py     what an operator's patch makes of them
    rules/headers.py      what an intermediary does to HTTP/1.1 heads
    rules/events.py       how an event of the record is written
    rules/audit.py        a record judged after the fact
    rules/allowance.py    what it proves about rate and cap
    rules/fairness.py     what it proves about order and places
    rules/framing.py      which framing is refused
    rules/head.py         what is one whole, plain GET, and where requests end
    rules/body.py         where an answer's body ends

The edges: a Config in, the text of another program's configuration out
    edges/site.py         what every edge has to know of a site
    edges/page.py         what newcomers see while no gateway answers
    edges/haproxy.py      HAProxy: judges by itself what has one reading, and what is proven
    edges/haproxyroom.py  one room of it: whose token counts, and what speaks against it
    edges/haproxyserver.py  its last step: what upstreams are told
    edges/nginx.py        nginx: asks a gateway, and keeps the verdict for a second
    edges/caddy.py        Caddy: asks a gateway
    edges/printing.py     what `waitroom edge` prints, and what it says besides

The queue: the only speaker of Redis
    queue/store.py        one room's transitions, one method a script (queue/lua/)
    queue/scripts.py      the scripts, put together of what they name
    queue/connect.py      every form of URL, one meaning of all failures
    queue/embedded.py     a Valkey of our own: its folder, its start and its end
    queue/batching.py     one call for what a turn of the event loop asks
    queue/claims.py       claims that the door keeps waiting, lowest number first
    queue/room.py         a room as this process sees and remembers it
    queue/clock.py        the time by Redis, between two readings of it
    queue/spent.py        the numbers this process saw spent
    queue/record.py       the record as a file, and read again
    queue/statefile.py    what outlives a restart of gateways and Redis together
    metrics.py            every metric: name, labels, buckets
    scrape.py             one scrape for all workers of a gateway
    part.py               a worker's part, and its share of the limits

The loops and the faces
    drain.py              ticks, boards, marks, held claims, healing
    web/sockets.py        the ports, bound
    web/listener.py       an open port, and what gets as far as the gate
    web/sorting.py        what a request belongs to, by its first bytes
    web/turns.py          who begins in this turn of the event loop
    web/endings.py        which request must be its connection's last
    web/express.py        what the crowd asks over and over, answered from its bytes
    web/arrivals.py       of that, the waiting page in place of a protected URL
    web/gate.py           the way in: judge a request, then act
    web/desk.py           what all faces of one room share
    web/lobby.py          the waiting visitor's side: join, status, claim, leave, renew
    web/place.py          what a visitor is told: status and board
    web/poll.py           the answer to a poll, filled into a form made before
    web/reply.py          a room's answers, as JSON or as small pages
    web/ready.py          an answer whose head was built beforehand
    web/smallbody.py      a request's small body, read whole
    web/answers.py        JSON, problem documents, pages, redirects
    web/auth.py           the verdict for edges that ask before they pass a request on
    web/site.py           our URLs of no room: health, public keys, the contract
    web/openapi.py        the contract as OpenAPI 3.1
    web/examples.py       one example of each of its documents
    web/passage.py        one admitted request on its way, and its lease
    web/access.py         one request's id, and its line in the log
    web/tracing.py        its spans, by OpenTelemetry, where they are wanted
    web/plan.py           what the gate decides about a request that goes on
    web/upstream.py       the way to the upstreams: who may go, and what a failure becomes
    web/backend.py        one upstream: its URLs, shares and health
    web/pool.py           its connections
    web/exchange.py       one request there and back, streamed
    web/websocket.py      bytes of upgraded connections
    web/operator.py       health, metrics, console and API of operators
    web/control.py        what that API may do to rooms

The whole
    instruments.py        events met by metrics
    logs.py               how log lines look
    systemd.py            sockets that systemd holds, and what it hears
    app.py                wiring, start and stop, the only wall clock
    workers.py            the parent of several such processes
    inquiry.py            what `waitroom audit check` reads and prints
    cli.py                the `waitroom` command
    demo/                 a bank with limits, and the crowd that would bring it down
"""
