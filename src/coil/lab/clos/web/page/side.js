// Beside the picture: details of what is selected, pings, events.

import { byId, h, setClass, setText, setTitle, sync } from "./dom.js";
import { linkKey, machinesOf, partOf, troubles } from "./state.js";
import { COLOURS } from "./traffic.js";

const action = (label, run, more = "") => h("button", { type: "button", class: more, onclick: run, text: label });

/** Details of a machine or a link; `ask(path, body)` has the server do something. */
export function drawPanel(state, selected, routes, { ask, select }) {
  const panel = byId("panel");
  const machine = state && machinesOf(state).find(({ name }) => name === selected);
  const link = state && state.links.find((row) => linkKey(row) === selected);
  panel.hidden = !machine && !link;
  if (panel.hidden) return;
  const content = machine ? describe(machine, state, routes, ask) : describeLink(link, ask);
  const text = JSON.stringify(content.map((element) => element.outerHTML));
  // Drawn anew only when something is: the focus stays where it is.
  if (panel.dataset.text === text) return;
  // A click is lost when its button is replaced while it is held; it is drawn once it is let go.
  if (panel.querySelector("button:active")) return;
  panel.dataset.text = text;
  const focused = [...panel.querySelectorAll("button")].indexOf(document.activeElement);
  const close = h("button", { type: "button", class: "close", "aria-label": "Close", text: "×", onclick: () => select("") });
  panel.replaceChildren(h("h2", { text: machine ? machine.name : `link ${link.ends.join(" – ")}` }), close, ...content);
  if (focused >= 0) panel.querySelectorAll("button")[focused]?.focus();
}

const toggle = (isBroken, part, names, ask, fail, heal) => action(
  isBroken ? heal : fail,
  () => ask(isBroken ? "heal" : "fail", { part, names }),
  isBroken ? "good" : "bad",
);

function describe(machine, state, routes, ask) {
  const rack = machine.rack ? `, rack ${machine.rack}` : "";
  const wrong = troubles(machine);
  const rows = [
    h("p", { class: "hint", text: `${machine.kind}${rack}, AS ${machine.asn}, ${machine.addresses.join(", ")}` }),
    h("p", { class: wrong.length ? "state bad" : "state", text: wrong.join(", ") || "all well" }),
    h("div", { class: "actions" }, ...actions(machine, state, ask)),
  ];
  for (const problem of machine.problems ?? []) {
    rows.push(h("p", { class: "state bad", text: problem.message ?? JSON.stringify(problem) }));
  }
  const pods = state.pods.filter((pod) => pod.node === machine.name);
  if (pods.length) rows.push(list("Pods", pods.map((pod) => podRow(pod, ask))));
  if (machine.blocks?.length) rows.push(list("Announces", announced(machine)));
  const links = state.links.filter((link) => link.ends.includes(machine.name));
  rows.push(list("Links", links.map((link) => linkRow(link, machine.name, ask))));
  rows.push(list(`${routes.length} kernel routes`, routes.map(routeRow), "routes"));
  return rows;
}

function actions(machine, state, ask) {
  const isOff = machine.state !== "up";
  const buttons = [];
  if (machine.kind === "node" && !isOff) {
    buttons.push(action("Add a pod", () => ask("pods/add", { name: freshName(state), node: machine.name })));
    buttons.push(toggle(machine.coild !== "running", "coild", [machine.name], ask, "Kill coild", "Heal coild"));
    if (machine.controller) {
      const isStopped = machine.controller !== "running";
      buttons.push(toggle(isStopped, "controller", [machine.name], ask, "Kill controller", "Heal controller"));
    }
  }
  if (!isOff) {
    buttons.push(toggle(machine.bird !== "running", "bird", [machine.name], ask, "Kill BIRD", "Heal BIRD"));
  }
  const part = partOf(machine);
  const isBroken = part === "etcd" ? machine.etcd !== "running" : isOff;
  const fail = part === "etcd" ? "Kill etcd" : "Power off";
  buttons.push(toggle(isBroken, part, [machine.name], ask, fail, part === "etcd" ? "Heal etcd" : "Power on"));
  return buttons;
}

function freshName(state) {
  const taken = new Set([...state.pods, ...machinesOf(state)].map(({ name }) => name));
  for (let number = 1; ; number += 1) if (!taken.has(`pod${number}`)) return `pod${number}`;
}

