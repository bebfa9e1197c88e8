import { AudioLines, FileText } from "lucide-react";
import { useEffect, useState } from "react";
import { useSession } from "../session/session";
import { previews } from "./uploads";

/** A file of a message: a picture as such, others by their names. */
export function Attachment({ url, name, mediaType }: { url: string; name: string; mediaType: string }) {
  const shown = useFile(mediaType.startsWith("image/") ? url : "");
  if (shown) return <img src={shown} alt={name} className="max-h-60 max-w-full rounded-xl border object-contain" />;
  const Icon = mediaType.startsWith("audio/") ? AudioLines : FileText;
  return (
    <span className="inline-flex max-w-64 items-center gap-2 rounded-xl border bg-raised px-3 py-2 text-sm">
      <Icon aria-hidden className="size-4 shrink-0 text-muted" />
      <span className="truncate">{name || mediaType}</span>
    </span>
  );
}

/** The address of a file's content on this page; a file of the service is fetched with the user's token. */
function useFile(url: string): string | null {
  const { api } = useSession();
  const here = previews.get(url) ?? (/^(data|blob):/.test(url) ? url : null);
  const [fetched, setFetched] = useState<string | null>(null);
  useEffect(() => {
    if (here || !url.startsWith("/v1/")) return;
    let made = "";
    let left = false;
    api
      .fetch(url)
      .then((answer) => answer.blob())
      .then((content) => {
        if (!left) setFetched((made = URL.createObjectURL(content)));
      })
      .catch(() => undefined);
    return () => {
      left = true;
      if (made) URL.revokeObjectURL(made);
    };
  }, [api, url, here]);
  return here ?? fetched;
}
