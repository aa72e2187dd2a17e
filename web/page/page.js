"use strict";
// The page over the API of postrider-web. Text from outside is set as text, never as markup; the token, or the key of
// the session, stays in this tab (sessionStorage) and goes out in a header field, so that no other site's page can use it.

const TOKEN = "postrider-token", KEY = "postrider-key";
const PACE = 10000;
let role = "";
let serial = 0; // of the view that is shown: an answer for an older one is dropped
let timer = 0;

const main = document.getElementById("main");

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(key, value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) made.append(child);
  return made;
}

function shape(name, properties = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(properties)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const number = (value) => (typeof value === "number" ? value.toLocaleString("en-GB") : "–");
const plural = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;
const when = (seconds) => (seconds > 0 ? new Date(seconds * 1000).toLocaleString() : "–");

function age(seconds) {
  if (!(seconds >= 0)) return "–";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.floor(seconds)} s`;
}

function octets(value) {
  if (typeof value !== "number") return "–";
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  return `${value} B`;
}

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const isIn = () => sessionStorage.getItem(TOKEN) || sessionStorage.getItem(KEY);
function forget() {
  sessionStorage.removeItem(TOKEN);
  sessionStorage.removeItem(KEY);
}

async function ask(path, change) {
  const options = { headers: {}, credentials: "same-origin" };
  if (sessionStorage.getItem(KEY)) options.headers["Postrider-Session-Key"] = sessionStorage.getItem(KEY);
  else if (sessionStorage.getItem(TOKEN)) options.headers.Authorization = `Bearer ${sessionStorage.getItem(TOKEN)}`;
  if (change) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(change);
  }
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, options);
  } catch {
    throw new Refused(0, "postrider-web does not answer");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer.error?.message ?? `HTTP ${response.status}`);
  return answer;
}

function query(filters) {
  const out = new URLSearchParams();
  for (const [key, value] of Object.entries(filters)) if (value) out.set(key, value);
  return out.toString();
}

// On a phone each row is a block of lines. Kinds of cells: number, word (never broken), address.
function table(heads, rows, empty) {
  if (rows.length === 0) return element("p", { class: "quiet" }, empty);
  return element("div", { class: "scroll", tabindex: "0" },
    element("table", {},
      element("thead", {}, element("tr", {}, heads.map(([text, kind]) => element("th", { class: kind, scope: "col" }, text)))),
      element("tbody", {}, rows.map((cells) =>
        element("tr", {}, cells.map((cell, i) => element("td", { class: heads[i][1], "data-label": heads[i][0] }, cell)))))));
}

function failed(error) {
  if (error instanceof Refused && error.status === 401) {
    forget();
    return login(error.message);
  }
  document.getElementById("state").textContent = error.message;
  return element("p", { class: "alarm", role: "alert" }, error.message);
}

// Overview

function tile(value, label) {
  return element("div", { class: "tile" }, element("b", {}, value), element("span", {}, label));
}

const COLORS = 6;

// A curve may have times of its own; one with step holds its value until the next time.
function plot(title, times, curves, options = {}) {
  const width = 600, height = 150, left = 4, bottom = 18, top = 14;
  const most = Math.max(0, ...curves.flatMap((curve) => curve.values)) || 1; // a rate may be far below one
  const first = options.first ?? times[0] ?? 0, last = options.last ?? times[times.length - 1] ?? 1;
  const x = (time) => left + ((width - 2 * left) * (Math.max(time, first) - first)) / Math.max(1, last - first);
  const y = (value) => height - bottom - ((height - bottom - top) * value) / most;
  const newest = (curve) => curve.values[curve.values.length - 1] ?? 0;
  const drawing = shape("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${title}: ${curves.map((curve) => `${curve.name} ${number(newest(curve))}`).join(", ")}` });
  for (const part of [0, 0.5, 1])
    drawing.append(shape("line", { class: "grid", x1: 0, x2: width, y1: y(most * part), y2: y(most * part) }));
  curves.forEach((curve, i) => {
    const at = curve.times ?? times;
    const points = curve.values.map((value, k) => {
      const here = `${x(at[k]).toFixed(1)},${y(value).toFixed(1)}`;
      return curve.step ? `${here} ${x(at[k + 1] ?? last).toFixed(1)},${y(value).toFixed(1)}` : here;
    }).join(" ");
    drawing.append(shape("polyline", { class: `curve c${(curve.color ?? i) % COLORS}`, points }));
  });
  const none = options.none !== undefined && curves.length === 0;
  const early = !none && last - first < 1;
  return element("div", { class: "panel plot" },
    element("h3", {}, title),
    none || early ? element("p", { class: "quiet" }, none ? options.none : "Figures are collected; the first curve comes after 20 seconds.") : drawing,
    element("div", { class: "legend" },
      curves.map((curve, i) => element("span", {}, element("span", { class: `key k${(curve.color ?? i) % COLORS}` }),
        options.latest ? `${curve.name}: ${number(newest(curve))}` : curve.name)),
      none || early ? null : element("span", {}, `up to ${number(most)}, ${age(last - first)} until now`)));
}

