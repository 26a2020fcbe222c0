// The admin page: asks the API every two seconds and draws what it says. Text is only ever set as
// text, never as markup: names come from a configuration.
"use strict";

const EVERY = 2000;
const POINTS = 90;
const el = (id) => document.getElementById(id);

let token = null;
let signedIn = false;
let timer = null;
let round = 0;
let revision = null;
let last = null;
const series = new Map();

// ---- asking

class Refused extends Error {
  constructor(status, problem) {
    const where = problem.field ? ` (${problem.field}: ${problem.allowed})` : "";
    super(`${problem.detail || "no answer that can be read"}${where}`);
    this.status = status;
  }
}

async function ask(method, path, body) {
  const headers = {};
  if (token) headers.authorization = `Bearer ${token}`;
  if (method !== "GET" && revision !== null) headers["if-revision"] = String(revision);
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(`/admin${path}`, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
  });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, said);
  return said;
}

function say(text, kind) {
  el("message").textContent = text;
  el("message").dataset.kind = kind || "";
}

// ---- signing in and out

el("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = el("token").value.trim();
  el("token").value = "";
  try {
    await ask("GET", "/status");
  } catch (refused) {
    token = null;
    say(`Not signed in: ${refused.message}`, "bad");
    el("token").focus();
    return;
  }
  signedIn = true;
  say("Signed in.", "good");
  el("sign-in").hidden = true;
  el("page").hidden = false;
  el("sign-out").hidden = false;
  el("content").focus();
  look();
});

function signOut(text) {
  signedIn = false;
  token = null;
  revision = null;
  last = null;
  series.clear();
  round += 1;
  clearTimeout(timer);
  el("sign-in").hidden = false;
  el("page").hidden = true;
  el("sign-out").hidden = true;
  for (const id of ["overview", "endpoints", "routes", "limits", "cache-figures", "reloads", "changes"]) el(id).replaceChildren();
  live("no", "not signed in");
  say(text, "");
  el("token").focus();
}

el("sign-out").addEventListener("click", () => signOut("Signed out."));

function live(state, text) {
  el("live").dataset.live = state;
  if (el("live").textContent !== text) el("live").textContent = text;
}

// ---- looking

async function look() {
  clearTimeout(timer);
  if (!signedIn) return;
  const mine = (round += 1);
  try {
    const paths = ["/status", "/services", "/routes", "/limits", "/reloads", "/changes", "/metrics"];
    const answers = await Promise.all([...paths.map((path) => ask("GET", path)), askCache()]);
    if (mine !== round) return;
    const [status, services, routes, limits, reloads, changes, metrics, cache] = answers;
    // The oldest of them: what came in between is then noticed by the gateway.
    revision = Math.min(...[status, services, routes, limits, reloads, changes].map((one) => one.revision));
    const rates = measure(metrics, services.services);
    overview(status, reloads.reloads);
    charts(services.services);
    drawServices(services.services);
    drawRoutes(routes.routes, rates);
    drawLimits(limits);
    drawCache(cache, metrics.samples);
    drawReloads(reloads.reloads);
    drawChanges(changes.changes);
    live("yes", status.stopping ? "stopping" : "live");
  } catch (refused) {
    if (mine !== round) return;
    if (refused.status === 401 || refused.status === 403) {
      signOut(`Signed out: ${refused.message}`);
      return;
    }
    live("lost", "no answer");
  }
  timer = setTimeout(look, EVERY);
}

/** What the cache holds; null in a gateway that is built without one. */
function askCache() {
  return ask("GET", "/cache").catch((refused) => {
    if (refused.status === 404) return null;
    throw refused;
  });
}

// ---- figures

