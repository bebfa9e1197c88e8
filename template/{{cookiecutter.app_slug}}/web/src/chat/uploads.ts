import type { FileUIPart } from "ai";
import { useState } from "react";
import type { Schemas } from "../api/client";
import { useSession } from "../session/session";

/** What the service takes in a message. */
export const ACCEPTED = ".png,.jpg,.jpeg,.webp,.pdf,.wav,.mp3,.txt,.md,.csv,image/png,image/jpeg,image/webp,application/pdf,audio/wav,audio/mpeg,text/plain,text/markdown,text/csv";

/** The most files of a message. */
export const MOST_FILES = 4;

/** Photos are made smaller until their longer side has so many pixels. */
const PIXELS = 2048;

const TYPES: Record<string, string> = { md: "text/markdown", csv: "text/csv", txt: "text/plain", mp3: "audio/mpeg", wav: "audio/wav" };

/** Files that were put up, by their ids: what they look like until the message is loaded anew. */
export const previews = new Map<string, string>();

export interface Upload {
  key: number;
  name: string;
  mediaType: string;
  /** What is sent in the message; null while the file is on its way. */
  url: string | null;
  error: string | null;
}

/** A large photo as a smaller JPEG; everything else as it is. */
async function fit(file: File): Promise<Blob> {
  if (!/^image\/(jpeg|png|webp|heic|heif)$/.test(file.type)) return file;
  const picture = await createImageBitmap(file).catch(() => null);
  if (!picture) return file;
  const scale = PIXELS / Math.max(picture.width, picture.height);
  const taken = /^image\/(jpeg|png|webp)$/.test(file.type);
  if (taken && scale >= 1 && file.size < 2_000_000) return file;
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(picture.width * Math.min(scale, 1));
  canvas.height = Math.round(picture.height * Math.min(scale, 1));
  canvas.getContext("2d")!.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob((blob) => done(blob ?? file), "image/jpeg", 0.88));
}

function dataUrl(content: Blob): Promise<string> {
  return new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result as string);
    reader.onerror = () => fail(reader.error);
    reader.readAsDataURL(content);
  });
}

/** The files that go with the next message: each is put up as soon as it is chosen. */
export function useUploads() {
  const { api, user } = useSession();
  const [uploads, setUploads] = useState<Upload[]>([]);
  const change = (key: number, part: Partial<Upload>) =>
    setUploads((all) => all.map((each) => (each.key === key ? { ...each, ...part } : each)));

  async function send(key: number, file: File): Promise<void> {
    const content = await fit(file);
    const mediaType = content.type || (TYPES[file.name.split(".").pop()?.toLowerCase() ?? ""] ?? "application/octet-stream");
    // Guests put nothing up; their files go along in the message itself.
    if (user.guest) return change(key, { url: await dataUrl(new Blob([content], { type: mediaType })), mediaType });
    const form = new FormData();
    form.append("file", new Blob([content], { type: mediaType }), file.name);
    const answer = await api.fetch("/v1/files", { method: "POST", body: form });
    const { id } = (await answer.json()) as Schemas["UploadedFile"];
    if (mediaType.startsWith("image/")) previews.set(id, URL.createObjectURL(content));
    change(key, { url: id, mediaType });
  }

  const add = (files: Iterable<File>) => {
    const chosen = [...files].slice(0, MOST_FILES - uploads.length);
    const made = chosen.map((file) => ({ key: Math.random(), name: file.name, mediaType: file.type, url: null, error: null }));
    setUploads((all) => [...all, ...made]);
    chosen.forEach((file, index) => {
      const { key } = made[index]!;
      send(key, file).catch((error: Error) => change(key, { error: error.message }));
    });
  };
  const parts = (): FileUIPart[] =>
    uploads.flatMap(({ url, name, mediaType }) => (url ? [{ type: "file" as const, url, filename: name, mediaType }] : []));
  return {
    uploads,
    add,
    remove: (key: number) => setUploads((all) => all.filter((each) => each.key !== key)),
    clear: () => setUploads([]),
    parts,
    pending: uploads.some((each) => !each.url && !each.error),
  };
}