const sum = (values) => values.reduce((all, value) => all + value, 0);

function deferralPlot(past) {
  const classes = Object.entries(past.by_class).sort((a, b) => sum(b[1]) - sum(a[1]));
  const curves = classes.slice(0, COLORS - 1).map(([name, values]) => ({ name, values }));
  if (classes.length >= COLORS)
    curves.push({ name: "others", values: past.time.map((_, i) => sum(classes.slice(COLORS - 1).map(([, values]) => values[i]))) });
  return plot("Deferrals by class", past.time, curves, { none: "Nothing was deferred in this time." });
}

// Of the page: kept while the tab is open.
const SPANS = [["hour", 3600], ["6 hours", 21600], ["day", 86400]];
let span = 3600;

function spans() {
  return element("div", { class: "verbs", role: "group", "aria-label": "Span of the plots" }, element("span", { class: "quiet" }, "Last"),
    SPANS.map(([name, seconds]) => element("button", { type: "button", "aria-pressed": String(seconds === span), onclick: () => {
      span = seconds;
      show();
    } }, name)));
}

async function overview() {
  const [status, past] = await Promise.all([ask("status"), ask(`history?seconds=${span}`)]);
  const queue = status.queue ?? {};
  const since = status.since_start ?? {};
  document.getElementById("host").textContent = status.hostname ?? "Postrider";
  const alarms = status.alarms ?? [];
  return [
    status.running ? null : element("p", { class: "alarm", role: "alert" }, "The daemon does not run."),
    alarms.map((text) => element("p", { class: "alarm", role: "alert" }, text)),
    alarms.length || !status.running ? null : element("p", { class: "alarm calm" },
      `No alarms. Mail is ${status.admission === "open" ? "accepted" : `not accepted (${status.admission})`}.`),
    element("div", { class: "tiles" },
      tile(number(queue.messages), "messages in the queue"),
      tile(number(queue.recipients), "recipients that wait"),
      tile(number(queue.deferred), "deferred"),
      tile(number(queue.held), "held"),
      tile(queue.oldest > 0 ? age(status.now - queue.oldest) : "–", "oldest message"),
      tile(octets(queue.bytes), "in the queue"),
      tile(number(status.connections), "connections to next hops"),
      tile(number(status.sessions), "SMTP sessions"),
      tile(number(since.accepted), "accepted since the start"),
      tile(number(since.delivered), "delivered since the start"),
      tile(number(since.bounced), "bounced since the start"),
      tile(number((status.sites_in_trouble ?? []).length), "sites in trouble")),
    spans(),
    element("div", { class: "plots" },
      plot("Messages in the queue", past.time, [{ name: "all", values: past.queue }, { name: "deferred", values: past.deferred }]),
      plot("Accepted, and what came of recipients", past.time, [
        { name: "accepted", values: past.accepted }, { name: "delivered", values: past.delivered, color: 3 },
        { name: "deferred", values: past.deferrals, color: 1 }, { name: "bounced", values: past.bounced, color: 2 }]),
      deferralPlot(past)),
    element("h2", {}, "The daemon"),
    element("div", { class: "panel" }, facts([
      ["Version", status.version], ["Running since", when(status.started)], ["Configuration", status.config],
      ["Listeners", (status.listeners ?? []).join(", ") || "none"], ["System calls", status.system_calls], ["Files", status.files],
      ["Users at their limit", (status.users_at_their_limit ?? []).join("; ") || "none"]])),
  ];
}

