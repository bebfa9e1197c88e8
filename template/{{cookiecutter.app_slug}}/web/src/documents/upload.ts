import { useState } from "react";
import { ApiError } from "../api/errors";
import { useGroup } from "../lib/place";
import { useSession } from "../session/session";
import { texts } from "../texts";

export interface Sending {
  key: number;
  name: string;
  /** From 0 to 1. */
  progress: number;
  error: string | null;
}

/**
 * Put up a document, with progress, which `fetch` does not tell.
 *
 * @throws ApiError the service refused it; TypeError: the network failed.
 */
function put(url: string, token: string, file: File, group: string | undefined, progress: (part: number) => void): Promise<void> {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    request.onerror = () => fail(new TypeError("network error"));
    request.onload = () => {
      if (request.status < 300) return done();
      const { error } = JSON.parse(request.responseText || "{}") as { error?: { code: string; message: string } };
      fail(new ApiError(error?.code ?? "unknown", error?.message ?? `HTTP ${request.status}`, request.status));
    };
    const form = new FormData();
    if (group) form.append("group", group); // before the file, so that a refusal comes before it is read
    form.append("file", file, file.name);
    request.send(form);
  });
}

/** The files that are being put up, one after the other. */
export function useSending(arrived: () => void) {
  const { api, user } = useSession();
  const group = useGroup();
  const [sending, setSending] = useState<Sending[]>([]);
  const change = (key: number, part: Partial<Sending>) =>
    setSending((all) => all.map((each) => (each.key === key ? { ...each, ...part } : each)));
  const dismiss = (key: number) => setSending((all) => all.filter((each) => each.key !== key));

  async function send(files: Iterable<File>) {
    const queue = [...files].map((file) => ({ file, key: Math.random() }));
    setSending((all) => [...all, ...queue.map(({ file, key }) => ({ key, name: file.name, progress: 0, error: null }))]);
    for (const { file, key } of queue) {
      const attempt = async (fresh: boolean) =>
        put(`${api.base}/v1/uploads`, await user.token(fresh), file, group, (progress) => change(key, { progress }));
      try {
        await attempt(false).catch((error) => (error instanceof ApiError && error.status === 401 ? attempt(true) : Promise.reject(error)));
        arrived();
        dismiss(key);
      } catch (error) {
        change(key, { error: error instanceof ApiError ? error.message : texts.loadFailed });
      }
    }
  }
  return { sending, send, dismiss };
}
