import { Download } from "lucide-react";
import { type FormEvent, useState } from "react";
import useSWR from "swr";
import { body } from "../api/client";
import { count, date, money } from "../lib/format";
import { setTheme, type Theme, useTheme } from "../lib/theme";
import { SignUp } from "../session/SignUp";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { Button, buttonClass } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Field } from "../ui/Field";
import { Notice } from "../ui/Notice";
import { Page, Section } from "../ui/Page";
import { Spinner } from "../ui/Spinner";
import { BudgetBar, useUsage } from "./usage";

/** Who the user is, what they used, and what becomes of their data. */
export default function AccountPage() {
  const { user, signOut } = useSession();
  return (
    <Page
      title={texts.account.title}
      hint={texts.account.signedInAs(user.name || texts.signIn.asGuest)}
      actions={<Button onClick={() => void signOut()}>{texts.signIn.out}</Button>}
    >
      {user.guest && <SignUp hint={texts.signIn.signUpHint} />}
      <Usage />
      <Appearance />
      <Memory />
      {!user.guest && <Data />}
    </Page>
  );
}

function Usage() {
  const { data } = useUsage(7);
  return (
    <Section title={texts.account.usage}>
      <BudgetBar />
      {!data ? (
        <Spinner />
      ) : (
        <table className="w-full text-sm">
          <thead>
            <tr className="text-left text-muted">
              <th className="py-1.5 font-medium">{texts.account.date}</th>
              <th className="py-1.5 text-right font-medium">{texts.account.requests}</th>
              <th className="py-1.5 text-right font-medium">{texts.account.cost}</th>
            </tr>
          </thead>
          <tbody>
            {[data, ...data.days.filter((day) => day.requests)].map((day) => (
              <tr key={day.day} className="border-t">
                <td className="py-1.5">{date(`${day.day}T12:00`)}</td>
                <td className="py-1.5 text-right tabular-nums">{count(day.requests)}</td>
                <td className="py-1.5 text-right tabular-nums">{money(day.cost_micro_usd)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  );
}

const THEMES: Theme[] = ["light", "dark", "system"];

function Appearance() {
  const theme = useTheme();
  return (
    <Section title={texts.theme.label}>
      <div role="radiogroup" aria-label={texts.theme.label} className="flex gap-2">
        {THEMES.map((name) => (
          <label key={name} className="cursor-pointer rounded-lg border px-4 py-2 text-sm select-none hover:bg-hover has-checked:border-accent has-checked:bg-accent-soft has-focus-visible:outline-2">
            <input type="radio" name="theme" checked={theme === name} onChange={() => setTheme(name)} className="sr-only" />
            {texts.theme[name]}
          </label>
        ))}
      </div>
    </Section>
  );
}

function Memory() {
  const { api } = useSession();
  const { data, mutate } = useSWR("memory", () => body(api.client.GET("/v1/memory")));
  const forget = async () => {
    await api.client.DELETE("/v1/memory");
    await mutate();
  };
  return (
    <Section title={texts.account.memory}>
      {data?.notes.length ? (
        <>
          <ul className="list-disc pl-5 text-sm">
            {data.notes.map((note) => (
              <li key={note}>{note}</li>
            ))}
          </ul>
          <Button className="self-start" size="sm" onClick={() => void forget()}>
            {texts.account.forget}
          </Button>
        </>
      ) : (
        <p className="text-sm text-muted">{texts.account.noMemory}</p>
      )}
    </Section>
  );
}

function Data() {
  const [removing, setRemoving] = useState(false);
  return (
    <Section title={texts.account.data}>
      <Export />
      <Button variant="danger" className="self-start" onClick={() => setRemoving(true)}>
        {texts.account.remove}
      </Button>
      {removing && <RemoveAccount close={() => setRemoving(false)} />}
    </Section>
  );
}

function Export() {
  const { api } = useSession();
  const [id, setId] = useState<string | null>(null);
  const [failed, setFailed] = useState<string | null>(null);
  const read = () => body(api.client.GET("/v1/me/exports/{id}", { params: { path: { id: id! } } }));
  const { data } = useSWR(id && ["export", id], read, {
    refreshInterval: (latest) => (latest && ["succeeded", "dead", "cancelled"].includes(latest.state) ? 0 : 1500),
  });
  const start = () => {
    setFailed(null);
    body(api.client.POST("/v1/me/exports")).then((job) => setId(job.id), (error: Error) => setFailed(error.message));
  };
  const problem = failed ?? data?.error?.message;
  return (
    <div className="flex flex-col gap-2">
      <p className="text-sm text-muted">{texts.account.exportHint}</p>
      {problem && <Notice kind="danger">{problem}</Notice>}
      {data?.url ? (
        <a href={new URL(data.url, api.base).href} download className={`${buttonClass("primary")} self-start`}>
          <Download aria-hidden className="size-4" />
          {texts.account.download}
        </a>
      ) : id && !problem ? (
        <Spinner label={texts.account.exporting} />
      ) : (
        <Button className="self-start" onClick={start}>
          {texts.account.export}
        </Button>
      )}
    </div>
  );
}

function RemoveAccount({ close }: { close: () => void }) {
  const { api, user, signOut } = useSession();
  const [word, setWord] = useState("");
  const [failed, setFailed] = useState<string | null>(null);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    try {
      await api.client.DELETE("/v1/me");
      // Firebase refuses it to whoever signed in long ago; the data here is gone all the same.
      await user.remove?.().catch(() => undefined);
      await signOut();
    } catch (error) {
      setFailed((error as Error).message);
    }
  };
  return (
    <Dialog open close={close} title={texts.account.remove}>
      <form onSubmit={(event) => void submit(event)} className="flex flex-col gap-4">
        <p className="text-muted">{texts.account.removeHint}</p>
        <Field
          label={texts.account.removeConfirm(texts.account.removeWord)}
          value={word}
          error={failed}
          autoComplete="off"
          onChange={(event) => setWord(event.target.value)}
        />
        <div className="flex justify-end gap-2">
          <Button onClick={close}>{texts.cancel}</Button>
          <Button type="submit" variant="danger" disabled={word.trim().toLowerCase() !== texts.account.removeWord}>
            {texts.account.remove}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