function facts(rows) {
  return element("dl", {}, rows.filter(([, value]) => value !== undefined && value !== "")
    .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

// Queue

const FILTERS = [["from", "From", "ann@example.org or *@example.org"], ["to", "To", ""], ["domain", "Domain", "example.net"],
  ["site", "Site", ""], ["reply", "Reason has", "greylisted"], ["older", "Older than", "2h"], ["larger", "Larger than", "1M"]];
const STATES = ["", "queued", "active", "deferred", "held"];

function filtersOf(parameters) {
  const filters = {};
  for (const [name] of FILTERS) if (parameters.get(name)) filters[name] = parameters.get(name);
  if (parameters.get("status")) filters.status = parameters.get("status");
  return filters;
}

function messageLink(id) {
  return element("a", { href: `#/message?id=${encodeURIComponent(id)}`, class: "id" }, id);
}

function reasons(message) {
  const shown = (message.recipients ?? []).slice(0, 3).map((one) => element("div", {}, one.address,
    one.delay_reason ? element("div", { class: "quiet" }, one.delay_reason) : null));
  const more = (message.recipients ?? []).length - shown.length;
  if (more > 0) shown.push(element("div", { class: "quiet" }, `and ${plural(more, "other", "others")}`));
  return shown;
}

async function queue(parameters) {
  const filters = filtersOf(parameters);
  const [listed, counted] = await Promise.all([ask(`queue?${query({ ...filters, limit: "100" })}`), ask(`queue/count?${query(filters)}`)]);
  const form = element("form", { class: "filters", onsubmit: (event) => {
    event.preventDefault();
    location.hash = `#/queue?${query(Object.fromEntries(new FormData(form)))}`;
  } },
  element("label", {}, "State", element("select", { name: "status" }, STATES.map((state) =>
    element("option", { value: state, selected: (filters.status ?? "") === state }, state || "any")))),
  FILTERS.map(([name, label, example]) =>
    element("label", {}, label, element("input", { name, value: filters[name] ?? "", placeholder: example, size: "16", autocomplete: "off" }))),
  element("button", { class: "main" }, "Show"),
  element("a", { href: "#/queue" }, "All"));
  const now = Date.now() / 1000;
  return [
    form,
    element("p", {}, plural(counted.messages, "message", "messages"), ", ", plural(counted.recipients, "recipient", "recipients"),
      listed.more ? `; the first ${listed.messages.length} are shown` : ""),
    verbs(filters, counted),
    table([["Id", ""], ["State", "word"], ["Age", "number"], ["Size", "number"], ["From", "address"], ["To, and why it waits", ""]],
      listed.messages.map((message) => [
        messageLink(message.queue_id),
        element("span", { class: `tag ${message.status}` }, message.status ?? message.queue_name),
        age(now - message.arrival_time), octets(message.message_size),
        message.sender === "" ? "<>" : message.sender, reasons(message)]),
      "No message is like that."),
  ];
}

// A change begins with a dry run, whose figures the person confirms.
function verbs(filters, counted, ids) {
  if (role !== "change" || counted.messages === 0) return null;
  const everything = Object.keys(filters).length === 0 && !ids;
  const body = { ...filters, ...(ids ? { id: ids } : {}), ...(everything ? { all: true } : {}) };
  const place = element("div", { class: "verbs", role: "group", "aria-label": "Changes" });
  const offer = () => place.replaceChildren(
    element("span", { class: "quiet" }, everything ? "Everything:" : ids?.length === 1 ? "This message:" : "These:"),
    ...["retry", "hold", "release", "bounce", "remove"].map((verb) =>
      element("button", { type: "button", onclick: () => rehearse(verb) }, verb)));
  const rehearse = async (verb) => {
    try {
      const would = await ask(`queue/${verb}`, { ...body, dry_run: true });
      const sure = element("button", { type: "button", class: verb === "remove" || verb === "bounce" ? "bad" : "main", onclick: () => carryOut(verb) },
        `${verb}: ${plural(would.messages, "message", "messages")}, ${plural(would.recipients, "recipient", "recipients")}`);
      place.replaceChildren(sure, element("button", { type: "button", onclick: offer }, "Cancel"));
      sure.focus();
    } catch (error) {
      place.replaceChildren(failed(error));
    }
  };
  const carryOut = async (verb) => {
    try {
      const did = await ask(`queue/${verb}`, body);
      place.replaceChildren(element("p", { role: "status" },
        `${verb}: ${plural(did.messages, "message", "messages")}, ${plural(did.recipients, "recipient", "recipients")}` +
        [["under way, and not changed", did.under_way_messages], ["held, and not tried", did.held_messages],
          ["paused, and not tried", did.paused_messages],
          ["kept for their senders, and not tried", did.unreleased_messages]].map(([what, number]) =>
          number ? `; ${what}: ${plural(number, "message", "messages")}` : "").join("")));
      setTimeout(show, 1500);
    } catch (error) {
      place.replaceChildren(failed(error));
    }
  };
  offer();
  return place;
}

// Of mail that is gone the trace alone knows; of mail that waits, the queue does too.
async function message(parameters) {
  const id = parameters.get("id") ?? "";
  const or = (instead) => (error) => {
    if (error.status === 401) throw error;
    return { ...instead, trouble: error.message };
  };
  const traced = await ask(`trace?${query({ target: id })}`).catch(or({ messages: [] }));
  const story = traced.messages[0];
  const [shown, explained] = story && !story.queued ? [{ trouble: "gone" }, {}] : await Promise.all([
    ask(`messages/${encodeURIComponent(id)}`).catch(or({})), ask(`explain?${query({ target: id })}`).catch(or({ attempts: [], facts: [] }))]);
  const told = shown.message ?? {};
  return [
    element("h2", {}, "Message ", element("span", { class: "id" }, id)),
    shown.trouble ? element("p", { class: "quiet" }, story ? "It is not in the queue any more." : shown.trouble) : [
      element("div", { class: "panel" }, facts([
        ["State", told.status], ["From", told.sender === "" ? "<> (a notice)" : told.sender], ["Arrived", when(told.arrival_time)],
        ["Expires", when(told.expires)], ["Size", octets(told.message_size)], ["Client", told.client], ["Protocol", told.protocol], ["User", told.user]])),
      verbs({}, { messages: 1 }, [id]),
      element("h2", {}, "Recipients that wait"),
      table([["Address", "address"], ["State", "word"], ["Attempts", "number"], ["Next", "word"], ["Last answer", ""]],
        (told.recipients ?? []).map((one) => [one.address, one.state, number(one.attempts), when(one.next_attempt), one.delay_reason ?? ""]),
        "All recipients are done.")],
    element("h2", {}, "What became of it"),
    story ? steps(story.events) : element("p", { class: "quiet" }, traced.trouble ?? "Nothing is known."),
    traced.more ? element("p", { class: "quiet" }, "There are more steps than are shown; postrider trace has all.") : null,
    shown.trouble ? null : [
      element("h2", {}, "What happens to it"), factTable(explained),
      shown.content === undefined ? null : [element("h2", {}, "Header"), element("pre", { tabindex: "0" }, shown.content)]],
  ];
}

function factTable(explained) {
  const several = new Set(explained.facts.map((fact) => fact.address ?? "")).size > 1;
  const of = several ? [["Address", "address"]] : []; // else it stands above already
  return [
    explained.attempts.length === 0 ? null : table([["When", "word"], ["Recipient", "address"], ["Answer", ""]],
      explained.attempts.map((one) => [when(one.at ?? one.when ?? 0), one.recipient ?? "", one.text ?? one.reason ?? JSON.stringify(one)]), ""),
    table([...of, ["What", "word"], ["How it is", ""]],
      explained.facts.map((fact) => [...of.map(() => fact.address ?? ""), fact.what, fact.text]), "Nothing is known of it."),
  ];
}

// Sites

// A blocked site may have no connection: its limit is 0 then, and that is shown. A rate of 0 is none.
function limitPlot(title, past, key, none) {
  const last = Date.now() / 1000, first = last - span;
  const curves = past.sites.filter((site) => key === "limit" || site[key].some((value) => value > 0)).slice(0, COLORS)
    .map((site) => ({ name: site.site, times: site.time, values: site[key], step: true }));
  const oldest = Math.min(...curves.map((curve) => curve.times[0]));
  return plot(title, [], curves, { first: Math.max(first, Math.min(oldest, last - 1)), last, none, latest: true });
}

async function sites() {
  const [status, past] = await Promise.all([ask("status"), ask(`history/sites?seconds=${span}`)]);
  const trouble = status.sites_in_trouble ?? [];
  const busiest = status.busiest_sites ?? [];
  return [
    element("div", { class: "tiles" }, tile(number(status.sites), "sites known"), tile(number(trouble.length), "in trouble"),
      tile(number(status.connections), "connections"), tile(number(status.connections_idle), "of them idle")),
    spans(),
    element("div", { class: "plots" },
      limitPlot("Found limits: connections at once", past, "limit", "No site has been busy in this time."),
      limitPlot("Found limits: messages a second", past, "rate", "No site has shown such a limit in this time.")),
    element("h2", {}, "Busiest"),
    table([["Site", "address"], ["State", "word"], ["Connections", "number"], ["At most", "number"], ["A second", "number"], ["In hand", "number"], ["What set the limits", ""]],
      busiest.map((site) => [
        element("a", { href: `#/queue?${query({ site: site.site })}` }, site.site), element("span", { class: `tag ${site.state}` }, site.state),
        number(site.connections), number(site.limit), site.rate ? number(site.rate) : "no limit", number(site.in_hand), site.limits ?? ""]),
      "No site is known yet."),
    element("h2", {}, "In trouble"),
    table([["Site", "address"], ["Waiting", "number"], ["Failures", "number"], ["Since", "word"], ["Next attempt", "word"], ["Last answer", ""]],
      trouble.map((site) => typeof site === "string" ? [site, "", "", "", "", ""] : [
        element("a", { href: `#/queue?${query({ site: site.site })}` }, site.site), number(site.recipients), number(site.failures),
        when(site.since), when(site.blocked_until), site.reason ?? ""]),
      "No site is in trouble."),
  ];
}

// Search: what became of mail

const from = (step) => (step.from === "" ? "<>" : step.from ?? "");
const ENDS = { delivered: "active", sent: "active", bounced: "held", rejected: "held", deferred: "deferred" };

function tag(word) {
  return element("span", { class: `tag ${ENDS[word] ?? ""}` }, word);
}

function joined(parts) {
  return parts.filter((part) => part !== undefined && part !== "").join(", ");
}

function clientOf(step) {
  return step.client_name && step.client_name !== "unknown" ? `${step.client_name} [${step.client}]` : step.client;
}

// What stands behind the name of a step, for people.
function details(step) {
  const lines = step.event === "accepted" ? [
    `from ${from(step)} for ${step.to ?? "?"}${step.nrcpt > 1 ? ` and ${plural(step.nrcpt - 1, "other", "others")}` : ""}`,
    joined([clientOf(step), step.helo && `HELO ${step.helo}`, step.user && `user ${step.user}`, step.protocol, step.tls]),
    joined([step.size === undefined ? "" : octets(Number(step.size)), step.message_id])] : [
    step.to ?? "",
    joined([step.relay === "none" ? "" : step.relay, step.tls && !step.tls.startsWith("TLS") ? `TLS ${step.tls}` : step.tls, step.delay === undefined ? "" : `${step.delay} s`,
      step.delays && `delays ${step.delays}`, step.reused === "yes" || step.reused === true ? "connection used again" : ""]),
    joined([step.notice && `${step.notice} (${step.kind})`, step.by && `by ${step.by}`]), step.reason ?? ""];
  return lines.filter((line) => line).map((line, i) => element("div", { class: i ? "quiet" : undefined }, line));
}

function steps(events) {
  return element("ol", { class: "story" }, events.map((step) => element("li", {},
    element("time", { datetime: step.time, class: "quiet" }, new Date(step.time).toLocaleString()), " ", tag(step.event), details(step))));
}

function tracedRow(message) {
  const first = message.events[0] ?? {};
  const ends = new Map(); // of each recipient the latest
  for (const step of message.events) if (step.to && step.event !== "accepted") ends.set(step.to, step);
  const shown = [...ends.values()].slice(0, 3).map((step) => element("div", {}, tag(step.event), " ", step.to,
    step.reason ? element("div", { class: "quiet" }, step.reason) : null));
  if (ends.size > 3) shown.push(element("div", { class: "quiet" }, `and ${plural(ends.size - 3, "other", "others")}`));
  if (message.queued) shown.push(element("div", {}, tag(message.queued.status), " in the queue"));
  return [messageLink(message.id), first.time ? new Date(first.time).toLocaleString() : when(message.queued?.arrival_time),
    first.event === "accepted" ? from(first) : message.queued?.envelope_sender ?? "", shown];
}

async function trace(parameters) {
  const asked = Object.fromEntries(["target", "since", "rejected"].map((name) => [name, parameters.get(name) ?? ""]));
  const form = element("form", { class: "filters", onsubmit: (event) => {
    event.preventDefault();
    location.hash = `#/trace?${query(Object.fromEntries(new FormData(form)))}`;
  } },
  element("label", {}, "An address, a queue id or a Message-ID", element("input", { name: "target", value: asked.target, size: "40", autocomplete: "off" })),
  element("label", {}, "Not before", element("input", { name: "since", value: asked.since, size: "12", placeholder: "2h or 2026-11-29", autocomplete: "off" })),
  element("label", { class: "check" }, element("input", { type: "checkbox", name: "rejected", value: "true", checked: asked.rejected === "true" }), "Refused mail"),
  element("button", { class: "main" }, "Search"));
  if (!asked.target && !asked.since && !asked.rejected)
    return [form, element("p", { class: "quiet" }, "Shows what became of mail, also of mail that is gone: each step and attempt, with its time, host and reply.")];
  let found;
  try {
    found = await ask(`trace?${query({ ...asked, limit: "100" })}`);
  } catch (error) {
    if (error.status === 401) throw error;
    return [form, element("p", { class: "alarm", role: "status" }, error.message)];
  }
  return [
    form,
    found.more ? element("p", { class: "quiet" }, "The newest are shown; there are more.") : null,
    found.refused
      ? table([["When", "word"], ["From", "address"], ["To", "address"], ["Client", ""], ["Reply", ""]], found.refused.map((step) => [
        new Date(step.time).toLocaleString(), from(step), step.to ?? "", joined([clientOf(step), step.helo && `HELO ${step.helo}`]), step.reply ?? ""]),
      "No such mail was refused.")
      : table([["Id", ""], ["When", "word"], ["From", "address"], ["What became of it", ""]], found.messages.map(tracedRow), "No such mail is known."),
  ];
}

// Explain: what would happen to mail now

async function explain(parameters) {
  const target = parameters.get("target") ?? "";
  const form = element("form", { class: "filters", onsubmit: (event) => {
    event.preventDefault();
    location.hash = `#/explain?${query(Object.fromEntries(new FormData(form)))}`;
  } },
  element("label", {}, "A queue id, an address or a domain", element("input", { name: "target", value: target, size: "40", required: true, autocomplete: "off" })),
  element("button", { class: "main" }, "Explain"));
  if (!target) return [form, element("p", { class: "quiet" }, "Shows the way that mail for it takes, what waits for it, and why.")];
  const explained = await ask(`explain?${query({ target })}`).catch((error) => {
    if (error.status === 401) throw error;
    return { attempts: [], facts: [{ what: "answer", text: error.message }] };
  });
  const waiting = target.includes("@") ? await ask(`queue?${query({ to: target, limit: "20" })}`) : { messages: [] };
  return [
    form, element("h2", {}, target), factTable(explained),
    target.includes("@") ? [element("h2", {}, "Messages for it in the queue"),
      table([["Id", ""], ["State", "word"], ["From", "address"]], waiting.messages.map((one) => [messageLink(one.queue_id), one.status, one.sender]), "None.")] : null,
  ];
}

// Login

function login(trouble) {
  role = "";
  document.getElementById("nav").hidden = true;
  document.getElementById("leave").hidden = true;
  const place = element("div", {});
  const entering = (enter, ...parts) => {
    const button = element("button", { class: "main" }, "Log in");
    return element("form", { class: "login", onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true; // a refusal takes a while
      place.replaceChildren();
      try {
        role = (await enter()).role;
        show();
      } catch (error) {
        forget();
        place.replaceChildren(element("p", { class: "alarm", role: "alert" }, error.message));
      }
      button.disabled = false;
    } }, ...parts, button);
  };
  const token = element("input", { name: "token", type: "password", autocomplete: "off", required: true, "aria-describedby": "how" });
  const byToken = entering(() => {
    sessionStorage.setItem(TOKEN, token.value.trim());
    return ask("whoami");
  }, element("label", {}, "Token", token),
  element("p", { class: "quiet", id: "how" }, "Made on the server by: ", element("code", {}, "postrider-web token read|change NAME")));
  const panel = element("div", { class: "panel entry" },
    element("h2", {}, "Log in"),
    trouble && trouble !== "a token is needed" ? element("p", { class: "alarm", role: "alert" }, trouble) : null,
    place, byToken);
  setTimeout(() => token.focus());
  ask("session").then((way) => {
    if (!way.password) return;
    const user = element("input", { name: "user", autocomplete: "username", required: true, autocapitalize: "none", spellcheck: "false" });
    const password = element("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
    byToken.before(entering(async () => {
      const entered = await ask("session", { user: user.value.trim(), password: password.value });
      sessionStorage.setItem(KEY, entered.key);
      return entered;
    }, element("label", {}, "User of this system", user), element("label", {}, "Password", password)),
    element("p", { class: "quiet or" }, "or with a token"));
    if (document.activeElement === document.body || (document.activeElement === token && !token.value)) user.focus();
  }, () => {}); // a token will do
  return panel;
}

async function leave() {
  if (sessionStorage.getItem(KEY)) await ask("session/end", {}).catch(() => {});
  forget();
  role = "";
  show();
}

const VIEWS = { "": overview, queue, sites, trace, explain, message };

async function show() {
  const mine = ++serial;
  clearTimeout(timer);
  main.setAttribute("aria-busy", "true"); // what stands there is of another view, perhaps
  if (!isIn()) {
    main.removeAttribute("aria-busy");
    return main.replaceChildren(login());
  }
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const view = VIEWS[path] ?? overview;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.getAttribute("href") === `#/${path}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  let content;
  try {
    if (!role) role = (await ask("whoami")).role;
    content = await view(new URLSearchParams(search));
    document.getElementById("state").textContent = `${role === "change" ? "may change" : "read only"} · as of ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    content = failed(error);
  }
  if (mine !== serial) return;
  if (role) {
    document.getElementById("nav").hidden = false;
    document.getElementById("leave").hidden = false;
  }
  main.removeAttribute("aria-busy");
  main.replaceChildren(...[content].flat(3).filter((part) => part));
  if (view === overview || view === sites) timer = setTimeout(show, PACE);
}

document.getElementById("leave").addEventListener("click", leave);
window.addEventListener("hashchange", () => {
  show();
  main.focus();
});
show();
