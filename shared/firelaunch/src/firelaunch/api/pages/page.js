// The page to try an app. What it shows comes from the API; who is signed in and which chat is open stand in the
// address, so a reload and the browser's buttons lead where they should.
import { ApiError, call, events, json, read, signIn, upload } from "./api.js";
import { $, button, count, make, money } from "./dom.js";
import { Markdown, copyButton, isLink, link } from "./markdown.js";

const APP = document.body.dataset.app;
const EXAMPLES = [
  "What can you help me with?",
  "Compare tea and coffee in a short table.",
  "What do my documents say? Cite them.",
];
const PAGE = 30;
const state = { uid: "", chat: null, conversations: new Map() };

const chatPath = (id, rest = "") => `v1/chats/${encodeURIComponent(id)}${rest}`;

// A browser may be set to keep nothing; the page then works without.
function remember(storage, name, value) {
  try {
    storage.setItem(name, value);
  } catch {}
}

function remembered(storage, name) {
  try {
    return storage.getItem(name);
  } catch {
    return null;
  }
}

// ---- The log: it stays at its end while something is added, unless the reader has gone up.

const atEnd = () => $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 48;

function keepingEnd(change) {
  const follow = atEnd();
  change();
  if (follow) toEnd();
  $("to-end").hidden = atEnd();
}

function toEnd() {
  $("log").scrollTop = $("log").scrollHeight;
  $("to-end").hidden = true;
}

// ---- Notices: what went wrong, and the way on.

function problem(error, retry) {
  const text = make("span", {}, error instanceof ApiError ? error.message : `The page failed: ${error.message}`);
  const notice = make("div", { className: "problem", role: "alert" }, text);
  if (error.requestId) notice.title = `Request ${error.requestId}`;
  if (!retry) return notice;
  const again = button("Try again", () => {
    notice.remove();
    retry();
  });
  notice.append(again);
  if (error.retryAfter) countDown(again, error.retryAfter);
  return notice;
}

function countDown(again, seconds) {
  const due = Date.now() + seconds * 1000;
  again.disabled = true;
  const tick = () => {
    const left = Math.ceil((due - Date.now()) / 1000);
    again.disabled = left > 0;
    again.textContent = left <= 0 ? "Try again" : `Try again ${left > 120 ? `at ${clock(due)}` : `in ${left} s`}`;
    if (left > 0 && (again.isConnected || left === seconds)) setTimeout(tick, 1000);
  };
  tick();
}

function clock(time) {
  const sameDay = new Date(time).toDateString() === new Date().toDateString();
  const day = sameDay ? {} : { weekday: "short" };
  return new Date(time).toLocaleString(undefined, { ...day, hour: "2-digit", minute: "2-digit" });
}

// ---- One question in a dialog.

function ask(title, { note = "", value, yes = "OK" } = {}) {
  $("question-title").textContent = title;
  $("question-note").textContent = note;
  $("question-yes").textContent = yes;
  $("question-value").hidden = value === undefined;
  $("question-value").value = value ?? "";
  const dialog = $("question");
  dialog.returnValue = "";
  dialog.showModal();
  (value === undefined ? $("question-yes") : $("question-value")).focus();
  $("question-value").select();
  return new Promise((resolve) => {
    const given = () => (value === undefined ? true : $("question-value").value.trim());
    dialog.onclose = () => resolve(dialog.returnValue === "yes" ? given() : null);
  });
}

$("question-form").onsubmit = (event) => {
  event.preventDefault();
  $("question").close("yes");
};
$("question-no").onclick = () => $("question").close();

// ---- A passage that an answer cites.

async function openPassage(citation) {
  $("passage-title").textContent = citation.title || "Passage";
  $("passage-place").replaceChildren(...place(citation));
  $("passage-text").replaceChildren("Loading …");
  $("passage").showModal();
  const { start, end, chunk_id, library } = citation;
  const query = new URLSearchParams({ start, end, chunk_id, library, around: 600 });
  try {
    const { before, text, after } = await read(`v1/documents/${encodeURIComponent(citation.document_id)}/text?${query}`);
    const mark = make("mark", {}, text);
    const [head, tail] = [start > before.length ? "…" : "", after.length === 600 ? "…" : ""];
    $("passage-text").replaceChildren(head + before, mark, after + tail);
    $("passage-place").append(" ", button("Open the file", () => openFile(citation), "source"));
    mark.scrollIntoView({ block: "center" });
  } catch (error) {
    const gone = error.status === 404 ? new ApiError(404, { message: "This document was deleted." }) : error;
    $("passage-text").replaceChildren(problem(gone, null));
  }
}

