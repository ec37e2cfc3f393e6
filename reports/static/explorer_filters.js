"use strict";
// The form above the list: whose answers, which of them, beside whose.
const explorerFilters = (() => {
  const { el, name, visible, grouped, OUTCOMES } = explorerView;
  const CHANGES = { lost: "lost", kept: "kept", gained: "gained", never: "never had" };
  const FILTERS = ["tier", "source", "subject", "outcome", "change"];
  const REMEMBERED = "iit-bench.explorer.filters"; // one storage serves all pages from disk
  const NARROW = "(max-width: 48rem)";
  const LONG = 24; // characters of an option

  const idOf = (run) => run.slug + (run.arm ? `~${run.arm}` : "");
  const labelOf = (run) => visible(run.name + (run.arm ? ` (${run.arm})` : ""));

  // What became of an item against another run, as evaluators/iit/ledger.py has it.
  function change(mine, base) {
    if (mine === "." || base === "." || mine === "e" || base === "e") return "";
    if (base === "c") return mine === "c" ? "kept" : "lost";
    return mine === "c" ? "gained" : "never";
  }

  // Browsers make the page as wide as the longest option of a box, unless the box has a width of its own.
  function select(key, label, options, value) {
    const made = el("select", { id: `by-${key}`, name: key, class: options.some(([text]) => text.length > LONG) ? "long" : null });
    for (const [text, one, group] of options) {
      const option = el("option", { value: one, selected: one === value }, visible(text));
      let place = made;
      if (group) {
        place = [...made.children].find((child) => child.label === group) ?? made.appendChild(el("optgroup", { label: group }));
      }
      place.append(option);
    }
    return el("label", { for: `by-${key}` }, label, made);
  }

  function counted(values, wanted) {
    const counts = new Map();
    for (const value of values) if (value !== undefined) counts.set(value, (counts.get(value) ?? 0) + 1);
    return wanted.filter(([, value]) => counts.has(value)).map(([text, value]) => [`${text} (${grouped(counts.get(value))})`, value]);
  }

  function draw(form, catalogue, view, others, beside) {
    const { state, run, set, index, own, against, againstRun } = view;
    const asked = [...own.outcomes].map((letter, place) => (letter === "." ? -1 : place)).filter((place) => place >= 0);
    const facet = (key, label) => {
      const within = key === "subject" && state.source ? asked.filter((place) => index.source.names[index.source.rows[place]] === state.source) : asked;
      const options = counted(within.map((place) => index[key].names[index[key].rows[place]]), index[key].names.map((one) => [one, one]));
      return options.length > 1 || state[key] ? select(key, label, [["all", ""], ...options], state[key]) : null;
    };
    const setOf = (one) => visible(catalogue.sets.find((own) => own.key === one.set).name);
    const runs = catalogue.runs.filter((one) => !one.arm);
    const arms = catalogue.runs.filter((one) => one.slug === run.slug && one.arm);
    const outcomes = counted([...own.outcomes].map((letter) => OUTCOMES[letter]), Object.values(OUTCOMES).map((one) => [one, one]));
    const parts = [
      select("run", "Model", runs.map((one) => [one.name, one.slug, catalogue.sets.length > 1 ? setOf(one) : ""]), run.slug),
      arms.length ? select("arm", "Arm", [["as the benchmark asks", ""], ...arms.map((one) => [one.arm, one.arm])], run.arm) : null,
      others.length ? select("against", "Against", [["nothing", "none"], ...others.map((one) => [labelOf(one), idOf(one)])], againstRun ? idOf(againstRun) : "none") : null,
      against ? select("change", "What changed", [["all", ""], ...counted([...own.outcomes].map((letter, place) => change(letter, against.outcomes[place])), Object.entries(CHANGES).map(([key, text]) => [text, key]))], state.change) : null,
      select("outcome", "Outcome", [["all", ""], ...outcomes], state.outcome),
      facet("tier", "Tier"),
      facet("source", set.kind === "iit" ? "Source" : "Task"),
      facet("subject", "Subject"),
    ];
    const search = el("input", { type: "search", id: "by-q", name: "q", value: state.q, autocomplete: "off" });
    const deep = el("input", { type: "checkbox", id: "by-deep", name: "deep", checked: Boolean(state.deep) });
    const reset = el("button", { type: "button", id: "reset" }, "Clear");
    parts.push(el("label", { for: "by-q" }, "Search questions and ids", search), el("label", { class: "inline", for: "by-deep" }, deep, "in replies too"), reset);
    if (others.length) parts.push(besides(others, beside, form.querySelector("#beside")?.open));
    form.replaceChildren(...parts.filter(Boolean));
  }

  function besides(others, shown, open) {
    const boxes = others.map((other, i) => {
      const input = el("input", { type: "checkbox", name: "with", id: `with-${i}`, value: idOf(other), checked: shown.includes(other) });
      return el("label", { for: `with-${i}` }, input, name(labelOf(other)));
    });
    const now = shown.length ? shown.map(labelOf).join(", ") : "no other run";
    const title = el("summary", { id: "beside-now" }, "Side by side with ", name(now));
    return el("details", { id: "beside", open: Boolean(open) }, title, el("fieldset", { "aria-labelledby": "beside-now" }, ...boxes));
  }

  // What is chosen, in a line: it is what a reader sees of the form while it is closed.
  function summary(box, view) {
    const { state, run, againstRun } = view;
    const chosen = FILTERS.filter((key) => state[key]).map((key) => (key === "change" ? CHANGES[state[key]] : state[key]));
    const parts = [labelOf(run), againstRun ? `against ${labelOf(againstRun)}` : "", ...chosen, state.q ? `with “${state.q}”` : ""];
    box.replaceChildren(name(parts.filter(Boolean).join(", ")));
  }

  // Closed at first where the form would fill the screen; elsewhere as a reader left it, where the browser keeps that.
  function remember(box) {
    const isNarrow = () => window.matchMedia(NARROW).matches;
    let kept = null;
    try {
      kept = localStorage.getItem(REMEMBERED);
    } catch { /* the browser keeps nothing of pages from disk */ }
    box.open = !isNarrow() && kept !== "closed";
    const keep = () => {
      if (isNarrow()) return;
      try {
        localStorage.setItem(REMEMBERED, box.open ? "open" : "closed");
      } catch { /* the same */ }
    };
    box.addEventListener("toggle", keep);
    window.addEventListener("pagehide", keep); // toggle is told later than the click: a reader may have left by then
  }

  return { CHANGES, FILTERS, change, idOf, labelOf, draw, summary, remember };
})();
