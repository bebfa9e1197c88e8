import { Ellipsis, PenLine, Plus, Trash2 } from "lucide-react";
import { type FormEvent, useState } from "react";
import useSWRInfinite from "swr/infinite";
import { Link } from "wouter";
import { texts as ofGroups } from "../groups/texts";
import { useMayWrite } from "../groups/useGroups";
import { useGroup } from "../lib/place";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { Button, buttonClass } from "../ui/Button";
import { Confirm } from "../ui/Confirm";
import { Dialog } from "../ui/Dialog";
import { inputClass } from "../ui/Field";
import { Menu } from "../ui/Menu";
import { Page } from "../ui/Page";
import { Spinner } from "../ui/Spinner";
import type { Collection, FieldOf } from "./records";

type Values = Record<string, unknown>;
type RecordOf = Values & { id: string; revision: number };

interface RecordPage {
  items: RecordOf[];
  next_cursor: string | null;
}

/** The records of a collection, the user's own or a group's: a list, and a form to add and change them. */
export default function RecordsPage(collection: Collection) {
  const group = useGroup();
  if (!collection.url.includes("{group}")) return <Records collection={collection} mayWrite />;
  if (!group) return <PickGroup title={collection.label} />;
  return <GroupRecords key={group} collection={{ ...collection, url: collection.url.replace("{group}", group) }} />;
}

function GroupRecords({ collection }: { collection: Collection }) {
  return <Records collection={collection} mayWrite={useMayWrite()} />;
}

function PickGroup({ title }: { title: string }) {
  return (
    <Page title={title} hint={ofGroups.pick}>
      <Link href="/groups" className={`${buttonClass("primary")} self-start`}>
        {ofGroups.title}
      </Link>
    </Page>
  );
}

function Records({ collection, mayWrite }: { collection: Collection; mayWrite: boolean }) {
  const { api } = useSession();
  const [editing, setEditing] = useState<RecordOf | "new" | null>(null);
  const list = useSWRInfinite(
    (index, previous: RecordPage | null) => (index && !previous?.next_cursor ? null : [collection.url, previous?.next_cursor]),
    async ([url, cursor]) => (await (await api.fetch(cursor ? `${url}?cursor=${encodeURIComponent(cursor)}` : url!)).json()) as RecordPage,
    { revalidateAll: true },
  );
  const items = list.data?.flatMap((page) => page.items) ?? [];
  const changed = async () => void (await list.mutate());
  return (
    <Page
      title={collection.label}
      actions={
        mayWrite && (
          <Button variant="primary" onClick={() => setEditing("new")}>
            <Plus aria-hidden className="size-4" />
            {texts.records.add}
          </Button>
        )
      }
    >
      {list.isLoading && <Spinner />}
      {list.error && !list.data && <p role="alert">{(list.error as Error).message}</p>}
      {list.data && !items.length && <p className="text-muted">{texts.records.none}</p>}
      <ul className="flex flex-col gap-2">
        {items.map((record) => (
          <Item key={record.id} record={record} collection={collection} mayWrite={mayWrite} edit={() => setEditing(record)} changed={changed} />
        ))}
      </ul>
      {list.data?.at(-1)?.next_cursor && (
        <Button variant="ghost" onClick={() => void list.setSize(list.size + 1)}>
          {texts.chats.more}
        </Button>
      )}
      {editing && <Form record={editing === "new" ? null : editing} collection={collection} close={() => setEditing(null)} changed={changed} />}
    </Page>
  );
}

/** What is asked of the service for one record: what was read must still hold. */
const unchanged = (record: RecordOf) => ({ "If-Match": `"${record.revision}"` });

