// Sorting, filtering and choosing columns. All of it works on what the page already holds.
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

function sortBy(table, k) {
  const heads = [...table.tHead.rows[0].cells], head = heads[k], body = table.tBodies[0];
  const before = head.getAttribute("aria-sort"), numeric = head.classList.contains("n");
  const down = before ? before === "ascending" : numeric && !head.classList.contains("up");
  const value = (row) => row.cells[k].dataset.v;
  heads.forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  table.classList.add("resorted");
  body.append(...[...body.rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const by = numeric ? Number(x) - Number(y) : x.localeCompare(y, "en");
    return down ? -by : by;
  }));
}

for (const table of all("table.sortable"))
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) sortBy(table, button.closest("th").cellIndex);
  });

const tools = document.querySelector(".tools");
const filters = { text: "", protocol: "", track: "", unranked: true, variants: true };

function filter() {
  const words = filters.text.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0, total = 0;
  for (const section of all("section[data-protocol]")) {
    const fits = (!filters.protocol || section.dataset.protocol === filters.protocol) && (filters.variants || !section.dataset.variant);
    let inside = 0;
    for (const row of all("tbody > tr[data-label]", section)) {
      const label = row.dataset.label.toLowerCase();
      row.hidden = !(fits && words.every((word) => label.includes(word)) && (!filters.track || row.dataset.track === filters.track)
        && (filters.unranked || !row.classList.contains("unranked")));
      inside += !row.hidden;
      if (!row.closest(".board")) continue;
      total += 1;
      shown += !row.hidden;
    }
    const narrowed = words.length || filters.track || !filters.unranked;
    section.hidden = !fits || (narrowed && inside === 0);
  }
  for (const row of all("#overview table.overview > tbody > tr"))
    row.hidden = !(words.every((word) => row.dataset.label.toLowerCase().includes(word)) && (filters.unranked || !row.classList.contains("unranked")));
  for (const part of all("[data-of-variants]")) part.hidden = !filters.variants;
  tools.querySelector(".count").textContent = shown === total ? `${total} entries` : `${shown} of ${total} entries`;
}

function chooseColumns() {
  const hidden = all("input[data-column]", tools).filter((box) => !box.checked).map((box) => `.board .c${box.dataset.column}`);
  document.getElementById("hidden-columns").textContent = hidden.length ? `${hidden.join(",")}{display:none}` : "";
}

if (tools) {
  tools.hidden = false;
  tools.addEventListener("input", (event) => {
    const name = event.target.name;
    if (event.target.dataset.column) chooseColumns();
    else if (name in filters) {
      filters[name] = event.target.type === "checkbox" ? event.target.checked : event.target.value;
      filter();
    }
  });
  tools.addEventListener("click", (event) => {
    const choice = event.target.dataset.choose;
    if (!choice) return;
    for (const box of all("input[data-column]", tools)) box.checked = choice === "all" || box.dataset.main === "yes";
    chooseColumns();
  });
  document.addEventListener("click", (event) => {
    const menu = tools.querySelector("details");
    if (menu && menu.open && !menu.contains(event.target)) menu.open = false;
  });
  tools.addEventListener("keydown", (event) => {
    const menu = tools.querySelector("details");
    if (event.key === "Escape" && menu && menu.open) { menu.open = false; menu.querySelector("summary").focus(); }
  });
}
