import useSWR from "swr";
import { body } from "../api/client";
import { money } from "../lib/format";
import { useSession } from "../session/session";
import { texts } from "../texts";
import { UsedBar } from "../ui/Bar";

export function useUsage(days = 1) {
  const { api } = useSession();
  return useSWR(["usage", days], () => body(api.client.GET("/v1/usage", { params: { query: { days } } })));
}

/** How much of today's budget is used up. */
export function BudgetBar({ only }: { only?: "near" }) {
  const { data } = useUsage();
  if (!data) return null;
  const { daily_micro_usd: limit, cheaper_model_at_percent: soft } = data.limit;
  const part = limit ? data.cost_micro_usd / limit : 0;
  const near = part * 100 >= soft;
  if (only === "near" && !near) return null;
  return (
    <div className="flex flex-col gap-1.5 text-sm">
      <UsedBar label={texts.limits.budget} value={part} near={near} />
      <p className="text-xs text-muted">{texts.limits.used(money(data.cost_micro_usd), money(limit))}</p>
      {near && <p className="text-xs text-warn">{texts.limits.near}</p>}
    </div>
  );
}
