// Markdown as DOM nodes. markdown-it reads it; no HTML is written at any point, so no text can become markup. Only the
// elements below are made, links lead to http, https and mailto alone, and images are links that load nothing.
const ELEMENTS = new Set(
  "p ul ol li blockquote table thead tbody tr th td strong em s".split(" "),
);
const LINK = /^(https?:\/\/|mailto:)/i;
const CITATION = /\[(\d{1,4})\]/;
/** A link's text that looks like a citation would be taken for one. */
const IMITATION = /^\[?\d{1,4}\]?$/;

const parser = window.markdownit({ html: false, linkify: true, breaks: true });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });
parser.validateLink = isLink;

/** Whether `url` may be led to. */
export function isLink(url) {
  return LINK.test(url) && URL.canParse(url);
}

/** A link that tells the other page nothing and gives it no hold of this one. */
export function link(url, ...children) {
  const element = document.createElement("a");
  Object.assign(element, { href: url, target: "_blank", rel: "noopener noreferrer nofollow" });
  element.append(...children);
  return element;
}

/**
 * A text that grows, shown in `element`. What comes at its end can change its last two blocks at most, so an update reads
 * those alone; the others keep their nodes, and with them what is selected.
 */
export class Markdown {
  #element;
  #starts = []; // the line in which each block begins

  constructor(element) {
    this.#element = element;
  }

  /**
   * Show `text`, which begins with what was shown before. `cite` makes the node for the citation of a number, or gives
   * null where there is none. `whole` makes all blocks anew: a link may be defined further down, citations come last.
   */
  update(text, cite = () => null, { whole = false } = {}) {
    const lines = text.replace(/\r\n?/g, "\n").split("\n");
    const kept = whole ? 0 : Math.max(0, this.#starts.length - 2);
    const from = this.#starts[kept] ?? 0;
    const blocks = topLevel(parser.parse(lines.slice(from).join("\n"), {}));
    while (this.#element.childNodes.length > kept) this.#element.lastChild.remove();
    this.#starts.length = kept;
    for (const { tokens, line } of blocks) {
      const block = document.createElement("div");
      build(tokens, block, cite);
      this.#element.append(block);
      this.#starts.push(from + line);
    }
  }
}

function topLevel(tokens) {
  const blocks = [];
  let depth = 0;
  for (const token of tokens) {
    if (depth === 0) blocks.push({ tokens: [], line: token.map[0] });
    blocks.at(-1).tokens.push(token);
    depth += token.nesting;
  }
  return blocks;
}

function build(tokens, root, cite) {
  const open = [root];
  const inLink = () => open.at(-1).closest("a");
  for (let at = 0; at < tokens.length; at += 1) {
    const token = tokens[at];
    const parent = open.at(-1);
    const label = token.type === "link_open" ? labelOf(tokens, at) : null;
    if (label && IMITATION.test(label.text)) {
      parent.append(...cited(`[${label.text.replace(/[[\]]/g, "")}]`, cite));
      at = label.end;
    } else if (token.nesting < 0) {
      open.pop();
    } else if (token.nesting > 0) {
      const element = started(token);
      parent.append(element);
      // What is scrolled sideways is a frame around the table.
      open.push(token.tag === "table" ? element.firstChild : element);
    } else if (token.type === "inline") {
      build(token.children, parent, cite);
    } else {
      parent.append(...single(token, inLink() ? null : cite));
    }
  }
}

/** The text of the link that begins at `at`, and where it ends. */
function labelOf(tokens, at) {
  const end = tokens.findIndex((token, index) => index > at && token.type === "link_close");
  return { end, text: tokens.slice(at + 1, end).map((token) => token.content).join("").trim() };
}

function started(token) {
  if (token.type === "heading_open") {
    return document.createElement(`h${Math.min(6, Number(token.tag[1]) + 2)}`); // below the page's own
  }
  if (token.type === "link_open") {
    const url = token.attrGet("href");
    return isLink(url) ? link(url) : document.createElement("span");
  }
  if (token.hidden || !ELEMENTS.has(token.tag)) {
    return document.createElement("span");
  }
  const element = document.createElement(token.tag);
  if (token.tag === "ol" && token.attrGet("start")) element.start = Number(token.attrGet("start"));
  if (token.tag === "th" || token.tag === "td") {
    const align = /text-align:(left|center|right)/.exec(token.attrGet("style") ?? "");
    if (align) element.style.textAlign = align[1];
  }
  if (token.tag !== "table") return element;
  const frame = document.createElement("div");
  frame.className = "table";
  frame.tabIndex = 0;
  frame.append(element);
  return frame;
}

function single(token, cite) {
  switch (token.type) {
    case "text":
      return cite ? cited(token.content, cite) : [token.content];
    case "softbreak":
    case "hardbreak":
      return [document.createElement("br")];
    case "hr":
      return [document.createElement("hr")];
    case "code_inline":
      return [filled("code", token.content)];
    case "fence":
    case "code_block":
      return [code(token.content, token.info.trim().split(/\s+/)[0])];
    case "image": {
      const url = token.attrGet("src");
      const label = `Image: ${token.content || url}`;
      return [isLink(url) && cite ? link(url, label) : label]; // without `cite` it is in a link already
    }
    default:
      return [token.content];
  }
}

function cited(text, cite) {
  return text.split(CITATION).map((part, at) => (at % 2 ? (cite(Number(part)) ?? `[${part}]`) : part));
}

function code(text, language) {
  const frame = filled("div", "");
  frame.className = "code";
  const head = filled("div", "");
  const copy = copyButton(() => text);
  head.append(filled("span", language), copy);
  const pre = document.createElement("pre");
  pre.tabIndex = 0;
  pre.append(filled("code", text));
  frame.append(head, pre);
  return frame;
}

/** A button that puts what `text` gives on the clipboard. */
export function copyButton(text) {
  const button = filled("button", "Copy");
  button.type = "button";
  button.className = "quiet";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select the text to copy it"; // by plain HTTP from another machine there is no clipboard
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return button;
}

function filled(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}
