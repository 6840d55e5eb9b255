// What was credited in training, and the families of instructions.

function openTraining() {
  const labels = state.samples ? Object.keys(state.samples.credit) : [];
  byId("training").hidden = !labels.length;
  options(byId("learner"), labels.map((label) => [label, label]), byId("learner").value);
  drawStrips();
  drawFamilies();
}

function drawStrips() {
  const found = state.samples && state.samples.credit[byId("learner").value];
  const update = found && (found[byId("update").value] || found.first || found.last);
  if (!update) return byId("strips").replaceChildren(found && found.fault ? element("p", {}, found.fault) : "");
  const all = update.rollouts.flatMap((rollout) => rollout.turns.flatMap((turn) => turn.tokens.map(([, value]) => value || 0)));
  const most = Math.max(1e-9, ...all.map(Math.abs));
  byId("strips-about").textContent =
    `Update ${update.update}. The strongest colour is an advantage of ±${most.toFixed(2)}; tokens without a colour were not trained.`;
  byId("strips").replaceChildren(...update.rollouts.map((rollout) => {
    const outcome = rollout.solved ? "solved" : "unsolved";
    const head = element("header", {}, element("h3", {}, rollout.problem),
      element("span", { class: `badge ${outcome}` }, rollout.solved ? "✓ solved" : "✗ not solved"));
    return element("article", { class: "card" }, head, element("p", { class: "faint" }, `score ${rollout.score.toFixed(3)}`),
      ...rollout.turns.map((turn) => element("div", { class: "turn" }, strip(turn.tokens, most), chips(turn.rewards, {}))));
  }));
}

function strip(tokens, most) {
  const made = element("pre", { class: "strip" });
  for (const [text, value] of tokens) {
    const token = element("span", value === null ? {} : { title: `advantage ${value > 0 ? "+" : ""}${value}` }, text);
    if (value) {
      token.className = value > 0 ? "gained" : "lost";
      token.style.setProperty("--share", `${Math.round(100 * Math.min(1, Math.abs(value) / most))}%`);
    }
    made.append(token);
  }
  return made;
}

function drawFamilies() {
  const families = state.samples ? Object.entries(state.samples.families) : [];
  byId("families").hidden = !families.length;
  byId("trees").replaceChildren(...families.map(([label, lines]) => element("article", { class: "card" }, element("h3", {}, label),
    ...lines.map(({ depth, line, changes }) => {
      const shown = changes.filter((change) => change.length);
      const node = element("div", { class: "node" }, element("p", {}, line), ...(shown.length ? [difference(shown)] : []));
      node.style.setProperty("--depth", String(Math.min(depth, 12)));
      return node;
    }))));
}

function difference(lines) {
  const kinds = { "- ": "del", "+ ": "ins" };
  return element("pre", { class: "difference" }, ...lines.flatMap((line) => {
    const kind = kinds[line.slice(0, 2)];
    return [kind ? element(kind, {}, line) : line, "\n"];
  }));
}
