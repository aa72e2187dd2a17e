// Drives the page in a real browser: node web_page.js BROWSER URL TOKEN WAITING-ID GONE-ID. Prints what is wrong, as JSON.
// SHOTS: a folder for pictures of every view. VIEWS: other views, as JSON: [["#/", selector, text in lower case], ...].
const { chromium } = require("playwright-core");

// Without what the view before would still do in a while.
async function begun(page) {
  await page.reload();
  await page.waitForSelector("main:not([aria-busy])");
}

// Each filter of the address goes to the listing, to the count, and to what a verb is asked about; without one, all is said.
async function filtered(page) {
  const problems = [], names = ["from", "to", "domain", "site", "reply", "older", "larger", "status"];
  let asked = [];
  await begun(page);
  await page.route("**/api/v1/queue**", async (route) => {
    const request = route.request();
    asked.push([new URL(request.url()), request.postDataJSON()]);
    await route.fulfill({ json: { messages: request.url().includes("?limit") || request.url().includes("&limit") ? [] : 2, recipients: 3, more: false } });
  });
  for (const name of [...names, ""]) {
    asked = [];
    const value = name === "status" ? "held" : "2";
    const answered = [/\/queue\?/, /\/queue\/count/].map((url) => page.waitForResponse(url));
    await page.evaluate((to) => { location.hash = to; }, name ? `#/queue?${name}=${value}` : "#/queue");
    await Promise.all(answered);
    await page.waitForSelector("main:not([aria-busy]) .verbs");
    const offered = await page.textContent(".verbs[aria-label=Changes]");
    if (!offered.startsWith(name ? "These:" : "Everything:")) problems.push(`filter ${name}: ${offered}`);
    const queries = asked.map(([url]) => names.filter((one) => url.searchParams.get(one)).map((one) => `${one}=${url.searchParams.get(one)}`).join());
    if (queries.length !== 2 || queries.some((one) => one !== (name ? `${name}=${value}` : ""))) problems.push(`filter ${name}: asked ${queries}`);
    asked = [];
    await page.locator(".verbs button", { hasText: /^bounce$/ }).click();
    await page.waitForFunction(() => document.activeElement.textContent.startsWith("bounce: "));
    const wanted = JSON.stringify({ ...(name ? { [name]: value } : { all: true }), dry_run: true });
    if (asked.length !== 1 || !asked[0][0].pathname.endsWith("/queue/bounce") || JSON.stringify(asked[0][1]) !== wanted)
      problems.push(`filter ${name}: a dry run of ${JSON.stringify(asked)}`);
  }
  await page.unroute("**/api/v1/queue**");
  return problems;
}

// A message's own page changes that message.
async function changedOne(page, id) {
  const asked = [];
  await begun(page);
  await page.route("**/api/v1/queue/**", async (route) => {
    asked.push(route.request().postDataJSON());
    await route.fulfill({ json: { messages: 1, recipients: 1 } });
  });
  await page.evaluate((to) => { location.hash = to; }, `#/message?id=${id}`);
  await page.waitForFunction(() => document.querySelector("main:not([aria-busy])")?.textContent.includes("What became of it"));
  await page.locator(".verbs button", { hasText: /^remove$/ }).click();
  await page.waitForFunction(() => document.activeElement.textContent.startsWith("remove: "));
  await page.keyboard.press("Enter");
  await page.waitForSelector(".verbs [role=status]");
  await page.unroute("**/api/v1/queue/**");
  const wanted = [{ id: [id], dry_run: true }, { id: [id] }];
  return JSON.stringify(asked) === JSON.stringify(wanted) ? [] : [`one message: asked ${JSON.stringify(asked)}`];
}

