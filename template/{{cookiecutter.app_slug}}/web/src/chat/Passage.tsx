import { useState } from "react";
import useSWR from "swr";
import { body } from "../api/client";
import { ApiError } from "../api/errors";
import { useGroup } from "../lib/place";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { Dialog } from "../ui/Dialog";
import { Spinner } from "../ui/Spinner";
import { OutsideLink } from "./OutsideLink";
import type { Citation } from "./types";

/** How much of the document is shown before and after a passage, in characters. */
const AROUND = 600;

/** The number of a citation, which opens the passage in its document. */
export function CitationMark({ citation }: { citation: Citation }) {
  const [open, setOpen] = useState(false);
  return (
    <sup className="mx-0.5">
      <button
        type="button"
        aria-label={`${texts.chat.source(citation.number)}: ${citation.title}`}
        title={citation.title}
        onClick={() => setOpen(true)}
        className="inline-flex h-5 min-w-5 items-center justify-center rounded-md bg-accent-soft px-1 text-[0.7rem] font-medium hover:bg-hover"
      >
        {citation.number}
      </button>
      {open && <Passage citation={citation} close={() => setOpen(false)} />}
    </sup>
  );
}

/** The passage that an answer cites, where it stands in its document. */
export function Passage({ citation, close }: { citation: Citation; close: () => void }) {
  const { api } = useSession();
  const { document_id: id, start, end, chunk_id, library } = citation;
  const group = useGroup();
  const query = { start, end, chunk_id, around: AROUND, ...(library ? { library } : { group }) };
  const { data, error } = useSWR(["passage", id, chunk_id], () =>
    body(api.client.GET("/v1/documents/{id}/text", { params: { path: { id }, query } })),
  );
  return (
    <Dialog open wide close={close} title={texts.documents.cite(citation.title)}>
      <p className="text-sm text-muted">
        {[citation.page && texts.documents.page(citation.page), ...citation.headings].filter(Boolean).join(" · ")}
      </p>
      {!data && !error && <Spinner />}
      {error && <p role="alert">{reason(error)}</p>}
      {data && (
        <blockquote className="max-h-[55vh] overflow-y-auto rounded-xl bg-panel p-4 leading-relaxed whitespace-pre-wrap [overflow-wrap:anywhere]" tabIndex={0}>
          <span className="text-muted">{data.before}</span>
          <mark ref={(mark) => mark?.scrollIntoView({ block: "nearest" })} className="rounded-sm bg-accent-soft text-text">
            {data.text}
          </mark>
          <span className="text-muted">{data.after}</span>
        </blockquote>
      )}
      {citation.url && (
        <p className="text-sm [&_a]:text-accent [&_a]:underline">
          <OutsideLink href={citation.url}>{citation.url}</OutsideLink>
        </p>
      )}
    </Dialog>
  );
}

function reason(error: unknown): string {
  if (!(error instanceof ApiError)) return texts.loadFailed;
  if (error.code === "passage_changed") return texts.documents.changed;
  return error.status === 404 ? texts.documents.gone : error.message;
}
