// A run's own page part, drawn from the data embedded in this file when it is opened; nothing is loaded.
const dialog = document.getElementById("run");
const parsed = new Map();
const MISSING = "—";

function dataOf(k) {
  if (!parsed.has(k)) parsed.set(k, JSON.parse(document.getElementById(`data-${k}`).textContent));
  return parsed.get(k);
}

function make(tag, content = [], attributes = {}) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...[content].flat());
  return node;
}

const percent = (value, digits = 1) => value === null || value === undefined ? MISSING : (value / 100).toFixed(digits).replace("-", "−");
const plain = (value) => value === null || value === undefined ? MISSING : typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : String(value);

function unpacked(matrix) {  // rows of hundredths of a percent; long streams come as a byte a cell
  if (typeof matrix.bytes !== "string") return matrix;
  const bytes = atob(matrix.bytes), rows = [];
  for (let i = 0; i <= matrix.n_tasks; i += 1)
    rows.push(Array.from({ length: matrix.n_tasks }, (_, j) => {
      const byte = bytes.charCodeAt(i * matrix.n_tasks + j);
      return byte === 255 ? null : byte * 40;
    }));
  return rows;
}

function mean(matrices) {  // a cell that any seed lacks is missing
  return matrices[0].map((row, i) => row.map((_, j) => {
    const cells = matrices.map((matrix) => matrix[i][j]);
    return cells.includes(null) ? null : cells.reduce((a, b) => a + b, 0) / cells.length;
  }));
}

// Colour by accuracy on one scale from pale to deep blue, readable in light, dark and print.
function colour(share) {
  const low = [240, 246, 251], high = [8, 64, 129];
  return `rgb(${low.map((v, k) => Math.round(v + (high[k] - v) * share)).join(" ")})`;
}

function matrixTable(rows, name) {
  const n = rows[0].length;
  if (n > 20) return matrixCanvas(rows, name);
  const digits = n <= 6 ? 1 : 0;
  const head = make("tr", [make("th", "after", { scope: "col" }), ...rows[0].map((_, j) => make("th", String(j + 1), { scope: "col" }))]);
  const body = rows.map((row, i) => make("tr", [make("th", String(i), { scope: "row" }), ...row.map((value) => {
    if (value === null) return make("td", MISSING, { class: "missing" });
    const share = Math.min(1, Math.max(0, value / 10000));
    return make("td", percent(value, digits), { style: `background:${colour(share)};color:${share > 0.62 ? "#fff" : "#1c2127"}` });
  })]));
  const caption = `${name}: percent correct on each task (columns) after each task (rows; 0: untrained)`;
  return make("table", [make("thead", head), make("tbody", body)], { class: "matrix", "aria-label": caption });
}

function matrixCanvas(rows, name) {
  const node = make("canvas", [], { class: "matrix", role: "img", width: rows[0].length, height: rows.length,
    "aria-label": `${name}: accuracy on ${rows[0].length} tasks (left to right) after each task (top to bottom); pale 0, deep blue 100 percent` });
  const context = node.getContext("2d");
  rows.forEach((row, i) => row.forEach((value, j) => {
    context.fillStyle = value === null ? "#999" : colour(value / 10000);
    context.fillRect(j, i, 1, 1);
  }));
  return node;
}

function command(text, label) {
  const button = make("button", "Copy", { type: "button", class: "plain copy", "aria-label": `Copy: ${label}` });
  return make("div", [make("pre", make("code", text)), button], { class: "command" });
}

function pairs(entries) {
  return make("dl", entries.flatMap(([name, value]) => [make("dt", name), make("dd", plain(value))]));
}

function grid(heads, rows, label) {
  const cell = (value, k) => k === 0 ? make("th", value, { scope: "row" }) : make("td", value, { class: "n" });
  const table = make("table", [make("thead", make("tr", heads.map((text, k) => make("th", text, k ? { scope: "col", class: "n" } : { scope: "col" })))),
    make("tbody", rows.map((row) => make("tr", row.map(cell))))]);
  return make("div", table, { class: "scroll", tabindex: "0", role: "region", "aria-label": label });
}

function seedLinks(entry, run) {
  const links = entry.runs.map((other) => make("a", String(other.seed), { href: `#run-${other.id}`, ...(other === run ? { "aria-current": "true" } : {}) }));
  return make("nav", ["Seeds: ", ...links], { class: "seeds", "aria-label": "Seeds of this entry" });
}

