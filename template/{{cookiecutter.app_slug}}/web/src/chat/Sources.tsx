import { FileText, Globe } from "lucide-react";
import { useState } from "react";
import { texts } from "../texts";
import { OutsideLink } from "./OutsideLink";
import { Passage } from "./Passage";
import type { ChatMessage, Citation } from "./types";

const CHIP = "inline-flex max-w-64 items-center gap-1.5 rounded-full border px-3 py-1 text-xs hover:bg-hover";

/** What an answer rests on: its cited passages, and pages that the workflow named. */
export function Sources({ parts, citations }: { parts: ChatMessage["parts"]; citations: Citation[] }) {
  const [open, setOpen] = useState<Citation | null>(null);
  const pages = parts.filter((part) => part.type === "source-url").filter((page) => !citations.some((each) => each.url === page.url));
  if (!citations.length && !pages.length) return null;
  return (
    <ul aria-label={texts.chat.sources} className="flex flex-wrap gap-1.5">
      {citations.map((citation) => (
        <li key={citation.number}>
          <button type="button" onClick={() => setOpen(citation)} className={CHIP}>
            <FileText aria-hidden className="size-3.5 shrink-0 text-muted" />
            <span className="truncate">
              {citation.number}. {citation.title}
            </span>
          </button>
        </li>
      ))}
      {pages.map((page) => (
        <li key={page.sourceId} className={CHIP}>
          <Globe aria-hidden className="size-3.5 shrink-0 text-muted" />
          <span className="truncate">{/^https?:/.test(page.url) ? <OutsideLink href={page.url}>{page.title ?? page.url}</OutsideLink> : page.title}</span>
        </li>
      ))}
      {open && <Passage citation={open} close={() => setOpen(null)} />}
    </ul>
  );
}
