// Small helpers around the document. Text goes in as text: names come from outside.

export const byId = (id) => document.getElementById(id);

/** An element with properties (class, text, title, on*, aria-*, data-*) and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function svg(tag, properties = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  return element;
}

/**
 * Give `parent` one child for each row, in order. A child stays the same element as long as its row
 * has the same key: focus, hover and transitions survive an update.
 */
export function sync(parent, rows, key, make, fill) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  rows.forEach((row, place) => {
    const name = String(key(row));
    const child = old.get(name) ?? make(row);
    old.delete(name);
    child.dataset.key = name;
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
    fill(child, row);
  });
  for (const child of old.values()) child.remove();
}

/** Write only what is new: an unchanged node is not touched, and nothing flickers. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setClass(element, name) {
  if (element.getAttribute("class") !== name) element.setAttribute("class", name);
}

export function setTitle(element, text) {
  if (element.title !== text) element.title = text;
}
