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
    Object.assign(value, { type: log ? "log" : "linear", title: { text }, exponentformat: "power" });
  }
  return made;
}

function drawPlots() {
  if (!window.Plotly) return; // it is the file's last script: `load` draws
  const setting = data.settings[state.setting];
  for (const place of document.querySelectorAll(".plot[data-figure]")) {
    const figure = setting && setting.figures[place.dataset.figure];
    place.closest("section").hidden = !figure;
    if (figure) drawPlot(place, figure, setting.names.join(", "));
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
  if (narrow && figure.multiples) stack(layout);
  const names = traces.filter((trace) => trace.name && trace.showlegend !== false).map((trace) => trace.name);
  place.setAttribute("aria-label", `Plot of ${[...new Set(names)].join(", ")}; ${about}`);
  Plotly.react(place, traces, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  const note = place.parentElement.querySelector(".plot-note");
  if (note && figure.note) note.textContent = typeof figure.note === "string" ? figure.note : figure.note[axis] || "";
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
