// The report's page, in several files that page.py puts behind each other into one script, this one first and page.js last.
// Text from records enters the document as text nodes only; no string here becomes markup or code.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const ROWS_AT_ONCE = 100;
const SETTING = ["task", "policy", "budget"];
const COLUMN = Object.fromEntries(data.columns.map((column, place) => [column.key, place]));
const state = {
  theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
  sort: null, // {column, descending}; null keeps the order of the table: by setting, then from best to worst
  shown: ROWS_AT_ONCE,
  setting: 0,
  samples: null,
  queue: [],
};
const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (value !== false && value !== null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  if (chosen !== undefined && pairs.some(([value]) => value === chosen)) select.value = chosen;
}
