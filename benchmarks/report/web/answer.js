// The short answer: per task and policy, the setting whose runs spent the amount that lies nearest to what was asked.

function drawAnswer() {
  const cards = [...document.querySelectorAll("#answer .answer")];
  const asked = Number(byId("asked").value.trim() || NaN);
  const wrong = byId("asked").value.trim() !== "" && !(asked > 0 && Number.isFinite(asked));
  byId("asked").setAttribute("aria-invalid", String(wrong));
  const kind = byId("kind").value;
  const fits = (card) => kind === "" || (kind === "multi") === Number(card.dataset.turns) > 1;
  const best = new Map();
  for (const card of cards.filter(fits)) {
    const key = JSON.stringify([card.dataset.task, card.dataset.policy]);
    const before = best.get(key);
    if (!before || distance(card, asked) < distance(before, asked)) best.set(key, card);
  }
  const shown = new Set(best.values());
  for (const card of cards) {
    card.hidden = !shown.has(card);
    card.querySelector(".distance").textContent = apart(Number(card.dataset.flops), asked);
  }
  byId("answers-found").textContent = wrong ? "Write a number of FLOPs such as 1e15."
    : shown.size ? "" : "No complete run is of such a task.";
}

// Without an amount, the dearest runs answer: they are what was looked at longest.
const distance = (card, asked) =>
  Number.isFinite(asked) && asked > 0 ? Math.abs(Math.log(Number(card.dataset.flops) / asked)) : -Number(card.dataset.flops);

function apart(flops, asked) {
  if (!(asked > 0 && Number.isFinite(asked)) || !(flops > 0)) return "";
  const ratio = asked / flops;
  if (ratio > 0.5 && ratio < 2) return "";
  const times = (number) => Number(number.toPrecision(2)).toLocaleString("en");
  const power = (number) => number.toExponential(1).replace("e+", "e").replace(".0e", "e");
  return ratio > 1
    ? `The records do not reach ${power(asked)} FLOPs: the nearest runs spent ${power(flops)}, ${times(ratio)} times less. Who is ahead can change on the way, so what follows is a first guess and no answer.`
    : `No run was made for so little as ${power(asked)} FLOPs: the nearest spent ${power(flops)}, ${times(1 / ratio)} times more. The learning curves below show what they had reached by then.`;
}
