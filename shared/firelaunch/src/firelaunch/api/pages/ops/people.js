// Jobs that are dead, schedules, members and their roles, and plans.
import { call, currentToken, json, read } from "./api.js";
import { button, make } from "./dom.js";
import { when } from "./figures.js";
import { scrolled } from "./requests.js";

/** The view of jobs: the dead ones, which can be tried anew, and the app's schedules. */
export async function jobsView(ask, refresh, problem) {
  const [jobs, schedules] = await Promise.all([read("/v1/ops/jobs?limit=20"), read("/v1/ops/schedules")]);
  return [
    make("h2", {}, "Dead jobs"),
    make("p", { className: "faint" }, "A job is dead when its last try failed. Trying it anew gives it all its tries again."),
    jobs.items.length ? scrolled("Dead jobs", deadTable(jobs.items, ask, refresh, problem)) : make("p", { className: "card empty" }, "No job is dead."),
    make("h2", {}, "Schedules"),
    schedules.items.length ? scrolled("Schedules", scheduleTable(schedules.items)) : make("p", { className: "card empty" }, "The app has no schedules."),
  ];
}

function deadTable(jobs, ask, refresh, problem) {
  return table(
    ["Kind", "Died", "Tries", "Why", ""],
    jobs.map((job) => {
      const again = button("Try anew", async () => {
        if (!(await ask(`Try the job ${job.kind} anew?`, "It runs once more from its last checkpoint."))) return;
        again.disabled = true;
        try {
          await call(`/v1/ops/jobs/${encodeURIComponent(job.id)}/redrive`, { method: "POST" });
          refresh();
        } catch (error) {
          again.disabled = false;
          again.after(problem(error));
        }
      });
      again.ariaLabel = `Try anew: the job ${job.kind} of ${when(job.finished_at ?? job.created_at)}`;
      const why = job.error ? `${job.error.code}: ${job.error.message}` : "–";
      return [job.kind, when(job.finished_at ?? job.created_at), String(job.attempts), why, again];
    }),
  );
}

function scheduleTable(schedules) {
  const rows = schedules.map((each) => [each.name, `${each.cron} (${each.zone})`, each.last_tick ? when(each.last_tick) : "never", when(each.next_tick), String(each.missed), String(each.skipped)]);
  return table(["Name", "When", "Last", "Next", "Missed", "Skipped"], rows);
}

