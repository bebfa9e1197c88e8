import { Plus } from "lucide-react";
import { type FormEvent, useState } from "react";
import { Link, useLocation, useRoute } from "wouter";
import { body } from "../api/client";
import { useSession } from "../session/session";
import { texts as common } from "../texts";
import { Button, buttonClass } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Field } from "../ui/Field";
import { Page } from "../ui/Page";
import { Spinner } from "../ui/Spinner";
import { GroupPage } from "./GroupPage";
import { JoinGroup } from "./JoinGroup";
import { texts } from "./texts";
import { useGroups } from "./useGroups";

/** The pages of groups: the list, one group, and the page that an invitation's link leads to. */
export default function GroupPages() {
  const [, join] = useRoute("/groups/:group/join/:code");
  const [, one] = useRoute("/groups/:group");
  if (join) return <JoinGroup group={join.group} code={join.code} />;
  return one ? <GroupPage key={one.group} id={one.group} /> : <GroupList />;
}

function GroupList() {
  const { groups } = useGroups();
  const [making, setMaking] = useState(false);
  return (
    <Page
      title={texts.title}
      hint={texts.hint}
      actions={
        <Button variant="primary" onClick={() => setMaking(true)}>
          <Plus aria-hidden className="size-4" />
          {texts.make}
        </Button>
      }
    >
      {!groups && <Spinner />}
      {groups && !groups.length && <p className="text-muted">{texts.none}</p>}
      <ul className="flex flex-col gap-2">
        {groups?.map((group) => (
          <li key={group.id} className="flex items-center gap-3 rounded-xl border bg-raised p-3.5">
            <div className="min-w-0 flex-1">
              <Link href={`/groups/${group.id}`} className="block truncate font-medium hover:underline">
                {group.name}
              </Link>
              <p className="truncate text-sm text-muted">
                {texts.roles[group.role]} · {texts.members(group.members)}
              </p>
            </div>
            <Link href={`/in/${group.id}/`} aria-label={`${texts.open} ${group.name}`} className={buttonClass("outline", "sm")}>
              {texts.open}
            </Link>
          </li>
        ))}
      </ul>
      {making && <MakeGroup close={() => setMaking(false)} />}
    </Page>
  );
}

function MakeGroup({ close }: { close: () => void }) {
  const { api, user } = useSession();
  const { changed } = useGroups();
  const [, navigate] = useLocation();
  const [failed, setFailed] = useState<string | null>(null);
  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    try {
      const made = { name: String(form.get("name")).trim(), member_name: String(form.get("you")).trim() };
      const group = await body(api.client.POST("/v1/groups", { body: made }));
      await changed();
      navigate(`/groups/${group.id}`);
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  return (
    <Dialog open close={close} title={texts.make}>
      <form onSubmit={(event) => void submit(event)} className="flex flex-col gap-4">
        <Field name="name" label={texts.name} required maxLength={100} autoComplete="off" />
        <Field name="you" label={texts.you} error={failed} required maxLength={100} defaultValue={user.name} autoComplete="name" />
        <p className="text-sm text-muted">{texts.youHint}</p>
        <div className="flex justify-end gap-2">
          <Button onClick={close}>{common.cancel}</Button>
          <Button type="submit" variant="primary">
            {texts.make}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
