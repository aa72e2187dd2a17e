// Drives the page in a real browser: node web_page.js BROWSER URL TOKEN WAITING-ID GONE-ID. Prints what is wrong, as JSON.
// SHOTS: a folder for pictures of every view. VIEWS: other views, as JSON: [["#/", selector, text in lower case], ...].
const { chromium } = require("playwright-core");

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
        await page.keyboard.press("Enter");
        await page.waitForFunction(() => document.querySelector("main").textContent.includes("held"));
      }
      await context.close();
    }
  await browser.close();
  console.log(JSON.stringify(problems));
})();