function tasksOf(run) {
  const { columns, rows } = run.tasks;
  return grid(columns, rows.map((row) => row.map((value, k) => k ? plain(value) : String(value))), "Per task");
}

function runBody(data, entry, run) {
  const parts = [seedLinks(entry, run)];
  const add = (title, ...nodes) => parts.push(make("h3", title), ...nodes);
  if (run.status !== "ok") parts.push(make("p", `${run.status}: ${run.reason}`, { class: "warning" }));
  const commands = [];
  if (run.command) commands.push(command(run.command, "the command that repeats this run"));
  if (run.status === "ok") commands.push(command(`clbench verify ${run.path}`, "the command that checks this run"));
  add("Repeat it", ...commands, make("p", data.repeat, { class: "note" }));
  if (run.matrix) add("Accuracy matrix", make("div", matrixTable(unpacked(run.matrix), `Seed ${run.seed}`), { class: "scroll", tabindex: "0", role: "region", "aria-label": "Accuracy matrix" }),
    make("p", data.matrix_note, { class: "note" }));
  if (run.tasks) add("Task by task", tasksOf(run));
  if (run.values) {
    const at = entry.runs.filter((other) => other.values);
    add("Every figure, every seed", grid(["", ...at.map((other) => `seed ${other.seed}`)],
      data.columns.map((column, k) => [column, ...at.map((other) => other.values[k])]), "Figures per seed"));
  }
  add("Configuration", pairs([...entry.config, ...run.seeds]));
  const machine = Object.entries(environments()[run.environment] || {});
  if (machine.length) add("What it ran on", pairs(machine));
  add("Identity", pairs([["run", run.id], ["entry", entry.id], ...(run.sha ? [["SHA-256 of the result", run.sha], ["fingerprint of the stream", run.fingerprint]] : [])]));
  return parts;
}

function environments() {
  if (!parsed.has("environments")) parsed.set("environments", JSON.parse(document.getElementById("environments-data").textContent));
  return parsed.get("environments");
}

function findRun(id) {
  const k = runIndex().get(id);
  if (k === undefined) return null;
  const data = dataOf(k);
  for (const entry of data.entries) for (const run of entry.runs) if (run.id === id) return { data, entry, run };
  return null;
}

function runIndex() {
  if (!parsed.has("index")) {
    const index = JSON.parse(document.getElementById("run-index").textContent);
    parsed.set("index", new Map(index.flatMap((ids, k) => ids.map((id) => [id, k]))));
  }
  return parsed.get("index");
}

function follow() {
  const id = location.hash.startsWith("#run-") ? location.hash.slice(5) : null;
  const found = id && findRun(id);
  if (!found) { if (dialog.open) dialog.close(); return; }
  const { data, entry, run } = found;
  dialog.querySelector("h2").textContent = `${entry.label}, seed ${run.seed}`;
  dialog.querySelector(".where").textContent = data.scenario;
  dialog.querySelector(".body").replaceChildren(...runBody(data, entry, run));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

dialog.addEventListener("close", () => {
  if (location.hash.startsWith("#run-")) history.replaceState(null, "", location.pathname + location.search);
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.querySelector("header button").addEventListener("click", () => dialog.close());
window.addEventListener("hashchange", follow);

document.addEventListener("click", (event) => {
  if (event.target.closest("a, button, input, select, summary, label") || String(getSelection())) return;
  const row = event.target.closest("tr[data-run]");
  if (row) location.hash = `run-${row.dataset.run}`;
});

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {  // no permission, or a browser that allows no clipboard to a page opened as a file
    const area = make("textarea", text, { readonly: "", style: "position:fixed;top:0;opacity:0" });
    (dialog.open ? dialog : document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const code = button.parentElement.querySelector("pre");
  const done = await copied(code.textContent);
  if (!done) getSelection().selectAllChildren(code);
  button.textContent = done ? "Copied" : "Press Ctrl+C";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
});

// Matrices of a whole scenario: means over seeds, drawn when asked for.
function drawMaps(details) {
  const place = details.querySelector(".maps");
  if (!details.open || place.childElementCount) return;
  for (const entry of dataOf(details.dataset.scenario).entries) {
    const matrices = entry.runs.filter((run) => run.matrix).map((run) => unpacked(run.matrix));
    if (matrices.length) place.append(make("figure", [make("figcaption", entry.label), matrixTable(mean(matrices), entry.label)]));
  }
}
for (const details of all("details.matrices")) details.addEventListener("toggle", () => drawMaps(details));

follow();