/** Open a passage's document in a tab of its own, a PDF at the passage's page; other files are downloaded. */
async function openFile({ document_id: id, library, page }) {
  try {
    const { url } = await read(`v1/documents/${encodeURIComponent(id)}/file?${new URLSearchParams({ library })}`);
    // A tab that begins with a download is closed by the browser; one that was empty before would stay.
    window.open(page ? `${url}#page=${page}` : url, "_blank", "noopener");
  } catch (error) {
    $("passage-text").append(problem(error, null));
  }
}

/** Say on which pages a passage is: "page 3", or "pages 3–4"; "" in formats that have none. */
function pagesOf({ page, last_page: last }) {
  return !page ? "" : (last ?? page) === page ? `page ${page}` : `pages ${page}–${last}`;
}

function place({ headings, library, url, ...pages }) {
  const where = pagesOf(pages);
  const parts = [where && where[0].toUpperCase() + where.slice(1), headings.join(" › "), library ? "the app's library" : ""].filter(Boolean);
  return [parts.join(" · "), ...(isLink(url ?? "") ? [parts.length ? " · " : "", link(url, "Open the page")] : [])];
}

$("close-passage").onclick = () => $("passage").close();
for (const dialog of [$("passage"), $("question")]) {
  dialog.addEventListener("click", ({ target, clientX: x, clientY: y }) => {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    if (target === dialog && (x < left || x > right || y < top || y > bottom)) dialog.close(); // beside it
  });
}

// ---- An answer, while it comes and when it is there.

class Answer {
  constructor() {
    this.text = "";
    this.body = make("div", { className: "text" });
    this.tools = make("div", { className: "tools" });
    this.foot = make("div", { className: "foot" });
    this.element = make("article", { className: "answer", ariaLabel: "Answer" }, this.tools, this.body, this.foot);
    this.markdown = new Markdown(this.body);
  }

  /** Show that the answer is on its way; one that goes on keeps the text that it has. */
  wait(goesOn = false) {
    this.text = goesOn ? this.text : "";
    this.took = 0;
    this.element.ariaBusy = "true";
    if (!goesOn) this.tools.replaceChildren();
    this.foot.replaceChildren();
    this.body.replaceChildren();
    this.markdown = new Markdown(this.body);
    this.markdown.update(this.text);
    this.foot.append(make("span", { className: "waiting" }, "Thinking"));
  }

  add(text) {
    this.text += text;
    if (this.due) return;
    this.due = true;
    // A text that takes long to show is shown less often, so that the page stays at hand.
    setTimeout(() => requestAnimationFrame(() => this.grow()), 3 * this.took);
  }

  grow() {
    this.due = false;
    if (this.element.ariaBusy !== "true") return;
    const began = performance.now();
    keepingEnd(() => this.markdown.update(this.text));
    this.took = performance.now() - began;
  }

  tool({ name, input, output, error, id, approve_until: waits }, done) {
    const shown = [...this.tools.children].find((each) => each.dataset.call === id) ?? make("details");
    shown.dataset.call = id;
    const values = { ...(input != null && { input }), ...(output != null && { output }), ...(error && { error }) };
    const told = { ...(shown.values ?? {}), ...values };
    shown.values = told;
    const how = waits ? "waits for you" : error === "denied" ? "not approved" : error ? `failed: ${error}` : done ? "done" : "running";
    shown.open = Boolean(waits);
    const summary = make("summary", {}, `Tool ${name ?? shown.tool} (${how})`);
    shown.tool ??= name;
    shown.replaceChildren(summary, make("pre", {}, JSON.stringify(told, null, 2)));
    this.tools.append(shown);
  }

  finish(message) {
    this.text = message.text;
    this.element.ariaBusy = "false";
    for (const use of message.tools ?? []) this.tool(use, true);
    const citations = new Map((message.citations ?? []).map((each) => [each.number, each]));
    const cite = (number) => citations.has(number) && citeButton(citations.get(number));
    this.markdown.update(message.text, (number) => cite(number) || null, { whole: true });
    this.foot.replaceChildren(...footOf(message, [...citations.values()]), ...this.choices(message));
  }