function Item(props: { record: RecordOf; collection: Collection; mayWrite: boolean; edit: () => void; changed: () => Promise<void> }) {
  const { record, collection } = props;
  const { api } = useSession();
  const [removing, setRemoving] = useState(false);
  const title = collection.title(record);
  const remove = async () => {
    await api.fetch(`${collection.url}/${record.id}`, { method: "DELETE", headers: unchanged(record) });
    await props.changed();
  };
  return (
    <li className="flex items-center gap-3 rounded-xl border bg-raised p-3.5">
      <div className="min-w-0 flex-1">
        <p className="truncate font-medium">{title}</p>
        <p className="truncate text-sm text-muted">{collection.details ? collection.details(record) : summary(record, collection)}</p>
      </div>
      {props.mayWrite && (
        <Menu
          label={texts.records.actions(title)}
          trigger={<Ellipsis aria-hidden className="size-4" />}
          items={[
            { label: texts.records.edit, icon: <PenLine aria-hidden className="size-4" />, run: props.edit },
            { label: texts.remove, icon: <Trash2 aria-hidden className="size-4" />, danger: true, run: () => setRemoving(true) },
          ]}
        />
      )}
      {removing && <Confirm title={`${texts.remove}: ${title}`} hint={texts.records.removeHint} action={texts.remove} run={remove} close={() => setRemoving(false)} />}
    </li>
  );
}

function summary(record: RecordOf, { fields, title }: Collection): string {
  const values = Object.entries(fields).map(([name, field]) => {
    const value = record[name];
    if (typeof value === "boolean") return `${field.label}: ${value ? texts.records.yes : texts.records.no}`;
    return value === null || value === undefined || value === title(record) ? "" : `${field.label}: ${String(value)}`;
  });
  return values.filter(Boolean).join(" · ");
}

function Form(props: { record: RecordOf | null; collection: Collection; close: () => void; changed: () => Promise<void> }) {
  const { record, collection } = props;
  const { api } = useSession();
  const [failed, setFailed] = useState<string | null>(null);
  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const values = Object.fromEntries(Object.entries(collection.fields).map(([name, field]) => [name, read(field, form.get(name))]));
    const [url, method] = record ? [`${collection.url}/${record.id}`, "PATCH"] : [collection.url, "POST"];
    const headers = { "Content-Type": "application/json", ...(record && unchanged(record)) };
    try {
      await api.fetch(url, { method, headers, body: JSON.stringify(values) });
      await props.changed();
      props.close();
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  return (
    <Dialog open close={props.close} title={record ? texts.records.edit : texts.records.add}>
      <form onSubmit={(event) => void submit(event)} className="flex flex-col gap-4">
        {Object.entries(collection.fields).map(([name, field]) => (
          <label key={name} className="flex flex-col gap-1.5 text-sm font-medium">
            {field.label}
            <Input name={name} field={field} value={record?.[name]} />
          </label>
        ))}
        {failed && <p role="alert" className="text-sm text-danger">{failed}</p>}
        <div className="flex justify-end gap-2">
          <Button onClick={props.close}>{texts.cancel}</Button>
          <Button type="submit" variant="primary">
            {texts.save}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

/** A field's value as the service takes it. */
function read(field: FieldOf, typed: FormDataEntryValue | null): unknown {
  if (field.type === "yes or no") return typed === "on";
  if (typed === "" || typed === null) return field.optional ? null : "";
  return field.type === "number" ? Number(typed) : typed;
}

function Input({ name, field, value }: { name: string; field: FieldOf; value: unknown }) {
  const common = { name, required: !field.optional, className: `${inputClass} font-normal`, defaultValue: value === undefined || value === null ? "" : String(value) };
  if (field.type === "yes or no") return <input type="checkbox" name={name} defaultChecked={value === true} className="size-5 accent-accent" />;
  if (field.type === "long text") return <textarea {...common} maxLength={field.max} className={`${common.className} min-h-24 py-2`} />;
  if (field.type === "choice") {
    return (
      <select {...common}>
        {field.choices?.map((choice) => (
          <option key={choice}>{choice}</option>
        ))}
      </select>
    );
  }
  const bounds = field.type === "number" ? { min: field.min, max: field.max, step: "any" } : field.type === "text" ? { maxLength: field.max } : {};
  return <input {...common} {...bounds} type={field.type} />;
}
