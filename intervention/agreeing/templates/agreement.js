// The rows of the page: it filters, sorts and pages what the page carries as JSON. Text of the data only ever becomes
// nodes of text, or goes through textContent.
(() => {
  "use strict";
  const PER_PAGE = 25;
  const form = document.getElementById("filters");
  const table = document.getElementById("table");
  const status = document.getElementById("status");
  const pager = document.getElementById("pager");
  const buttons = [...table.querySelectorAll("[data-sort]")];
  const data = JSON.parse(document.getElementById("data").textContent);
  const rows = data.rows.map((values) => {
    const row = Object.fromEntries(data.names.map((name, i) => [name, values[i]]));
    const texts = [row.prompt, ...row.response, row.claim, row.belief];
    row.words = [row.id, ...texts.map((text) => (text ? text[0] : ""))].join("\n").toLowerCase();
    row.words_of_response = row.response.map(([text]) => text).join("").toLowerCase();
    return row;
  });
  let page = 1;
  let order = null; // [column, 1 or -1], or the order of the page

  function make(tag, name, ...inside) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...inside); // strings become text
    return element;
  }

  const count = (number) => number.toLocaleString("en");
  const percent = (share) => `${(100 * share).toFixed(0)}%`;
  const DIGITS = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  function show(number, digits = Number.isInteger(number) ? {} : DIGITS) {
    if (number === null) return "–";
    const tiny = number !== 0 && Math.abs(number) < 0.005;
    return (tiny ? number.toExponential(1) : number.toLocaleString("en", digits)).replaceAll("-", "−");
  }
  const read = (word) => word.replaceAll("_", " ");
  const listEvidence = (row) => (row.evidence.length ? row.evidence : ["none"]);

  function fillChoices() {
    for (const [name, list] of [["verdict", (row) => [row.verdict]], ["kind", (row) => [row.kind]], ["evidence", listEvidence]]) {
      const counts = new Map();
      for (const value of rows.flatMap(list)) counts.set(value, (counts.get(value) || 0) + 1);
      for (const [value, number] of [...counts].sort(([a], [b]) => (a < b ? -1 : 1))) {
        const option = make("option", "", `${read(value)} (${count(number)})`);
        option.value = value;
        form.elements[name].append(option);
      }
    }
  }

  function choose() {
    const { verdict, kind, evidence, words } = Object.fromEntries(new FormData(form));
    const wanted = words.trim().toLowerCase();
    const chosen = rows.filter(
      (row) =>
        (!verdict || row.verdict === verdict) && (!kind || row.kind === kind) &&
        (!evidence || listEvidence(row).includes(evidence)) && (row.words.includes(wanted) || row.words_of_response.includes(wanted)),
    );
    if (!order) return chosen;
    const [name, direction] = order;
    const missing = (row) => row[name] === null; // stands last in both directions
    return chosen.sort((a, b) => missing(a) - missing(b) || direction * (a[name] - b[name]) || a.row - b.row || a.turn - b.turn);
  }

  // A text of the data with a note of how many of its characters are not shown, at its end or its beginning.
  function addText(parent, [text, left], tag, atStart) {
    if (!text && !left) return;
    const shown = tag ? make(tag, "", text) : document.createTextNode(text);
    const note = left ? [make("span", "left", ` [${count(left)} more characters in rows.parquet] `)] : [];
    parent.append(...(atStart ? [...note, shown] : [shown, ...note]));
  }

  function makeText(tag, name, ...parts) {
    const element = make(tag, name);
    element.dir = "auto";
    for (const [text, inner, atStart] of parts) addText(element, text, inner, atStart);
    return element;
  }

  function makeTable(header, lines) {
    const head = make("tr", "");
    for (const [i, word] of header.entries()) {
      const cell = make("th", i ? "num" : "", word);
      cell.scope = "col";
      head.append(cell);
    }
    const body = make("tbody", "");
    for (const [name, ...values] of lines) {
      const cell = make("th", "", read(name));
      cell.scope = "row";
      body.append(make("tr", "", cell, ...values.map((value) => make("td", "num", typeof value === "string" ? read(value) : show(value)))));
    }
    return make("table", "", make("thead", "", head), body);
  }

  function makeNumbers(row) {
    const box = make("details", "", make("summary", "", "Numbers"));
    const own = data.numbers.map((name, i) => [name, row.numbers[i]]).filter(([, value]) => value !== null);
    const said = data.kinds.map((kind, i) => [`says ${kind}`, row.says[i] ?? "nothing"]);
    if (row.flaws.length) said.push(["flaws", row.flaws.map(read).join(", ")]);
    const tables = make("div", "numbers", makeTable(["of the turn", "value"], [...said, ...own]));
    box.append(tables);
    if (data.prompts.length) {
      const lines = data.measures.map((name, i) => [name, ...row.measures.map((values) => values[i])]);
      tables.append(makeTable(["of its tokens", ...data.prompts.map(read)], lines));
    }
    return box;
  }

  function makeOwnWords(row) {
    const cell = make("td", "", make("span", "cell-name", "The model’s own words"));
    if (row.claim) cell.append(make("small", "", "asked, of what the response states:"), makeText("p", "claim", [row.claim]));
    if (row.belief) {
      cell.append(makeText("p", "belief", [row.belief]), make("small", "", `${percent(row.belief_share)} of ${count(row.samples)} answers`));
      cell.append(make("small", "", `${percent(row.agree_share)} agree with the response`));
    }
    if (row.expected) {
      const token = make("bdi", "expected", `“${row.expected[0]}”`);
      cell.append(make("small", "", "token expected at the mark: ", token));
    }
    if (!row.belief && !row.expected) cell.append(make("small", "", "not asked, or nothing else expected"));
    return cell;
  }

  function makeRow(row) {
    const number = make("th", "", make("span", "cell-name", "Row"), String(row.row));
    number.scope = "row";
    if (row.turns > 1 || row.turn > 0) number.append(make("small", "", `turn ${row.turn}, after ${row.before} earlier messages`));
    if (row.system) number.append(make("small", "", "after a system prompt"));
    if (row.in_parts) number.append(make("small", "", "longer than the model’s window, read in parts"));
    if (row.id[0] !== String(row.row)) number.append(makeText("small", "id", [row.id]));
    const verdict = make("td", row.verdict, make("i", "dot"), make("b", "", read(row.verdict)));
    verdict.append(make("small", "", `kind: ${read(row.kind)}`));
    verdict.append(make("small", "", row.evidence.length ? `evidence: ${row.evidence.join(", ")}` : "no evidence for a verdict"));
    const [before, span, after] = row.response;
    const text = make("td", "", makeText("p", "prompt", [row.prompt]));
    text.append(makeText("p", "said", [before, "", true], [span, "mark"], [after]), makeNumbers(row));
    const measured = [["Surprisal", row.surprisal], ["Contrast", row.contrast_nats]].map(([name, value]) =>
      make("td", "num", make("span", "cell-name", name), show(value, DIGITS)),
    );
    const line = make("tr", "", number, verdict, text, makeOwnWords(row), ...measured);
    line.setAttribute("role", "row"); // a narrow page lays the table out as blocks, which would take its roles away
    for (const cell of line.children) cell.setAttribute("role", cell === number ? "rowheader" : "cell");
    return line;
  }

  function fill() {
    const chosen = choose();
    const pages = Math.max(1, Math.ceil(chosen.length / PER_PAGE));
    page = Math.min(Math.max(page, 1), pages);
    const from = (page - 1) * PER_PAGE;
    const shown = chosen.slice(from, from + PER_PAGE);
    table.tBodies[0].replaceChildren(...shown.map(makeRow));
    for (const button of buttons) {
      const sorted = order && order[0] === button.dataset.sort;
      button.closest("th").setAttribute("aria-sort", sorted ? (order[1] > 0 ? "ascending" : "descending") : "none");
    }
    status.textContent = chosen.length
      ? `${count(from + 1)} to ${count(from + shown.length)} of ${count(chosen.length)} turns` +
        (chosen.length < rows.length ? `, chosen from ${count(rows.length)}` : "")
      : `None of the ${count(rows.length)} turns fits. Take a filter off.`;
    pager.querySelector("[data-step='-1']").disabled = page === 1;
    pager.querySelector("[data-step='1']").disabled = page === pages;
    pager.querySelector("span").textContent = `page ${page} of ${pages}`;
    pager.hidden = pages === 1;
  }

  function change() {
    page = 1;
    fill();
  }

  fillChoices();
  form.addEventListener("input", change);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    order = null;
    setTimeout(change); // the controls are reset after this event
  });
  // A first press sorts from the largest, a second from the smallest (rows by number: the other way), a third gives the page's order.
  for (const button of buttons) {
    const name = button.dataset.sort;
    const first = name === "row" ? 1 : -1;
    button.addEventListener("click", () => {
      if (!order || order[0] !== name) order = [name, first];
      else order = order[1] === first ? [name, -first] : null;
      change();
    });
  }
  pager.addEventListener("click", (event) => {
    if (!event.target.dataset.step) return;
    page += Number(event.target.dataset.step);
    fill();
    form.scrollIntoView({ behavior: "instant" });
  });
  fill();
  form.hidden = table.hidden = false;
})();
