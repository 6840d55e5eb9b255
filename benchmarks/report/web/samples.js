// Samples.

async function openPack() {
  const place = state.setting;
  byId("samples").hidden = place < 0;
  state.samples = null;
  openTraining();
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
  openTraining();
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
  parts.push(chips(turn.rewards, turn.spans));
  if (turn.feedback) parts.push(element("div", { class: "feedback" }, turn.feedback));
  if (reply && !turn.tiles) parts.push(element("div", { class: "feedback" }, pieces(reply)));
  return element("div", { class: "turn" }, ...parts);
}

function chips(rewards, spans) {
  return element("ul", { class: "chips", "aria-label": "rewards" }, ...Object.entries(rewards).map(([name, value]) => {
    const kind = value > 0 ? "plus" : value < 0 ? "minus" : "";
    return element("li", { class: `chip ${kind}`, title: spans[name] ? `judges: ${spans[name]}` : "judges the whole action" },
      `${name} ${value > 0 ? "+" : ""}${Number(value.toFixed(3))}`);
  }));
}

function pieces(list) {
  const kinds = { text: null, right: "right-step", wrong: "wrong-step", cut: "cut" };
  return element("pre", {}, ...list.map(([text, kind]) => (kinds[kind] ? element("span", { class: kinds[kind] }, text) : text)));
}
