// Spines, racks, nodes, etcd members and blocks: the boxes of the picture.

import { byId, h, setClass, setText, setTitle, sync } from "./dom.js";
import { podsByOffset, troubles } from "./state.js";

const MOST_CELLS = 256;
const COLUMNS = 16;
// Nodes that do not answer are drawn with what was last seen of them: their blocks are theirs still.
const lastBlocks = new Map();

/** `select(name)` is called for a machine, `choose(pod)` for a cell that a pod has. */
export function drawFabric(state, selected, { select, choose }) {
  const draw = (button, machine) => drawMachine(button, machine, selected);
  const makeMachine = (machine) => machineButton(machine.name, select);
  const spines = state.routers.filter((machine) => machine.kind === "spine");
  sync(byId("spines"), spines, (machine) => machine.name, makeMachine, draw);
  const tors = state.routers.filter((machine) => machine.kind === "tor");
  const lanes = Math.ceil((state.nodes.length + state.etcd.length) / tors.length);
  fit(tors.length, lanes);
  sync(byId("racks"), tors, (tor) => tor.rack, (tor) => makeRack(tor, select), (rack, tor) => {
    const inside = (machine) => machine.rack === tor.rack;
    draw(rack.querySelector(".tor"), tor);
    const nodes = state.nodes.filter(inside);
    const members = state.etcd.filter(inside);
    rack.style.setProperty("--lanes", nodes.length + members.length);
    sync(rack.querySelector(".nodes"), nodes, (node) => node.name,
      (node) => makeNode(node, select), (box, node) => {
        draw(box.querySelector("button"), node);
        const pods = state.pods.filter((pod) => pod.node === node.name);
        drawBlocks(box.querySelector(".blocks"), node, pods, choose);
      });
    sync(rack.querySelector(".members"), members, (member) => member.name, makeMachine, draw);
  });
}

/** Choose the largest cells with which all racks fit beside each other; the least: scroll. */
function fit(racks, lanes) {
  const width = byId("fabric").clientWidth / racks;
  const room = (between, lane, padding, gap) => (
    Math.floor((width - between - lane * lanes - padding) / COLUMNS) - gap);
  const roomy = room(16, 4, 32, 2);
  const size = roomy >= 7 ? Math.min(roomy, 13) : Math.max(5, Math.min(room(8, 2.5, 22, 1), 8));
  setClass(byId("racks"), roomy >= 7 ? "" : `dense${size < 6 ? " denser" : ""}`);
  byId("racks").style.setProperty("--size", `${size}px`);
}

function machineButton(name, select, more = "") {
  return h("button", {
    type: "button", class: `machine ${more}`, "data-machine": name, onclick: () => select(name),
  }, h("span", { class: "dot" }), h("b", { text: name }), h("small"));
}

function makeRack(tor, select) {
  return h("section", { class: "rack", "aria-label": `rack ${tor.rack}` },
    machineButton(tor.name, select, "tor"),
    h("div", { class: "nodes" }), h("div", { class: "members" }));
}

function makeNode(node, select) {
  return h("div", { class: "node" }, machineButton(node.name, select), h("div", { class: "blocks" }));
}

function drawMachine(button, machine, selected) {
  const wrong = troubles(machine);
  const kind = button.classList.contains("tor") ? "tor" : "";
  setClass(button, `machine ${kind} ${machine.kind} ${wrong.length ? "bad" : ""}`);
  button.setAttribute("aria-pressed", String(machine.name === selected));
  setText(button.querySelector("small"), wrong.join(", ") || wellness(machine, button));
  const routes = machine.kind === "etcd" ? "" : `, ${machine.routes} routes`;
  setTitle(button, `${machine.kind} ${machine.name}, AS ${machine.asn}, ${machine.addresses.join(" ")}${routes}`);
}

function wellness(machine, button) {
  if (machine.kind === "etcd") return machine.leader ? "leader" : "";
  return button.closest(".denser") ? `${machine.routes} rt` : `${machine.routes} routes`;
}

function drawBlocks(parent, node, pods, choose) {
  const answers = node.state === "up" && node.coild === "running" && node.blocks.length > 0;
  if (answers) lastBlocks.set(node.name, node.blocks);
  const blocks = answers ? node.blocks : (lastBlocks.get(node.name) ?? []);
  parent.classList.toggle("stale", !answers);
  sync(parent, blocks, (block) => block.networks[0], makeBlock,
    (box, block) => drawBlock(box, block, pods, choose));
}

function makeBlock() {
  return h("div", { class: "block" },
    h("div", { class: "label" }, h("code"), h("span")),
    h("div", { class: "cells", role: "img" }));
}

function drawBlock(box, block, pods, choose) {
  const cells = box.querySelector(".cells");
  box.classList.toggle("withdrawn", !block.exported);
  setText(box.querySelector("code"), block.networks[0]);
  setText(box.querySelector("span"), block.exported ? `${block.used}` : "not announced");
  const cooling = block.cooling ? `, ${block.cooling} cooling` : "";
  const told = `${block.networks.join(", ")}: ${block.used} of ${block.size} in use${cooling}`;
  cells.setAttribute("aria-label", told);
  setTitle(box.querySelector(".label"), told);
  const here = podsByOffset(block, pods);
  sync(cells, cellsOf(block), (cell) => cell.first, () => h("i"), (element, cell) => {
    const pod = here.get(cell.first);
    setClass(element, `cell ${cell.state}${pod ? " pod" : ""}`);
    setTitle(element, pod ? `${pod.name}: ${pod.addresses.join(", ")}` : cell.state || "free");
    element.onclick = pod ? () => choose(pod.name) : null;
    if (pod) element.dataset.pod = pod.name;
    else delete element.dataset.pod;
  });
}

/** One cell an address; in a large block one for several, with the state of the busiest. */
function cellsOf(block) {
  const width = Math.ceil(block.size / MOST_CELLS);
  const cells = Array.from({ length: Math.ceil(block.size / width) }, (_, place) => (
    { first: place * width, state: "" }));
  for (const offset of block.cooling_offsets) cells[Math.floor(offset / width)].state = "cooling";
  for (const offset of block.used_offsets) cells[Math.floor(offset / width)].state = "used";
  return cells;
}
