import { Check, Copy, Download, UserMinus } from "lucide-react";
import { type FormEvent, useState } from "react";
import useSWR from "swr";
import useSWRInfinite from "swr/infinite";
import { Link, useLocation } from "wouter";
import { body, type Schemas } from "../api/client";
import { date } from "../lib/format";
import { useCopy } from "../lib/useCopy";
import { useSession } from "../session/session";
import { texts as common } from "../texts";
import { Button, buttonClass } from "../ui/Button";
import { Confirm } from "../ui/Confirm";
import { Field, inputClass } from "../ui/Field";
import { Notice } from "../ui/Notice";
import { Page, Section } from "../ui/Page";
import { Spinner } from "../ui/Spinner";
import { texts } from "./texts";
import { type Group, useGroups } from "./useGroups";

type Member = Schemas["GroupMember"];

const ROLES = ["viewer", "editor", "owner"] as const;

/** One group: its members, and what its owners do with it. */
export function GroupPage({ id }: { id: string }) {
  const { api } = useSession();
  const read = () => body(api.client.GET("/v1/groups/{group}", { params: { path: { group: id } } }));
  const { data: group, error, mutate } = useSWR(["group", id], read);
  const { changed } = useGroups();
  const reread = async () => void (await Promise.all([mutate(), changed()]));
  if (!group) return <Page title={texts.title}>{error ? <p role="alert">{texts.gone}</p> : <Spinner />}</Page>;
  const owner = group.role === "owner";
  return (
    <Page
      title={group.name}
      hint={`${texts.roles[group.role]} · ${texts.members(group.members)}`}
      actions={
        <Link href={`/in/${id}/`} className={buttonClass("outline")}>
          {texts.open}
        </Link>
      }
    >
      <Members group={group} changed={reread} />
      {owner && <Invite group={id} />}
      <Section title={texts.settings}>
        {owner && <Rename group={group} changed={reread} />}
        {owner && <Export group={id} />}
        <Leave group={group} />
      </Section>
    </Page>
  );
}

function Members({ group, changed }: { group: Group; changed: () => Promise<void> }) {
  const { api } = useSession();
  const path = { group: group.id };
  const list = useSWRInfinite(
    (index, previous: Schemas["GroupMemberPage"] | null) =>
      index && !previous?.next_cursor ? null : (["members", group.id, previous?.next_cursor ?? undefined] as const),
    ([, , cursor]) => body(api.client.GET("/v1/groups/{group}/members", { params: { path, query: { limit: 100, cursor } } })),
    { revalidateAll: true },
  );
  const again = async () => void (await Promise.all([list.mutate(), changed()]));
  return (
    <Section title={texts.membersTitle}>
      <p className="text-sm text-muted">{texts.rolesHint}</p>
      {list.isLoading && <Spinner />}
      <ul className="flex flex-col divide-y">
        {list.data
          ?.flatMap((page) => page.items)
          .map((member) => <MemberItem key={member.uid} member={member} group={group} changed={again} />)}
      </ul>
      {list.data?.at(-1)?.next_cursor && (
        <Button variant="ghost" onClick={() => void list.setSize(list.size + 1)}>
          {common.chats.more}
        </Button>
      )}
    </Section>
  );
}