const list = (title, rows, more = "") => h("div", { class: `list ${more}` },
  h("h3", { text: title }), h("ul", more ? { tabindex: 0, "aria-label": title } : {}, ...rows));

const podRow = (pod, ask) => h("li", {},
  h("b", { text: pod.name }), h("code", { text: pod.addresses.join(" ") }),
  action("Delete", () => ask("pods/delete", { name: pod.name })));

const announced = (node) => node.blocks.map((block) => h("li", {},
  h("code", { text: block.networks.join(" ") }),
  h("span", { text: block.exported ? `${block.used}/${block.size}` : "withdrawn" })));

const linkRow = (link, from, ask) => h("li", {},
  h("b", { text: link.ends.find((name) => name !== from) }),
  h("span", { class: link.state === "up" ? "" : "bad", text: link.state }),
  ...(link.state === "off" ? [] : [toggle(link.state === "cut", "link", link.ends, ask, "Fail", "Heal")]));

const routeRow = (route) => h("li", {},
  h("code", { text: route.dst }),
  h("span", { text: (route.nexthops ?? [route]).map((hop) => hop.dev).join(", ") }));

function describeLink(link, ask) {
  return [
    h("p", { class: "hint", text: link.addresses.map((ends) => ends.join(" ")).join(" – ") }),
    h("p", { class: link.state === "up" ? "state" : "state bad", text: link.state }),
    h("div", { class: "actions" },
      toggle(link.state === "cut", "link", link.ends, ask, "Fail", "Heal")),
  ];
}

const names = new Intl.Collator("en", { numeric: true }); // p2 before p10

/** The form's choices, and what runs. */
export function drawPings(pings, state, ask) {
  const pods = [...(state?.pods ?? [])].sort((one, other) => names.compare(one.name, other.name));
  const [source, target] = [byId("source"), byId("target")];
  for (const select of [source, target]) {
    sync(select, pods, (pod) => pod.name, (pod) => h("option", { value: pod.name, text: pod.name }), () => {});
  }
  // A pod that pings itself shows nothing; but nobody's choice is changed under their hands.
  const other = pods.find((pod) => pod.name !== source.value);
  if (other && target.value === source.value && !byId("start").contains(document.activeElement)) {
    target.value = other.name;
  }
  const families = state?.shape.families ?? [];
  sync(byId("version"), families, String, (version) => h("option", { value: version, text: `IPv${version}` }), () => {});
  byId("family").hidden = families.length < 2;
  byId("start").hidden = pods.length < 2;
  byId("no-pings").hidden = pods.length > 1 && pings.length > 0;
  setText(byId("no-pings"), pods.length < 2
    ? "Two pods can ping each other. Select a node to add one." : "None runs.");
  sync(byId("pings"), pings, (ping) => ping.key, (ping) => makePing(ping, ask), drawPing);
}

function makePing(ping, ask) {
  return h("li", {},
    h("b", { text: `${ping.source} → ${ping.target}` }), h("code", { text: ping.address }),
    action("Stop", () => ask("pings/stop", { key: ping.key })),
    h("div", { class: "strip", role: "img" }), h("p", { class: "hint" }), h("p", { class: "hint" }));
}

function drawPing(row, ping) {
  setClass(row, `ping p${ping.key % COLOURS}${ping.silent > 1 ? " silent" : ""}`);
  const [strip, numbers, way] = [...row.children].slice(3);
  const first = ping.sent - ping.recent.length;
  const packets = [...ping.recent].map((answered, place) => ({ answered, number: first + place }));
  sync(strip, packets, ({ number }) => number, () => h("i"), (bar, { answered }) => {
    setClass(bar, answered === "1" ? "ok" : "lost");
  });
  const last = ping.milliseconds === null ? "" : `, ${ping.milliseconds} ms`;
  setText(numbers, `${ping.sent} sent, ${ping.lost} lost${last}`);
  strip.setAttribute("aria-label", numbers.textContent);
  setText(way, ping.way.slice(1, -1).join(" › ") || (ping.silent > 1 ? "no way there" : "looking for the way"));
  setTitle(way, ping.back.length ? `back: ${ping.back.slice(1, -1).join(" › ")}` : "");
}

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export function drawEvents(events) {
  byId("no-events").hidden = events.length > 0;
  const newest = [...events].reverse();
  sync(byId("events"), newest, ({ number }) => number, (event) => h("li", { class: event.kind },
    h("time", { text: clock.format(event.time * 1000) }), h("span", { text: event.text })), () => {});
}
