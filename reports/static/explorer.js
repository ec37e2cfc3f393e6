"use strict";
// The list, its filters and the dialogue that is open. The address holds all of it, so that every view has a link.
(() => {
  const { el, name, visible, grouped, plain, OUTCOMES } = explorerView;
  const { CHANGES, FILTERS, change, idOf, labelOf } = explorerFilters;
  const PAGE = 50;
  const find = (id) => document.getElementById(id);
  let catalogue = null;
  let view = null; // what is shown: state, run, set, own, against, places
  let page = 0;
  let latest = 0; // number of the newest call of `show`: an older one that is still loading gives up

  // ---------------------------------------------------------------- the address

  function stateOf(hash) {
    const given = new URLSearchParams(hash.replace(/^#/, ""));
    return Object.fromEntries(["run", "arm", "against", "with", "q", "deep", "item", "turn", ...FILTERS].map((key) => [key, given.get(key) ?? ""]));
  }

  const addressOf = (state) => "#" + new URLSearchParams(Object.entries(state).filter(([, value]) => value !== "")).toString().replaceAll("+", "%20");
  const go = (changes) => { location.hash = addressOf({ ...view.state, ...changes }); };
  const runOf = (slug, arm) => catalogue.runs.find((run) => run.slug === slug && run.arm === (arm ?? ""));
  const siblings = (run) => catalogue.runs.filter((other) => other.set === run.set);

  // ---------------------------------------------------------------- what is found

  async function textMatches(set, run, index, own, query, deep) {
    const wanted = query.toLowerCase();
    const within = (text) => plain(text).toLowerCase().includes(wanted);
    const found = new Set();
    for await (const [start, entries] of explorerData.all(`${set.key}-i`, index.listed)) {
      entries.forEach(([id], i) => { if (id.toLowerCase().includes(wanted)) found.add(start + i); });
    }
    if (index.questions) {
      const questions = new Set();
      for await (const [start, entries] of explorerData.all(`${set.key}-q`, index.questions)) {
        entries.forEach((question, i) => {
          if (question.parts.some((part) => part.image === undefined && within(part)) || question.choices.some(within)) questions.add(start + i);
        });
      }
      for await (const [start, entries] of explorerData.all(`${set.key}-d`, index.dialogues)) {
        entries.forEach((dialogue, i) => { if (dialogue.length && dialogue[0].some((turn) => questions.has(turn))) found.add(start + i); });
      }
    }
    if (deep) {
      for await (const [start, entries] of explorerData.all(`${run.key}-a`, own.answers)) {
        entries.forEach((turns, i) => {
          if (turns.some((turn) => [turn.y, turn.z].some((text) => text !== undefined && within(text)))) found.add(start + i);
        });
      }
    }
    return found;
  }

  async function placesOf(state, set, run, index, own, against) {
    const chosen = {};
    for (const key of ["tier", "source", "subject"]) chosen[key] = state[key] ? index[key].names.indexOf(state[key]) : -2;
    const letter = Object.keys(OUTCOMES).find((key) => OUTCOMES[key] === state.outcome);
    const matches = state.q ? await textMatches(set, run, index, own, state.q, state.deep) : null;
    const places = [];
    for (let place = 0; place < index.count; place += 1) {
      const mine = own.outcomes[place];
      if (mine === "." && state.outcome !== "not asked") continue;
      if (["tier", "source", "subject"].some((key) => chosen[key] !== -2 && index[key].rows[place] !== chosen[key])) continue;
      if (state.outcome && mine !== letter) continue;
      if (state.change && (!against || change(mine, against.outcomes[place]) !== state.change)) continue;
      if (matches && !matches.has(place)) continue;
      places.push(place);
    }
    return places;
  }

  // ---------------------------------------------------------------- drawing

  async function show() {
    latest += 1;
    const mine = latest;
    const address = location.hash;
    const state = stateOf(address);
    const failure = find("failure");
    failure.hidden = true;
    const run = runOf(state.run, state.arm) ?? runOf(state.run) ?? catalogue.runs[0];
    if (state.run && !runOf(state.run, state.arm)) fail(`This report has no run ${state.run}${state.arm ? ` with arm ${state.arm}` : ""}.`);
    const set = catalogue.sets.find((one) => one.key === run.set);
    const others = siblings(run).filter((other) => other !== run);
    const given = others.find((other) => idOf(other) === state.against);
    const againstRun = state.against === "none" ? null : given ?? others.find((other) => other.slug === run.base && !other.arm) ?? null;
    const [index, own, against] = await Promise.all([
      explorerData.load(set.key), explorerData.load(run.key), againstRun ? explorerData.load(againstRun.key) : null,
    ]);
    if (state.q) find("found").textContent = "Searching …";
    const places = await placesOf(state, set, run, index, own, against);
    const at = state.item ? await explorerData.placeOf(set.key, index.sorted, state.item) : places[0] ?? -1;
    if (mine !== latest) return;
    const before = view;
    view = { state, run, set, index, own, against, againstRun, places, at };
    if (state.item && at < 0) fail(`This report has no dialogue ${state.item}.`);
    const same = before && before.places.length === places.length && before.places.every((place, i) => place === places[i]);
    const row = places.indexOf(at);
    if (row >= 0) page = Math.floor(row / PAGE);
    else if (!same) page = 0;
    drawFilters(others);
    await drawList();
    if (mine === latest) await drawDetail(mine);
    if (mine === latest) find("explorer").dataset.address = address; // list and dialogue are of this address
  }

  function fail(text) {
    const failure = find("failure");
    failure.textContent = visible(text);
    failure.hidden = false;
  }

  const unread = (error) => fail(`The data of this page cannot be read: ${error.message}`);

  function drawFilters(others) {
    const form = find("filters");
    const focused = document.activeElement?.id;
    explorerFilters.draw(form, catalogue, view, others, shownBeside());
    explorerFilters.summary(find("filters-now"), view);
    find("filters-box").hidden = false;
    find("explorer").hidden = false;
    find("keys").hidden = false;
    if (focused && form.querySelector(`#${CSS.escape(focused)}`)) form.querySelector(`#${CSS.escape(focused)}`).focus();
  }

  const shownBeside = () => {
    const { state, run, againstRun } = view;
    if (state.with === "") return againstRun ? [againstRun] : [];
    const wanted = state.with.split(",");
    return siblings(run).filter((other) => other !== run && wanted.includes(idOf(other)));
  };

  // Id and target of a place, and the beginning of its question where that is known.
  async function listed(set, index, place) {
    const [id, target] = await explorerData.entry(`${set.key}-i`, index.listed, place);
    const known = index.snippets && target >= 0;
    return [id, known ? await explorerData.entry(`${set.key}-s`, index.snippets, target) : id];
  }

  let drawing = 0; // number of the newest call of `drawList`
  async function drawList() {
    drawing += 1;
    const mine = drawing;
    const { state, set, index, own, against, places, at } = view;
    const pages = Math.max(1, Math.ceil(places.length / PAGE));
    page = Math.min(page, pages - 1);
    const part = places.slice(page * PAGE, (page + 1) * PAGE);
    const words = await Promise.all(part.map((place) => listed(set, index, place)));
    if (mine !== drawing) return;
    const noun = set.kind === "iit" ? "dialogue" : "item";
    find("list-heading").textContent = set.kind === "iit" ? "Dialogues" : "Items";
    find("found").textContent = `${grouped(places.length)} of ${grouped(index.count)} ${noun}s`;
    find("shown").textContent = places.length ? `${grouped(page * PAGE + 1)}–${grouped(page * PAGE + part.length)}` : "";
    find("earlier").disabled = page === 0;
    find("later").disabled = page >= pages - 1;
    const coded = (key, place) => index[key].names[index[key].rows[place]];
    const rows = part.map((place, i) => {
      const [id, title] = words[i];
      const moved = against ? change(own.outcomes[place], against.outcomes[place]) : "";
      const small = [coded("source", place), coded("subject", place), moved ? CHANGES[moved] : ""].filter(Boolean).join(" · ");
      const link = el("a", { href: addressOf({ ...state, run: view.run.slug, item: id, turn: "" }), "aria-current": place === at ? "true" : null },
        explorerView.outcome(own.outcomes[place]), " ", coded("tier", place) ? el("code", null, visible(coded("tier", place))) : "", " ", name(title),
        el("small", null, name(small)));
      return el("li", null, link);
    });
    find("items").replaceChildren(...rows);
    find("items").start = page * PAGE + 1;
  }

  async function drawDetail(mine) {
    const { run, set, index, own, against, at } = view;
    const box = find("detail");
    if (at < 0) {
      box.replaceChildren(el("h2", { id: "detail-heading" }, "Nothing is found"), el("p", { class: "none" }, "No dialogue has all of this. Clear the filters to see all."));
      return;
    }
    const runs = [run, ...shownBeside()];
    const owns = await Promise.all(runs.map((one) => explorerData.load(one.key)));
    const [[id], dialogue, ...answered] = await Promise.all([
      explorerData.entry(`${set.key}-i`, index.listed, at),
      index.dialogues ? explorerData.entry(`${set.key}-d`, index.dialogues, at) : [],
      ...runs.map((one, i) => explorerData.entry(`${one.key}-a`, owns[i].answers, at)),
    ]);
    const asked = await Promise.all(owns.map((one) => (one.asked && one.outcomes[at] !== "." ? explorerData.entry(one.asked.name, one.asked.starts, at) : [])));
    const turns = dialogue.length ? dialogue[0] : [];
    const questions = await Promise.all(turns.map((turn) => explorerData.entry(`${set.key}-q`, index.questions, turn)));
    if (mine !== latest) return;
    const moved = against ? change(own.outcomes[at], against.outcomes[at]) : "";
    const heading = el("h2", { id: "detail-heading", tabindex: "-1" }, name(id));
    const said = ["tier", "source", "subject"].map((key) => index[key].names[index[key].rows[at]]).filter(Boolean);
    const parts = [
      heading,
      el("p", { class: "fine" }, name(said.join(" · ")), " · ", explorerView.outcome(own.outcomes[at]),
        moved ? ` · ${CHANGES[moved]} against ${labelOf(view.againstRun)}` : "", " · ",
        el("a", { href: addressOf({ run: run.slug, arm: run.arm, item: id }) }, "Link to this item")),
      el("p", { class: "fine" }, name([labelOf(run), ...run.words.map((one) => one.replace(/\.$/, ""))].join("; "))),
    ];
    if (set.kind === "iit" && !questions.length) parts.push(el("p", { class: "none" }, "The question is not shown: the benchmark's folder is not at hand. Name it with --bench DIR."));
    parts.push(chat(questions, dialogue[1] ?? [], runs, answered, owns, asked));
    if (set.kind === "iit") parts.push(...prompts(runs, owns, at));
    box.replaceChildren(...parts.flat());
    const wanted = view.state.turn && box.querySelector(`#turn-${CSS.escape(view.state.turn)}`);
    if (wanted) wanted.scrollIntoView({ block: "nearest" });
  }

  // A turn as the first run was asked it. Where an arm changed it, a line says so, and what the others were asked is folded.
  function turnOf(question, connector, position, runs, asked) {
    const { message, folded } = explorerView;
    const [mine, ...others] = asked.map(([changed]) => changed?.find(([turn]) => turn === position)?.[1]);
    const plain = explorerView.asked(question.parts, connector);
    const parts = [plain];
    if (mine) {
      const what = el("p", { class: "fine" }, el("span", { class: "badge" }, visible(runs[0].arm)), " ", visible(runs[0].words[0]));
      parts.splice(0, 1, what, message(mine, connector), folded(["As the benchmark asks it"], plain));
    }
    others.forEach((one, i) => {
      if (one && JSON.stringify(one) !== JSON.stringify(mine)) {
        parts.push(folded(["As ", name(labelOf(runs[i + 1])), " was asked it"], message(one, connector)));
      }
    });
    return parts;
  }

  // The turns of a dialogue, each with the answers that are scored there; `asked`: of each run, what its arm changed.
  function chat(questions, connectors, runs, answered, owns, asked) {
    const list = el("ol", { class: "chat" });
    const last = Math.max(questions.length - 1, ...answered.flat().map((turn) => turn.p));
    const changes = owns.map((one) => (view.againstRun && one !== view.against && view.against ? change(one.outcomes[view.at], view.against.outcomes[view.at]) : ""));
    for (let position = questions.length ? 0 : last; position <= last; position += 1) {
      const question = questions[position];
      const item = el("li", { id: `turn-${position}` });
      if (question) item.append(...turnOf(question, connectors[position], position, runs, asked));
      const turns = answered.map((one) => one.find((turn) => turn.p === position));
      if (turns.some(Boolean)) {
        const caption = last > 0 && questions.length ? `Answers to turn ${position + 1}` : "Answers";
        const moved = position === last ? changes.map((one) => CHANGES[one] ?? "") : null;
        item.append(...explorerView.answers(question, turns, runs, moved, caption, `answers-${position}`));
      } else if (question && position < last) {
        const own = asked[0][1]?.[position];
        const who = own === undefined ? "right answer, as the history has it: " : "the model's reply, as in its run: ";
        item.append(el("div", { class: "replied" }, el("span", { class: "who" }, who), explorerView.words(own ?? question.choices[question.answer])));
      } else if (question) {
        item.append(el("p", { class: "none" }, "Not asked."));
      }
      list.append(item);
    }
    return list;
  }

  function prompts(runs, owns, at) {
    return runs.map((run, i) => {
      const inside = el("div");
      const box = el("details", null, el("summary", null, "Prompt as ", name(labelOf(run)), " read it"), inside);
      box.addEventListener("toggle", async () => {
        if (!box.open || inside.childNodes.length) return;
        if (!owns[i].prompts) {
          inside.append(el("p", { class: "none" }, "Not recorded: the chat was rendered by a server, the model reads no chats, or the run is of an earlier version."));
          return;
        }
        const found = await explorerData.entry(`${run.key}-p`, owns[i].prompts, at);
        if (!found.length) inside.append(el("p", { class: "none" }, "Not recorded for this dialogue."));
        for (const [position, text, places] of found) {
          if (found.length > 1) inside.append(el("h3", null, `Before turn ${position + 1}`));
          inside.append(explorerView.prompt(text, places));
        }
      });
      return box;
    });
  }

  // ---------------------------------------------------------------- what a reader does

  async function turn(by) {
    page += by;
    await drawList();
    find("list-heading").focus();
  }

  async function step(by) {
    const { places, at, set, index, run } = view;
    const row = places.indexOf(at);
    const next = row < 0 ? 0 : row + by;
    if (next < 0 || next >= places.length) return;
    const [id] = await explorerData.entry(`${set.key}-i`, index.listed, places[next]);
    focusAfter = true;
    go({ run: run.slug, item: id, turn: "" });
  }

  let focusAfter = false;
  async function onAddress() {
    if (location.hash && !location.hash.includes("=")) return; // the link that skips to the list
    try {
      await show();
      if (focusAfter) find("items").querySelector('[aria-current="true"]')?.focus();
      focusAfter = false;
    } catch (error) {
      unread(error);
    }
  }

  function onChange(event) {
    const { name: key, value, checked, type } = event.target;
    if (key === "with") {
      const chosen = [...find("filters").querySelectorAll('[name="with"]:checked')].map((input) => input.value);
      go({ with: chosen.join(",") || "none" });
    } else if (key === "run") {
      const next = runOf(value);
      const kept = next.set === view.run.set ? { ...view.state } : {};
      location.hash = addressOf({ ...kept, run: value, arm: "", against: "", with: "", change: "" });
    } else if (key === "source") {
      go({ source: value, subject: "", item: "" });
    } else if (key === "against") {
      go({ against: value, with: "", change: value === "none" ? "" : view.state.change });
    } else {
      go({ [key]: type === "checkbox" ? (checked ? "1" : "") : value, run: view.run.slug, item: key === "arm" ? view.state.item : "" });
    }
  }

  function onKey(event) {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !view) return;
    const inList = find("items").contains(event.target);
    const by = { ArrowDown: inList ? 1 : 0, ArrowUp: inList ? -1 : 0, ...(find("keys-on").checked ? { j: 1, k: -1 } : {}) }[event.key];
    if (by) {
      event.preventDefault();
      step(by).catch(unread);
    } else if (event.key === "/" && find("keys-on").checked) {
      event.preventDefault();
      find("filters-box").open = true;
      find("by-q").focus();
    }
  }

  explorerData.load("catalogue").then((loaded) => {
    catalogue = loaded;
    if (!catalogue.runs.length) return;
    explorerFilters.remember(find("filters-box"));
    find("filters").addEventListener("change", onChange);
    find("filters").addEventListener("submit", (event) => event.preventDefault());
    find("filters").addEventListener("click", (event) => {
      if (event.target.id === "reset") location.hash = addressOf({ run: view.run.slug, arm: view.run.arm, against: view.state.against });
    });
    find("earlier").addEventListener("click", () => turn(-1).catch(unread));
    find("later").addEventListener("click", () => turn(1).catch(unread));
    find("items").addEventListener("click", (event) => {
      if (event.target.closest("a") && window.matchMedia("(max-width: 48rem)").matches) {
        setTimeout(() => find("detail").scrollIntoView(), 150);
      }
    });
    document.addEventListener("keydown", onKey);
    window.addEventListener("hashchange", onAddress);
    onAddress();
  }, unread);
})();
