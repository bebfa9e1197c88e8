import type { ComponentType } from "react";

/** A page of this app: its address, its name in the sidebar, and what it shows. */
export interface AppPage {
  path: string;
  label: string;
  Page: ComponentType;
}
