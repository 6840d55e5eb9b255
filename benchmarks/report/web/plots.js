// Plots: the same steps as `drawn` in style.py.

function drawn(figure, axis, log) {
  const palette = data.palettes[state.theme];
  const paint = (key, value) => (typeof value === "string" && Object.hasOwn(palette, value) ? palette[value] : value);
  const made = JSON.parse(JSON.stringify({ data: figure.data, layout: figure.layout }, paint));
  if (!figure.axes.length) return made;
  for (const trace of made.data) {
    if (trace.by_axis) Object.assign(trace, trace.by_axis[axis]);
    delete trace.by_axis;
  }
  const text = (figure.axis_title || "{axis}").replace("{axis}", data.axes[axis]);
  for (const [name, value] of Object.entries(made.layout)) {
    if (!name.startsWith("xaxis")) continue;
    Object.assign(value, { type: log ? "log" : "linear", title: { text, font: { size: 13 }, standoff: 8 }, exponentformat: "power" });
  }
  return made;
}

function drawPlots() {
  if (!window.Plotly) return; // it is the file's last script: `load` draws
  const setting = data.settings[state.setting];
  const [, policy, budget] = setting ? setting.names : [];
  const all = data.overviews.find((each) => each.policy === policy && each.budget === budget);
  for (const place of document.querySelectorAll(".plot[data-figure]")) {
    const over = all !== undefined && Object.hasOwn(all.figures, place.dataset.figure);
    const figure = over ? all.figures[place.dataset.figure] : setting && setting.figures[place.dataset.figure];
    place.closest("section").hidden = !figure;
    if (figure) drawPlot(place, figure, over ? `all tasks, ${policy}, ${budget}` : setting.names.join(", "));
  }
  drawClaimPlots();
}

function drawPlot(place, figure, about) {
  const axis = figure.axes.includes(byId("axis").value) ? byId("axis").value : figure.axes[0];
  const { data: traces, layout } = drawn(figure, axis, byId("log").checked);
  const narrow = place.clientWidth < 560;
  layout.height = figure.height || 440;
  if (narrow && layout.showlegend !== false) {
    layout.height += 80;
    layout.legend.y = -75 / (layout.height - 170); // below the axis title, whatever the height
  }
  if (narrow && figure.multiples) stack(layout, figure.small || 150);
  const names = traces.filter((trace) => trace.name && trace.showlegend !== false).map((trace) => trace.name);
  place.setAttribute("aria-label", `Plot of ${[...new Set(names)].join(", ")}; ${about}`);
  Plotly.react(place, traces, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  const note = place.parentElement.querySelector(".plot-note");
  if (note && figure.note) note.textContent = typeof figure.note === "string" ? figure.note : figure.note[axis] || "";
}

function stack(layout, inner) { // small plots under each other where the page is narrow, each of so many pixels
  const marks = Object.keys(layout).filter((name) => name.startsWith("xaxis")).map((name) => name.slice(5));
  const [above, below, legend] = [30, 40, layout.showlegend === false ? 0 : 150];
  const area = marks.length * (above + inner + below);
  layout.height = area + layout.margin.t + layout.margin.b + legend;
  layout.margin.b += legend;
  if (legend) layout.legend.y = -50 / area;
  marks.forEach((mark, place) => {
    const top = 1 - (place * (above + inner + below) + above) / area;
    layout[`xaxis${mark}`].domain = [0.02, 0.98];
    Object.assign(layout[`yaxis${mark}`], { domain: [top - inner / area, top], showticklabels: true, title: { text: "" } });
    Object.assign(layout.annotations[place], { x: 0.02, y: top });
    if (place < marks.length - 1) layout[`xaxis${mark}`].title = { text: "" };
  });
}
