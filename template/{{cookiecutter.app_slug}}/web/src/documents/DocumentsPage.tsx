import { Ellipsis, FileText, Trash2, TriangleAlert, Upload } from "lucide-react";
import { type DragEvent, useRef, useState } from "react";
import useSWRInfinite from "swr/infinite";
import { body, type Schemas } from "../api/client";
import { cx } from "../lib/cx";
import { texts as ofGroups } from "../groups/texts";
import { useMayWrite } from "../groups/useGroups";
import { bytes, date } from "../lib/format";
import { useGroup } from "../lib/place";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { ProgressBar } from "../ui/Bar";
import { Button } from "../ui/Button";
import { Confirm } from "../ui/Confirm";
import { Menu } from "../ui/Menu";
import { Page } from "../ui/Page";
import { Spinner } from "../ui/Spinner";
import { type Sending, useSending } from "./upload";

type Document = Schemas["DocumentAnswer"];

/** How often documents that are being read are asked for, in milliseconds. */
const POLL = 1500;

const DONE = ["ready", "failed"];

/** The documents that answers cite: the user's own or those of a group, and the app's library. */
export default function DocumentsPage() {
  const group = useGroup();
  const [library, setLibrary] = useState(false);
  return (
    <Page title={texts.documents.title} hint={texts.documents.hint}>
      <div role="tablist" aria-label={texts.documents.title} className="flex gap-1 self-start rounded-xl bg-hover p-1">
        {[false, true].map((each) => (
          <button
            key={String(each)}
            type="button"
            role="tab"
            aria-selected={library === each}
            onClick={() => setLibrary(each)}
            className={cx("rounded-lg px-3.5 py-1.5 text-sm", library === each && "bg-raised font-medium shadow-sm")}
          >
            {each ? texts.documents.library : group ? ofGroups.documents : texts.documents.yours}
          </button>
        ))}
      </div>
      <Documents key={String(library)} library={library} />
    </Page>
  );
}

function Documents({ library }: { library: boolean }) {
  const { api } = useSession();
  const place = useGroup();
  const group = library ? undefined : place;
  const mayWrite = useMayWrite() && !library;
  const list = useSWRInfinite(
    (index, previous: Schemas["DocumentPage"] | null) =>
      index && !previous?.next_cursor ? null : (["documents", library, group, previous?.next_cursor ?? undefined] as const),
    ([, , , cursor]) => body(api.client.GET("/v1/documents", { params: { query: { cursor, group, library: library || undefined } } })),
    {
      refreshInterval: (pages) => (pages?.some((page) => page.items.some((each) => !DONE.includes(each.status))) ? POLL : 0),
      revalidateAll: true,
    },
  );
  const { sending, send, dismiss } = useSending(() => void list.mutate());
  const documents = list.data?.flatMap((page) => page.items) ?? [];
  const more = list.data?.at(-1)?.next_cursor;
  return (
    <>
      {mayWrite && <Drop send={send} />}
      {list.error && !list.data && (
        <p role="alert">
          {texts.loadFailed} <Button size="sm" onClick={() => void list.mutate()}>{texts.retry}</Button>
        </p>
      )}
      {list.isLoading && <Spinner />}
      {list.data && !documents.length && !sending.length && <p className="text-muted">{texts.documents.none}</p>}
      <ul className="flex flex-col gap-2">
        {sending.map((each) => (
          <SendingItem key={each.key} sending={each} dismiss={() => dismiss(each.key)} />
        ))}
        {documents.map((document) => (
          <Item key={document.id} document={document} own={mayWrite} changed={() => void list.mutate()} />
        ))}
      </ul>
      {more && (
        <Button variant="ghost" onClick={() => void list.setSize(list.size + 1)}>
          {texts.chats.more}
        </Button>
      )}
    </>
  );
}

function Drop({ send }: { send: (files: Iterable<File>) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const [over, setOver] = useState(false);
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    send(event.dataTransfer.files);
  };
  return (
    <div
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
      className={cx("flex flex-col items-center gap-3 rounded-2xl border-2 border-dashed p-8 text-center", over && "border-accent bg-accent-soft")}
    >
      <Upload aria-hidden className="size-6 text-muted" />
      <p className="text-muted">
        {texts.documents.drop}{" "}
        <button type="button" onClick={() => input.current?.click()} className="rounded-sm font-medium text-accent underline underline-offset-2">
          {texts.documents.choose}
        </button>
      </p>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        aria-label={texts.documents.add}
        onChange={(event) => {
          send(event.target.files ?? []);
          event.target.value = "";
        }}
      />
    </div>
  );
}

const ITEM = "flex flex-col gap-2 rounded-xl border bg-raised p-3.5";

function SendingItem({ sending, dismiss }: { sending: Sending; dismiss: () => void }) {
  return (
    <li className={ITEM}>
      <div className="flex items-center gap-3">
        <FileText aria-hidden className="size-5 shrink-0 text-muted" />
        <span className="min-w-0 flex-1 truncate text-sm font-medium">{sending.name}</span>
        {sending.error && (
          <Button size="sm" variant="ghost" onClick={dismiss}>
            {texts.dismiss}
          </Button>
        )}
      </div>
      {sending.error ? (
        <p role="alert" className="text-sm text-danger [overflow-wrap:anywhere]">
          {sending.error}
        </p>
      ) : (
        <ProgressBar label={`${texts.documents.uploading}: ${sending.name}`} value={sending.progress} />
      )}
    </li>
  );
}

function Item({ document, own, changed }: { document: Document; own: boolean; changed: () => void }) {
  const { api } = useSession();
  const group = useGroup();
  const [removing, setRemoving] = useState(false);
  const remove = async () => {
    await api.client.DELETE("/v1/documents/{id}", { params: { path: { id: document.id }, query: { group } } });
    changed();
  };
  return (
    <li className={ITEM}>
      <div className="flex items-center gap-3">
        <FileText aria-hidden className="size-5 shrink-0 text-muted" />
        <div className="min-w-0 flex-1">
          <p className="truncate text-sm font-medium" title={document.name}>
            {document.name}
          </p>
          <p className="text-xs text-muted">{[statusText(document), bytes(document.bytes), document.created_at && date(document.created_at)].filter(Boolean).join(" · ")}</p>
        </div>
        {own && (
          <Menu
            label={texts.documents.actions(document.name)}
            trigger={<Ellipsis aria-hidden className="size-4" />}
            items={[{ label: texts.documents.remove, icon: <Trash2 aria-hidden className="size-4" />, danger: true, run: () => setRemoving(true) }]}
          />
        )}
      </div>
      {!DONE.includes(document.status) && <ProgressBar label={`${texts.documents.indexing}: ${document.name}`} value={document.progress || null} />}
      {document.error && (
        <p role="alert" className="text-sm text-danger [overflow-wrap:anywhere]">
          {document.error.message}
        </p>
      )}
      {document.warnings.map((warning) => (
        <p key={warning.code} className="flex gap-2 text-sm text-warn">
          <TriangleAlert aria-hidden className="mt-0.5 size-4 shrink-0" />
          <span className="[overflow-wrap:anywhere]">{warning.message}</span>
        </p>
      ))}
      {removing && (
        <Confirm
          title={texts.documents.remove}
          hint={texts.documents.removeHint(document.name)}
          action={texts.remove}
          run={remove}
          close={() => setRemoving(false)}
        />
      )}
    </li>
  );
}

function statusText({ status }: Document): string {
  if (status === "ready") return texts.documents.ready;
  if (status === "failed") return texts.documents.failed;
  return status === "indexing" || status === "processing" ? texts.documents.indexing : texts.documents.waiting;
}
