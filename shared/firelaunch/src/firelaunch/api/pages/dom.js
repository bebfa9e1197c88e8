// Small helpers of the pages: they make nodes, and never HTML.

export const $ = (id) => document.getElementById(id);

/** A new element with properties and children. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const button = (text, action, className = "") => make("button", { type: "button", className, onclick: action }, text);
export const money = (micro) => `$${(micro / 1e6).toFixed(6).replace(/(\.\d{2,}?)0+$/, "$1")}`;
export const count = (number, noun) => `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;