// Who logs in with a password: the key of the session goes with each request, and the session is ended at the server.
async function session(page) {
  const asked = [];
  await page.evaluate(() => { location.hash = "#/queue"; });
  await begun(page);
  await page.route("**/api/v1/**", async (route) => {
    const request = route.request(), path = new URL(request.url()).pathname.slice("/api/v1/".length), headers = request.headers();
    asked.push([request.method(), path, headers["postrider-session-key"] ?? "", headers.authorization ?? ""].join(" ").trim());
    const answers = { session: request.method() === "POST" ? { role: "read", user: "ann", key: "thekey" } : { password: true },
      "session/end": { ended: true }, queue: { messages: [], more: false }, "queue/count": { messages: 0, recipients: 0 } };
    await route.fulfill({ json: answers[path] ?? {} });
  });
  await page.evaluate(() => { sessionStorage.clear(); location.hash = "#/queue?"; });
  await page.waitForSelector("input[name=password]");
  asked.length = 0;
  await page.fill("input[name=user]", "ann");
  await page.fill("input[name=password]", "secret");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("main:not([aria-busy])")?.textContent.includes("No message is like that"));
  await page.locator("#leave").click();
  await page.waitForSelector("input[name=password]");
  await page.unroute("**/api/v1/**");
  const kept = await page.evaluate(() => Object.keys(sessionStorage).length);
  const wanted = ["POST session", "GET queue thekey", "GET queue/count thekey", "POST session/end thekey", "GET session"];
  return JSON.stringify(asked) === JSON.stringify(wanted) && kept === 0 ? [] : [`a session: asked ${JSON.stringify(asked)}, kept ${kept}`];
}

// Each curve and each tile has its own figure.
async function drawn(page) {
  await begun(page);
  const figures = { queue: 11, deferred: 12, active: 13, accepted: 14, delivered: 15, bounced: 16, deferrals: 17 };
  await page.route("**/api/v1/history?*", (route) => route.fulfill({ json: {
    time: [1000, 2000], by_class: { busy: [0, 18], rate: [0, 19] },
    ...Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, [0, value]])) } }));
  await page.route("**/api/v1/status", (route) => route.fulfill({ json: {
    running: true, admission: "open", hostname: "mx.example", now: 100000, alarms: ["one", "two"], connections: 31, sessions: 32,
    queue: { messages: 33, recipients: 34, deferred: 35, held: 36, bytes: 37000, oldest: 100000 - 2 * 3600 - 60 },
    since_start: { accepted: 38, delivered: 39, bounced: 40 }, sites_in_trouble: [{}, {}, {}] } }));
  await page.evaluate(() => { location.hash = "#/"; });
  await page.waitForFunction(() => document.querySelector("main:not([aria-busy]) .tiles")?.textContent.includes("33messages"));
  const seen = await page.evaluate(() => ({
    plots: [...document.querySelectorAll(".plot svg")].map((one) => one.getAttribute("aria-label")),
    tiles: [...document.querySelectorAll(".tile")].map((one) => [...one.children].map((part) => part.textContent).join(" ")),
    alarms: [...document.querySelectorAll(".alarm")].map((one) => one.textContent) }));
  await page.unroute("**/api/v1/history?*");
  await page.unroute("**/api/v1/status");
  const wanted = {
    plots: ["Messages in the queue: all 11, deferred 12",
      "Accepted, and what came of recipients: accepted 14, delivered 15, deferred 17, bounced 16", "Deferrals by class: rate 19, busy 18"],
    tiles: ["33 messages in the queue", "34 recipients that wait", "35 deferred", "36 held", "2 h oldest message", "37.0 kB in the queue",
      "31 connections to next hops", "32 SMTP sessions", "38 accepted since the start", "39 delivered since the start",
      "40 bounced since the start", "3 sites in trouble"],
    alarms: ["one", "two"] };
  return Object.keys(wanted).filter((name) => JSON.stringify(seen[name]) !== JSON.stringify(wanted[name]))
    .map((name) => `${name}: ${JSON.stringify(seen[name])}`);
}

