// What the page shows: one view at a time, in one of two languages. It reads the state that `page.js` keeps and changes
// none of it. Texts are set by `textContent` alone. Both files become one module, this one first.

const TEXT = {{texts}};
const SPEAK_MS = 60_000; // a screen reader hears changed figures at most this often
const page = document.documentElement;
const element = (id) => document.getElementById(id);
let language = "en";
let spoken = { view: "", at: 0 };

// The state of the room outweighs that of a visitor who waits; that nothing is left outweighs even a turn, and a turn
// that nobody can take just now is no turn yet.
function viewOf({ state, room_state: roomState }) {
  const isOver = /^(sold_out|closed)$/.test(roomState);
  const isShut = /^(paused|scheduled|recovering|unreachable)$/.test(roomState);
  if (isOver || ((isShut || roomState === "full") && state === "waiting")) return roomState;
  if (isShut && /^(called|parked)$/.test(state)) return "held";
  return /^(called|parked|ended)$/.test(state) ? state : "waiting";
}

function words(name, values = {}) {
  const text = (TEXT[name] || {})[language] || "";
  return text.replace(/\{(\w+)\}/g, (all, value) => (value in values ? values[value] : all));
}

const figure = (n) => (typeof n === "number" ? n.toLocaleString(language) : "–");

function clock(time, options) {
  const at = new Date(time);
  return Number.isNaN(at.getTime()) ? "" : at.toLocaleString(language, options);
}

function duration(minutes) {
  const h = Math.floor(minutes / 60);
  const m = minutes % 60;
  return [h && words("hours", { h }), m && words("minutes", { m })].filter(Boolean).join("\u00a0"); // a duration stays on one line
}

// People read a wait in steps: single minutes up to ten, then fives, then tens; always rounded up.
function rounded(seconds) {
  const minutes = Math.max(1, Math.ceil(seconds / 60));
  const unit = minutes <= 10 ? 1 : minutes <= 60 ? 5 : 10;
  return Math.ceil(minutes / unit) * unit;
}

function etaWords(eta) {
  if (!eta || typeof eta.p50_s !== "number" || typeof eta.p90_s !== "number") return words("eta_unknown");
  const low = rounded(eta.p50_s);
  const high = Math.max(low, rounded(eta.p90_s));
  if (low > 720) return words("eta_long");
  if (high === 1) return words("eta_soon");
  if (low < high && high < 60) return words("eta_minutes", { low, high });
  return words(low === high ? "eta_one" : "eta_range", { low: duration(low), high: duration(high) });
}

function write(id, text) {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text; // untouched text is not read out again
  return text;
}

function note(id, text) {
  write(id, text);
  element(id).hidden = !text;
}

function leadWords() {
  if (view === "joining" && misses) return words("retrying_lead");
  if (view === "full" && !status) return words("full_newcomer");
  if (view === "held") return words(`held_${status.room_state}_lead`);
  if (status && status.provisional && !/^(sold_out|closed)$/.test(view)) return words("provisional_lead");
  if (view === "scheduled" && opensAt) {
    return words("scheduled_at", { time: clock(opensAt, { dateStyle: "long", timeStyle: "short" }) });
  }
  return words(`${view}_lead`);
}

function nextWords() {
  if (/^(sold_out|closed)$/.test(view)) return words("over_next");
  if (/^(paused|recovering|unreachable)$/.test(view) || (view === "full" && !status)) return words("halted_next");
  const like = { full: "waiting", parked: "called" };
  return words(`${like[view] || view}_next`);
}

function show() {
  page.lang = language;
  page.dataset.lang = language;
  const isStale = Boolean(status) && (problem === "stale" || status.stale === true);
  const isCalled = Boolean(status) && (view === "called" || view === "parked");
  write("headline", words(view));
  write("lead", leadWords());
  note("stale", isStale ? words("stale") : problem === "leave_failed" ? words(problem) : "");
  showMessage();
  showPlace();
  note("cause", causeWords());
  write("next-label", words("next"));
  element("next-box").hidden = !write("next", nextWords());
  element("enter").hidden = view !== "ready";
  element("again").hidden = !/^(ended|left|cookies|sold_out|closed)$/.test(view) || Boolean(status);
  write("enter", words("enter"));
  write("again", words(/^(ended|left)$/.test(view) ? "again" : "retry"));
  element("leave-box").hidden = !status || isEntered;
  ["leave", "leave-ask", "leave-yes"].forEach((id) => write(id, words(id.replace("-", "_"))));
  const place = element("place").hidden ? "" : `${figure(status.position)} · `;
  document.title = isCalled && document.hidden ? `● ${words("called_title")}` : `${place}${words(view)}`;
  speak(isStale);
}

// What made a position grow.
function causeWords() {
  if (!status || !status.cause || element("place").hidden) return "";
  return words(`cause_${status.cause.code}`) || words("cause");
}

function showMessage() {
  const texts = (status && status.message && status.message.texts) || {};
  const spokenIn = texts[language] ? language : Object.keys(texts)[0] || language;
  element("message").lang = spokenIn;
  note("message", String(texts[spokenIn] || ""));
}

function showPlace() {
  const isPlaced = !/^(called|parked|held|sold_out|closed)$/.test(view) && !isEntered;
  const isShown = isPlaced && Boolean(status) && status.position > 0;
  element("place").hidden = !isShown;
  if (!isShown) return;
  ["position", "ahead", "eta", "updated", "number"].forEach((id) => write(`${id}-label`, words(id)));
  write("position", figure(status.position));
  write("ahead", words("people", { n: figure(status.ahead) }));
  write("eta", etaWords(status.eta));
  element("eta-row").hidden = !status.eta && view !== "waiting";
  write("updated", clock(status.as_of, { timeStyle: "medium" }) || "–");
  element("updated").dateTime = String(status.as_of || "");
  write("number", figure(status.number || null));
  element("progress").hidden = typeof status.progress !== "number"; // an empty bar would say that all begins anew
  element("progress").value = Math.min(1, Math.max(0, Number(status.progress) || 0));
  element("progress").setAttribute("aria-label", words("progress"));
}

// One sentence for screen readers, when what it says is new: at every change of view, and then once a minute.
function speak(isStale) {
  const now = performance.now();
  const said = `${view} ${isStale && misses > 1} ${language}`;
  if (said === spoken.view && now - spoken.at < SPEAK_MS) return;
  const figures = element("place").hidden ? "" : spokenFigures();
  const stale = isStale && misses > 1 ? words("stale") : "";
  write("spoken", [`${words(view)}.`, leadWords(), figures, stale].filter(Boolean).join(" "));
  spoken = { view: said, at: now };
}

function spokenFigures() {
  const eta = element("eta-row").hidden ? "" : ` ${words("eta")} ${etaWords(status.eta)}.`;
  return `${words("position")} ${figure(status.position)}.${eta}`;
}

function preferredLanguage() {
  const tags = (navigator.languages || []).map((tag) => tag.slice(0, 2).toLowerCase());
  return tags.find((tag) => tag === "ko" || tag === "en");
}

function speakLanguage(chosen) {
  language = chosen === "ko" ? "ko" : "en";
  const other = language === "ko" ? "en" : "ko";
  element("language").lang = other;
  write("language", other === "ko" ? "한국어" : "English");
  show();
}
