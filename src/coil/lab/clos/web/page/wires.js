// Links between the boxes, as paths of one SVG; and the ways of packets along them.

import { byId, setClass, svg, sync } from "./dom.js";
import { linkKey, linkState, machinesOf } from "./state.js";

const STEP = 6; // pixels between two points of a way: smooth enough for the eye
const paths = new Map();
const ways = new Map(); // measuring a path is dear: kept until the picture is drawn anew

/** Draw all links where the boxes are now; `select(link)` is called for one that is clicked. */
export function drawWires(state, selected, select) {
  const stage = byId("stage").getBoundingClientRect();
  for (const id of ["wires", "traffic"]) {
    byId(id).setAttribute("viewBox", `0 0 ${stage.width} ${stage.height}`);
  }
  const boxes = new Map([...document.querySelectorAll("[data-machine]")].map((button) => (
    [button.dataset.machine, place(button, stage)])));
  const machines = new Map(machinesOf(state).map((machine) => [machine.name, machine]));
  const count = (name, end) => state.links.filter((link) => link.ends[end] === name);
  paths.clear();
  ways.clear();
  const rows = state.links.filter((link) => link.ends.every((name) => boxes.has(name)));
  // Broken ones last: they lie above the others.
  rows.sort((one, other) => (one.state !== "up") - (other.state !== "up"));
  sync(byId("wires"), rows, linkKey, () => makeWire(), (group, link) => {
    const [upper, lower] = link.ends;
    const siblings = count(upper, 0);
    const shape = machines.get(upper).kind === "spine"
      ? curve(boxes.get(upper), boxes.get(lower),
        share(siblings, link), share(count(lower, 1), link))
      : lane(boxes.get(upper), boxes.get(lower), siblings.indexOf(link), siblings.length);
    drawWire(group, shape, linkState(link, machines), linkKey(link) === selected);
    group.onclick = () => select(linkKey(link));
    paths.set(linkKey(link), group.querySelector(".wire"));
  });
}

function place(element, stage) {
  const box = element.getBoundingClientRect();
  return {
    left: box.left - stage.left, right: box.right - stage.left, width: box.width,
    top: box.top - stage.top, bottom: box.bottom - stage.top,
    middle: (box.top + box.bottom) / 2 - stage.top,
  };
}

/** Where along an edge a link begins: links of one box share its edge evenly. */
const share = (siblings, link) => (siblings.indexOf(link) + 1) / (siblings.length + 1);

function curve(upper, lower, from, to) {
  const [x1, y1] = [upper.left + upper.width * from, upper.bottom];
  const [x2, y2] = [lower.left + lower.width * to, lower.top];
  const bend = (y2 - y1) / 2;
  return `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`;
}

/** Inside a rack: down a lane of its own, then to the right; the nearest box has the inner lane. */
function lane(tor, box, number, lanes) {
  const gap = (box.left - tor.left) / (lanes + 1);
  const x = box.left - gap * (number + 1);
  const turn = Math.min(5, box.left - x);
  return `M${x} ${tor.bottom}V${box.middle - turn}Q${x} ${box.middle} ${x + turn} ${box.middle}H${box.left}`;
}

function makeWire() {
  const group = svg("g");
  // The wide one is there to be hit by a pointer.
  group.append(svg("path", { class: "hit" }), svg("path", { class: "wire" }),
    svg("path", { class: "cross", d: "M-5 -5L5 5M-5 5L5 -5" }), document.createElementNS(group.namespaceURI, "title"));
  return group;
}

function drawWire(group, shape, state, isSelected) {
  setClass(group, `link ${state}${isSelected ? " selected" : ""}`);
  const [hit, wire, cross, title] = group.children;
  if (wire.getAttribute("d") !== shape) {
    hit.setAttribute("d", shape);
    wire.setAttribute("d", shape);
    const half = wire.getPointAtLength(wire.getTotalLength() / 2);
    cross.setAttribute("transform", `translate(${half.x} ${half.y})`);
  }
  title.textContent = `${group.dataset.key}: ${state}`;
}

/**
 * The points of a way (names from pod to pod), and where along it the first broken link is, as a
 * share of its length; null when none is known to be. Null altogether while a box is not drawn.
 */
export function findWay(names, state) {
  const key = names.join(" ");
  if (!ways.has(key)) ways.set(key, measure(names, state));
  return ways.get(key);
}

function measure(names, state) {
  const stage = byId("stage").getBoundingClientRect();
  const middle = (element) => {
    const box = element.getBoundingClientRect();
    return { x: (box.left + box.right) / 2 - stage.left, y: (box.top + box.bottom) / 2 - stage.top };
  };
  const cells = [names[0], names.at(-1)].map((pod) => (
    document.querySelector(`.cell[data-pod="${CSS.escape(pod)}"]`)));
  if (names.length < 3 || cells.includes(null)) return null;
  const machines = names.slice(1, -1);
  const points = [middle(cells[0])];
  let broken = null;
  for (let hop = 1; hop < machines.length; hop += 1) {
    const link = findLink(state, machines[hop - 1], machines[hop]);
    const path = link && paths.get(linkKey(link));
    if (!path) return null;
    const more = sample(path, link.ends[0] !== machines[hop - 1]);
    if (link.state !== "up" && broken === null) broken = points.length + more.length / 2;
    // A line through a router would cross its name; packets are only seen to jump.
    if (hop > 1) more[0].jumps = true;
    points.push(...more);
  }
  points.push(middle(cells[1]));
  return { points, broken: broken === null ? null : broken / points.length };
}

const findLink = (state, one, other) => state.links.find((link) => (
  link.ends.includes(one) && link.ends.includes(other)));

function sample(path, reversed) {
  const length = path.getTotalLength();
  const count = Math.max(2, Math.ceil(length / STEP));
  const points = Array.from({ length: count + 1 }, (_, number) => (
    path.getPointAtLength((length * number) / count)));
  return reversed ? points.reverse() : points;
}
