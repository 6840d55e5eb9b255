// Claims: of the policy and budget that is chosen.

const claimsShown = () => {
  const setting = data.settings[state.setting];
  const found = setting && data.claims.find((each) => each.policy === setting.names[1] && each.budget === setting.names[2]);
  return found ? found.answers : [];
};

function drawClaims() {
  const answers = claimsShown();
  byId("claims").hidden = !answers.length;
  byId("claim-list").replaceChildren(...answers.map((answer, number) => {
    const head = element("summary", {}, element("span", { class: `badge ${answer.verdict}` }, answer.verdict), " ", answer.sentence);
    const about = element("p", { class: "faint" }, `${answer.claim}; ${answer.scope}. Source: ${answer.source}.`);
    const rows = answer.findings.map((finding, place) => element("tr", {},
      element("td", {}, String(place + 1)),
      element("td", {}, element("span", { class: `badge ${finding.verdict}` }, finding.verdict)),
      element("td", {}, finding.task),
      element("td", { class: "text" }, finding.test + (finding.decides ? "" : " (told beside, decides nothing)"),
        element("small", {}, finding.measured), ...(finding.note ? [element("small", {}, finding.note)] : []))));
    const heads = ["", "verdict", "task", "test, and what was measured"].map((head) => element("th", { scope: "col" }, head));
    const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
    const plot = answer.figure.data.length ? [element("div", { class: "plot", role: "img", "data-claim": String(number) })] : [];
    const made = element("details", { class: "claim" }, head, about, ...plot,
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Tests of ${answer.claim}` }, table));
    made.addEventListener("toggle", drawClaimPlots);
    return made;
  }));
}

function drawClaimPlots() { // a plot in what is closed would have no width
  if (!window.Plotly) return;
  for (const place of document.querySelectorAll(".claim[open] .plot")) {
    const answer = claimsShown()[Number(place.dataset.claim)];
    drawPlot(place, answer.figure, `the tests of ${answer.claim} against their thresholds`);
  }
}
