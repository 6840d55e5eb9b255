// The report's page. Text from records enters the document as text nodes only; no string here becomes markup or code.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const ROWS_AT_ONCE = 100;
const SETTING = ["task", "policy", "budget"];
const COLUMN = Object.fromEntries(data.columns.map((column, place) => [column.key, place]));
const state = {
  theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
  sort: null, // {column, descending}; null keeps the order of the table: by setting, then from best to worst
  shown: ROWS_AT_ONCE,
  setting: 0,
  samples: null,
  queue: [],
};
const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== false && value !== null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  if (chosen !== undefined && pairs.some(([value]) => value === chosen)) select.value = chosen;
}

// What to compare.

function setUpPicks() {
  for (const key of SETTING) {
    const names = [...new Set(data.rows.map((row) => row.cells[COLUMN[key]][0]))].sort();
    options(byId(`pick-${key}`), [["", "all"], ...names.map((name) => [`=${name}`, name])]);
    byId(`pick-${key}`).addEventListener("change", () => pickSetting());
  }
  const first = data.settings[0];
  if (first) SETTING.forEach((key, place) => { byId(`pick-${key}`).value = `=${first.names[place]}`; });
}

// A page that is served comes anew every few seconds: what was chosen must outlive it.
function remember() {
  const chosen = [...byId("setting").elements].map((one) => [one.id, one.type === "checkbox" ? one.checked : one.value]);
  sessionStorage.setItem("chosen", JSON.stringify(Object.fromEntries(chosen)));
}

function recall() {
  const chosen = JSON.parse(sessionStorage.getItem("chosen") || "{}");
  for (const select of byId("setting").querySelectorAll("select")) {
    if ([...select.options].some((option) => option.value === chosen[select.id])) select.value = chosen[select.id];
  }
  byId("log").checked = Boolean(chosen.log);
}

const fits = (names) => SETTING.every((key, place) => {
  const wanted = byId(`pick-${key}`).value;
  return wanted === "" || wanted === `=${names[place]}`;
});

function pickSetting() {
  state.shown = ROWS_AT_ONCE;
  state.setting = data.settings.findIndex((setting) => fits(setting.names));
  const setting = data.settings[state.setting];
  for (const line of document.querySelectorAll(".drawn")) {
    line.textContent = setting ? setting.names.join(" · ") : "No complete run fits the choice above.";
  }
  const axes = setting ? Object.values(setting.figures).map((figure) => figure.axes).find((found) => found.length) : [];
  options(byId("axis"), (axes || []).map((name) => [name, data.axes[name]]), byId("axis").value);
  drawBoard();
  drawMatrix();
  drawPlots();
  openSamples();
}

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

// Plots: the same three steps as `drawn` in figures.py.

function drawn(figure, axis, log) {
  const palette = data.palettes[state.theme];
  const paint = (key, value) => (typeof value === "string" && Object.hasOwn(palette, value) ? palette[value] : value);
  const made = JSON.parse(JSON.stringify({ data: figure.data, layout: figure.layout }, paint));
  if (!figure.axes.length) return made;
  for (const trace of made.data) {
    if (trace.costs) trace.x = trace.costs[axis];
    if (trace.error_costs) Object.assign(trace.error_x, trace.error_costs[axis]);
    if (trace.front) Object.assign(trace, trace.front[axis]);
    for (const key of ["costs", "error_costs", "front"]) delete trace[key];
  }
  for (const [name, value] of Object.entries(made.layout)) {
    if (!name.startsWith("xaxis")) continue;
    Object.assign(value, { type: log ? "log" : "linear", title: { text: data.axes[axis] }, exponentformat: "power" });
  }
  return made;
}

