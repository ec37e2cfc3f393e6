"use strict";
// Loads data/NAME.js when it is needed: a page from disk may add scripts of its own folder, and cannot fetch.
const explorerData = (() => {
  const MOST = 64; // scripts whose data are kept
  const waiting = new Map(); // name -> the promise's resolve and reject
  const known = new Map(); // name -> promise of its data, the least used first

  async function unpack(packed) {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  function receive(name, packed) {
    const promise = waiting.get(name);
    waiting.delete(name);
    if (promise) unpack(packed).then(promise.resolve, promise.reject);
  }

  function load(name) {
    const before = known.get(name);
    known.delete(name);
    const promise = before ?? new Promise((resolve, reject) => {
      waiting.set(name, { resolve, reject });
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onload = () => {
        script.remove();
        // A file that is not what its name says never calls iitData.
        if (waiting.delete(name)) reject(new Error(`data/${name}.js holds no data of this page`));
      };
      script.onerror = () => reject(new Error(`data/${name}.js is missing; make the report again`));
      document.head.append(script);
    });
    known.set(name, promise);
    for (const oldest of known.keys()) {
      if (known.size <= MOST) break;
      known.delete(oldest);
    }
    return promise;
  }

  // The entry at a place of a sequence that is cut into scripts; `starts` has the place of each script's first entry.
  async function entry(name, starts, place) {
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (starts[middle] <= place) low = middle;
      else high = middle;
    }
    return (await load(`${name}-${low}`))[place - starts[low]];
  }

  // All entries of such a sequence, script by script.
  async function* all(name, starts) {
    for (let i = 0; i < starts.length; i += 1) yield [starts[i], await load(`${name}-${i}`)];
  }

  // The place of an id in a set, -1 where it is not there: `sorted` has the first id of each script of ids in order.
  async function placeOf(key, sorted, id) {
    const after = sorted.findIndex((first) => first > id);
    const script = (after < 0 ? sorted.length : after) - 1;
    if (script < 0) return -1;
    return (await load(`${key}-o-${script}`)).find(([one]) => one === id)?.[1] ?? -1;
  }

  return { load, entry, all, placeOf, receive };
})();

function iitData(name, packed) {
  explorerData.receive(name, packed);
}
