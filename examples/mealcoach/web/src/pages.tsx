import type { AppPage } from "./page";
import { records } from "./records/records";

/** The pages that this app has besides chats and documents. */
export const pages: AppPage[] = [
  records({
    path: "/meals",
    label: "Meals",
    url: "/api/meals",
    title: (meal) => String(meal.name),
    details: (meal) => `${String(meal.day)} · ${String(meal.kind)} · ${String(meal.kcal)} kcal`,
    fields: {
      name: { label: "Name", type: "text", max: 200 },
      kcal: { label: "Calories", type: "number", min: 0 },
      kind: { label: "Kind", type: "choice", choices: ["breakfast", "lunch", "dinner", "snack"] },
      day: { label: "Day", type: "date" },
    },
  }),
  records({
    path: "/kitchen",
    label: "Kitchen",
    url: "/api/groups/{group}/dishes",
    title: (dish) => String(dish.name),
    details: (dish) => `${String(dish.day)} · ${String(dish.servings)} servings`,
    fields: {
      name: { label: "Name", type: "text", max: 200 },
      servings: { label: "Servings", type: "number", min: 1, max: 100 },
      day: { label: "Day", type: "date" },
    },
  }),
];