/** A table of rows of texts or elements; the first of each row names it. */
export function table(heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => (text ? make("th", { scope: "col" }, text) : make("td", {}))));
  const body = rows.map(([name, ...others]) => make("tr", {}, make("th", { scope: "row" }, name), ...others.map((each) => make("td", { className: each.length > 40 ? "long" : "" }, each))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
}

/** The view of people: members with their roles, and what an admin may change. */
export async function peopleView(app, ask, problem) {
  const [{ items, next_cursor: more }, audit] = await Promise.all([read("/v1/ops/members?limit=50"), read("/v1/ops/audit?limit=20")]);
  const told = make("div", { ariaLive: "polite" });
  return [
    make("h2", {}, "Members"),
    make("p", { className: "faint" }, membersNote(app)),
    items.length ? scrolled("Members", membersTable(items, app, ask, told, problem)) : make("p", { className: "card empty" }, app.development ? "There are none: on a laptop, tokens name their own role." : "Nobody has joined yet."),
    ...(more ? [make("p", { className: "faint" }, "These are the 50 that changed last.")] : []),
    told,
    make("h2", {}, "Change a user"),
    userForm(app, ask, told, problem),
    make("h2", {}, "Audit log"),
    audit.items.length ? scrolled("Audit log", auditTable(audit.items)) : make("p", { className: "card empty" }, "Nothing was changed, and nothing read, yet."),
  ];
}

function auditTable(entries) {
  const facts = (values) => Object.entries(values ?? {}).map(([name, value]) => `${name} ${value ?? "none"}`).join(", ") || "–";
  return table(["When", "By", "What", "Whom", "Before", "After"], entries.map((each) => [when(each.at), each.by, each.what, each.whom ?? "–", facts(each.before), facts(each.after)]));
}

const membersNote = (app) =>
  app.membership_url
    ? "The membership function alone changes roles. This page calls it with your own token."
    : "The membership function alone changes roles. The settings don't name its address (membership.url), so this page gives you the command.";

function membersTable(members, app, ask, told, problem) {
  const rows = members.map(({ uid, role, joined }) => {
    let kept = role;
    const choice = make("select", { ariaLabel: `Role of ${uid}` }, ...[...new Set([...app.roles, role])].map((name) => make("option", { value: name, selected: name === role }, name)));
    choice.onchange = async () => {
      const changed = await change(app, { uid, role: choice.value }, ask, told, problem);
      if (changed) kept = choice.value;
      else choice.value = kept;
    };
    const ban = button("Remove", async () => (await change(app, { uid, role: null }, ask, told, problem)) && ban.closest("tr").remove(), "danger");
    ban.ariaLabel = `Remove ${uid} and keep them out`;
    return [uid, choice, joined ? when(joined) : "–", ban];
  });
  return table(["User", "Role", "Joined", ""], rows);
}

function userForm(app, ask, told, problem) {
  const uid = make("input", { id: "changed-uid", autocomplete: "off", spellcheck: false, required: true });
  const plan = make("select", { id: "changed-plan" }, make("option", { value: "" }, "as subscribed"), ...app.plans.map((name) => make("option", { value: name }, name)));
  const given = () => (uid.reportValidity() ? uid.value.trim() : "");
  const grant = button("Grant the plan", async () => {
    const who = given();
    if (!who || !(await ask(plan.value ? `Grant ${who} the plan ${plan.value}?` : `Take a granted plan back from ${who}?`, "It holds until you take it back."))) return;
    try {
      const answer = await (await call(`/v1/ops/users/${encodeURIComponent(who)}/plan`, json({ plan: plan.value || null }, { method: "PUT" }))).json();
      told.replaceChildren(done(`${answer.uid} has the plan ${answer.plan} (${answer.source}).`));
    } catch (error) {
      told.replaceChildren(problem(error));
    }
  });
  const remove = button("Remove and keep out", () => given() && change(app, { uid: given(), role: null }, ask, told, problem), "danger");
  const readmit = button("Let join again", () => given() && change(app, { uid: given(), readmit: true }, ask, told, problem));
  const field = (label, element) => make("p", {}, make("label", { htmlFor: element.id }, label), element);
  return make("div", { className: "card form" }, field("User id", uid), field("Plan", plan), make("p", { className: "row" }, grant, remove, readmit));
}

const done = (text) => make("p", { className: "card good" }, text);

// The membership function asks Firebase Auth whether the token's owner is an admin, whatever this page says.
async function change(app, { uid, role, readmit = false }, ask, told, problem) {
  const path = `/apps/${encodeURIComponent(app.app_id)}/${readmit ? "removals" : "members"}/${encodeURIComponent(uid)}`;
  const method = role ? "PUT" : "DELETE";
  if (!app.membership_url) {
    told.replaceChildren(command(path, method, role));
    return false;
  }
  const question = role ? `Make ${uid} ${role}?` : readmit ? `Let ${uid} join again?` : `Remove ${uid} and keep them out?`;
  if (!(await ask(question, "It takes effect with the user's next token, an hour later at most."))) return false;
  try {
    const options = role ? json({ role }, { method }) : { method, headers: {} };
    options.headers.Authorization = `Bearer ${currentToken()}`;
    const answer = await fetch(`${app.membership_url}${path}`, options);
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    told.replaceChildren(done(role ? `${uid} is now ${role}.` : readmit ? `${uid} may join again.` : `${uid} was removed.`));
    return true;
  } catch (error) {
    told.replaceChildren(problem(error));
    return false;
  }
}

// The rest is percent-encoded already. A shell gives these a meaning even inside of quotes.
const shellSafe = (path) => path.replace(/[!'()*]/g, (each) => `%${each.charCodeAt(0).toString(16).toUpperCase()}`);

function command(path, method, role) {
  const body = role ? ` \\\n  -H 'Content-Type: application/json' -d '{"role": "${role}"}'` : "";
  const text = `curl -X ${method} "$MEMBERSHIP_URL${shellSafe(path)}" \\\n  -H "Authorization: Bearer $TOKEN"${body}`;
  const copy = button("Copy", () => navigator.clipboard.writeText(text));
  return make("div", { className: "card" }, make("p", {}, "Run this with the address of the membership function and the ID token of an admin:"), make("pre", { tabIndex: 0 }, text), copy);
}
