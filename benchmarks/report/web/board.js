// The leaderboard.

function chosenRows() {
  const rows = data.rows.filter((row) => fits(SETTING.map((key) => row.cells[COLUMN[key]][0])));
  if (!state.sort) return rows;
  const { column, descending } = state.sort;
  const rank = (a, b) => {
    const [left, right] = [a.cells[column][0], b.cells[column][0]];
    if (left === null || right === null) return (left === null) - (right === null); // the unmeasured come last
    const order = typeof left === "string" ? left.localeCompare(right) : left - right;
    return descending ? -order : order;
  };
  return [...rows].sort(rank);
}

function drawBoard() {
  const rows = chosenRows();
  const hidden = SETTING.map((key) => COLUMN[key]).filter((place) => new Set(rows.map((r) => r.cells[place][0])).size < 2);
  const order = [COLUMN.algorithm, ...data.columns.keys()].filter((place, at, all) => all.indexOf(place) === at);
  const columns = order.filter((place) => !hidden.includes(place));
  const arrow = { up: " ↑", down: " ↓", "": "" };
  byId("board").tHead.replaceChildren(element("tr", {}, ...columns.map((place) => {
    const sorted = state.sort && state.sort.column === place;
    const direction = !sorted ? "none" : state.sort.descending ? "descending" : "ascending";
    const { head, better } = data.columns[place];
    const mark = sorted ? (state.sort.descending ? " ▾" : " ▴") : "";
    const button = element("button", { type: "button", onclick: () => sortBy(place) }, head + arrow[better] + mark);
    return element("th", { scope: "col", "aria-sort": direction }, button);
  })));
  const body = rows.slice(0, state.shown).flatMap((row) => boardRow(row, columns));
  byId("board").tBodies[0].replaceChildren(...body);
  byId("more").hidden = rows.length <= state.shown;
  byId("leaderboard-note").textContent =
    `${rows.length} experiments${rows.length > state.shown ? `, the first ${state.shown} shown` : ""}.`;
}

function sortBy(place) {
  const better = data.columns[place].better;
  const again = state.sort && state.sort.column === place;
  state.sort = { column: place, descending: again ? !state.sort.descending : better === "up" };
  drawBoard();
  const at = [...byId("board").tHead.querySelectorAll("th")].findIndex((head) => head.ariaSort !== "none");
  byId("board").tHead.querySelectorAll("button")[at].focus();
}

function boardRow(row, columns) {
  const details = element("tr", { class: "details", hidden: true });
  const toggle = element("button", {
    type: "button", "aria-expanded": "false", "aria-label": `Conditions of ${row.cells[COLUMN.algorithm][1]}`,
    onclick: () => {
      if (!details.childElementCount) details.append(element("td", { colspan: columns.length }, element("div", {}, ...rowDetails(row))));
      details.hidden = !details.hidden;
      toggle.setAttribute("aria-expanded", String(!details.hidden));
      toggle.textContent = details.hidden ? "+" : "−";
    },
  }, "+");
  const cells = columns.map((place) => {
    const [value, text] = row.cells[place];
    if (place === COLUMN.algorithm) {
      const status = row.cells[COLUMN.status][0];
      const words = [["best", "tied"].includes(row.standing) && row.standing, status !== "complete" && status].filter(Boolean);
      const badge = words.map((word) => element("span", { class: `badge ${word}` }, word));
      return element("th", { scope: "row" }, element("span", { class: "name" }, toggle, text, ...badge));
    }
    return element("td", { class: typeof value === "number" ? "number" : null }, text);
  });
  return [element("tr", { "data-standing": row.standing }, ...cells), details];
}

function rowDetails(row) {
  const pairs = [...Object.entries(data.conditions[row.conditions]), ["experiment", row.experiment]];
  const metrics = Object.entries(row.metrics).map(([name, value]) => `${name} ${value}`).join(", ");
  if (metrics) pairs.push(["test metrics", metrics]);
  const copy = element("button", {
    type: "button", class: "copy",
    onclick: async () => {
      await copyText(row.command);
      copy.textContent = "Copied";
    },
  }, "Copy the command");
  return [
    element("dl", {}, ...pairs.flatMap(([name, value]) => [element("dt", {}, name.replaceAll("_", " ")), element("dd", {}, value)])),
    element("pre", {}, row.command), copy,
  ];
}

async function copyText(text) {
  if (navigator.clipboard) {
    try { await navigator.clipboard.writeText(text); return; } catch { /* not allowed to a file: the old way below */ }
  }
  const area = element("textarea", { "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
