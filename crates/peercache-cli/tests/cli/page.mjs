// Looks at the status page in Chromium, as people do, and prints what it found as JSON.
//
// node page.mjs PACKAGES CHROMIUM URL TARGET SCREENSHOTS
//
// PACKAGES is a folder with playwright-core and axe-core, TARGET the path of a call to the API that
// changes the page, SCREENSHOTS a folder.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [packages, executablePath, url, target, screenshots] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launch({
  executablePath,
  // As root, Chromium starts without its sandbox only; and it is to ask nobody but the server.
  args: ["--no-sandbox", "--disable-background-networking"],
});
const found = { errors: [], requests: [], widths: {}, violations: [] };
try {
  const page = await browser.newPage({ viewport: { width: 375, height: 800 } });
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) found.errors.push(message.text());
  });
  page.on("pageerror", (error) => found.errors.push(String(error)));
  page.on("request", (request) => found.requests.push(request.url()));
  await page.goto(`${url}/-/`);
  await page.waitForFunction(() => document.getElementById("state").textContent === "live");
  const saved = () => page.locator(".saved").textContent();
  found.before = await saved();

  // Values change by themselves.
  for (let call = 0; call < 2; call++) await (await fetch(url + target)).arrayBuffer();
  await page.waitForFunction(
    (before) => document.querySelector(".saved").textContent !== before,
    found.before,
  );
  await page.waitForFunction(() => /of 2 /.test(document.querySelector(".saved").textContent));
  found.after = await saved();
  found.report = await (await fetch(`${url}/-/stats`)).json();
  found.degraded = await page.locator("li.bad").allTextContents();
  found.state = await page.locator("td.bad").allTextContents();
  const rows = (heading) =>
    page.locator(`[aria-label="${heading}"] tbody tr`).evaluateAll((rows) =>
      rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
  found.clients = await rows("Clients");
  found.requests_table = await rows("Requests");

  // By keyboard, and what has the focus keeps it when values change.
  await page.keyboard.press("Tab");
  found.focus = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));

  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const width of [375, 1280]) {
      await page.setViewportSize({ width, height: 800 });
      found.widths[`${scheme} ${width}`] = await page.evaluate(
        () => document.documentElement.scrollWidth - window.innerWidth,
      );
      await page.screenshot({ path: `${screenshots}/page-${scheme}-${width}.png`, fullPage: true });
      const { violations } = await page.evaluate(`${axe}; axe.run()`);
      for (const { id, impact, nodes } of violations) {
        found.violations.push({ scheme, width, id, impact, html: nodes.map((node) => node.html) });
      }
    }
  }

  const plain = await browser.newContext({ javaScriptEnabled: false });
  const without = await plain.newPage();
  await without.goto(`${url}/-/`);
  found.without_script = await without.locator(".saved").textContent();
} finally {
  await browser.close();
}
console.log(JSON.stringify(found));
