// A round trip by the client that hey-api makes.
import {
  addMeal,
  createChat,
  createDevToken,
  deleteChat,
  getChat,
  listChats,
  sendMessage,
  uploadDocument,
  type ErrorAnswer,
} from "./generated";
import { client } from "./generated/client.gen";

declare const process: { argv: string[]; exitCode: number };

const CONTENT = "Tea is grown in Rize.";

async function main(url: string) {
  client.setConfig({ baseUrl: url });
  const signedIn = await createDevToken({ body: { uid: "ada" } });
  client.setConfig({ auth: () => signedIn.data?.token });

  const chat = await createChat({ body: {} });
  if (!chat.data) throw new Error(chat.error?.error.code);
  const path = { id: chat.data.id };
  const answer = await sendMessage({ path, body: { text: "Hello" } });
  const listed = await listChats({ query: { limit: 10 } });
  const uploaded = await uploadDocument({ body: { file: new File([CONTENT], "notes.txt"), library: false } });
  const refused = await getChat({ path: { id: "nothing" } });
  const error: ErrorAnswer | undefined = refused.error;
  const meal = await addMeal({ body: { name: "Soup", kcal: 300, day: "2026-03-02" } });
  const gone = await deleteChat({ path });
  return {
    said: typeof answer.data === "object" ? answer.data.message.text : undefined,
    listed: listed.data?.items.map((item) => item.id === path.id),
    uploaded: uploaded.data?.name,
    bytes: uploaded.data?.bytes,
    error: error?.error.code,
    kind: meal.data?.kind,
    deleted: gone.response?.status,
  };
}

main(process.argv[2]).then(
  (told) => console.log(JSON.stringify(told)),
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
