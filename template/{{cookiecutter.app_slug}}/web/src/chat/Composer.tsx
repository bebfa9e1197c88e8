import { ArrowUp, Camera, FileText, LoaderCircle, Paperclip, Square, X } from "lucide-react";
import { type ChangeEvent, type ClipboardEvent, type DragEvent, type FormEvent, type KeyboardEvent, useEffect, useRef } from "react";
import { cx } from "../lib/cx";
import { useDraft } from "../lib/useDraft";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { ACCEPTED, MOST_FILES, previews, type Upload, useUploads } from "./uploads";
import type { ConversationState } from "./useConversation";

/** Whether Enter begins a new line, as on a keyboard that is on the screen. */
const IS_TOUCH = matchMedia("(pointer: coarse)").matches;

/** Where the user writes. What is typed is kept until it is sent, also over a reload. */
export function Composer({ chat, chatId, sent }: { chat: ConversationState; chatId: string; sent: () => void }) {
  const [text, setText] = useDraft(chatId);
  const files = useUploads();
  const area = useRef<HTMLTextAreaElement>(null);
  const attached = files.parts();
  const ready = !chat.running && !files.pending && (!!text.trim() || attached.length > 0);
  useEffect(() => {
    if (!IS_TOUCH) area.current?.focus();
  }, []);
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (!ready) return;
    setText("");
    files.clear();
    sent();
    void chat.send(text.trim() ? { text, files: attached } : { files: attached });
  };
  const press = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || IS_TOUCH || event.nativeEvent.isComposing) return;
    event.preventDefault();
    submit();
  };
  const take = (event: ClipboardEvent | DragEvent, list: FileList) => {
    if (!list.length) return;
    event.preventDefault();
    files.add(list);
  };
  return (
    <form
      onSubmit={submit}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => take(event, event.dataTransfer.files)}
      className="flex flex-col gap-2 rounded-2xl border bg-raised p-2 shadow-sm focus-within:border-accent"
    >
      {files.uploads.length > 0 && (
        <ul className="flex flex-wrap gap-2 p-1">
          {files.uploads.map((upload) => (
            <Chosen key={upload.key} upload={upload} remove={() => files.remove(upload.key)} />
          ))}
        </ul>
      )}
      <textarea
        ref={area}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={press}
        onPaste={(event) => take(event, event.clipboardData.files)}
        aria-label={texts.chat.message}
        placeholder={texts.chat.placeholder}
        rows={1}
        className="field-sizing-content max-h-[40vh] min-h-10 w-full resize-none bg-transparent px-2.5 py-2 outline-none"
      />
      <div className="flex items-center gap-1">
        <FileButton label={texts.chat.attach} icon={<Paperclip aria-hidden className="size-4" />} add={files.add} disabled={files.uploads.length >= MOST_FILES} />
        {IS_TOUCH && <FileButton camera label={texts.chat.photo} icon={<Camera aria-hidden className="size-4" />} add={files.add} disabled={files.uploads.length >= MOST_FILES} />}
        <span className="flex-1" />
        {chat.running ? (
          <Button key="stop" variant="primary" size="icon-sm" aria-label={texts.chat.stop} title={texts.chat.stop} onClick={() => void chat.stop()} className="rounded-full!">
            <Square aria-hidden className="size-3 fill-current" />
          </Button>
        ) : (
          <Button key="send" type="submit" variant="primary" size="icon-sm" aria-label={texts.chat.send} title={texts.chat.send} disabled={!ready} className="rounded-full!">
            <ArrowUp aria-hidden className="size-4.5" />
          </Button>
        )}
      </div>
    </form>
  );
}

function FileButton(props: { label: string; icon: React.ReactNode; add: (files: Iterable<File>) => void; disabled: boolean; camera?: boolean }) {
  const input = useRef<HTMLInputElement>(null);
  const choose = (event: ChangeEvent<HTMLInputElement>) => {
    props.add(event.target.files ?? []);
    event.target.value = "";
  };
  return (
    <>
      <input
        ref={input}
        type="file"
        hidden
        multiple={!props.camera}
        accept={props.camera ? "image/jpeg,image/*" : ACCEPTED}
        capture={props.camera ? "environment" : undefined}
        onChange={choose}
      />
      <Button variant="ghost" size="icon-sm" aria-label={props.label} title={props.label} disabled={props.disabled} onClick={() => input.current?.click()} className="rounded-full! text-muted">
        {props.icon}
      </Button>
    </>
  );
}

function Chosen({ upload, remove }: { upload: Upload; remove: () => void }) {
  const picture = upload.url && previews.get(upload.url);
  const Icon = upload.url || upload.error ? FileText : LoaderCircle;
  return (
    <li className={cx("flex max-w-72 items-center gap-2 rounded-xl border py-1 pr-1 pl-2 text-sm", upload.error && "border-danger text-danger")}>
      {picture ? (
        <img src={picture} alt="" className="size-8 rounded-md object-cover" />
      ) : (
        <Icon aria-hidden className={cx("size-4 shrink-0", !upload.url && !upload.error && "animate-spin")} />
      )}
      <span className="min-w-0">
        <span className="block truncate">{upload.name}</span>
        {upload.error && (
          <span role="alert" className="block text-xs">
            {upload.error}
          </span>
        )}
        {!upload.url && !upload.error && (
          <span role="status" className="sr-only">
            {texts.chat.uploading(upload.name)}
          </span>
        )}
      </span>
      <Button variant="ghost" size="icon-sm" aria-label={texts.chat.removeFile(upload.name)} onClick={remove}>
        <X aria-hidden className="size-3.5" />
      </Button>
    </li>
  );
}
