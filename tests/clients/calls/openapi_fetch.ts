// A round trip by openapi-typescript's types and openapi-fetch. The types are checked, too: nothing is cast.
import createClient from "openapi-fetch";
import type { components, paths } from "./generated/schema";

declare const process: { argv: string[]; exitCode: number };

const CONTENT = "Tea is grown in Rize.";

async function main(url: string) {
  const anyone = createClient<paths, "application/json">({ baseUrl: url });
  const signedIn = await anyone.POST("/dev/token", { body: { uid: "ada" } });
  const headers = { Authorization: `Bearer ${signedIn.data?.token}` };
  const api = createClient<paths, "application/json">({ baseUrl: url, headers });

  const chat = await api.POST("/v1/chats", { body: {} });
  if (!chat.data) throw new Error(chat.error.error.code);
  const answer = await api.POST("/v1/chats/{id}/messages", {
    params: { path: { id: chat.data.id }, header: { "Idempotency-Key": "once" } },
    body: { text: "Hello" },
  });
  const listed = await api.GET("/v1/chats", { params: { query: { limit: 10 } } });
  const uploaded = await api.POST("/v1/uploads", {
    body: { file: CONTENT, name: "notes.txt" },
    bodySerializer({ file, name }) {
      const form = new FormData();
      form.append("name", name ?? "");
      form.append("file", new Blob([file]), "file.txt");
      return form;
    },
  });
  const refused = await api.GET("/v1/chats/{id}", { params: { path: { id: "nothing" } } });
  const error: components["schemas"]["ErrorAnswer"] | undefined = refused.error;
  const meal = await api.POST("/api/meals", { body: { name: "Soup", kcal: 300, day: "2026-03-02" } });
  const gone = await api.DELETE("/v1/chats/{id}", { params: { path: { id: chat.data.id } } });
  return {
    said: answer.data?.message.text,
    listed: listed.data?.items.map((item) => item.id === chat.data.id),
    uploaded: uploaded.data?.name,
    bytes: uploaded.data?.bytes,
    error: error?.error.code,
    kind: meal.data?.kind,
    deleted: gone.response.status,
  };
}

main(process.argv[2]).then(
  (told) => console.log(JSON.stringify(told)),
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
