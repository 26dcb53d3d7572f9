// What follows from the lab's state (docs/cmd-coil-lab.md), without touching the document.

/** An address of either family as a number. */
export function toNumber(address) {
  if (address.includes(".")) {
    return address.split(".").reduce((number, part) => number * 256n + BigInt(part), 0n);
  }
  const [head, tail] = address.split("::").map((half) => (half ? half.split(":") : []));
  const missing = tail ? Array(8 - head.length - tail.length).fill("0") : [];
  return [...head, ...missing, ...(tail ?? [])].reduce(
    (number, part) => number * 65536n + BigInt(`0x${part}`),
    0n,
  );
}

/** The pods of a block, by their offset in it. */
export function podsByOffset(block, pods) {
  const network = block.networks[0];
  const first = toNumber(network.split("/")[0]);
  const found = new Map();
  for (const pod of pods) {
    for (const address of pod.addresses) {
      if (address.includes(":") !== network.includes(":")) continue;
      const offset = toNumber(address) - first;
      if (offset >= 0n && offset < BigInt(block.size)) found.set(Number(offset), pod);
    }
  }
  return found;
}

export const machinesOf = (state) => [...state.routers, ...state.nodes, ...state.etcd];

export const linkKey = (link) => link.ends.join(" ");

/** Whether a machine's sessions with a neighbour are all established, and there are any. */
function talks(machine, other) {
  const found = Object.entries(machine.bgp).filter(
    ([name]) => name.slice(0, name.lastIndexOf("_")) === other,
  );
  return found.length > 0 && found.every(([, how]) => how === "Established");
}

/** up, waiting (up, but BGP is not), cut, down, off. */
export function linkState(link, machines) {
  if (link.state !== "up") return link.state;
  const [one, other] = link.ends;
  return talks(machines.get(one), other) && talks(machines.get(other), one) ? "up" : "waiting";
}

/** What is wrong with a machine, in words; empty when nothing is. */
export function troubles(machine) {
  if (machine.state !== "up") return ["off"];
  return ["bird", "coild", "controller", "etcd"]
    .filter((program) => machine[program] && machine[program] !== "running")
    .map((program) => `${program} ${machine[program]}`);
}

/** The part of coil-lab fail and heal that a machine is as a whole. */
export function partOf(machine) {
  if (machine.kind === "etcd") return "etcd";
  return machine.kind === "node" ? "node" : "router";
}