/** Differences between two answers, by service and route. */
function measure(metrics, services) {
  const now = { at: metrics.uptime_seconds, values: new Map() };
  for (const sample of metrics.samples) {
    if (!sample.name.startsWith("http_request")) continue;
    now.values.set(JSON.stringify([sample.name, sample.labels]), sample);
  }
  const routes = new Map();
  if (last && now.at > last.at) {
    const time = now.at - last.at;
    const by = new Map([["", blank()]]);
    for (const service of services) by.set(service.name, blank());
    for (const [key, sample] of now.values) {
      const before = last.values.get(key);
      const more = sample.value - (before ? before.value : 0);
      if (!(more > 0)) continue;
      const { service, route, status, le } = sample.labels;
      for (const name of ["", service]) {
        const sum = by.get(name);
        if (!sum) continue;
        if (sample.name === "http_requests_total") {
          sum.requests += more;
          if (status >= "500") sum.errors += more;
        } else if (sample.name === "http_request_duration_seconds_bucket") {
          sum.buckets.set(le, (sum.buckets.get(le) || 0) + more);
        }
      }
      if (sample.name === "http_requests_total") routes.set(route, (routes.get(route) || 0) + more / time);
    }
    for (const [name, sum] of by) {
      push(name, "requests", sum.requests / time);
      push(name, "errors", sum.errors / time);
      push(name, "latency", high(sum.buckets));
    }
  }
  let all = 0;
  for (const service of services) {
    const sum = service.endpoints.reduce((sum, one) => sum + one.in_flight, 0);
    push(service.name, "inflight", sum);
    all += sum;
  }
  push("", "inflight", all);
  last = now;
  return routes;
}

const blank = () => ({ requests: 0, errors: 0, buckets: new Map() });

function push(service, chart, value) {
  const key = JSON.stringify([service, chart]);
  const points = series.get(key) || [];
  points.push(value);
  if (points.length > POINTS) points.shift();
  series.set(key, points);
}

/** The bound in milliseconds that 95 of 100 are below, by buckets; null without requests. */
function high(buckets) {
  const bounds = [...buckets].map(([le, count]) => [le === "+Inf" ? Infinity : Number(le), count]);
  bounds.sort((a, b) => a[0] - b[0]);
  if (bounds.length === 0) return null;
  const all = bounds[bounds.length - 1][1];
  let low = 0;
  let below = 0;
  for (const [bound, count] of bounds) {
    if (count >= all * 0.95) {
      if (bound === Infinity) return low * 1000;
      const share = count > below ? (all * 0.95 - below) / (count - below) : 1;
      return (low + (bound - low) * share) * 1000;
    }
    low = bound;
    below = count;
  }
  return null;
}

function overview(status, reloads) {
  const refused = reloads.length > 0 && reloads[0].outcome === "refused";
  const words = [
    ["Endpoints up", `${status.endpoints_up} of ${status.endpoints}`],
    ["Breakers open", status.breakers_open],
    ["In flight", status.in_flight],
    ["Services", status.services],
    ["Routes", status.routes],
    ["Up for", span(status.uptime_seconds)],
    ["Revision", status.revision],
    ["Last reload", refused ? "refused" : "good"],
    ["Version", status.version],
  ];
  boxes(el("overview"), words);
}

/** A list of names, each with its value. */
function boxes(list, words) {
  rows(list, words, (word) => word[0], () => {
    const box = document.createElement("div");
    box.append(document.createElement("dt"), document.createElement("dd"));
    return box;
  }, (box, [name, value]) => {
    text(box.children[0], name);
    text(box.children[1], value);
  });
}

function charts(services) {
  const of = el("of");
  rows(of, [{ name: "" }, ...services], (one) => `of:${one.name}`, () => document.createElement("option"), (option, one) => {
    option.value = one.name;
    text(option, one.name || "all services");
  });
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const points = series.get(JSON.stringify([of.value, figure.dataset.chart])) || [];
    const known = points.filter((point) => point !== null);
    const most = Math.max(...known, 0);
    const now = points[points.length - 1];
    text(figure.querySelector("output"), number(now));
    const step = 240 / (POINTS - 1);
    const from = POINTS - points.length;
    const drawn = points.map((point, index) => {
      const y = 58 - (most > 0 ? ((point || 0) / most) * 54 : 0);
      return `${((from + index) * step).toFixed(1)},${y.toFixed(1)}`;
    });
    figure.querySelector("polyline").setAttribute("points", drawn.join(" "));
    const name = figure.querySelector("figcaption").firstChild.textContent.trim();
    figure.querySelector("svg").setAttribute("aria-label", `${name}: now ${number(now)}, at most ${number(most)} in the last minutes`);
  }
}

el("of").addEventListener("change", look);

// ---- tables

