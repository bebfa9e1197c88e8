// Plays what it is told on standard input with the AI SDK's own chat and transport, and prints what the user would see.
import { text } from "node:stream/consumers";

const asked = JSON.parse(await text(process.stdin));
const { AbstractChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } = await import(asked.sdk);

// What @ai-sdk/react keeps in React's state.
class State {
  status = "ready";
  error = undefined;
  messages = asked.messages ?? [];
  pushMessage = (message) => { this.messages = this.messages.concat(message); };
  popMessage = () => { this.messages = this.messages.slice(0, -1); };
  replaceMessage = (index, message) => {
    this.messages = [...this.messages.slice(0, index), structuredClone(message), ...this.messages.slice(index + 1)];
  };
  snapshot = (value) => structuredClone(value);
}
class Chat extends AbstractChat {}

// What the bytes come through, until the network is lost.
let lose;
const wire = () => new TransformStream({ start(pipe) { lose = () => pipe.error(new TypeError("network error")); } });

const requests = [];
const state = new State();
const headers = { Authorization: `Bearer ${asked.token}` };
let finishReason;
const chat = new Chat({
  id: asked.chat,
  state,
  sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,  // version 5 has none
  onFinish: (end) => { finishReason = end.finishReason; },
  transport: new DefaultChatTransport({
    api: asked.api,
    headers,
    fetch: async (url, options) => {
      const response = await fetch(url, options);
      const protocol = response.headers.get("x-vercel-ai-ui-message-stream");
      requests.push({ url: String(url), status: response.status, protocol });
      return response.body ? new Response(response.body.pipeThrough(wire()), response) : response;
    },
    ...(asked.lastAlone && {
      prepareSendMessagesRequest: ({ id, messages, trigger, messageId }) => ({
        body: { id, trigger, messageId, message: messages.at(-1) },
      }),
    }),
  }),
});

const said = () => {
  const last = state.messages.at(-1);
  return last?.role === "assistant" ? last.parts.filter((part) => part.type === "text").map((part) => part.text).join("") : "";
};
const until = async (holds) => { while (!holds()) await new Promise((wake) => setTimeout(wake, 5)); };
const ended = async () => { await until(() => state.status === "ready" || state.status === "error"); };

let running = Promise.resolve();
const steps = {
  send: ({ text, id, files }) =>
    chat.sendMessage(id ? { id, role: "user", parts: [{ type: "text", text }] } : { text, files }),
  regenerate: ({ messageId }) => chat.regenerate({ messageId }),
  edit: ({ text, messageId }) => chat.sendMessage({ text, messageId }),
  goOn: () => chat.sendMessage(),
  decide: async ({ approved, reason }) => {
    const waits = state.messages.at(-1).parts.filter((part) => part.state === "approval-requested");
    for (const part of waits) await chat.addToolApprovalResponse({ id: part.approval.id, approved, reason });
    await until(() => state.status !== "ready");
  },
  resume: () => chat.resumeStream(),
  begin: async ({ text }) => { running = chat.sendMessage({ text }); await until(() => said().length > 20); },
  beginResuming: async () => { running = chat.resumeStream(); await until(() => said().length > 20); },
  stopAtTheService: async () => {
    const response = await fetch(`${asked.api}/${asked.chat}/stop`, { method: "POST", headers });
    requests.push({ url: "stop", status: response.status });
    await running;
  },
  loseTheNetwork: async () => { lose(); await running; },
  leave: async () => { await chat.stop(); await running; },
  end: async () => { await running; },
};

const seen = [];
for (const step of asked.steps) {
  await steps[step.do](step);
  if (!["begin", "beginResuming"].includes(step.do)) await ended();
  seen.push({ status: state.status, error: state.error?.message ?? null, messages: structuredClone(state.messages), finishReason });
  if (step.report) process.stdout.write(`${step.report}\n`);
}
process.stdout.write(JSON.stringify({ seen, requests }) + "\n", () => process.exit(0));

