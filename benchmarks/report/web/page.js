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
  const chosen = [...byId("setting").elements, byId("asked"), byId("kind")].map((one) => [one.id, one.type === "checkbox" ? one.checked : one.value]);
  sessionStorage.setItem("chosen", JSON.stringify(Object.fromEntries(chosen)));
}

function recall() {
  const chosen = JSON.parse(sessionStorage.getItem("chosen") || "{}");
  if (chosen.asked) byId("asked").value = chosen.asked;
  for (const select of [byId("kind"), ...byId("setting").querySelectorAll("select")]) {
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
    const names = setting && (line.classList.contains("all-tasks") ? ["all tasks", ...setting.names.slice(1)] : setting.names);
    line.textContent = names ? names.join(" · ") : "No complete run fits the choice above.";
  }
  const axes = setting ? Object.values(setting.figures).map((figure) => figure.axes).find((found) => found.length) : [];
  options(byId("axis"), (axes || []).map((name) => [name, data.axes[name]]), byId("axis").value);
  drawBoard();
  drawMatrix();
  drawClaims();
  drawPlots();
  openPack();
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
for (const id of ["asked", "kind"]) byId(id).addEventListener("input", drawAnswer);
for (const id of ["learner", "update"]) byId(id).addEventListener("change", drawStrips);
byId("problem").addEventListener("change", drawSamples);
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
let before = null;
addEventListener("beforeprint", () => { before = state.theme; setTheme("light"); });
addEventListener("afterprint", () => setTheme(before));
addEventListener("load", drawPlots);
setUpPicks();
drawAnswer();
if (data.remember) recall();
setTheme(state.theme);
pickSetting();
if (data.remember) {
  recall(); // once more: which cost axes there are depends on what is compared
  addEventListener("pagehide", remember);
}
