// Who beats whom.

function drawMatrix() {
  const setting = data.settings[state.setting];
  byId("wins").hidden = !setting || setting.wins.labels.length < 2;
  if (byId("wins").hidden) return;
  const { labels, cells, family } = setting.wins;
  byId("family").textContent = `p is corrected by Holm for the ${family} comparisons of this setting; the intervals are not.`;
  byId("matrix").tHead.replaceChildren(element("tr", {}, element("td"), ...labels.map((label) => element("th", { scope: "col" }, label))));
  byId("matrix").tBodies[0].replaceChildren(...cells.map((row, place) => element("tr", {},
    element("th", { scope: "row" }, labels[place]),
    ...row.map((cell, column) => {
      if (!cell) return element("td", {}, place === column ? "" : "no seed in common");
      const kind = !cell.decided ? null : cell.effect > 0 ? "better" : "worse";
      const lost = cell.left_out.length ? `; seeds ${cell.left_out.join(", ")} left out` : "";
      return element("td", { class: kind }, `${cell.effect > 0 ? "+" : ""}${cell.effect.toFixed(1)}`,
        element("small", {}, `[${cell.interval}]`), element("small", {}, cell.p),
        element("small", {}, `${cell.seeds} ${cell.seeds === 1 ? "seed" : "seeds"}${lost}`));
    }))));
}