function MemberItem(props: { member: Member; group: Group; changed: () => Promise<void> }) {
  const { member, group, changed } = props;
  const { api, user } = useSession();
  const [removing, setRemoving] = useState(false);
  const [failed, setFailed] = useState<string | null>(null);
  const self = member.uid === user.uid;
  const owner = group.role === "owner";
  const name = member.name || texts.unnamed;
  const params = { path: { group: group.id, uid: member.uid } };
  const change = (part: Schemas["GroupMemberBody"]) => {
    setFailed(null);
    return api.client.PATCH("/v1/groups/{group}/members/{uid}", { params, body: part }).then(changed, (error: Error) => setFailed(error.message));
  };
  const remove = async () => {
    await api.client.DELETE("/v1/groups/{group}/members/{uid}", { params });
    await changed();
  };
  return (
    <li className="flex flex-wrap items-center gap-x-3 gap-y-2 py-2.5">
      {self ? (
        <OwnName name={member.name} save={(name) => change({ name })} />
      ) : (
        <span className="min-w-32 flex-1 truncate">{name}</span>
      )}
      {owner ? (
        <select
          aria-label={texts.roleOf(name)}
          value={member.role}
          onChange={(event) => void change({ role: event.target.value as Member["role"] })}
          className="h-9 rounded-lg border bg-raised px-2 text-sm"
        >
          {ROLES.map((role) => (
            <option key={role} value={role}>
              {texts.roles[role]}
            </option>
          ))}
        </select>
      ) : (
        <span className="text-sm text-muted">{texts.roles[member.role]}</span>
      )}
      {owner && !self && (
        <Button variant="ghost" size="icon-sm" aria-label={texts.remove(name)} title={texts.remove(name)} onClick={() => setRemoving(true)}>
          <UserMinus aria-hidden className="size-4" />
        </Button>
      )}
      {failed && (
        <p role="alert" className="w-full text-sm text-danger">
          {failed}
        </p>
      )}
      {removing && (
        <Confirm title={texts.remove(name)} hint={texts.removeHint(name)} action={texts.removeAction} run={remove} close={() => setRemoving(false)} />
      )}
    </li>
  );
}

function OwnName(props: { name: string; save: (name: string) => Promise<void> }) {
  const [name, setName] = useState(props.name);
  return (
    <form
      className="flex min-w-48 flex-1 items-center gap-2"
      onSubmit={(event) => {
        event.preventDefault();
        void props.save(name.trim());
      }}
    >
      <input aria-label={texts.you} value={name} required maxLength={100} onChange={(event) => setName(event.target.value)} className={`${inputClass} min-w-0`} />
      {name.trim() !== props.name ? (
        <Button type="submit" size="sm">
          {texts.rename}
        </Button>
      ) : (
        <span className="text-sm text-muted">{texts.self}</span>
      )}
    </form>
  );
}

function Invite({ group }: { group: string }) {
  const { api } = useSession();
  const [invite, setInvite] = useState<Schemas["GroupInvite"] | null>(null);
  const [told, setTold] = useState<string | null>(null);
  const [failed, setFailed] = useState<string | null>(null);
  const params = { path: { group } };
  const attempt = (work: Promise<void>) => {
    setFailed(null);
    setTold(null);
    work.catch((error: Error) => setFailed(error.message));
  };
  const make = async (form: FormData) => {
    const wanted = { role: form.get("role") as "viewer" | "editor", uses: Number(form.get("uses")) };
    setInvite(await body(api.client.POST("/v1/groups/{group}/invites", { params, body: { ...wanted, hours: 72 } })));
  };
  const withdraw = async () => {
    await api.client.DELETE("/v1/groups/{group}/invites", { params });
    setInvite(null);
    setTold(texts.withdrawn);
  };
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    attempt(make(new FormData(event.currentTarget)));
  };
  return (
    <Section title={texts.invite}>
      <form onSubmit={submit} className="flex flex-wrap items-end gap-3">
        <label className="flex flex-col gap-1.5 text-sm font-medium">
          {texts.inviteRole}
          <select name="role" defaultValue="editor" className={`${inputClass} font-normal`}>
            <option value="editor">{texts.roles.editor}</option>
            <option value="viewer">{texts.roles.viewer}</option>
          </select>
        </label>
        <Field name="uses" label={texts.inviteUses} type="number" min={1} max={10_000} defaultValue={1} required className="w-40" />
        <Button type="submit" variant="primary">
          {texts.inviteMake}
        </Button>
      </form>
      {invite && <InviteLink group={group} invite={invite} />}
      {told && <Notice>{told}</Notice>}
      {failed && <Notice kind="danger">{failed}</Notice>}
      <Button size="sm" variant="ghost" className="self-start" onClick={() => attempt(withdraw())}>
        {texts.withdraw}
      </Button>
    </Section>
  );
}

