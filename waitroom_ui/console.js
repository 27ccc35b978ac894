// The operator console: reads `/api/rooms` every two seconds, and changes one room by JSON merge patch under If-Match.
//
// The file's values are the base, what operators set are overrides, and `null` takes an override back. While fields hold
// something unsaved, their ETag stays the one they were filled under: a change made by somebody else meanwhile is told,
// and the first save is then refused by the gateway instead of undoing it unseen.
//
// Where no operators are configured the gateway asks for no token, so neither does this page before it is told to (401).

const EVERY_MS = 2000;
const TOKEN = "waitroom:operator-token";
const element = (id) => document.getElementById(id);
const COLUMNS = [
  ["Room", (r) => r.room], ["State", (r) => r.room_state], ["Waiting", (r) => figure(r.waiting)],
  ["Called", (r) => figure(r.called)], ["Parked", (r) => figure(r.parked)],
  ["Active", (r) => figure(r.active) + (r.active_max ? ` / ${figure(r.active_max)}` : "")],
  ["Drain rate", (r) => text(r.drain_rate)], ["In force", (r) => perSecond(r.rate_in_force)],
  ["Throughput", (r) => perSecond(r.throughput)], ["Entries", (r) => figure(r.entries_total)], ["Stock", (r) => figure(r.stock_in_force)],
  ["Board age", (r) => `${ageOf(r).toFixed(0)} s${r.stale ? " · stale" : ""}`],
];
const FIELDS = [
  { id: "drain_rate", label: "Drain rate", hint: "50/s, 600/min, 36000/h", read: (v) => v },
  { id: "burst", label: "Burst", hint: "entries at once after a lull", read: number },
  { id: "active_max", label: "Active at most", hint: "leases", read: number },
  { id: "stock", label: "Stock", hint: "entries left to give", read: number },
  { id: "message.ko", label: "Message, Korean", hint: "shown to everyone who waits", isLong: true, read: (v) => v },
  { id: "message.en", label: "Message, English", hint: "shown to everyone who waits", isLong: true, read: (v) => v },
];

const OVERTAKEN = "Nothing was saved. Their values are shown below, yours are still in the fields: save again to apply them.";

let token = sessionStorage.getItem(TOKEN); // null: none was asked for yet
let isIn = false; // whether the API answers us
let chosen = null; // the room whose panel is open
let detail = null; // its newest reading
let newest = null; // the ETag of that
let etag = null; // the ETag that unsaved fields were filled under
let serverNow = Date.now();
let timer = 0;
let turn = 0; // number of the newest reading; older ones are dropped

// --- requests
async function ask(method, path, body, headers = {}) {
  const answer = await fetch(path, {
    method, cache: "no-store", signal: AbortSignal.timeout(10_000), body: body && JSON.stringify(body),
    headers: { Accept: "application/json", ...(token && { Authorization: `Bearer ${token}` }), ...headers },
  });
  serverNow = Date.parse(answer.headers.get("Date")) || Date.now();
  const read = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(sentence(answer.status, read)), { code: answer.status });
  return { body: read, etag: answer.headers.get("ETag") };
}

const PLAIN = { 401: "This token is not known.", 403: "Not allowed.", 412: "Somebody else changed this room meanwhile." };
const NEEDED = { read: "viewer or operator", change: "operator", report: "operator or upstream" };

// What went wrong, in the gateway's own words, with each fault on its line, and the role that would be let.
function sentence(code, problem) {
  const faults = (Array.isArray(problem.errors) ? problem.errors : [])
    .map(({ pointer, detail: allowed }) => `– ${text(pointer).replace(/^#\/?/, "")}: ${text(allowed)}`);
  const said = [problem.title, problem.detail].filter((part) => typeof part === "string");
  const action = code === 403 && (/^The role \w+ may not (\w+)/.exec(problem.detail) || [])[1];
  const missing = NEEDED[action] ? [`Sign in with a token of the role ${NEEDED[action]}.`] : [];
  return [`${code}: ${PLAIN[code] || said.join(". ") || "refused."}`, ...(PLAIN[code] ? said.slice(-1) : []), ...missing, ...faults].join("\n");
}

async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  try {
    const [list, one] = await Promise.all([ask("GET", "/api/rooms"), chosen ? ask("GET", roomPath(chosen)) : null]);
    if (mine !== turn) return;
    showRooms(list.body.rooms || []);
    if (one) take(one);
    fault("");
  } catch (error) {
    if (mine !== turn) return;
    if (error.code === 401 || error.code === 403) return signOut(error.code === 401 && !token ? "" : error.message);
    fault(error.code ? error.message : "The gateway does not answer. The figures below are old.");
  }
  if (!document.hidden) timer = setTimeout(refresh, EVERY_MS);
}

const roomPath = (room) => `/api/rooms/${encodeURIComponent(room)}`;

