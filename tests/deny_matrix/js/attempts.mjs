// Makes attempts by calls of the real JavaScript SDK. Reads on stdin
//   {"host", "port", "runs": [{"project", "tokens": {name: claims or null}, "attempts": [{token, name, target, data}]}]}
// and writes, for each run, the list of its answers: true (let through), false (denied), or text (neither).
import { readFileSync } from "node:fs";
import { initializeTestEnvironment } from "@firebase/rules-unit-testing";
import {
  collection,
  collectionGroup,
  deleteDoc,
  doc,
  getCountFromServer,
  getDocFromServer,
  getDocsFromServer,
  limit,
  onSnapshot,
  query,
  runTransaction,
  setDoc,
  setLogLevel,
  updateDoc,
  where,
  writeBatch,
} from "firebase/firestore";

const SECONDS = 30;
// What comes after the rules, or passes them: the rules said yes.
const AFTER_THE_RULES = new Set(["not-found", "already-exists", "failed-precondition"]);

const group = (db, { target }) => collectionGroup(db, target.replace("**/", ""));

// Resolves with the first snapshot that the server has confirmed; an earlier one is the local cache's own guess.
const listen = (source) =>
  new Promise((resolve, reject) => {
    const stop = onSnapshot(
      source,
      { includeMetadataChanges: true },
      (snapshot) => {
        if (!snapshot.metadata.fromCache) {
          resolve();
          queueMicrotask(() => stop());
        }
      },
      reject,
    );
  });

const inTransaction = (db, work) => runTransaction(db, work, { maxAttempts: 1 });

const renameInBatch = (db, { target, data }) => {
  const batch = writeBatch(db);
  for (const [name, value] of Object.entries(data)) batch.update(doc(db, target), { [name]: value });
  return batch.commit();
};

const renameInTransaction = (db, { target, data }) =>
  inTransaction(db, async (transaction) => {
    await transaction.get(doc(db, target));
    transaction.update(doc(db, target), data);
  });

const update = (db, { target, data }) => updateDoc(doc(db, target), data);

const CALLS = {
  get: (db, { target }) => getDocFromServer(doc(db, target)),
  "get in a transaction": (db, { target }) => inTransaction(db, (transaction) => transaction.get(doc(db, target))),
  create: (db, { target, data }) => setDoc(doc(db, `${target}-new`), data),
  rename: update,
  "rename in a batch": renameInBatch,
  "rename in a transaction": renameInTransaction,
  "change a field of the server": update,
  overwrite: (db, { target, data }) => setDoc(doc(db, target), data),
  delete: (db, { target }) => deleteDoc(doc(db, target)),
  "delete in a transaction": (db, { target }) => inTransaction(db, async (t) => t.delete(doc(db, target))),
  list: (db, { target }) => getDocsFromServer(collection(db, target)),
  query: (db, { target }) => getDocsFromServer(query(collection(db, target), where("archived", "==", false), limit(5))),
  count: (db, { target }) => getCountFromServer(collection(db, target)),
  "query the group": (db, attempt) => getDocsFromServer(group(db, attempt)),
  "count the group": (db, attempt) => getCountFromServer(group(db, attempt)),
  "listen to a document": (db, { target }) => listen(doc(db, target)),
  "listen to a query": (db, { target }) => listen(collection(db, target)),
  "listen to a group": (db, attempt) => listen(group(db, attempt)),
};

const tooLate = () =>
  new Promise((_, reject) => setTimeout(() => reject(new Error(`no answer in ${SECONDS} s`)), SECONDS * 1000).unref());

async function answer(db, attempt, tries = 2) {
  try {
    await Promise.race([CALLS[attempt.name](db, attempt), tooLate()]);
    return true;
  } catch (error) {
    if (error.code === "permission-denied") return false;
    // The SDK gives up on a connection that is slow for it, and that is no answer of the rules.
    if (error.code === "unavailable" && tries > 1) return answer(db, attempt, tries - 1);
    return AFTER_THE_RULES.has(error.code) || `${error.code ?? error.name}: ${error.message}`;
  }
}

function signedIn(environment, claims) {
  if (claims === null) return environment.unauthenticatedContext();
  const { sub, ...others } = claims;
  return environment.authenticatedContext(sub, others);
}

// One client a token, as a browser has it. Clients work side by side, and each does one thing after the other.
async function run({ host, port }, { project, tokens, attempts }) {
  const environment = await initializeTestEnvironment({ projectId: project, firestore: { host, port } });
  const answers = new Array(attempts.length);
  await Promise.all(
    Object.keys(tokens).map(async (token) => {
      const db = signedIn(environment, tokens[token]).firestore();
      for (const [at, attempt] of attempts.entries()) {
        if (attempt.token === token) answers[at] = await answer(db, attempt);
      }
    }),
  );
  await environment.cleanup();
  return answers;
}

setLogLevel("silent");
const asked = JSON.parse(readFileSync(0, "utf8"));
const answers = [];
for (const part of asked.runs) answers.push(await run(asked, part));
process.stdout.write(JSON.stringify(answers), () => process.exit(0));