/** Makes the children of `parent` those of `items`; what is there already stays, with its focus. */
function rows(parent, items, key, make, fill) {
  const known = new Map();
  for (const child of [...parent.children]) {
    if (child.dataset.key === undefined) child.remove();
    else known.set(child.dataset.key, child);
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let child = known.get(name);
    known.delete(name);
    if (!child) {
      child = make(item);
      child.dataset.key = name;
    }
    fill(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of known.values()) child.remove();
}

function text(node, value) {
  const said = value === null || value === undefined ? "–" : String(value);
  if (node.textContent !== said) node.textContent = said;
}

function cells(count, act) {
  const row = document.createElement("tr");
  for (let index = 0; index < count; index += 1) row.append(document.createElement("td"));
  if (act) row.lastElementChild.className = "buttons";
  return row;
}

/** A button that does something with what its row showed last. */
function button(row, name, does, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = name;
  made.dataset.do = does;
  made.addEventListener("click", () => act(row.item));
  return made;
}

function word(cell, value, tone) {
  if (!cell.firstElementChild) {
    const made = document.createElement("span");
    made.className = "word";
    cell.replaceChildren(made);
  }
  text(cell.firstElementChild, value);
  cell.firstElementChild.dataset.tone = tone;
}

const number = (value) => {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(value >= 1 ? 1 : 2);
};

function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 90) return `${seconds.toFixed(0)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

const TONES = { up: "good", closed: "good", drained: "warn", half_open: "warn", applied: "good", unchanged: "good" };
const tone = (value) => TONES[value] || "bad";
const plain = (value) => String(value).replaceAll("_", " ");

function drawServices(services) {
  const lines = [];
  for (const service of services) {
    lines.push({ service });
    for (const endpoint of service.endpoints) lines.push({ service, endpoint });
  }
  rows(el("endpoints"), lines, (line) => JSON.stringify([line.service.name, line.endpoint && line.endpoint.address]), (line) => (line.endpoint ? endpointRow() : serviceRow()), (row, line) => {
    row.item = line;
    if (line.endpoint) fillEndpoint(row, line.endpoint);
    else fillService(row, line.service);
  });
}

function serviceRow() {
  const row = document.createElement("tr");
  row.className = "group";
  const head = document.createElement("th");
  head.scope = "rowgroup";
  head.colSpan = 8;
  const cell = document.createElement("td");
  cell.className = "buttons";
  cell.append(
    button(row, "Breakers…", "breakers", ({ service }) => changeBreaker(service)),
    button(row, "Register…", "register", ({ service }) => register(service)),
  );
  row.append(head, cell);
  return row;
}

function fillService(row, service) {
  row.dataset.service = service.name;
  const how = service.strategy ? plain(service.strategy) : "always the first";
  text(row.children[0], `${service.name} – ${service.enabled ? how : "switched off"}`);
  const [breakers, registers] = row.lastElementChild.children;
  breakers.setAttribute("aria-label", `Breakers of ${service.name}`);
  registers.hidden = !service.registers;
  registers.setAttribute("aria-label", `Register an endpoint of ${service.name}`);
}

function endpointRow() {
  const row = cells(9, true);
  row.lastElementChild.append(
    button(row, "Drain", "drain", ({ service, endpoint }) => setWeight(service, endpoint, 0)),
    button(row, "Restore", "restore", ({ service, endpoint }) => setWeight(service, endpoint, endpoint.configured_weight)),
    button(row, "Weight…", "weight", ({ service, endpoint }) => setWeight(service, endpoint)),
    button(row, "Breaker…", "breaker", ({ service, endpoint }) => changeBreaker(service, endpoint)),
    button(row, "Renew…", "renew", ({ service, endpoint }) => register(service, endpoint)),
    button(row, "Take out", "deregister", ({ service, endpoint }) => deregister(service, endpoint)),
  );
  return row;
}

function fillEndpoint(row, endpoint) {
  const breaker = endpoint.breaker;
  row.dataset.endpoint = endpoint.address;
  row.dataset.state = endpoint.state;
  const [address, state, weight, flight, latency, calls, circuit, from, act] = row.children;
  text(address, endpoint.zone ? `${endpoint.address} (${endpoint.zone})` : endpoint.address);
  const rest = endpoint.ejected_for_seconds === null ? "" : ` for ${span(endpoint.ejected_for_seconds)}`;
  word(state, plain(endpoint.state) + rest, tone(endpoint.state));
  text(weight, endpoint.weight === endpoint.configured_weight ? endpoint.weight : `${endpoint.weight} (configured ${endpoint.configured_weight})`);
  text(flight, endpoint.in_flight);
  text(latency, span(endpoint.latency_seconds));
  text(calls, `${endpoint.successes} / ${endpoint.failures}`);
  const mode = breaker.mode === "automatic" ? "" : `, ${plain(breaker.mode)}`;
  const wait = breaker.state === "open" && breaker.retry_after_seconds !== null ? `, ${span(breaker.retry_after_seconds)}` : "";
  word(circuit, plain(breaker.state) + mode + wait, tone(breaker.state));
  text(from, endpoint.expires_in_seconds === null ? endpoint.source : `${endpoint.source}, ${span(endpoint.expires_in_seconds)}`);
  const [drain, restore, , , renew, out] = act.children;
  drain.hidden = endpoint.weight === 0;
  restore.hidden = endpoint.weight === endpoint.configured_weight;
  renew.hidden = out.hidden = endpoint.source !== "registered";
  for (const one of act.children) one.setAttribute("aria-label", `${one.textContent} ${endpoint.address}`);
}

function drawRoutes(routes, rates) {
  rows(el("routes"), routes, (route) => JSON.stringify([route.name, route.prefix]), () => {
    const row = cells(6, true);
    row.lastElementChild.append(button(row, "Shares…", "split", changeSplit));
    return row;
  }, (row, route) => {
    row.item = route;
    const [name, prefix, on, to, rate, act] = row.children;
    text(name, route.name);
    text(prefix, route.prefix);
    word(on, route.enabled ? "on" : "off", route.enabled ? "good" : "warn");
    text(to, route.upstreams.map((one) => (route.split ? `${one.upstream} ${one.weight}` : one.upstream)).join(", "));
    text(rate, number(rates.get(route.name) || 0));
    act.firstElementChild.hidden = !route.split;
    act.firstElementChild.setAttribute("aria-label", `Shares of ${route.name}`);
  });
}

function drawLimits(limits) {
  const lines = [
    ...limits.rates.map((rate) => ({ rate })),
    ...limits.bulkheads.map((bulkhead) => ({ bulkhead })),
  ];
  rows(el("limits"), lines, ({ rate, bulkhead }) => JSON.stringify(rate ? ["rate", rate.name] : ["bulkhead", bulkhead.service]), () => {
    const row = cells(6, true);
    row.lastElementChild.append(button(row, "Change…", "limit", changeLimit));
    return row;
  }, (row, line) => {
    row.item = line;
    const { rate, bulkhead } = line;
    const [name, allowed, burst, now, same, act] = row.children;
    const label = rate ? `rate of ${rate.name}` : `requests of ${bulkhead.service}`;
    text(name, label);
    text(allowed, rate ? `${number(rate.per_second)} per second and client` : `${bulkhead.limit} at once`);
    text(burst, rate ? rate.burst : `${bulkhead.max_queue} may wait`);
    text(now, rate ? `${rate.clients} clients` : `${bulkhead.in_flight} run, ${bulkhead.queued} wait`);
    const changed = (rate || bulkhead).changed;
    word(same, changed ? "changed by hand" : "yes", changed ? "warn" : "good");
    act.firstElementChild.setAttribute("aria-label", `Change ${label}`);
  });
}

function drawCache(cache, samples) {
  el("cache").hidden = cache === null || !cache.on;
  if (el("cache").hidden) return;
  const counts = new Map();
  for (const { name, labels, value } of samples) {
    if (name === "cache_requests_total") counts.set(labels.result, (counts.get(labels.result) || 0) + value);
  }
  const answered = [...counts].map(([result, count]) => [plain(result), count]);
  boxes(el("cache-figures"), [["Addresses", cache.addresses], ["Bytes", cache.bytes], ...answered]);
}

const when = (one) => new Date(one.at).toLocaleString();

function drawReloads(reloads) {
  rows(el("reloads"), reloads.slice(0, 20), (one) => one.number, () => cells(5), (row, one) => {
    row.dataset.outcome = one.outcome;
    const [count, time, by, outcome, what] = row.children;
    text(count, one.number);
    text(time, when(one));
    text(by, one.trigger);
    word(outcome, one.outcome, tone(one.outcome));
    text(what, one.reason || difference(one));
  });
}

function difference(report) {
  const said = [];
  for (const kind of ["routes", "upstreams", "endpoints"]) {
    for (const how of ["added", "removed", "changed"]) {
      const names = report.diff[kind][how];
      if (names.length > 0) said.push(`${kind} ${how}: ${names.join(", ")}`);
    }
  }
  if (report.diff.settings.length > 0) said.push(`settings: ${report.diff.settings.join(", ")}`);
  if (report.diff.files.length > 0) said.push(`files: ${report.diff.files.join(", ")}`);
  if (report.at_next_start.length > 0) said.push(`at the next start: ${report.at_next_start.join(", ")}`);
  return said.join("; ") || "nothing";
}

function drawChanges(changes) {
  rows(el("changes"), changes.slice(0, 20), (one) => JSON.stringify([one.revision, one.uptime_seconds, one.action]), () => cells(7), (row, one) => {
    const [number, time, who, action, on, before, after] = row.children;
    text(number, one.revision);
    text(time, when(one));
    text(who, `${one.actor} by ${one.by}`);
    text(action, one.action);
    text(on, one.target);
    text(before, one.before === null ? null : JSON.stringify(one.before));
    text(after, one.after === null ? null : JSON.stringify(one.after));
  });
}

// ---- changing

/** Asks whether something shall be done, and for its values; null: no. */
function confirmed(title, what, fields) {
  text(el("ask-title"), title);
  text(el("ask-text"), what);
  const inputs = fields.map((field, index) => {
    const label = document.createElement("label");
    label.textContent = field.label;
    label.htmlFor = `ask-${index}`;
    let input;
    if (field.options) {
      input = document.createElement("select");
      for (const [value, name] of field.options) input.append(new Option(name, value));
    } else {
      input = document.createElement("input");
      input.type = field.min === undefined ? "text" : "number";
      input.required = !field.optional;
      if (field.min !== undefined) {
        input.min = field.min;
        input.max = field.max;
      }
      input.value = field.value === undefined ? "" : field.value;
      input.autocomplete = "off";
    }
    input.id = label.htmlFor;
    return [label, input];
  });
  el("ask-fields").replaceChildren(...inputs.flat());
  const dialog = el("ask");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => {
      const values = inputs.map(([, input]) => (input.type === "number" ? Number(input.value) : input.value));
      done(dialog.returnValue === "yes" ? values : null);
    }, { once: true });
  });
}

async function change(method, path, body, good) {
  try {
    await ask(method, path, body);
    say(good, "good");
  } catch (refused) {
    say(`Not done: ${refused.message}`, "bad");
    if (refused.status === 401) {
      signOut(`Signed out: ${refused.message}`);
      return;
    }
  }
  look();
}

async function setWeight(service, endpoint, weight) {
  const where = `${endpoint.address} of ${service.name}`;
  const asks = weight === undefined
    ? [{ label: "Weight (0 to 1000; 0 drains)", min: 0, max: 1000, value: endpoint.weight }]
    : [];
  const title = weight === 0 ? "Drain an endpoint" : "Weight of an endpoint";
  const what = weight === 0
    ? `${where} gets no new requests; those that run end.`
    : `${where} gets ${weight === undefined ? "another weight" : `weight ${weight}`} until the configured one changes.`;
  const values = await confirmed(title, what, asks);
  if (!values) return;
  const next = weight === undefined ? values[0] : weight;
  const path = `${endpoints(service)}/${encodeURIComponent(endpoint.address)}`;
  await change("PATCH", path, { weight: next }, `${where} has weight ${next}.`);
}

const endpoints = (service) => `/loadbalancer/${encodeURIComponent(service.name)}/endpoints`;

/** Registers an endpoint, or renews one as it is. */
async function register(service, known) {
  const time = { label: "For so many seconds, if it is not renewed before", min: 1, max: 86400, value: 300 };
  if (known) {
    const values = await confirmed("Renew an endpoint", `${known.address} of ${service.name} stays for longer.`, [time]);
    if (!values) return;
    const { configured_weight: weight, priority, zone } = known;
    const url = `${known.tls ? "https" : "http"}://${known.address}`;
    const body = { url, ttl_seconds: values[0], weight, priority, zone };
    await change("POST", endpoints(service), body, `${known.address} of ${service.name} is renewed.`);
    return;
  }
  const values = await confirmed("Register an endpoint", `It gets requests of ${service.name} until its time is over.`, [
    { label: "Address, host:port" },
    time,
    { label: "Weight (0 to 1000)", min: 0, max: 1000, value: 1 },
    { label: "Priority (0 first)", min: 0, max: 255, value: 0 },
    { label: "Zone, if any", optional: true },
    { label: "Spoken to it", options: [["http", "HTTP without TLS"], ["https", "HTTP by TLS"]] },
  ]);
  if (!values) return;
  const [address, ttl, weight, priority, zone, scheme] = values;
  const url = `${scheme}://${address.trim()}`;
  const body = { url, ttl_seconds: ttl, weight, priority, zone: zone.trim() || null };
  await change("POST", endpoints(service), body, `${url} of ${service.name} is registered.`);
}

