import { Check } from "lucide-react";
import { type ReactNode, useState } from "react";
import useSWR from "swr";
import { body, type Schemas } from "../api/client";
import { cx } from "../lib/cx";
import { date, money } from "../lib/format";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";
import { Page, Section } from "../ui/Page";
import { Spinner } from "../ui/Spinner";
import { SignUp } from "../session/SignUp";
import { leaveFor, type Purchase, useBilling } from "./purchase";

/** What the user has, what can be bought, and the way to Stripe's pages. */
export default function PlansPage() {
  const { user } = useSession();
  return (
    <Page title={texts.plans.title}>
      {user.guest ? <SignUp hint={texts.plans.guest} /> : <Plans />}
    </Page>
  );
}

function Plans() {
  const { api, config } = useSession();
  const me = useSWR("me", () => body(api.client.GET("/v1/me")));
  const { billing, purchase } = useBilling();
  const [failed, setFailed] = useState<string | null>(null);
  const leave = (page: "checkout" | "portal", call: Promise<{ data?: { url: string } }>) => {
    setFailed(null);
    body(call).then(
      ({ url }) => {
        leaveFor(page, billing);
        location.assign(url);
      },
      (error: Error) => setFailed(error.message),
    );
  };
  const buy = (order: { plan: string } | { top_up: string }) => leave("checkout", api.client.POST("/v1/billing/checkout", { body: order }));
  const manage = () => leave("portal", api.client.POST("/v1/billing/portal"));
  if (!me.data) return <Spinner />;
  const plan = billing?.plan ?? me.data.plan;
  const subscriptions = billing?.subscriptions ?? [];
  const shown = config.plans.filter((each) => each.for_sale || each.name === plan);
  return (
    <>
      {purchase && <Notice kind={purchase === "late" ? "warn" : "info"}>{told(purchase, plan, billing)}</Notice>}
      {subscriptions.map((each) => (
        <Fault key={each.id} subscription={each} action={<Button size="sm" onClick={manage}>{texts.plans.portal}</Button>} />
      ))}
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
              <Button variant="primary" onClick={subscriptions.length ? manage : () => buy({ plan: each.name })}>
                {subscriptions.length ? texts.plans.change(each.name) : texts.plans.choose(each.name)}
              </Button>
            )}
          </li>
        ))}
      </ul>
      {config.top_ups.length > 0 && (
        <Section title={texts.plans.credit}>
          {billing && <p>{money(billing.credit.micro_usd)}</p>}
          <div className="flex flex-wrap gap-2">
            {config.top_ups.map((name) => (
              <Button key={name} onClick={() => buy({ top_up: name })}>
                {texts.plans.buy(name)}
              </Button>
            ))}
          </div>
        </Section>
      )}
      {subscriptions.length > 0 && (
        <Section title={texts.plans.subscription}>
          <ul className="flex flex-col gap-1 text-sm">
            {subscriptions.map((each) => (
              <li key={each.id} className="flex flex-wrap justify-between gap-2">
                <span>
                  <span className="capitalize">{each.plan}</span> · {(texts.plans.states as Record<string, string>)[each.status] ?? each.status}
                </span>
                <span className="text-muted">
                  {each.cancel_at ? texts.plans.ends(date(each.cancel_at)) : each.period_end && texts.plans.renews(date(each.period_end))}
                </span>
              </li>
            ))}
          </ul>
          <Button className="self-start" onClick={manage}>
            {texts.plans.portal}
          </Button>
        </Section>
      )}
      {!config.top_ups.length && !config.plans.some((each) => each.for_sale) && <p className="text-muted">{texts.plans.off}</p>}
    </>
  );
}

/** How a purchase stands, in a sentence. */
function told(purchase: NonNullable<Purchase>, plan: string, billing: Schemas["BillingView"] | undefined): string {
  if (purchase === "plan") return texts.plans.confirmed(plan);
  if (purchase === "credit") return texts.plans.bought(money(billing?.credit.micro_usd ?? 0));
  return texts.plans[purchase];
}

/** What is wrong with a subscription, if anything is. */
function Fault({ subscription, action }: { subscription: Schemas["SubscriptionView"]; action: ReactNode }) {
  const fault = (texts.plans.faults as Record<string, (plan: string) => string>)[subscription.status];
  if (!fault) return null;
  return (
    <Notice kind="danger" actions={action}>
      {fault(subscription.plan ?? texts.plans.subscription)}
    </Notice>
  );
}
