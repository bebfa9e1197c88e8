import { lazy } from "react";
import type { AppPage } from "../page";

const RecordsPage = lazy(() => import("./RecordsPage"));

/** A field of a record: how it is called, and how it is typed in. */
export interface FieldOf {
  label: string;
  type: "text" | "long text" | "number" | "date" | "choice" | "yes or no";
  choices?: string[];
  min?: number;
  max?: number;
  optional?: boolean;
}

type Values = Record<string, unknown>;

/** A collection of the app, and how its records are shown. */
export interface Collection {
  path: string;
  label: string;
  /** The routes that `crud` makes, such as `/api/meals`, or `/api/groups/{group}/meals` for what groups share. */
  url: string;
  /** The field, or the fields, that a record is known by. */
  title: (record: Values) => string;
  /** What stands below it. */
  details?: (record: Values) => string;
  fields: Record<string, FieldOf>;
}

/** A page with the user's, or a group's, records of a collection: a list, and a form to add and change them. */
export function records(collection: Collection): AppPage {
  return { path: collection.path, label: collection.label, Page: () => <RecordsPage {...collection} /> };
}