async function deregister(service, endpoint) {
  const where = `${endpoint.address} of ${service.name}`;
  const values = await confirmed("Take an endpoint out", `${where} gets no new requests and is forgotten; those that run end.`, []);
  if (!values) return;
  await change("DELETE", `${endpoints(service)}/${encodeURIComponent(endpoint.address)}`, undefined, `${where} is taken out.`);
}

async function changeBreaker(service, endpoint) {
  const where = endpoint ? `the breaker of ${endpoint.address}` : `all breakers of ${service.name}`;
  const options = [
    ["automatic", "let decide by itself"],
    ["force_open", "force open: no requests"],
    ["force_closed", "force closed: all requests"],
    ["reset", "reset: close, forget what was counted"],
  ];
  const values = await confirmed("Circuit breaker", `What shall become of ${where}?`, [{ label: "Action", options }]);
  if (!values) return;
  const body = { action: values[0] };
  if (endpoint) body.endpoint = endpoint.address;
  await change("POST", `/circuitbreaker/${encodeURIComponent(service.name)}`, body, `Done: ${plain(values[0])}, ${where}.`);
}

async function changeSplit(route) {
  const fields = route.upstreams.map((one) => ({ label: one.upstream, min: 0, max: 1000, value: one.weight }));
  const values = await confirmed("Shares of a route", `Requests of ${route.name} are shared out by these weights.`, fields);
  if (!values) return;
  const weights = {};
  route.upstreams.forEach((one, index) => { weights[one.upstream] = values[index]; });
  await change("PATCH", "/routes/split", { route: route.name, weights }, `The shares of ${route.name} are moved.`);
}