async function change(patch, what, under = etag) {
  const room = chosen;
  const when = new Date().toLocaleTimeString();
  try {
    const headers = { "Content-Type": "application/merge-patch+json", ...(under && { "If-Match": under }) };
    const saved = await ask("PATCH", roomPath(room), patch, headers);
    log(`${when} · ${room} · ${what} · saved, version ${text(saved.body.version)}`);
    if (under === etag) etag = saved.etag; // our own change overtakes nothing of ours
    for (const name of Object.keys(patch)) settle(name);
    fault("", "refused");
  } catch (error) {
    if (error.code === 412) etag = null; // taken anew by the next reading
    const why = error.code ? error.message : "The gateway does not answer: it is not known whether this was saved.";
    log(`${when} · ${room} · ${what} · not saved: ${why}`);
    fault(error.code === 412 ? `${why}\n${OVERTAKEN}` : why, "refused");
  }
  return refresh();
}

// --- rooms
function showRooms(rooms) {
  isIn = true;
  element("sign-in").hidden = true;
  element("rooms-box").hidden = false;
  element("sign-out").hidden = !token;
  const body = element("rooms");
  rooms.forEach((room, row) => fill(body.children[row] || body.appendChild(newRow()), room));
  while (body.children.length > rooms.length) body.lastChild.remove();
  const oldest = Math.max(0, ...rooms.map(ageOf));
  element("health").textContent = `${rooms.length} room${rooms.length === 1 ? "" : "s"} · oldest board ${oldest.toFixed(0)} s`;
}

function newRow() {
  const open = make("button", { type: "button" });
  open.addEventListener("click", () => choose(open.textContent));
  const head = make("th", { scope: "row" }, open);
  const cells = COLUMNS.slice(1).map((_, i) => make("td", { className: i === 0 ? "state" : "figure" }));
  return make("tr", {}, head, ...cells);
}

function fill(row, room) {
  COLUMNS.forEach(([, read], i) => write(i === 0 ? row.children[0].firstChild : row.children[i], text(read(room))));
  row.children[1].dataset.state = room.room_state;
  row.lastChild.classList.toggle("stale", Boolean(room.stale));
  row.classList.toggle("chosen", room.room === chosen);
  row.children[0].firstChild.setAttribute("aria-expanded", String(room.room === chosen));
}

async function choose(room) {
  chosen = room;
  detail = newest = etag = null;
  element("room-box").hidden = true;
  fault("", "refused");
  element("setting-rows").replaceChildren(...FIELDS.map(newField));
  await refresh();
  element("room-title").focus();
}

// --- one room
function take(reading) {
  detail = reading.body;
  newest = reading.etag;
  if (!etag || !FIELDS.some(isChanged)) etag = newest;
  FIELDS.filter((field) => !isChanged(field)).forEach(fillField);
  showDirty();
  const isOvertaken = etag !== newest;
  element("changed").hidden = !isOvertaken;
  write(element("changed"), isOvertaken ? "This room was changed by somebody else while you were editing." : "");
  element("room-box").hidden = false;
  write(element("room-title"), detail.room);
  write(element("version"), `version ${text(detail.version)}${detail.changed_by ? ` · ${detail.changed_by}` : ""}`);
  const isPaused = Boolean((detail.settings || {}).paused);
  write(element("pause"), isPaused ? "Resume entry" : "Pause entry");
  element("pause").className = isPaused ? "main" : "grave";
  FIELDS.forEach(showField);
  showStock();
  showBoard(detail.board || {});
}

function newField({ id, label, hint, isLong }) {
  const input = make(isLong ? "textarea" : "input", { id: `field-${id}`, placeholder: hint, rows: 2, autocomplete: "off" });
  input.addEventListener("input", showDirty);
  const back = make("button", { type: "button", id: `back-${id}`, textContent: "Take back", ariaLabel: `Take back the override of ${label}` });
  back.addEventListener("click", () => change(patchOf(id, null), `${id} taken back`));
  const anew = make("button", { type: "button", id: `anew-${id}`, textContent: "Set anew", ariaLabel: "Set the stock anew", hidden: true });
  anew.addEventListener("click", setAnew);
  const cells = ["settings", "base", "overrides"].map((from) => make("td", { id: `${from}-${id}`, className: `text ${from === "overrides" ? "override" : ""}` }));
  const head = make("th", { scope: "row" }, make("label", { htmlFor: input.id, textContent: label }));
  return make("tr", {}, head, ...cells, make("td", {}, input), make("td", {}, ...(id === "stock" ? [anew] : []), back));
}

function showField({ id }) {
  for (const from of ["settings", "base", "overrides"]) write(element(`${from}-${id}`), text(at(detail[from], id)));
  element(`back-${id}`).hidden = at(detail.overrides, id) === undefined;
}

