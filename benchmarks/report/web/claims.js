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
    const head = element("summary", {}, element("span", { class: `badge ${answer.conclusion}` }, answer.conclusion), " ", answer.sentence);
    const about = element("p", { class: "faint" }, `${answer.claim}; ${answer.scope}. Source: ${answer.source}.`);
    const rows = answer.judgements.map((judgement, place) => element("tr", {},
      element("td", {}, String(place + 1)),
      element("td", {}, element("span", { class: `badge ${judgement.conclusion}` }, judgement.conclusion)),
      element("td", {}, judgement.task),
      element("td", { class: "text" }, judgement.test + (judgement.decides ? "" : " (reported beside, decides nothing)"),
        element("small", {}, judgement.measured), ...(judgement.note ? [element("small", {}, judgement.note)] : []))));
    const heads = ["", "conclusion", "task", "test, and what was measured"].map((head) => element("th", { scope: "col" }, head));
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