async function changeLimit({ rate, bulkhead }) {
  if (rate) {
    const values = await confirmed("Rate", `Each client of ${rate.name}, from the next request on.`, [
      { label: "Requests", min: 1, max: 1e9, value: Math.max(1, Math.round(rate.per_second * 60)) },
      { label: "per so many seconds", min: 1, max: 86400, value: 60 },
      { label: "Most at once", min: 1, max: 4294967295, value: rate.burst },
    ]);
    if (!values) return;
    const [requests, window, burst] = values;
    const body = { limit: rate.name, requests, window_seconds: window, burst };
    await change("PUT", "/limits/rate", body, `The rate of ${rate.name} is changed.`);
    return;
  }
  const values = await confirmed("Requests at once", `Of all clients together at ${bulkhead.service}.`, [
    { label: "At once", min: 1, max: 1e9, value: bulkhead.limit },
    { label: "Most that wait", min: 0, max: 1e6, value: bulkhead.max_queue },
  ]);
  if (!values) return;
  const body = { service: bulkhead.service, limit: values[0], max_queue: values[1] };
  await change("PUT", "/limits/bulkhead", body, `The limit of ${bulkhead.service} is changed.`);
}

el("purge").addEventListener("click", async () => {
  const options = [
    ["address", "one address, shop.example.com/a?b=1"],
    ["below", "all whose address begins so; with nothing, all"],
    ["route", "those of a route, by its name"],
  ];
  const values = await confirmed("Forget answers", "The next request for each goes to its service.", [
    { label: "What", options },
    { label: "Which", optional: true },
  ]);
  if (values) await change("POST", "/cache/purge", { [values[0]]: values[1].trim() }, "Forgotten.");
});

el("reload").addEventListener("click", async () => {
  const values = await confirmed("Reload", "The configuration is read again; a bad one is refused and changes nothing.", []);
  if (values) await change("POST", "/reload", undefined, "The configuration was read again.");
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else look();
});
el("token").focus();
