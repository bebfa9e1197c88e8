import { useEffect, useState } from "react";
import useSWR, { useSWRConfig } from "swr";
import { body, type Schemas } from "../api/client";
import { useSession } from "../session/session";

type Billing = Schemas["BillingView"];

/** How a purchase stands that Stripe's page led back from. */
export type Purchase = "confirming" | "late" | "plan" | "credit" | "canceled" | null;

const LEFT = "billing-left";
const EVERY = 1500;
const LATE = 60_000;
/** How long a change that was made in the portal is waited for. */
const PORTAL = 20_000;

/** What a payment changes. */
const paid = (billing: Billing) => JSON.stringify([billing.plan, billing.credit.micro_usd, billing.subscriptions.map((each) => each.id)]);

/** Keep what the user has when they leave for one of Stripe's pages. */
export function leaveFor(page: "checkout" | "portal", billing: Billing | undefined): void {
  sessionStorage.setItem(LEFT, JSON.stringify({ page, before: billing && { paid: paid(billing), credit: billing.credit.micro_usd } }));
}

interface Left {
  page: "checkout" | "portal";
  before?: { paid: string; credit: number };
}

/** What Stripe's page led back with. It is read once, so that a reload says nothing of it. */
function comeBack(): { outcome: string | null; left: Left | null; at: number } {
  const outcome = new URLSearchParams(location.search).get("checkout");
  if (outcome) history.replaceState(null, "", location.pathname + location.hash);
  const kept = sessionStorage.getItem(LEFT);
  sessionStorage.removeItem(LEFT);
  return { outcome, left: kept ? (JSON.parse(kept) as Left) : null, at: Date.now() };
}

const BACK = comeBack();

/** Whether what was bought is there. Without a memory of before, having a subscription or credit has to do. */
function arrived(billing: Billing): boolean {
  const before = BACK.left?.before;
  return before ? paid(billing) !== before.paid : billing.subscriptions.length > 0 || billing.credit.micro_usd > 0;
}

/** What the user pays for, asked again until what they did on Stripe's page has arrived here. */
export function useBilling() {
  const { api } = useSession();
  const { mutate } = useSWRConfig();
  const [late, setLate] = useState(false);
  const bought = BACK.outcome === "done";
  const waits = (billing: Billing | undefined) =>
    bought ? !billing || !arrived(billing) : BACK.left?.page === "portal" && Date.now() - BACK.at < PORTAL;
  const { data } = useSWR("billing", () => body(api.client.GET("/v1/billing")), {
    refreshInterval: (latest) => (waits(latest) ? EVERY * (late ? 4 : 1) : 0),
  });
  const there = bought && !!data && arrived(data);
  useEffect(() => {
    // The plan, and with it the budget, are others now.
    if (there) void mutate((key) => key === "me" || (Array.isArray(key) && key[0] === "usage"));
  }, [there, mutate]);
  useEffect(() => {
    if (!bought || there) return;
    const timer = setTimeout(() => setLate(true), LATE);
    return () => clearTimeout(timer);
  }, [bought, there]);
  useEffect(
    () => () => {
      BACK.outcome = null; // whoever comes to the page again has read it
    },
    [],
  );
  const credit = there && data.credit.micro_usd > (BACK.left?.before?.credit ?? Infinity);
  const purchase: Purchase = there ? (credit ? "credit" : "plan") : bought ? (late ? "late" : "confirming") : BACK.outcome === "canceled" ? "canceled" : null;
  return { billing: data, purchase };
}