function InviteLink({ group, invite }: { group: string; invite: Schemas["GroupInvite"] }) {
  const link = `${location.origin}${location.pathname}#/groups/${group}/join/${invite.invite}`;
  const [copied, copy] = useCopy(link);
  return (
    <div className="flex flex-col gap-2">
      <div className="flex items-center gap-2">
        <input readOnly aria-label={texts.link} value={link} onFocus={(event) => event.target.select()} className={`${inputClass} min-w-0`} />
        <Button size="icon" aria-label={copied ? common.copied : common.copy} title={common.copy} onClick={copy}>
          {copied ? <Check aria-hidden className="size-4" /> : <Copy aria-hidden className="size-4" />}
        </Button>
      </div>
      <p className="text-sm text-muted">{texts.inviteHint(date(invite.expires_at))}</p>
    </div>
  );
}

function Rename({ group, changed }: { group: Group; changed: () => Promise<void> }) {
  const { api } = useSession();
  const [name, setName] = useState(group.name);
  const [failed, setFailed] = useState<string | null>(null);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setFailed(null);
    const call = api.client.PATCH("/v1/groups/{group}", { params: { path: { group: group.id } }, body: { name: name.trim() } });
    call.then(changed, (error: Error) => setFailed(error.message));
  };
  return (
    <form onSubmit={submit} className="flex items-end gap-2">
      <Field label={texts.name} value={name} error={failed} required maxLength={100} className="min-w-0 flex-1" onChange={(event) => setName(event.target.value)} />
      <Button type="submit" disabled={name.trim() === group.name}>
        {common.save}
      </Button>
    </form>
  );
}

const ENDED = ["succeeded", "dead", "cancelled"];

function Export({ group }: { group: string }) {
  const { api } = useSession();
  const [id, setId] = useState<string | null>(null);
  const [failed, setFailed] = useState<string | null>(null);
  const read = () => body(api.client.GET("/v1/groups/{group}/exports/{id}", { params: { path: { group, id: id! } } }));
  const { data } = useSWR(id && ["group export", id], read, { refreshInterval: (latest) => (latest && ENDED.includes(latest.state) ? 0 : 1500) });
  const start = () => {
    setFailed(null);
    body(api.client.POST("/v1/groups/{group}/exports", { params: { path: { group } } })).then((job) => setId(job.id), (error: Error) => setFailed(error.message));
  };
  const problem = failed ?? data?.error?.message;
  if (data?.url) {
    return (
      <a href={new URL(data.url, api.base).href} download className={`${buttonClass("primary")} self-start`}>
        <Download aria-hidden className="size-4" />
        {texts.download}
      </a>
    );
  }
  return (
    <>
      {problem && <Notice kind="danger">{problem}</Notice>}
      {id && !problem ? (
        <Spinner label={texts.exporting} />
      ) : (
        <Button className="self-start" onClick={start}>
          {texts.export}
        </Button>
      )}
    </>
  );
}

/** Leaving the group and, for owners, its end. */
function Leave({ group }: { group: Group }) {
  const { api, user } = useSession();
  const { changed } = useGroups();
  const [, navigate] = useLocation();
  const [asking, setAsking] = useState<"leave" | "delete" | null>(null);
  const path = { group: group.id };
  const end = async () => {
    if (asking === "delete") await api.client.DELETE("/v1/groups/{group}", { params: { path } });
    else await api.client.DELETE("/v1/groups/{group}/members/{uid}", { params: { path: { ...path, uid: user.uid } } });
    await changed();
    navigate("/groups");
  };
  return (
    <div className="flex flex-wrap gap-2">
      <Button onClick={() => setAsking("leave")}>{texts.leave}</Button>
      {group.role === "owner" && (
        <Button variant="danger" onClick={() => setAsking("delete")}>
          {texts.delete}
        </Button>
      )}
      {asking && (
        <Confirm
          title={asking === "leave" ? texts.leave : texts.delete}
          hint={asking === "leave" ? texts.leaveHint : texts.deleteHint}
          action={asking === "leave" ? texts.leaveAction : common.remove}
          run={end}
          close={() => setAsking(null)}
        />
      )}
    </div>
  );
}