function drawPlots() {
  if (!window.Plotly) return; // it is the file's last script: `load` draws
  const setting = data.settings[state.setting];
  for (const place of document.querySelectorAll(".plot")) {
    const figure = setting && setting.figures[place.dataset.figure];
    place.closest("section").hidden = !figure;
    if (!figure) continue;
    const axis = figure.axes.includes(byId("axis").value) ? byId("axis").value : figure.axes[0];
    const { data: traces, layout } = drawn(figure, axis, byId("log").checked);
    const narrow = place.clientWidth < 560;
    layout.height = figure.bars ? 150 + 34 * figure.bars : figure.rows ? 130 + 230 * figure.rows : 440;
    if (narrow) layout.height += 80;
    if (narrow && figure.rows) stack(layout);
    const names = traces.filter((trace) => trace.name && trace.showlegend !== false).map((trace) => trace.name);
    place.setAttribute("aria-label", `Plot of ${[...new Set(names)].join(", ")}; ${setting.names.join(", ")}`);
    Plotly.react(place, traces, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }
}

function stack(layout) { // small plots under each other where the page is narrow
  const marks = Object.keys(layout).filter((name) => name.startsWith("xaxis")).map((name) => name.slice(5));
  layout.height = 120 + 210 * marks.length;
  marks.forEach((mark, place) => {
    const top = 1 - place / marks.length;
    layout[`xaxis${mark}`].domain = [0.02, 0.98];
    layout[`yaxis${mark}`].domain = [top - 0.62 / marks.length, top - 0.12 / marks.length];
    Object.assign(layout.annotations[place], { x: 0.02, y: top - 0.12 / marks.length });
    if (place < marks.length - 1) layout[`xaxis${mark}`].title = { text: "" };
  });
}

// Who beats whom.

function drawMatrix() {
  const setting = data.settings[state.setting];
  byId("wins").hidden = !setting || setting.wins.labels.length < 2;
  if (byId("wins").hidden) return;
  const { labels, cells } = setting.wins;
  byId("matrix").tHead.replaceChildren(element("tr", {}, element("td"), ...labels.map((label) => element("th", { scope: "col" }, label))));
  byId("matrix").tBodies[0].replaceChildren(...cells.map((row, place) => element("tr", {},
    element("th", { scope: "row" }, labels[place]),
    ...row.map((cell, column) => {
      if (!cell) return element("td", {}, place === column ? "" : "no seed in common");
      const kind = !cell.decided ? null : cell.effect > 0 ? "better" : "worse";
      const lost = cell.left_out.length ? `; seeds ${cell.left_out.join(", ")} left out` : "";
      return element("td", { class: kind }, `${cell.effect > 0 ? "+" : ""}${cell.effect.toFixed(1)}`,
        element("small", {}, `[${cell.interval}]`), element("small", {}, `${cell.seeds} seeds${lost}`));
    }))));
}

// Samples.

async function openSamples() {
  const place = state.setting;
  byId("samples").hidden = place < 0;
  state.samples = null;
  if (place < 0) return;
  const packed = Uint8Array.from(atob(byId(`pack-${place}`).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const found = JSON.parse(await new Response(stream).text());
  if (place !== state.setting) return; // another setting was chosen meanwhile
  state.samples = found;
  const labels = Object.keys(found.from);
  options(byId("side-a"), labels.map((label) => [label, label]), labels[1]);
  options(byId("side-b"), labels.map((label) => [label, label]), labels[0]);
  const most = Math.max(1, ...Object.values(found.problems).flatMap((by) => Object.values(by).map((list) => list.length)));
  options(byId("sample"), [...Array(most).keys()].map((number) => [String(number), String(number + 1)]));
  filterSamples();
}

const sampleOf = (problem, label) => (state.samples.problems[problem][label] || [])[Number(byId("sample").value)];

function filterSamples() {
  if (!state.samples) return;
  const [which, a, b] = [byId("which").value, byId("side-a").value, byId("side-b").value];
  const solved = (problem, label) => Boolean((sampleOf(problem, label) || {}).solved);
  const all = (problem) => Object.keys(state.samples.from).map((label) => sampleOf(problem, label)).filter(Boolean);
  const longest = (problem) => Math.max(0, ...all(problem).map((sample) => sample.length));
  let found = Object.keys(state.samples.problems);
  const total = found.length;
  if (which === "won") found = found.filter((problem) => solved(problem, a) && !solved(problem, b));
  if (which === "format") found = found.filter((problem) => all(problem).some((sample) => sample.ill_formed));
  if (which === "longest") found = [...found].sort((left, right) => longest(right) - longest(left));
  state.queue = found;
  for (const id of ["side-a", "side-b"]) byId(id).disabled = which !== "won";
  options(byId("problem"), found.map((problem) => [problem, problem]));
  byId("found").textContent = `${found.length} of ${total} problems. Samples are those of each algorithm's first seed.`;
  drawSamples();
}

function step(by) {
  const select = byId("problem");
  if (!state.queue.length) return;
  select.selectedIndex = (select.selectedIndex + by + state.queue.length) % state.queue.length;
  drawSamples();
}

function drawSamples() {
  const problem = byId("problem").value;
  if (!state.samples || !Object.hasOwn(state.samples.problems, problem)) return byId("viewer").replaceChildren();
  const cards = Object.keys(state.samples.from).map((label) => [label, sampleOf(problem, label)]).filter(([, sample]) => sample);
  const asked = cards.length ? cards[0][1].asked[0] : null;
  byId("viewer").replaceChildren(
    ...(asked ? [element("div", { class: "asked card" }, element("h3", {}, problem), pieces(asked))] : []),
    ...cards.map(([label, sample]) => card(label, sample)));
}

function card(label, sample) {
  const outcome = sample.solved ? "solved" : "unsolved";
  const head = element("header", {}, element("h3", {}, label),
    element("span", { class: `badge ${outcome}` }, `${sample.solved ? "✓ solved" : "✗ not solved"}`));
  const score = sample.score === null ? "" : `score ${sample.score.toFixed(3)}, `;
  const about = element("p", { class: "faint" },
    `${score}${sample.length.toLocaleString("en")} characters, ${state.samples.from[label]}`);
  return element("article", { class: "card" }, head, about, ...sample.turns.map((turn, at) => turnOf(turn, sample.asked[at + 1])));
}

function turnOf(turn, reply) {
  const parts = [];
  if (turn.tiles) {
    const kinds = { "+": "right", "?": "elsewhere", "-": "absent" };
    const spoken = { "+": "right place", "?": "elsewhere", "-": "absent" };
    const tiles = [];
    for (let at = 0; at < turn.tiles.length; at += 2) {
      const [letter, mark] = [turn.tiles[at], turn.tiles[at + 1]];
      tiles.push(element("span", { class: `tile ${kinds[mark]}`, title: spoken[mark] }, letter));
    }
    const said = tiles.map((tile) => `${tile.textContent} ${tile.title}`).join(", ");
    parts.push(element("div", { class: "tiles", role: "img", "aria-label": said }, ...tiles));
  }
  parts.push(pieces(turn.action));
  const chips = Object.entries(turn.rewards).map(([name, value]) => {
    const kind = value > 0 ? "plus" : value < 0 ? "minus" : "";
    return element("li", { class: `chip ${kind}`, title: turn.spans[name] ? `judges: ${turn.spans[name]}` : "judges the whole action" },
      `${name} ${value > 0 ? "+" : ""}${Number(value.toFixed(3))}`);
  });
  parts.push(element("ul", { class: "chips", "aria-label": "rewards" }, ...chips));
  if (turn.feedback) parts.push(element("div", { class: "feedback" }, turn.feedback));
  if (reply && !turn.tiles) parts.push(element("div", { class: "feedback" }, pieces(reply)));
  return element("div", { class: "turn" }, ...parts);
}

function pieces(list) {
  const kinds = { text: null, right: "right-step", wrong: "wrong-step", cut: "cut" };
  return element("pre", {}, ...list.map(([text, kind]) => (kinds[kind] ? element("span", { class: kinds[kind] }, text) : text)));
}

// Everything else.

function setTheme(theme) {
  state.theme = theme;
  document.documentElement.dataset.theme = theme;
  byId("theme").setAttribute("aria-pressed", String(theme === "dark"));
  drawPlots();
}

byId("theme").addEventListener("click", () => setTheme(state.theme === "dark" ? "light" : "dark"));
byId("more").addEventListener("click", () => { state.shown += ROWS_AT_ONCE; drawBoard(); });
byId("axis").addEventListener("change", drawPlots);
byId("log").addEventListener("change", drawPlots);
for (const id of ["which", "side-a", "side-b", "sample"]) byId(id).addEventListener("change", filterSamples);
byId("problem").addEventListener("change", drawSamples);
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
let before = null;
addEventListener("beforeprint", () => { before = state.theme; setTheme("light"); });
addEventListener("afterprint", () => setTheme(before));
addEventListener("load", drawPlots);
setUpPicks();
if (data.remember) recall();
setTheme(state.theme);
pickSetting();
if (data.remember) {
  recall(); // once more: which cost axes there are depends on what is compared
  addEventListener("pagehide", remember);
}