  /** Return the buttons for an answer that can go on. */
  choices(message) {
    if (message.status !== "incomplete" || !message.id) return [];
    const goOn = (approvals) => () => state.chat.goOn(this, message, approvals);
    const waiting = (message.tools ?? []).filter((use) => use.approve_until);
    const decided = (approved) => goOn(waiting.map(({ id }) => ({ id, approved })));
    const choices = waiting.length
      ? [button("Approve", decided(true)), button("Refuse", decided(false), "quiet")]
      : message.finish === "content_filter" ? [] : [button("Continue", goOn([]), "quiet")];
    return [make("p", { className: "row choices" }, ...choices)];
  }

  fail(error, retry) {
    this.element.ariaBusy = "false";
    this.markdown.update(this.text, () => null, { whole: true });
    this.foot.replaceChildren(problem(error, retry));
  }
}

function citeButton(citation) {
  const cite = button(`[${citation.number}]`, () => openPassage(citation), "cite");
  cite.title = citation.title;
  cite.ariaLabel = `Source ${citation.number}: ${citation.title}`;
  return cite;
}

function footOf(message, citations) {
  const sources = citations.map((each) => {
    const where = [each.title, pagesOf(each), each.headings.at(-1)].filter(Boolean).join(", ");
    return make("li", {}, button(`[${each.number}] ${where}`, () => openPassage(each), "source"));
  });
  const cited = new Set(citations.map((each) => `p${each.number}`));
  for (const { id, title, url } of message.sources ?? []) {
    if (!cited.has(id)) sources.push(make("li", {}, isLink(url ?? "") ? link(url, title) : title));
  }
  const list = sources.length ? [make("ul", { className: "sources", ariaLabel: "Sources" }, ...sources)] : [];
  const told = [used(message), endOf(message)].filter(Boolean).join(" · ");
  return [...list, make("p", { className: "used" }, make("span", {}, told), copyButton(() => message.text))];
}

/** Say how an answer ended that is not whole. */
function endOf({ status, finish }) {
  if (status !== "incomplete") return "";
  const ends = {
    length: "cut at the limit of tokens", content_filter: "held back by the provider", tool_calls: "waits for a tool",
  };
  return ends[finish] ?? "incomplete";
}

function used({ model, usage }) {
  if (!usage) return model ?? "";
  const cached = usage.cached_input_tokens ? ` (${usage.cached_input_tokens.toLocaleString()} cached)` : "";
  const tokens = `${count(usage.input_tokens, "token")} in${cached}, ${usage.output_tokens.toLocaleString()} out`;
  const marks = [usage.estimated && "estimated", usage.cheaper_model && "cheaper model", usage.cached && "from the cache"];
  return [usage.model, tokens, money(usage.cost_micro_usd), ...marks.filter(Boolean)].join(" · ");
}

// ---- A chat on the page.

class Conversation {
  running = null;
  title = "";

  constructor(id) {
    this.id = id;
    this.element = make("div", { className: "messages" });
    if (!id) this.element.append(welcome());
  }

  async load() {
    this.element.replaceChildren(make("p", { className: "faint" }, "Loading …"));
    try {
      const chat = await read(chatPath(this.id, `?limit=${PAGE}`));
      this.title = chat.title;
      this.element.replaceChildren(...chat.messages.map(shownMessage));
      this.earlier(chat.next_cursor);
      showTitle();
      if (state.chat === this) toEnd();
      const last = chat.messages.at(-1);
      if (last?.role === "user") await this.follow(last);
      else if (!last) this.element.append(welcome());
    } catch (error) {
      const gone = { message: "There is no such chat. It was deleted, or it is another user's." };
      const told = error.status === 404 ? new ApiError(404, gone) : error;
      this.element.replaceChildren(problem(told, error.status === 404 ? null : () => this.load()));
    }
  }

  earlier(cursor) {
    if (!cursor) return;
    const more = button("Earlier messages", async () => {
      more.disabled = true;
      try {
        const query = new URLSearchParams({ limit: PAGE, cursor });
        const page = await read(chatPath(this.id, `?${query}`));
        const below = $("log").scrollHeight - $("log").scrollTop;
        more.replaceWith(...page.messages.map(shownMessage));
        this.earlier(page.next_cursor);
        $("log").scrollTop = $("log").scrollHeight - below;
      } catch (error) {
        more.replaceWith(problem(error, () => this.earlier(cursor)));
      }
    }, "quiet");
    this.element.prepend(more);
  }

