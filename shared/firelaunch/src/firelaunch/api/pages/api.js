// The app's API: signed in as a user of the laptop's own making, errors as exceptions, streams as events.

/** What the API refused, or why it could not be asked. `status` is 0 where there was no answer. */
export class ApiError extends Error {
  constructor(status, { code = "unknown", message = "Something went wrong.", request_id: requestId = "" } = {}, retryAfter = null) {
    super(message);
    Object.assign(this, { status, code, requestId, retryAfter });
  }
}

const UNSENT = { code: "unreachable", message: "The file was not taken. It may be too large, or the app has stopped." };
const UNREACHABLE = { code: "unreachable", message: "The app does not answer. Is it still running?" };

let user = null;
let token = "";

/** Send everything that follows as `uid`, in a role. It is possible on a laptop only. */
export async function signIn(uid, role = "member") {
  const answer = await send("dev/token", json({ uid, role }));
  token = (await answer.json()).token;
  user = { uid, role };
}

/** Send everything that follows with a token that somebody else made; none if it is empty. */
export function useToken(given) {
  [token, user] = [given, null];
}

/** The token with which requests are sent. */
export const currentToken = () => token;

/** One request; its response, which is a good one. */
export async function call(path, options = {}) {
  try {
    return await send(path, options, token);
  } catch (error) {
    if (error.status !== 401 || !user) throw error;
    await signIn(user.uid, user.role); // the token has expired
    return send(path, options, token);
  }
}

/** The JSON that a request gives. */
export const read = async (path, options) => (await call(path, options)).json();

/** The options that send `body` as JSON. */
export function json(body, { method = "POST", headers = {}, ...more } = {}) {
  return { ...more, method, body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } };
}

async function send(path, options, bearer) {
  const headers = { ...options.headers, ...(bearer && { Authorization: `Bearer ${bearer}` }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : new ApiError(0, UNREACHABLE);
  }
  if (!answer.ok) throw await refusal(answer.status, await answer.text(), answer.headers.get("Retry-After"));
  return answer;
}

function refusal(status, body, retryAfter) {
  const seconds = retryAfter ? Number(retryAfter) : null;
  try {
    return new ApiError(status, JSON.parse(body).error, seconds);
  } catch {
    return new ApiError(status, { message: `The app answered with status ${status}.` }, seconds);
  }
}

/** The server-sent events of a response, as [name, data]. */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      throw error.name === "AbortError" ? error : new ApiError(0, UNREACHABLE);
    }
    if (piece.done) return;
    const blocks = (rest + piece.value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const found = /^event: (\w+)\ndata: ([^\n]*)/m.exec(block);
      if (found) yield [found[1], JSON.parse(found[2])];
    }
  }
}

/** Put up a file; `progress` is told the share that is sent. `fetch` would not tell it. */
export async function upload(file, progress, path = "v1/uploads") {
  const body = new FormData();
  body.append("file", file);
  const answer = await posted(path, body, progress);
  if (answer.status !== 401) return taken(answer);
  await signIn(user.uid, user.role);
  return taken(await posted(path, body, progress));
}

function posted(path, body, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onload = () => resolve(request);
    request.onerror = () => reject(new ApiError(0, UNSENT));
    request.send(body);
  });
}

function taken(answer) {
  if (answer.status >= 300) throw refusal(answer.status, answer.responseText, answer.getResponseHeader("Retry-After"));
  return JSON.parse(answer.responseText);
}
