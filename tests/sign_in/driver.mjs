// One command a line of standard input, one JSON answer a line: the functions of docs/auth.md, which page.mjs holds.

import { createInterface } from "node:readline";

const kept = new Map();
globalThis.localStorage = {
  setItem: (name, value) => kept.set(name, value),
  getItem: (name) => kept.get(name) ?? null,
  removeItem: (name) => kept.delete(name),
};

const page = await import("./page.mjs");
const { connectAuthEmulator } = await import("firebase/auth");
connectAuthEmulator(page.auth, process.env.SIGN_IN_URL, { disableWarnings: true });

const known = {
  user: async () => page.auth.currentUser?.uid ?? null,
  call: async (path, init) => {
    const answer = await page.api(path, init);
    return { status: answer.status, body: await answer.json() };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line);
  try {
    const found = await (known[name] ?? page[name])(...given);
    console.log(JSON.stringify({ is: found?.user?.uid ?? found?.uid ?? found ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ failed: error.code ?? error.message }));
  }
}