  send(text, files = []) {
    this.element.querySelector(".welcome, .unanswered")?.remove();
    const answer = new Answer();
    this.element.append(shownMessage({ role: "user", text, files }), answer.element);
    toEnd();
    return this.answered(answer, { text, files }, newKey());
  }

  /** Have a message answered; tried again it goes by the same key, so it is stored and paid once. */
  async answered(answer, { text, files = [] }, key) {
    const again = () => this.answered(answer, { text, files }, key);
    const sent = files.map(({ id, name }) => ({ url: id, filename: name }));
    await this.run(answer, again, async (signal) => {
      if (!this.id) await this.begin();
      keep(this.id, key);
      const headers = { Accept: "text/event-stream", "Idempotency-Key": key };
      return call(chatPath(this.id, "/messages"), json({ ...(text && { text }), files: sent }, { headers, signal }));
    });
  }

  /** Have an answer go on: one that was cut, or one whose tool calls the user has decided on. */
  async goOn(answer, message, approvals) {
    if (this.running) return;
    const headers = { Accept: "text/event-stream", "Idempotency-Key": newKey() };
    const body = { continues: message.id, approvals };
    const again = () => this.goOn(answer, message, approvals);
    await this.run(answer, again, (signal) => call(chatPath(this.id, "/messages"), json(body, { headers, signal })), null, true);
  }

  async begin() {
    const before = state.chat;
    this.id = (await read("v1/chats", json({}))).id;
    state.conversations.set(this.id, this);
    if (before === this) history.pushState(null, "", address(state.uid, this.id));
  }

  /** Go on with the answer to the chat's last message, if it is on its way. */
  async follow(question) {
    const answer = new Answer();
    this.element.append(answer.element);
    const again = () => {
      answer.element.remove();
      return this.load();
    };
    await this.run(answer, again, (signal) => call(chatPath(this.id, "/stream"), { signal }), question);
  }

  async run(answer, again, start, question, goesOn = false) {
    const controller = new AbortController();
    this.running = { controller };
    answer.wait(goesOn);
    showState();
    try {
      const response = await start(controller.signal);
      if (response.status === 204) await this.ended(answer, question);
      else if (!(await receive(response, answer))) throw new ApiError(0, { message: "The connection was lost." });
    } catch (error) {
      if (error.name !== "AbortError") keepingEnd(() => answer.fail(error, again));
    } finally {
      this.running = null;
      showState();
      refreshChats();
      refreshUsage();
    }
  }

  /** No answer is on its way: it has come in the meantime, or there is none. */
  async ended(answer, question) {
    const { messages } = await read(chatPath(this.id, `?limit=${PAGE}`));
    const last = messages.at(-1);
    if (last?.role === "assistant") {
      answer.finish(last);
      return;
    }
    answer.element.remove();
    const notice = problem(new ApiError(0, { message: "This message was not answered." }), () => {
      const next = new Answer();
      this.element.append(next.element);
      return this.answered(next, question, kept(this.id) ?? newKey());
    });
    notice.classList.add("unanswered");
    keepingEnd(() => this.element.append(notice));
  }

  async stop() {
    const { running } = this;
    $("stop").disabled = true;
    try {
      // Before its message is stored there is nothing to stop yet.
      for (let tries = 0; this.running === running && tries < 50; tries += 1) {
        const answer = this.id ? await call(chatPath(this.id, "/stop"), { method: "POST" }) : null;
        if (answer?.status === 202) return;
        await new Promise((done) => setTimeout(done, 200));
      }
    } catch {
      running.controller.abort(); // whoever cannot be told is no longer listened to
    }
  }
}

async function receive(response, answer) {
  for await (const [name, data] of events(response)) {
    if (name === "delta") {
      answer.foot.replaceChildren();
      answer.add(data.text);
    }
    if (name === "tool_call") keepingEnd(() => answer.tool(data, false));
    if (name === "tool_approval") keepingEnd(() => answer.tool({ ...data, approve_until: true }, false));
    if (name === "tool_result") keepingEnd(() => answer.tool(data, true));
    if (name === "error") throw new ApiError(200, data.error);
    if (name === "done") {
      keepingEnd(() => answer.finish({ ...data.message, usage: data.usage }));
      return true;
    }
  }
  return false;
}