// The upstream's own count stands below what is configured until somebody names the stock again, be it the same figure.
function showStock() {
  const { stock_in_force: left, settings = {} } = detail;
  const isReported = typeof left === "number" && left !== settings.stock;
  const configured = typeof settings.stock === "number" ? `stock ${figure(settings.stock)}, ` : "";
  if (isReported) write(element("settings-stock"), `${configured}${figure(left)} left as the bank reports`);
  element("anew-stock").hidden = !isReported;
}

function setAnew() {
  const typed = element("field-stock").value.trim();
  return change({ stock: typed === "" ? null : number(typed) }, `stock set anew: ${typed || "not limited"}`);
}

function fillField({ id }) {
  const value = at(detail.settings, id);
  const input = element(`field-${id}`);
  input.value = input.defaultValue = value === undefined || value === null ? "" : String(value);
}

// What was saved is no longer unsaved: the next reading may fill these fields again.
function settle(name) {
  for (const { id } of FIELDS.filter((field) => field.id.split(".")[0] === name)) {
    const input = element(`field-${id}`);
    input.defaultValue = input.value;
  }
}

function discard() {
  FIELDS.forEach(fillField);
  showDirty();
  refresh();
}

const isChanged = ({ id }) => element(`field-${id}`).value.trim() !== element(`field-${id}`).defaultValue.trim();

function showDirty() {
  FIELDS.forEach((field) => element(`field-${field.id}`).classList.toggle("dirty", isChanged(field)));
  const isDirty = FIELDS.some(isChanged);
  element("save").disabled = element("discard").disabled = !isDirty;
}

async function save(event) {
  event.preventDefault();
  const changed = FIELDS.filter(isChanged);
  if (!changed.length) return;
  const patch = {};
  for (const { id, read } of changed) {
    const typed = element(`field-${id}`).value.trim();
    const [name, language] = id.split(".");
    const value = typed === "" ? null : read(typed); // an emptied field takes its override back
    if (language) patch[name] = { ...patch[name], [language]: value };
    else patch[name] = value;
  }
  await change(patch, changed.map(({ id }) => `${id} ${text(at(detail.settings, id))} → ${element(`field-${id}`).value.trim() || "base"}`).join(", "));
}

// A pause must not wait for somebody's unsaved fields or for another's change: it is sent under the newest version.
async function pause() {
  const isPaused = Boolean((detail.settings || {}).paused);
  await change({ paused: !isPaused }, isPaused ? "resumed" : "paused", newest);
}

function showBoard(board) {
  const rows = Object.entries(board).filter(([name]) => name !== "ranks" && name !== "message");
  element("board").replaceChildren(...rows.map(([name, value]) => (
    make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: typeof value === "number" ? figure(value) : text(value) }))
  )));
}

// --- words
const figure = (n) => (typeof n === "number" ? n.toLocaleString("en", { maximumFractionDigits: 1 }) : "–");
const perSecond = (n) => (typeof n === "number" ? `${figure(n)}/s` : text(n));
const ageOf = (room) => Math.max(0, (serverNow - Date.parse(room.as_of)) / 1000) || 0;

function text(value) {
  if (value === undefined || value === null || value === "") return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

// A number where it is one; what is not goes to the gateway as it was typed, which refuses it with a reason.
function number(typed) {
  return /^\d+$/.test(typed) ? Number(typed) : typed;
}

const at = (tree, id) => id.split(".").reduce((node, name) => (node === undefined || node === null ? undefined : node[name]), tree);
const patchOf = (id, value) => id.split(".").reduceRight((inner, name) => ({ [name]: inner }), value);

function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function write(target, words) {
  if (target.textContent !== words) target.textContent = words;
}

function fault(words, where = "fault") {
  write(element(where), words);
  element(where).hidden = !words;
}

function log(words) {
  element("log-box").hidden = false;
  element("log").prepend(make("li", { textContent: words }));
}

// --- signing in and out
function signOut(why = "") {
  clearTimeout(timer);
  turn += 1;
  isIn = false;
  token = chosen = detail = newest = etag = null;
  sessionStorage.removeItem(TOKEN);
  for (const id of ["rooms-box", "room-box", "sign-out"]) element(id).hidden = true;
  element("health").textContent = "";
  element("sign-in").hidden = false;
  fault(typeof why === "string" ? why : "");
  element("token").focus();
}

element("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token = element("token").value.trim();
  element("token").value = "";
  sessionStorage.setItem(TOKEN, token);
  refresh();
});
element("sign-out").addEventListener("click", () => signOut());
element("settings").addEventListener("submit", save);
element("discard").addEventListener("click", discard);
element("pause").addEventListener("click", pause);
document.addEventListener("visibilitychange", () => isIn && !document.hidden && refresh());
element("columns").append(...COLUMNS.map(([name], i) => make("th", { scope: "col", textContent: name, className: i > 1 ? "figure" : "" })));
refresh();
