import { Check } from "lucide-react";
import { useState } from "react";
import useSWR from "swr";
import { body } from "../api/client";
import { cx } from "../lib/cx";
import { date, money } from "../lib/format";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";
import { Page, Section } from "../ui/Page";
import { Spinner } from "../ui/Spinner";
import { SignUp } from "../session/SignUp";

/** What the user has, what can be bought, and the way to Stripe's pages. */
export default function PlansPage() {
  const { user } = useSession();
  return (
    <Page title={texts.plans.title}>
      {user.guest ? <SignUp hint={texts.plans.guest} /> : <Plans />}
    </Page>
  );
}

/** What Stripe's page led back with. */
const CHECKOUT = new URLSearchParams(location.search).get("checkout");

function Plans() {
  const { api, config } = useSession();
  const me = useSWR("me", () => body(api.client.GET("/v1/me")));
  const billing = useSWR("billing", () => body(api.client.GET("/v1/billing")), { refreshInterval: CHECKOUT === "done" ? 3000 : 0 });
  const [failed, setFailed] = useState<string | null>(null);
  const leave = (call: Promise<{ data?: { url: string } }>) => {
    setFailed(null);
    body(call).then(({ url }) => location.assign(url), (error: Error) => setFailed(error.message));
  };
  const buy = (order: { plan: string } | { top_up: string }) => leave(api.client.POST("/v1/billing/checkout", { body: order }));
  if (!me.data) return <Spinner />;
  const plan = billing.data?.plan ?? me.data.plan;
  const shown = config.plans.filter((each) => each.for_sale || each.name === plan);
  return (
    <>
      {CHECKOUT === "done" && <Notice>{texts.plans.done}</Notice>}
      {CHECKOUT === "canceled" && <Notice>{texts.plans.canceled}</Notice>}
      {failed && <Notice kind="danger">{failed}</Notice>}
      <ul className="grid gap-4 sm:grid-cols-2">
        {shown.map((each) => (
          <li key={each.name} className={cx("flex flex-col gap-4 rounded-2xl border bg-raised p-5", each.name === plan && "border-accent")}>
            <div className="flex items-center justify-between gap-2">
              <h2 className="text-lg font-semibold capitalize">{each.name}</h2>
              {each.name === plan && <span className="rounded-full bg-accent-soft px-2.5 py-0.5 text-xs font-medium">{texts.plans.current}</span>}
            </div>
            <ul className="flex flex-1 flex-col gap-1.5 text-sm text-muted">
              {[texts.plans.minute(each.requests_per_minute), texts.plans.day(money(each.daily_micro_usd)), ...each.features].map((line) => (
                <li key={line} className="flex items-center gap-2">
                  <Check aria-hidden className="size-4 text-accent" />
                  {line}
                </li>
              ))}
            </ul>
            {each.for_sale && each.name !== plan && (
              <Button variant="primary" onClick={() => buy({ plan: each.name })}>
                {texts.plans.choose(each.name)}
              </Button>
            )}
          </li>
        ))}
      </ul>
      {config.top_ups.length > 0 && (
        <Section title={texts.plans.credit}>
          {billing.data && <p>{money(billing.data.credit.micro_usd)}</p>}
          <div className="flex flex-wrap gap-2">
            {config.top_ups.map((name) => (
              <Button key={name} onClick={() => buy({ top_up: name })}>
                {texts.plans.buy(name)}
              </Button>
            ))}
          </div>
        </Section>
      )}
      {billing.data && billing.data.subscriptions.length > 0 && (
        <Section title={texts.plans.current}>
          <ul className="flex flex-col gap-1 text-sm">
            {billing.data.subscriptions.map((each) => (
              <li key={each.id} className="flex flex-wrap justify-between gap-2">
                <span className="capitalize">
                  {each.plan} · {each.status.replaceAll("_", " ")}
                </span>
                <span className="text-muted">
                  {each.cancel_at ? texts.plans.ends(date(each.cancel_at)) : each.period_end && texts.plans.renews(date(each.period_end))}
                </span>
              </li>
            ))}
          </ul>
          <Button className="self-start" onClick={() => leave(api.client.POST("/v1/billing/portal"))}>
            {texts.plans.portal}
          </Button>
        </Section>
      )}
      {!config.top_ups.length && !config.plans.some((each) => each.for_sale) && <p className="text-muted">{texts.plans.off}</p>}
    </>
  );
}