function shownMessage(message) {
  if (message.role === "user") {
    const names = (message.files ?? []).map(({ name, media_type: type }) => name || type).join(", ");
    const files = names ? [make("div", { className: "files" }, names)] : [];
    const text = make("div", { className: "text" }, message.text);
    return make("article", { className: "user", ariaLabel: "You" }, ...files, text);
  }
  const answer = new Answer();
  answer.finish(message);
  return answer.element;
}

function welcome() {
  const examples = EXAMPLES.map((text) => button(text, () => sendText(text)));
  const start = make("p", {}, "Ask anything, or begin with one of these. Add documents, and answers can cite them.");
  return make("div", { className: "welcome" }, make("h3", {}, APP), start, make("div", { className: "row" }, ...examples));
}

/** The key of a chat's latest message, so that after a reload it can be tried again as the same message. */
const keep = (chat, key) => remember(sessionStorage, `key of ${chat}`, key);
const kept = (chat) => remembered(sessionStorage, `key of ${chat}`);
const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// ---- The composer.

/** The files of the next message: {name, item, id}, where `id` comes with the end of the upload. */
let attached = [];

function sendText(text) {
  const files = attached.filter(({ id }) => id);
  if (!(text.trim() || files.length) || files.length < attached.length || state.chat.running) return;
  $("text").value = "";
  attached = [];
  showAttached();
  showMenu(false);
  state.chat.send(text.trim() ? text : "", files);
}

async function attach(file) {
  const each = { name: file.name, item: make("li", {}, `${file.name} …`) };
  const remove = button("×", () => {
    attached = attached.filter((other) => other !== each);
    showAttached();
  }, "quiet");
  remove.ariaLabel = `Remove ${file.name}`;
  attached.push(each);
  showAttached();
  try {
    each.id = (await upload(file, () => {}, "v1/files")).id;
    each.item.replaceChildren(file.name, remove);
  } catch (error) {
    each.item.className = "failed";
    each.item.replaceChildren(`${file.name}: ${error.message}`, remove);
  }
  fit();
}

function showAttached() {
  $("attached").replaceChildren(...attached.map(({ item }) => item));
  $("attached").hidden = !attached.length;
  fit();
}

