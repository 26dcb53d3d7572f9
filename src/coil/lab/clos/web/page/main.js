// The page as a whole: what the server tells, what is selected, what is asked for.

import { byId, setText } from "./dom.js";
import { drawFabric } from "./fabric.js";
import { machinesOf } from "./state.js";
import { drawEvents, drawPanel, drawPings } from "./side.js";
import { drawTraffic } from "./traffic.js";
import { drawWires } from "./wires.js";

const view = { lab: null, pings: [], events: [], selected: "", routes: [], choose: "source" };

/** Have the server do something; what it refuses is shown in its own words. */
async function ask(path, body) {
  document.body.classList.add("busy");
  try {
    const answer = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    if (!answer.ok) complain((await answer.json()).error);
  } catch {
    complain("coil-lab web does not answer");
  } finally {
    document.body.classList.remove("busy");
  }
}

let silence;
function complain(text) {
  setText(byId("toast"), text);
  byId("toast").hidden = false;
  clearTimeout(silence);
  silence = setTimeout(() => { byId("toast").hidden = true; }, 8000);
}

function select(name) {
  view.selected = name === view.selected ? "" : name;
  view.routes = [];
  draw();
  loadRoutes();
}

/** The kernel's routes of the selected machine: only they are asked for, there are too many. */
async function loadRoutes() {
  const name = view.selected;
  const state = view.lab?.state;
  if (!state || !machinesOf(state).some((machine) => machine.name === name)) return;
  try {
    const answer = await fetch(`routes?machine=${encodeURIComponent(name)}`);
    if (answer.ok && name === view.selected) {
      view.routes = await answer.json();
      drawPanel(state, name, view.routes, { ask, select });
    }
  } catch { /* the stream tells that nobody answers */ }
}

/** A pod whose cell was clicked becomes the source, the next one the target, and so on. */
function choosePod(name) {
  byId(view.choose).value = name;
  view.choose = view.choose === "source" ? "target" : "source";
  byId(view.choose).focus({ preventScroll: true });
}

function draw() {
  const state = view.lab?.state ?? null;
  byId("message").hidden = !view.lab || Boolean(state);
  document.body.classList.toggle("absent", !state);
  setText(byId("message"), view.lab?.why ?? "");
  setText(byId("summary"), state ? summary(state) : "");
  drawPanel(state, view.selected, view.routes, { ask, select });
  drawPings(view.pings, state, ask);
  if (state) {
    drawFabric(state, view.selected, { select, choose: choosePod });
    drawWires(state, view.selected, select);
  }
  drawTraffic(view.pings, state);
}

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function summary(state) {
  const { shape, nodes, pods, failed } = state;
  const blocks = nodes.flatMap((node) => node.blocks);
  const used = blocks.reduce((sum, block) => sum + block.used, 0);
  const size = blocks.reduce((sum, block) => sum + block.size, 0);
  const families = shape.families.map((version) => `IPv${version}`).join(" + ");
  return [
    [count(shape.spines, "spine"), count(shape.racks, "rack"), count(nodes.length, "node")].join(", "),
    families, count(pods.length, "pod"),
    `${count(blocks.length, "block")}, ${used} of ${size} addresses in use`,
    ...(failed.length ? [`${failed.length} failed`] : []),
  ].join(" · ");
}

function listen() {
  const stream = new EventSource("stream");
  const live = byId("live");
  const tell = (text, className) => { setText(live, text); live.className = className; };
  stream.onopen = () => tell("live", "good");
  stream.onerror = () => tell("not connected", "bad"); // it tries again by itself
  stream.addEventListener("lab", (message) => {
    view.lab = JSON.parse(message.data);
    setText(byId("name"), view.lab.name);
    document.title = `${view.lab.name} · coil-lab`;
    draw();
    loadRoutes();
  });
  stream.addEventListener("pings", (message) => {
    view.pings = JSON.parse(message.data);
    drawPings(view.pings, view.lab?.state, ask);
    drawTraffic(view.pings, view.lab?.state);
  });
  stream.addEventListener("events", (message) => drawEvents(JSON.parse(message.data)));
}

byId("start").addEventListener("submit", (event) => {
  event.preventDefault();
  const [source, target, version] = ["source", "target", "version"].map((id) => byId(id).value);
  ask("pings/start", { source, target, version: Number(version) });
});
byId("swap").addEventListener("click", () => {
  const [source, target] = [byId("source"), byId("target")];
  [source.value, target.value] = [target.value, source.value];
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && view.selected) select("");
});
// What was not drawn while a button was held; after the click.
for (const kind of ["pointerup", "pointercancel", "keyup"]) {
  document.addEventListener(kind, () => setTimeout(draw));
}
// Links follow their boxes when the window or what is in a box changes its size.
new ResizeObserver(() => draw()).observe(byId("stage"));
listen();
