// Running pings above the picture: the way as a line, each packet as a dot on it.

import { byId, setClass, svg, sync } from "./dom.js";
import { findWay } from "./wires.js";

export const COLOURS = 6;
const MILLISECONDS = 650; // one way; a real packet would not be seen
const MOST_AT_ONCE = 10; // of one ping: a browser in the background is not punished on its return
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const dots = new Set();
const seen = new Map(); // how many packets of a ping have been drawn

/** Draw the ways, and set off a dot for each packet that is new. */
export function drawTraffic(pings, state) {
  const ways = pings.map((ping) => ({
    ping,
    out: state && findWay(ping.way, state),
    back: state && findWay(ping.back, state),
  }));
  sync(lines(), ways, ({ ping }) => ping.key, makeLines, (group, { ping, out, back }) => {
    setClass(group, `way p${ping.key % COLOURS}${ping.silent > 1 ? " silent" : ""}`);
    group.children[0].setAttribute("d", shape(back));
    group.children[1].setAttribute("d", shape(out));
  });
  for (const { ping, out, back } of ways) setOff(ping, out, back);
  for (const key of seen.keys()) if (!pings.some((ping) => ping.key === key)) seen.delete(key);
}

function lines() {
  const layer = byId("traffic");
  if (!layer.firstChild) layer.append(svg("g"), svg("g"));
  return layer.firstChild;
}

function makeLines() {
  const group = svg("g");
  group.append(svg("path", { class: "back" }), svg("path", { class: "out" }));
  return group;
}

const shape = (way) => (way?.points ?? [])
  .map(({ x, y, jumps }, number) => `${number === 0 || jumps ? "M" : "L"}${x} ${y}`).join("");

function setOff(ping, out, back) {
  const fresh = Math.min(ping.sent - (seen.get(ping.key) ?? ping.sent), MOST_AT_ONCE);
  seen.set(ping.key, ping.sent);
  if (!out || calm.matches || document.hidden) return;
  [...ping.recent.slice(ping.recent.length - fresh)].forEach((answered, number) => {
    const dot = svg("circle", { r: 4, class: `dot p${ping.key % COLOURS}` });
    const start = performance.now() + number * 60;
    byId("traffic").lastChild.append(dot);
    dots.add({ dot, start, points: journey(answered === "1", out, back), lost: answered !== "1" });
    if (dots.size === 1) requestAnimationFrame(move);
  });
}

/** There and back; or to the broken link (perhaps on the way back), as far as is known. */
function journey(answered, out, back) {
  const home = back?.points ?? [...out.points].reverse();
  if (answered) return [...out.points, ...home];
  if (out.broken !== null) return until(out.points, out.broken);
  if (back?.broken != null) return [...out.points, ...until(home, back.broken)];
  return until(out.points, 0.5);
}

const until = (points, share) => points.slice(0, Math.max(2, Math.round(points.length * share)));

function move(now) {
  for (const each of dots) {
    const { dot, start, points, lost } = each;
    const length = Math.max(points.length, 2);
    const share = (now - start) / (MILLISECONDS * (lost ? 0.7 : 2));
    const point = points[Math.min(length - 1, Math.max(0, Math.floor(share * length)))];
    dot.setAttribute("transform", `translate(${point.x} ${point.y})`);
    if (lost && share >= 1) setClass(dot, "dot lost");
    if (share >= (lost ? 2 : 1)) {
      dot.remove();
      dots.delete(each);
    }
  }
  if (dots.size) requestAnimationFrame(move);
}