function fit() {
  const text = $("text");
  keepingEnd(() => {
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight + 2}px`;
  });
  const uploading = attached.some(({ id }) => !id);
  $("send").disabled = !(text.value.trim() || attached.length) || uploading || Boolean(state.chat?.running);
}

$("text").oninput = fit;
$("attach").onchange = () => {
  [...$("attach").files].forEach(attach);
  $("attach").value = "";
};
$("text").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  sendText($("text").value);
};
$("composer").onsubmit = (event) => {
  event.preventDefault();
  sendText($("text").value);
};
$("stop").onclick = () => state.chat.stop();
$("to-end").onclick = toEnd;
$("log").onscroll = () => ($("to-end").hidden = atEnd());

// ---- Chats.

let chatsCursor = null;

async function refreshChats() {
  try {
    await chatsPage(null);
  } catch (error) {
    $("chats").replaceChildren(make("li", {}, problem(error, refreshChats)));
  }
}

async function chatsPage(cursor) {
  const { uid } = state;
  const page = await read(`v1/chats?${new URLSearchParams({ limit: PAGE, ...(cursor && { cursor }) })}`);
  if (uid !== state.uid) return; // somebody else has signed in
  const shown = page.items.filter((chat) => !chat.archived).map(chatItem);
  if (cursor) $("chats").append(...shown);
  else $("chats").replaceChildren(...(shown.length ? shown : [nothing("None yet.")]));
  chatsCursor = page.next_cursor;
  $("more-chats").hidden = !chatsCursor;
  const open = page.items.find((chat) => chat.id === state.chat?.id);
  if (open) state.chat.title = open.title;
  showTitle();
}

const nothing = (text) => make("li", { className: "nothing" }, text);

function chatItem({ id, title }) {
  return make("li", {}, make("a", { href: address(state.uid, id), title }, title || "New chat"));
}

$("more-chats").onclick = async () => {
  $("more-chats").disabled = true;
  try {
    await chatsPage(chatsCursor);
  } catch (error) {
    $("chats").append(make("li", {}, problem(error, null)));
  }
  $("more-chats").disabled = false;
};

$("new-chat").onclick = () => go(state.uid, "");
$("rename").onclick = async () => {
  const { chat } = state;
  const title = await ask("Rename this chat", { value: chat.title, yes: "Rename" });
  if (title) await changeChat(() => call(chatPath(chat.id), json({ title: title.slice(0, 200) }, { method: "PATCH" })));
};
$("delete").onclick = async () => {
  const { chat } = state;
  const note = `“${chat.title || "New chat"}” and its messages are deleted for good.`;
  if (!(await ask("Delete this chat?", { note, yes: "Delete" }))) return;
  await changeChat(async () => {
    await call(chatPath(chat.id), { method: "DELETE" });
    state.conversations.delete(chat.id);
    go(state.uid, "");
  });
};

async function changeChat(change) {
  try {
    await change();
    await refreshChats();
  } catch (error) {
    keepingEnd(() => state.chat.element.append(problem(error, null)));
  }
}

// ---- Documents.

const files = new Map();
let poll;

async function refreshFiles() {
  clearTimeout(poll);
  const { uid } = state;
  try {
    const { items } = await read("v1/documents?limit=100");
    if (uid !== state.uid) return;
    const there = new Set(items.map((each) => each.id));
    for (const id of files.keys()) if (!there.has(id)) forget(id);
    for (const each of items.reverse()) showFile(each);
    $("no-files").hidden = items.length > 0;
    if (items.some((each) => !["ready", "failed"].includes(each.status))) poll = setTimeout(refreshFiles, 400);
  } catch (error) {
    uploadError(error);
  }
}

function forget(id) {
  files.get(id)?.remove();
  files.delete(id);
}

const STATUS = { queued: "Waiting", parsing: "Reading", embedding: "Indexing", failed: "Failed" };

function showFile({ id, name, status, progress, error, warnings, chunks }) {
  const item = files.get(id) ?? fileItem(name, () => deleteFile(id, name));
  if (!files.has(id)) {
    files.set(id, item);
    $("files").prepend(item);
  }
  if (status === "ready") {
    tell(item, `${count(chunks, "passage")}`);
    for (const { message } of warnings) item.querySelector(".told").append(make("span", { className: "warning" }, message));
  } else if (status === "failed") tell(item, error?.message ?? STATUS.failed, null, true);
  else tell(item, STATUS[status] ?? status, progress);
}

function fileItem(name, remove) {
  const gone = button("×", remove, "quiet");
  gone.ariaLabel = `Delete ${name}`;
  const told = make("span", { className: "told" });
  return make("li", {}, make("span", { className: "name", title: name }, name), gone, told);
}

function tell(item, text, share = null, failed = false) {
  const bar = share === null ? [] : [make("progress", { max: 1, value: share, ariaLabel: text })];
  const told = item.querySelector(".told");
  told.classList.toggle("failed", failed);
  told.replaceChildren(text, ...bar);
}

async function put(file) {
  const { uid } = state;
  const item = fileItem(file.name, () => item.remove());
  item.querySelector("button").hidden = true;
  $("files").prepend(item);
  tell(item, "Sending", 0);
  try {
    const document = await upload(file, (share) => tell(item, "Sending", share));
    item.remove();
    if (uid !== state.uid) return;
    forget(document.id); // of the same name, and replaced: to the top
    showFile(document);
    refreshFiles();
  } catch (error) {
    item.querySelector("button").hidden = false;
    tell(item, error.message, null, true);
  }
}

async function deleteFile(id, name) {
  if (!(await ask("Delete this document?", { note: `Answers can no longer cite “${name}”.`, yes: "Delete" }))) return;
  try {
    await call(`v1/documents/${encodeURIComponent(id)}`, { method: "DELETE" });
    forget(id);
    refreshFiles();
  } catch (error) {
    uploadError(error);
  }
}

function uploadError(error) {
  $("upload-error").hidden = false;
  $("upload-error").textContent = error.message;
}

async function putAll(chosen) {
  $("upload-error").hidden = true;
  for (const file of chosen) await put(file);
}

$("file").onchange = async () => {
  const chosen = [...$("file").files];
  $("file").value = "";
  await putAll(chosen);
};
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  putAll([...event.dataTransfer.files]);
});

// ---- Who is signed in, and what they have used.

async function refreshUsage() {
  const { uid } = state;
  try {
    const day = await read("v1/usage");
    if (uid !== state.uid) return;
    $("usage").textContent =
      `Today: ${count(day.requests, "request")}, ${money(day.cost_micro_usd)} of ${money(day.limit.daily_micro_usd)}`;
    $("usage").title = `Plan ${day.plan}, ${day.limit.requests_per_minute} requests a minute`;
  } catch {
    $("usage").textContent = "";
  }
}

$("switch").onclick = async () => {
  const note = "A user that does not exist yet is made. Each sees their own chats and documents alone.";
  const uid = await ask("Sign in as", { note, value: state.uid, yes: "Sign in" });
  if (uid && uid !== state.uid) go(uid, "");
};

// ---- Where the page is: #user=ada&chat=0123

const address = (uid, chat) => `#${new URLSearchParams({ user: uid, ...(chat && { chat }) })}`;

function go(uid, chat) {
  if (location.hash === address(uid, chat)) route();
  else location.hash = address(uid, chat);
}

let routing = Promise.resolve();

/** Show what the address names. One after the other: signing in takes a while, and the address may change meanwhile. */
function route() {
  routing = routing.then(openAddress);
}

async function openAddress() {
  const there = new URLSearchParams(location.hash.slice(1));
  const uid = there.get("user") || state.uid || remembered(localStorage, "user") || "ada";
  const id = there.get("chat");
  history.replaceState(null, "", address(uid, id));
  showMenu(false);
  try {
    if (uid !== state.uid) await enter(uid);
  } catch (error) {
    show(new Conversation(null));
    if (state.uid) history.replaceState(null, "", address(state.uid, null)); // who was signed in still is
    state.chat.element.replaceChildren(problem(error, error.status === 400 ? null : () => go(uid, id)));
    return;
  }
  const open = id ? state.conversations.get(id) : null;
  if (open?.running) return show(open); // it is still being written to
  const chat = new Conversation(id);
  if (id) state.conversations.set(id, chat);
  show(chat);
  if (id) chat.load();
}

async function enter(uid) {
  await signIn(uid);
  state.uid = uid;
  state.conversations.clear();
  remember(localStorage, "user", uid);
  $("uid").textContent = uid;
  $("chats").replaceChildren();
  for (const id of [...files.keys()]) forget(id);
  $("files").replaceChildren();
  refreshChats();
  refreshFiles();
  refreshUsage();
}

function show(chat) {
  state.chat = chat;
  $("log").replaceChildren(chat.element);
  showTitle();
  showState();
  toEnd();
  if (matchMedia("(hover: hover)").matches) $("text").focus(); // on a phone that would bring up the keyboard
}

function showTitle() {
  const { chat } = state;
  const title = chat?.title || "New chat";
  $("title").textContent = title;
  document.title = chat?.title ? `${title} · ${APP}` : APP;
  for (const each of $("chats").querySelectorAll("a")) {
    const open = chat?.id && each.hash === address(state.uid, chat.id);
    if (open) each.ariaCurrent = "page";
    else each.removeAttribute("aria-current");
  }
}

function showState() {
  const running = Boolean(state.chat?.running);
  $("send").hidden = running;
  $("stop").hidden = !running;
  $("stop").disabled = false;
  $("rename").hidden = $("delete").hidden = !state.chat?.id || running;
  fit();
}

// ---- The menu, on a phone.

const phone = matchMedia("(max-width: 47rem)");

function showMenu(open) {
  const shut = phone.matches && !open;
  $("side").classList.toggle("open", phone.matches && open);
  $("side").inert = shut;
  $("shade").hidden = !phone.matches || !open;
  $("open-side").ariaExpanded = String(phone.matches && open);
}

$("open-side").onclick = () => {
  showMenu(true);
  $("close-side").focus();
};
$("close-side").onclick = $("shade").onclick = () => {
  showMenu(false);
  $("open-side").focus();
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && $("side").classList.contains("open")) $("close-side").click();
});
phone.onchange = () => showMenu(false);

// By the script, not by an attribute: browsers complain of `autofocus` when somebody was quicker to click elsewhere.
if (document.activeElement === document.body) $("text").focus();
addEventListener("hashchange", route);
route();
