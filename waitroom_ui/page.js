// The waiting page's script. It takes a place in line, asks for its status when the server says so, claims its turn while
// the page is in view, and then lets the browser load what the visitor came for.
//
// Two loops run side by side. The *main loop* is a chain of join and poll, of which only the newest request counts: a
// reply that was overtaken is dropped. The *claim loop* runs while the visitor is called and the page is visible.
// Nothing here is ever an error page: what cannot be read leaves the last known place on show, marked as such.

const { room, entry, posted, boardPollMs } = page.dataset;
const isInPlace = !location.pathname.startsWith("/_waitroom/");

// --- what is kept in the browser: the key that finds our place again, the language. Storage may be blocked.
const KEY = `waitroom:${room}`;
const isStoring = remember("waitroom:probe", "1");

function recall(name, store = "localStorage") {
  try { return window[store].getItem(name); } catch { return null; }
}

function remember(name, value, store = "localStorage") {
  try {
    if (value === null) window[store].removeItem(name);
    else window[store].setItem(name, value);
    return true;
  } catch { return false; }
}

function keptKey() {
  const kept = recall(KEY);
  return /^[\w-]{22}$/.test(kept || "") ? kept : null;
}

// 128 random bits. Where a browser has none to give, the gateway makes the key.
function newKey() {
  try {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  } catch { return null; }
}

// --- state
let key = keptKey();
let view = "joining"; // names the headline: `view`, `view_lead`, `view_next` in TEXT
let status = null; // the newest status, whatever became of the connection since
let problem = null; // a text's name: "stale", "leave_failed"
let opensAt = null;
let latest = 0; // number of the main loop's newest request
let timer = 0;
let boardTimer = 0;
let step = null; // what the main loop does next; null = stopped
let misses = 0; // failures in a row, for the backoff
let joins = 0; // joins since a status was last read: more than two means that our cookies do not come back
let isClaiming = false;
let claimTimer = 0;
let claimMisses = 0;
let isEntered = false;

