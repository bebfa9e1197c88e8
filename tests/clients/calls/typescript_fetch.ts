// A round trip by openapi-generator's typescript-fetch.
import {
  ChatsApi,
  Configuration,
  DevelopmentApi,
  DocumentsApi,
  ErrorAnswerFromJSON,
  MealsApi,
  ResponseError,
} from "./generated";

declare const process: { argv: string[]; exitCode: number };

const CONTENT = "Tea is grown in Rize.";

async function codeOf(refused: Promise<unknown>): Promise<string | undefined> {
  try {
    await refused;
  } catch (error) {
    if (error instanceof ResponseError) return ErrorAnswerFromJSON(await error.response.json()).error.code;
    throw error;
  }
}

async function main(url: string) {
  const anyone = new DevelopmentApi(new Configuration({ basePath: url }));
  const { token } = await anyone.createDevToken({ devUser: { uid: "ada" } });
  const config = new Configuration({ basePath: url, accessToken: token });
  const chats = new ChatsApi(config);

  const chat = await chats.createChat({ newChat: {} });
  const answer = await chats.sendMessage({ id: chat.id, newMessage: { text: "Hello" } });
  const listed = await chats.listChats({ limit: 10 });
  const file = new File([CONTENT], "notes.txt");
  const uploaded = await new DocumentsApi(config).uploadDocument({ file, library: false });
  const error = await codeOf(chats.getChat({ id: "nothing" }));
  const day: Date = new Date("2026-03-02");
  const meal = await new MealsApi(config).addMeal({ newMeal: { name: "Soup", kcal: 300, day } });
  if (!(chat.createdAt instanceof Date)) throw new Error("a time is no Date");
  const gone = await chats.deleteChatRaw({ id: chat.id });
  return {
    said: answer.message.text,
    listed: listed.items.map((item) => item.id === chat.id),
    uploaded: uploaded.name,
    bytes: uploaded.bytes,
    error,
    kind: meal.kind,
    deleted: gone.raw.status,
  };
}

main(process.argv[2]).then(
  (told) => console.log(JSON.stringify(told)),
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