(async () => {
  const [path, base, token, id, gone] = process.argv.slice(2);
  const browser = await chromium.launch({ executablePath: path, args: ["--no-sandbox"] });
  const problems = [];
  for (const scheme of ["light", "dark"])
    for (const width of [1280, 390]) {
      const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height: 900 } });
      const page = await context.newPage();
      if (process.env.VIEWS) page.setDefaultTimeout(150000); // much work, on a machine that may do other too
      page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
      page.on("pageerror", (error) => problems.push(String(error)));
      page.on("dialog", (dialog) => { problems.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
      page.on("request", (request) => request.url().startsWith(base) || problems.push(`asks ${request.url()}`));
      await page.goto(base);
      await page.waitForSelector("form.login");
      if (await page.locator("nav").isVisible()) problems.push("the views are offered before the login");
      const shoot = async (name) => process.env.SHOTS && // of long lists the beginning
        page.screenshot({ path: `${process.env.SHOTS}/${name.replace(/\W+/g, "-")}-${scheme}-${width}.png`, fullPage: true, timeout: 150000,
          clip: { x: 0, y: 0, width, height: await page.evaluate(() => Math.min(document.documentElement.scrollHeight, 2400)) } });
      if (process.env.VIEWS) await page.waitForSelector("input[name=password]");
      await shoot("login");
      await page.fill("input[name=token]", token);
      await page.keyboard.press("Enter");
      const views = process.env.VIEWS ? JSON.parse(process.env.VIEWS) : [["#/", ".tiles", "messages in the queue"], ["#/", ".plot svg[aria-label^='Deferrals by class: '][aria-label*='greylisted']", "greylisted"],
        ["#/sites", ".plot svg[aria-label^='Found limits: connections at once: ']", "busiest"], ["#/queue", "table", "refused"], ["#/sites", "table", "refused"],
        [`#/message?id=${id}`, "pre", "<script>"], ["#/explain?target=b0@far.example", "table", "conclusion"],
        ["#/trace?target=b0@far.example", "table", "b0@far.example"], [`#/message?id=${id}`, ".story", "deferred"],
        ["#/trace?target=gone@far.example", "table", "<script>alert(2)"], [`#/message?id=${gone}`, ".story", "delivered"]];
      for (const [hash, selector, text] of views) {
        await page.evaluate((to) => { location.hash = to; }, hash);
        await page.waitForFunction(([selector, text]) => document.querySelector(`main:not([aria-busy]) ${selector}`) &&
          document.querySelector("main").textContent.toLowerCase().includes(text), [selector, text])
          .catch(async () => { throw new Error(`${hash} without "${text}": ${await page.textContent("main")}`); });
        const seen = await page.evaluate(() => ({ text: document.body.textContent, wide: document.documentElement.scrollWidth > innerWidth + 1 }));
        if (seen.text.includes("[object") || seen.text.includes("undefined") || seen.text.includes("NaN")) problems.push(`${hash}: ${seen.text}`);
        await shoot(hash);
        if (seen.wide) problems.push(`${hash} at ${width} scrolls sideways`);
      }
      if (process.env.VIEWS) {
        await page.evaluate(() => { location.hash = "#/queue?status=deferred"; });
        await page.locator(".verbs button", { hasText: /^remove$/ }).click();
        await page.waitForFunction(() => document.activeElement.textContent.startsWith("remove: "));
        await shoot("sure");
        await context.close();
        continue;
      }
      await page.evaluate(() => { location.hash = "#/"; });
      await page.locator("button[aria-pressed=false]", { hasText: /^day$/ }).focus();
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => document.querySelector("button[aria-pressed=true]")?.textContent === "day");
      await page.evaluate(() => { location.hash = "#/trace"; }); // a search by the keyboard alone
      await page.waitForFunction(() => document.querySelector("main").textContent.includes("Shows what became of mail"));
      await page.locator("input[name=target]").focus();
      await page.keyboard.type("gone@far.example");
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => document.querySelector("main").textContent.includes("delivered"));
      if (width === 1280 && scheme === "light") { // a change by the keyboard alone: dry run, then for good
        await page.evaluate(() => { location.hash = "#/queue?domain=far.example"; });
        await page.waitForFunction(() => [...document.querySelectorAll(".verbs button")].some((one) => one.textContent === "hold"));
        await page.locator(".verbs button", { hasText: /^hold$/ }).focus();
        await page.keyboard.press("Enter");
        await page.waitForFunction(() => document.activeElement.textContent.startsWith("hold: "));
        const held = await page.evaluate(async () => (await fetch("/api/v1/queue/count?status=held", {
          headers: { Authorization: `Bearer ${sessionStorage.getItem("postrider-token")}` } })).json());
        if (held.messages !== 0) problems.push(`a dry run has held ${held.messages} messages`);
        await page.keyboard.press("Enter");
        await page.waitForFunction(() => document.querySelector("main").textContent.includes("held"));
        problems.push(...await filtered(page), ...await changedOne(page, id), ...await drawn(page), ...await session(page));
      }
      await context.close();
    }
  await browser.close();
  console.log(JSON.stringify(problems));
})();
