import { type FormEvent, useEffect, useState } from "react";
import { useLocation } from "wouter";
import { forgetGroupInvite } from "../session/invite";
import { useSession } from "../session/session";
import { texts as common } from "../texts";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { Page } from "../ui/Page";
import { texts } from "./texts";
import { useGroups } from "./useGroups";

/** The page that an invitation's link leads to. Nobody joins without a click. */
export function JoinGroup({ group, code }: { group: string; code: string }) {
  const { api, user } = useSession();
  const { changed } = useGroups();
  const [, navigate] = useLocation();
  const [failed, setFailed] = useState<string | null>(null);
  const [joining, setJoining] = useState(false);
  useEffect(forgetGroupInvite, []);
  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    setJoining(true);
    const name = String(new FormData(event.currentTarget).get("you")).trim();
    try {
      await api.client.POST("/v1/groups/{group}/join", { params: { path: { group } }, body: { invite: code, name } });
      await changed();
      navigate(`/in/${group}/`);
    } catch (error) {
      setJoining(false);
      setFailed((error as Error).message);
    }
  };
  return (
    <Page title={texts.joinTitle} hint={texts.joinHint}>
      <form onSubmit={(event) => void submit(event)} className="flex max-w-sm flex-col gap-4">
        <Field name="you" label={texts.you} error={failed} required maxLength={100} defaultValue={user.name} autoComplete="name" />
        <p className="text-sm text-muted">{texts.youHint}</p>
        <div className="flex gap-2">
          <Button type="submit" variant="primary" disabled={joining}>
            {texts.join}
          </Button>
          <Button onClick={() => navigate("/")}>{common.cancel}</Button>
        </div>
      </form>
    </Page>
  );
}
