"use strict";
// Draws one dialogue. Whatever a model or a data set wrote goes into the document as text, never as markup.
const explorerView = (() => {
  const OUTCOMES = { c: "correct", w: "wrong", u: "unparsed", t: "truncated", e: "error", ".": "not asked" };
  const FEW = 3000; // characters of a text that are shown at first
  const HIDDEN = /(?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0]/gu;
  const STACKED = /([\p{Mn}\p{Me}\u200c\u200d]{8})([\p{Mn}\p{Me}\u200c\u200d]+)/gu; // marks on one letter, and those beyond the eighth

  // Spells out what a reader could not see, as iit_bench/visible.py does.
  const spelled = (one) => `⟨U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  const visible = (text) => text.replace(HIDDEN, spelled).replace(STACKED, (all, few, rest) => few + [...rest].map(spelled).join(""));
  const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");

  function el(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes ?? {})) {
      if (value === true) made.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  const name = (text) => el("bdi", null, visible(text));
  const headed = (text) => el("bdi", text.length > 60 ? { class: "clipped", title: visible(text) } : null, visible(text));
  const plain = (text) => (Array.isArray(text) ? text[0] : text);

  // A text of any length: its beginning, and the rest at the push of a button. [text, n] is one of which n characters are not here.
  function words(text, attributes) {
    const whole = plain(text);
    const few = FEW + /[\ud800-\udbff]/.test(whole.charAt(FEW - 1)); // no character is cut in two
    const box = el("span", { class: "text", dir: "auto", ...attributes }, visible(whole.slice(0, few)));
    const missing = Array.isArray(text) ? `… ${grouped(text[1])} more characters are in the run folder only` : "";
    if (whole.length <= few) {
      if (missing) box.append(missing);
      return box;
    }
    const button = el("button", { type: "button" }, `Show all ${grouped(whole.length)} characters`);
    button.addEventListener("click", () => button.replaceWith(visible(whole.slice(few)), missing));
    box.append(" … ", button);
    return box;
  }

  function picture([file, width, height], number) {
    if (!file) return el("p", { class: "none" }, "A picture that cannot be shown.");
    const tiny = Math.max(width, height) < 128 ? "tiny" : null;
    return el("img", { src: file, width, height, alt: `Picture ${number} of this turn`, loading: "lazy", decoding: "async", class: tiny });
  }

  function asked(parts, connector) {
    const box = el("div", { class: "asked", dir: "auto" });
    if (connector) box.append(el("p", { class: "connector" }, words(connector)));
    let pictures = 0;
    let line = false; // a picture ends its line, so the line break after it would be an empty one
    for (const part of parts) {
      const text = line && typeof part === "string" ? part.replace(/^\n/, "") : part;
      line = part.image !== undefined;
      box.append(line ? picture(part.image, (pictures += 1)) : words(text));
    }
    return box;
  }

  // The same of a whole message, which may begin with its connector.
  function message(parts, connector) {
    const [first, ...rest] = parts;
    const leads = connector && typeof first === "string" && first.startsWith(`${connector}\n`);
    return leads ? asked([first.slice(connector.length + 1), ...rest], connector) : asked(parts, "");
  }

  const folded = (title, ...inside) => el("details", null, el("summary", null, ...title), ...inside);
  const outcome = (letter) => el("span", { class: `outcome ${OUTCOMES[letter].replace(" ", "-")}` }, OUTCOMES[letter]);
  const minus = (value, digits) => value.toFixed(digits).replace("-", "\u2212");

  function percent(logprobs, place) {
    const best = Math.max(...logprobs.filter((value) => value !== null));
    const weights = logprobs.map((value) => (value === null ? 0 : Math.exp(value - best)));
    return weights[place] / weights.reduce((sum, weight) => sum + weight, 0);
  }

  // What a run gave a choice: its log-probability, and its share of the choices' probability.
  function score(turn, place) {
    const value = turn?.l?.[place];
    if (value === undefined || value === null) return el("td", { class: "number" }, turn?.l ? "no number" : "–");
    const share = percent(turn.l, place);
    const bar = el("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--part", `${(100 * share).toFixed(1)}%`);
    const cell = el("td", { class: turn.k === place ? "number chosen" : "number" }, minus(value, 2), ` (${(100 * share).toFixed(0)}%)`);
    if (turn.k === place) cell.append(el("small", null, "chosen"));
    cell.append(bar);
    return cell;
  }

  const RULES = { n: "per character", b: "per byte" };

  function facts(turn) {
    const said = [];
    if (turn.f) said.push(`ended by ${plain(turn.f)}`);
    if (turn.v) said.push(`found by: ${plain(turn.v)}`);
    const [prompt, reply, reasoning] = turn.t ?? [0, 0, 0];
    if (prompt) said.push(`${grouped(prompt)} prompt tokens`);
    if (reply) said.push(`${grouped(reply)} reply tokens`);
    if (reasoning) said.push(`${grouped(reasoning)} of reasoning`);
    for (const [key, rule] of Object.entries(RULES)) {
      if (turn[key] !== undefined) said.push(`${rule} it is choice ${turn[key] + 1}`);
    }
    if (turn.g) said.push(`depends on ${plain(turn.g)}`);
    return said.map(visible).join("; ");
  }

  const sayings = (turn, choices) => (turn.y !== undefined ? turn.y : choices[turn.k] ?? "");

  function replyCell(turn, choices) {
    const cell = el("td", { class: "words" });
    if (!turn) return el("td", { class: "words missing" }, "not asked");
    if (turn.x) cell.append(words(turn.x[0]), el("small", null, words(turn.x[1])));
    else if (plain(sayings(turn, choices)) === "") cell.append(el("em", null, "an empty reply"));
    else cell.append(words(sayings(turn, choices)));
    if (turn.s) cell.append(el("small", null, visible(turn.s.map(([metric, value]) => `${metric} ${value ?? "no number"}`).join("; "))));
    if (turn.z) cell.append(el("details", null, el("summary", null, `Reasoning, ${grouped(plain(turn.z).length)} characters`), words(turn.z)));
    const line = facts(turn);
    if (line) cell.append(el("small", null, line));
    return cell;
  }

  // The answers of runs to one turn, a column per run: outcome, reply, and what each choice got.
  function answers(question, turns, runs, changes, caption, key) {
    const odd = turns.find((turn) => turn?.c);
    const choices = question?.choices ?? odd?.c ?? [];
    const right = question?.answer ?? odd?.a ?? -1;
    const scored = turns.some((turn) => turn?.l);
    const head = el("tr", null, el("th", { scope: "col", class: "words" }, "model"));
    runs.forEach((run) => head.append(el("th", { scope: "col", class: "words" }, headed(run.name), run.arm ? el("small", null, visible(run.arm)) : null)));
    const body = el("tbody");
    const row = (title, cells) => body.append(el("tr", null, el("th", { scope: "row", class: "words" }, ...title), ...cells));
    row(["outcome"], turns.map((turn, i) => el("td", { class: "words" }, outcome(turn?.o ?? "."), changes?.[i] ? el("small", null, changes[i]) : null)));
    row(["reply"], turns.map((turn) => replyCell(turn, turn?.c ?? choices)));
    choices.forEach((choice, place) => {
      const title = [words(choice, place === right ? { class: "text right" } : {})];
      if (place === right) title.push(el("small", null, "right"));
      const cells = turns.map((turn) => {
        if (!turn) return el("td", { class: "number" }, "–");
        if (turn.c) return el("td", { class: "words" }, el("small", null, "other choices, below"));
        if (turn.l) return score(turn, place);
        return el("td", { class: turn.k === place ? "words chosen" : "words" }, turn.k === place ? "chosen" : "–");
      });
      if (scored || place === right || turns.some((turn) => turn?.k === place)) row(title, cells);
    });
    const table = el("table", null, el("caption", { id: key }, el("span", null, caption)), el("thead", null, head), body);
    const box = el("div", { class: "scroll", role: "region", "aria-labelledby": key, tabindex: "0" }, table);
    const others = turns.map((turn, i) => (turn?.c && question ? own(turn, runs[i], question.choices) : null));
    return [box, ...others.filter(Boolean)];
  }

  // The choices of a run that was asked others than the benchmark has, or in another order; `known`: the benchmark's.
  function own(turn, run, known) {
    const items = turn.c.map((choice, place) => {
      const marks = [place === turn.a ? "right" : "", place === turn.k ? "chosen" : ""].filter(Boolean).join(", ");
      const value = turn.l?.[place];
      return el("li", null, words(choice), value === undefined || value === null ? "" : ` ${minus(value, 2)}`, marks ? ` (${marks})` : "");
    });
    const box = el("div", null, el("p", { class: "fine" }, "Choices as ", name(run.name), run.arm ? ` (${visible(run.arm)})` : "", " was asked them:"), el("ol", null, ...items));
    const each = (turn.m ?? []).flatMap((place, i) => [i ? "; " : "", `${i + 1}: `, place < 0 ? "no choice" : words(known[place])]);
    if (each.length) box.append(el("p", { class: "fine" }, "Chosen with the choices moved by so many places: ", ...each));
    return box;
  }

  // A prompt with a mark at the place of each image.
  function prompt(text, places) {
    const box = el("pre", { class: "prompt", tabindex: "0", dir: "auto" });
    const letters = places.length ? [...plain(text)] : null; // places count characters, not UTF-16 units
    let from = 0;
    places.forEach((place, number) => {
      box.append(words(letters.slice(from, place).join("")), el("span", { class: "place" }, `picture ${number + 1}`));
      from = place;
    });
    const rest = letters ? letters.slice(from).join("") : plain(text);
    box.append(words(Array.isArray(text) ? [rest, text[1]] : rest));
    return box;
  }

  return { el, name, words, asked, message, folded, answers, outcome, prompt, visible, grouped, plain, sayings, OUTCOMES };
})();
