// Has Lighthouse look at the web client's pages, and adds its scores to the report.
import { readFileSync, writeFileSync } from "node:fs";
import lighthouse from "lighthouse";
import puppeteer from "puppeteer-core";

const { BROWSER, URL: HOME, REPORT } = process.env;
const LEAST = 95;
const CATEGORIES = { accessibility: "lighthouse_accessibility", "best-practices": "lighthouse_best_practices" };
const SIGNED_OUT = ["/"];
const SIGNED_IN = ["/", "/#/documents", "/#/plans", "/#/account"];

const report = JSON.parse(readFileSync(REPORT, "utf8"));
Object.assign(report, { lighthouse: {} }, Object.fromEntries(Object.values(CATEGORIES).map((name) => [name, 100])));
const browser = await puppeteer.launch({ executablePath: BROWSER, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const flags = { disableStorageReset: true, throttlingMethod: "provided", onlyCategories: Object.keys(CATEGORIES), logLevel: "error" };
const settings = { formFactor: "desktop", screenEmulation: { disabled: true } };

/** Look at a page; what it lost points for is a failure where the score is too low. */
async function look(page, path, name) {
  await page.goto("about:blank");
  const { lhr } = await lighthouse(`${HOME}${path}`, flags, { extends: "lighthouse:default", settings }, page);
  report.lighthouse[name] = {};
  for (const [id, total] of Object.entries(CATEGORIES)) {
    const { score, auditRefs } = lhr.categories[id];
    const points = Math.round(score * 100);
    report.lighthouse[name][id] = points;
    report[total] = Math.min(report[total], points);
    const lost = auditRefs.filter((ref) => ref.weight && (lhr.audits[ref.id].score ?? 1) < 1).map(({ id }) => [id, ...(lhr.audits[id].details?.items ?? []).map((item) => item.issueType ?? item.description ?? "")].join(" "));
    console.log(`${name}: ${id} ${points}${lost.length ? ` (${lost.join(", ")})` : ""}`);
    if (points < LEAST) {
      report.failed += 1;
      report.failures.push({ name: `Lighthouse: ${name}`, error: `${id} is ${points}: ${lost.join(", ")}` });
    }
  }
}

const page = await browser.newPage();
for (const path of SIGNED_OUT) await look(page, path, `signed out ${path}`);
await page.goto(HOME);
await page.evaluate(() => localStorage.setItem("dev-user", "light"));
for (const path of SIGNED_IN) await look(page, path, path);
await page.goto("about:blank");
await page.goto(HOME);
await page.locator("textarea").fill("markdown");
await page.keyboard.press("Enter");
await page.waitForFunction(() => document.querySelector("article table") && location.hash.startsWith("#/chats/"));
await look(page, `/${await page.evaluate(() => location.hash)}`, "a chat");
await browser.close();
writeFileSync(REPORT, `${JSON.stringify(report, null, 2)}\n`);
process.exit(report.failed ? 1 : 0);
