// The explorer of single questions. It filters, sorts and pages the answers that the page carries as JSON, and keeps its
// settings in the address, so that a view can be shared. Text of the data only ever goes through textContent.
(() => {
  "use strict";
  const PER_PAGE = 25;
  const DEFAULTS = { study: "", condition: "", domain: "", split: "", transition: "", flip: "all", q: "", sort: "kl-down", page: "1" };
  const form = document.getElementById("explorer-form");
  const list = document.getElementById("explorer-list");
  const status = document.getElementById("explorer-status");
  const pager = document.getElementById("explorer-pager");
  const data = JSON.parse(document.getElementById("explorer-data").textContent);

  // What became of the first choice, whatever its probability: "same", or what it was and became.
  function nameFlip(answer, right) {
    if (answer.first === answer.first_before) return "same";
    return [answer.first_before, answer.first].map((choice) => (choice === right ? "right" : "wrong")).join("-");
  }

  const rows = data.answers.kl.map((kl, i) => {
    const answer = Object.fromEntries(Object.entries(data.answers).map(([name, column]) => [name, column[i]]));
    const question = Object.fromEntries(Object.entries(data.questions).map(([name, column]) => [name, column[answer.question]]));
    const condition = data.conditions[answer.condition];
    const change = Math.max(...answer.after) - Math.max(...answer.before);
    return {
      ...answer, ...question, change, kl: kl === null ? Infinity : kl,
      study: condition.study, condition: condition.name, colour: condition.colour,
      transition: `${answer.state_before}-${answer.state}`, flip: nameFlip(answer, question.answer),
      words: [question.question, ...question.choices, question.id, question.source].join("\n").toLowerCase(),
    };
  });
  const SORTS = {
    "kl-down": (a, b) => (a.kl === b.kl ? 0 : b.kl - a.kl),
    "kl-up": (a, b) => (a.kl === b.kl ? 0 : a.kl - b.kl),
    "confidence-up": (a, b) => b.change - a.change,
    "confidence-down": (a, b) => a.change - b.change,
  };
  const FILTERS = ["study", "condition", "domain", "split", "transition"];
  let page = 1;

  function make(tag, name, text) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  const percent = (share) => `${(share / 10).toFixed(1)}%`;
  const arrow = (transition) => transition.replace("-", " → ");

  function fillChoices() {
    for (const name of FILTERS) {
      const counts = new Map();
      for (const row of rows) counts.set(row[name], (counts.get(row[name]) || 0) + 1);
      for (const [value, count] of [...counts].sort(([a], [b]) => (a < b ? -1 : 1))) {
        const option = make("option", "", `${name === "transition" ? arrow(value) : value} (${count.toLocaleString("en")})`);
        option.value = value;
        form.elements[name].append(option);
      }
      form.elements[name].closest("label").hidden = name === "study" && counts.size < 2;
    }
  }

  const flipped = (row, flip) => flip === "all" || row.flip === flip || (flip === "changed" && row.flip !== "same");

  function countFlips() {
    for (const control of form.elements.flip) {
      const count = rows.filter((row) => flipped(row, control.value)).length;
      control.closest("label").querySelector("small").textContent = count.toLocaleString("en");
    }
  }

  function readAddress() {
    const told = new URLSearchParams(location.hash.slice(1));
    for (const name of [...FILTERS, "flip", "sort", "q"]) {
      const control = form.elements[name];
      control.value = DEFAULTS[name];
      control.value = told.get(name) ?? DEFAULTS[name];
      if (control.selectedIndex === -1) control.value = DEFAULTS[name];
    }
    page = Number.parseInt(told.get("page"), 10) || 1;
  }

  function writeAddress() {
    const told = new URLSearchParams();
    const now = { ...Object.fromEntries(new FormData(form)), page: String(page) };
    for (const [name, value] of Object.entries(now)) if (value !== DEFAULTS[name]) told.set(name, value);
    history.replaceState(null, "", `#${told.toString() || "questions"}`);
  }

  function choose() {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.q.trim().toLowerCase();
    return rows
      .filter((row) => FILTERS.every((name) => !wanted[name] || row[name] === wanted[name]))
      .filter((row) => flipped(row, wanted.flip) && row.words.includes(words))
      .sort(SORTS[wanted.sort]);
  }

  function drawChoice(row, i) {
    const line = make("tr", i === row.answer ? "gold" : "");
    const name = make("td");
    const text = make("bdi", "", row.choices[i]);
    name.append(text);
    if (i === row.answer) name.append(make("small", "", " · right"));
    if (i === row.first_before) name.append(make("small", "", row.state_before === "unsure" ? " · first before" : " · believed before"));
    if (i === row.first) name.append(make("small", "", row.state === "unsure" ? " · first after" : " · believed after"));
    const bars = make("td", "bars");
    for (const [kind, share] of [["before", row.before[i]], ["after", row.after[i]]]) {
      const bar = make("i", kind);
      bar.style.width = `${share / 10}%`;
      if (kind === "after") bar.style.background = row.colour;
      bars.append(bar);
    }
    line.append(name, bars, make("td", "num", `${percent(row.before[i])} → ${percent(row.after[i])}`));
    return line;
  }

  function drawRow(row, open) {
    const box = make("details", "question");
    box.open = open;
    const summary = make("summary");
    const dot = make("i", "dot");
    dot.style.background = row.colour;
    const what = make("span", "what", `${row.condition}, seed ${row.seed}`);
    what.append(make("small", "where", `${row.split} · ${row.domain}`));
    const ask = make("bdi", "ask", row.question);
    const kl = make("span", "kl", row.kl === Infinity ? "infinite" : `${row.kl.toFixed(3)} nats`);
    kl.append(make("small", "", `confidence ${row.change < 0 ? "−" : "+"}${(Math.abs(row.change) / 10).toFixed(1)}`));
    const transition = make("span", "transition", arrow(row.transition));
    if (row.flip !== "same") transition.append(make("small", "", "first choice changed"));
    summary.append(dot, what, transition, ask, kl);
    const table = make("table");
    const body = make("tbody");
    body.append(...row.choices.map((_, i) => drawChoice(row, i)));
    table.append(body);
    const note = make("p", "note");
    const confidence = `${percent(Math.max(...row.before))} → ${percent(Math.max(...row.after))}`;
    note.append(make("bdi", "", row.source), ", id ", make("bdi", "", row.id), ` · ${row.study} · confidence ${confidence}`);
    box.append(summary, table, note);
    return box;
  }

  function draw() {
    const chosen = choose();
    const pages = Math.max(1, Math.ceil(chosen.length / PER_PAGE));
    page = Math.min(Math.max(page, 1), pages);
    const from = (page - 1) * PER_PAGE;
    const shown = chosen.slice(from, from + PER_PAGE);
    list.replaceChildren(...shown.map((row, i) => drawRow(row, i < 2)));
    const count = (n) => n.toLocaleString("en");
    status.textContent = chosen.length
      ? `${count(from + 1)} to ${count(from + shown.length)} of ${count(chosen.length)} answers` +
        (chosen.length < rows.length ? `, chosen from ${count(rows.length)}` : "")
      : `None of the ${count(rows.length)} answers fits. Take a filter off.`;
    pager.querySelector("[data-step='-1']").disabled = page === 1;
    pager.querySelector("[data-step='1']").disabled = page === pages;
    pager.querySelector("span").textContent = `page ${page} of ${pages}`;
    pager.hidden = pages === 1;
  }

  function change() {
    page = 1;
    draw();
    writeAddress();
  }

  fillChoices();
  countFlips();
  form.addEventListener("input", change);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(change));
  pager.addEventListener("click", (event) => {
    if (!event.target.dataset.step) return;
    page += Number(event.target.dataset.step);
    draw();
    writeAddress();
    form.scrollIntoView({ behavior: "instant" });
  });
  window.addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return; // a link to a section
    readAddress();
    draw();
  });
  readAddress();
  draw();
  form.hidden = false;
  if (location.hash.includes("=")) form.scrollIntoView({ behavior: "instant" });
})();