// --- requests
async function ask(method, what, body, limitMs = 15_000) {
  const stop = new AbortController();
  const deadline = setTimeout(() => stop.abort(), limitMs);
  try {
    const answer = await fetch(`/_waitroom/${encodeURIComponent(room)}/${what}`, {
      method, signal: stop.signal, cache: "no-store", credentials: "same-origin",
      headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
    const text = await answer.text();
    let read = {};
    try { read = JSON.parse(text) || {}; } catch { /* a proxy's own page, or no body: only the code counts */ }
    return { code: answer.status, body: read, retryMs: retryAfter(answer.headers.get("Retry-After")) };
  } catch {
    return { code: 0, body: {}, retryMs: 0 };
  } finally {
    clearTimeout(deadline);
  }
}

function retryAfter(value) {
  if (!value) return 0;
  const ms = /^\d+$/.test(value) ? value * 1000 : Date.parse(value) - Date.now();
  return Math.min(Math.max(ms || 0, 0), 300_000);
}

// Doubles from 1 s to 30 s and spreads each wait over its upper half, so that a crowd cut off together does not come
// back together; never sooner than the server asked.
function backoff(tries, retryMs) {
  const spread = 0.5 + Math.random() / 2;
  const ms = Math.min(30_000, Math.max(1000, 1000 * 2 ** tries * spread));
  return Math.max(ms, retryMs * (1 + Math.random() / 5));
}

// --- main loop
function later(next, ms) {
  clearTimeout(timer);
  step = next;
  timer = setTimeout(next, ms);
}

function stop() {
  clearTimeout(timer);
  clearInterval(boardTimer);
  clearTimeout(claimTimer);
  claimTimer = 0;
  step = null;
  latest += 1; // whatever is still under way is overtaken
}

async function join() {
  if (isEntered) return;
  clearTimeout(timer);
  key = key || newKey();
  remember(KEY, key);
  const mine = ++latest;
  joins += 1;
  const reply = await ask("POST", "ticket", key ? { key } : {});
  if (mine !== latest) return;
  const kind = String(reply.body.type || "").split("/").pop();
  if (isStatus(reply)) heard(reply.body);
  else if (reply.code === 410) finish("ended");
  else if (reply.code === 409) turnedAway(kind === "closed" ? "closed" : "sold_out", reply.retryMs);
  else if (reply.code === 503 && kind === "room-full") turnedAway("full", reply.retryMs || backoff(3, 0));
  else missed(join, reply.retryMs);
}

async function poll() {
  if (isEntered) return;
  clearTimeout(timer);
  const mine = ++latest;
  const reply = await ask("GET", "status");
  if (mine !== latest) return;
  if (isStatus(reply)) {
    joins = 0;
    heard(reply.body);
  } else if (reply.code === 404) lost();
  else if (reply.code === 410) finish("ended");
  else missed(poll, reply.retryMs);
}

const isStatus = ({ code, body }) => (code === 200 || code === 201) && typeof body.state === "string";

function heard(body) {
  misses = 0;
  problem = null;
  status = { ...body, ...lastKnown(body) };
  opensAt = body.opens_at || opensAt;
  if (body.state === "admitted") return enter();
  if (body.state === "ended") return finish(viewOf(body));
  view = viewOf(body);
  const wait = body.poll_after_ms;
  if (typeof wait === "number") later(poll, Math.max(wait, 100));
  else stop();
  followBoard(wait || 0);
  show();
  if (!claimTimer) claim();
}

// While a room recovers nobody's position is known: what was known before stays on show, and is called old.
function lastKnown({ state, number, position }) {
  const isLost = state === "waiting" && typeof position !== "number" && status && status.number === number;
  return isLost && status.position > 0 ? { position: status.position, ahead: status.ahead, stale: true } : {};
}

function missed(again, retryMs) {
  problem = "stale";
  later(again, backoff(misses++, retryMs));
  show();
}

// The ticket is not known (any more): take the same place again with the same key. Another tab that left or entered has
// removed or replaced the key; then it speaks for this one too.
function lost() {
  const kept = keptKey();
  if (isStoring && key && !kept) return finish("left");
  if (joins >= 2) return finish("cookies");
  key = kept || key;
  join();
}

function turnedAway(why, retryMs) {
  stop();
  view = why;
  status = null;
  problem = null;
  if (retryMs) later(join, retryMs * (1 + Math.random() / 5));
  show();
}

function finish(why) {
  stop();
  if (why !== "cookies") forget();
  view = why;
  status = null;
  problem = null;
  show();
}

// A key whose place is used or given up must not be joined with again, and a later visit starts anew. Another tab may
// have begun that already: its key is not ours to remove.
function forget() {
  if (recall(KEY) === key) remember(KEY, null);
  key = null;
}

// Between two polls that lie far apart the public board, which an edge may cache, tells what concerns everyone.
function followBoard(untilPollMs) {
  clearInterval(boardTimer);
  const every = Number(boardPollMs);
  if (every && untilPollMs >= every * 1.5) boardTimer = setInterval(readBoard, every);
  if (status.room_state === "scheduled" && !opensAt) readBoard(); // only the board must know the opening time
}

async function readBoard() {
  const mine = latest;
  const { code, body } = await ask("GET", "board");
  if (mine !== latest || code !== 200 || !body.room_state || !status) return;
  opensAt = body.opens_at || opensAt;
  status = { ...status, room_state: body.room_state, message: body.message || null };
  view = viewOf(status);
  show();
}

// --- claim loop
async function claim() {
  clearTimeout(claimTimer);
  claimTimer = 0;
  // Every contact at or below the cursor may claim, so one who was passed over while away claims like one just called.
  if (isClaiming || isEntered || document.hidden || !status || !/^(called|parked)$/.test(status.state)) return;
  isClaiming = true;
  const reply = await ask("POST", "admission", {}, 20_000); // the server holds it up to 10 s
  isClaiming = false;
  if (isEntered || !status) return;
  if (reply.code === 200 && reply.body.state === "admitted") return enter();
  if (reply.code === 202) {
    claimMisses = 0;
    claimTimer = setTimeout(claim, reply.retryMs || 1000);
  } else {
    claimTimer = setTimeout(claim, backoff(claimMisses++, reply.retryMs));
    if (/^4(04|09|10)$/.test(reply.code)) poll(); // its status tells why: used in another tab, given up, or reset
  }
}

// --- out: in, or away
function enter() {
  stop();
  isEntered = true;
  forget();
  view = "admitted";
  show();
  // Were admissions not to stick (cookies cleared, a broken edge) the page would load itself for ever: three a minute.
  const now = Date.now();
  const recent = (recall("waitroom:entered", "sessionStorage") || "").split(",").filter((at) => now - at < 60_000);
  if (recent.length >= 3) return showReady();
  remember("waitroom:entered", [...recent, now].join(","), "sessionStorage");
  setTimeout(showReady, 8000); // a slow or cancelled load must not leave the visitor without a button
  go();
}

function go() {
  if (isInPlace && posted === undefined) return location.reload(); // `replace` with a #fragment would load nothing
  const back = posted === undefined ? new URLSearchParams(location.search).get("return_to") : referrerPath();
  location.replace(safePath(back) || safePath(entry) || "/");
}

function showReady() {
  view = "ready";
  show();
}

// A path on this host and nothing else: "//host", "/\host" and control characters, which URL parsers drop, lead away;
// our own pages would lead in circles.
function safePath(path) {
  const isSafe = typeof path === "string" && /^\/(?![/\\])[^\u0000-\u001f\u007f]*$/.test(path)
    && new TextEncoder().encode(path).length <= 1024 && !/^\/_waitroom(\/|$)/i.test(path);
  return isSafe ? path : null;
}

// What was posted is not sent again: back to the form it came from.
function referrerPath() {
  try {
    const { origin, pathname, search } = new URL(document.referrer);
    return origin === location.origin ? pathname + search : null;
  } catch { return null; }
}

async function leave() {
  element("leave-yes").disabled = true;
  const { code } = await ask("POST", "leave", {});
  element("leave-yes").disabled = false;
  if (isEntered) return;
  if (code === 204 || code === 200 || code === 404 || code === 410) return finish("left");
  problem = "leave_failed";
  show();
}

function again() {
  view = "joining";
  joins = 0;
  show();
  element("headline").focus();
  join();
}

// --- events
element("language").addEventListener("click", () => {
  speakLanguage(language === "ko" ? "en" : "ko");
  remember("waitroom:language", language);
});
element("enter").addEventListener("click", go);
element("again").addEventListener("click", again);
element("leave-yes").addEventListener("click", leave);
document.addEventListener("visibilitychange", () => {
  if (isEntered) return;
  show();
  if (document.hidden || !status) return;
  if (step === poll) poll();
  claim();
});
addEventListener("online", () => step && step());
addEventListener("pageshow", (event) => event.persisted && location.reload());
// Another tab of ours entered, left or joined anew.
addEventListener("storage", (event) => {
  if (event.key !== KEY || isEntered) return;
  if (event.newValue) key = event.newValue;
  if (step) poll();
});

speakLanguage(recall("waitroom:language") || preferredLanguage());
if (isStoring) join();
else poll(); // without storage only the ticket's cookie knows our place: ask before taking a new one
