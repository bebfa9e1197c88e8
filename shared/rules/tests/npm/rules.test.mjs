import { readFileSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";
import { assertFails, assertSucceeds, initializeTestEnvironment } from "@firebase/rules-unit-testing";
import { doc, getDoc, setDoc } from "firebase/firestore";

let env;
before(async () => {
  env = await initializeTestEnvironment({ projectId: "demo-suite", firestore: { rules: readFileSync("firestore.rules", "utf8") } });
});
beforeEach(async () => {
  await env.clearFirestore();
  await env.withSecurityRulesDisabled(async (context) => {
    await setDoc(doc(context.firestore(), "notes/hers"), { owner: "ada", public: false });
    await setDoc(doc(context.firestore(), "notes/open"), { owner: "bob", public: true });
  });
});
after(() => env.cleanup());

test("owners and everybody read", async () => {
  const ada = env.authenticatedContext("ada").firestore(), nobody = env.unauthenticatedContext().firestore();
  await assertSucceeds(getDoc(doc(ada, "notes/hers")));
  await assertFails(getDoc(doc(nobody, "notes/hers")));
  await assertSucceeds(getDoc(doc(nobody, "notes/open")));
});
test("users create their own", async () => {
  const ada = env.authenticatedContext("ada").firestore();
  await assertSucceeds(setDoc(doc(ada, "notes/new"), { owner: "ada" }));
  await assertFails(setDoc(doc(ada, "notes/other"), { owner: "bob" }));
});
