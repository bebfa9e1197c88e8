import type { AppPage } from "./page";

/** The pages that this app has besides chats and documents. */
export const pages: AppPage[] = [];
