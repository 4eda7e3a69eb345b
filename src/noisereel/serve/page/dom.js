/** Elements of the page: found by id, or made in one expression. */

export const byId = (id) => document.getElementById(id);

/** `make("button", { type: "button", onclick }, "Cancel")`; properties that are undefined, null or false are left out. */
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name in node) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

export const button = (text, onclick, className = "quiet", properties = {}) =>
  make("button", { type: "button", className, onclick, ...properties }, text);

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
