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
      if (!cell) return element("td", {}, "");
      const kind = !cell.decided ? null : cell.effect > 0 ? "better" : "worse";
      return element("td", { class: kind }, `${cell.effect > 0 ? "+" : ""}${cell.effect.toFixed(1)}`,
        element("small", {}, `[${cell.interval}]`),
        element("small", {}, `${cell.seeds} ${cell.seeds === 1 ? "seed" : "seeds"}`));
    }))));
}
