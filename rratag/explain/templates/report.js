"use strict";
(() => {
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const { tags, glimpses, videos } = report;
  const find = (id) => document.getElementById(id);
  const AT_ONCE = 8; // cards built together: the list grows as it is read
  const SVG = "http://www.w3.org/2000/svg";

  // ---- small helpers. Text goes in as text nodes alone: no name of a file or tag becomes markup.

  function make(name, properties = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key.startsWith("aria-") || key === "role" || key === "list") made.setAttribute(key, value);
      else made[key] = value;
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  const number = (share) => share.toFixed(share === 1 ? 2 : 3).replace(/^0/, "");
  const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
  const seconds = (time) => `${time.toFixed(2)} s`;
  const isTagged = (video) => video.rows.length > 0;
  const first = (video) => (isTagged(video) ? tags[video.rows[0][0]] : null);
  const score = (video) => video.rows[0][1];
  const isTrue = (video, tag) => video.truth.some((one) => one.name === tag.name);
  const isRight = (video) => isTrue(video, first(video));
  const trueScore = (video) => Math.max(-1, ...video.rows.filter((row) => isTrue(video, tags[row[0]])).map((row) => row[1]));

  // ---- corrections: kept by this browser, written as `rratag train --labels` reads them

  const KEY = `rratag-report-${report.run}`;
  const corrections = new Map();
  try {
    const known = new Map(videos.map((video) => [video.id, video.truth.length === 1 ? video.truth[0].name : null]));
    for (const [id, label] of JSON.parse(localStorage.getItem(KEY) || "[]")) {
      if (known.get(id) !== label) corrections.set(id, label); // else the labels have it by now
    }
  } catch { /* storage is switched off: they last as long as the page */ }

  function correct(video, label) {
    if (label && corrections.get(video.id) !== label) corrections.set(video.id, label);
    else corrections.delete(video.id);
    try {
      localStorage.setItem(KEY, JSON.stringify([...corrections]));
    } catch { /* as above */ }
    tellCorrections();
  }

  function tellCorrections() {
    const count = corrections.size;
    find("corrected").textContent = count ? `${count} corrected` : "";
    find("download").disabled = !count && !videos.some((video) => video.labels.length);
  }

  // as rratag/data/cells.py: bytes that are no UTF-8, cells that a spreadsheet would execute, quotes
  function cell(text) {
    const written = text.replace(/[\ud800-\udfff]|\\(?=x5c|x[89a-f][0-9a-f]|ud[89a-f][0-9a-f]{2})/gu, (sign) => {
      const code = sign.charCodeAt(0);
      if (sign === "\\") return "\\x5c";
      return code >= 0xdc80 && code <= 0xdcff ? `\\x${(code - 0xdc00).toString(16)}` : `\\u${code.toString(16)}`;
    });
    const safe = /^'*[=+\-@\t\r\n]/.test(written) ? `'${written}` : written;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function labelsFile() {
    const lines = [["video", "label", "start_s", "end_s", "split", "group", "several"]];
    for (const video of videos) {
      const [, , , split, group] = video.labels[0] || ["", null, null, "", ""];
      const corrected = corrections.get(video.id);
      const rows = corrected ? [[corrected, null, null, split, group, ""]] : video.labels;
      for (const row of rows) lines.push([video.id, ...row.map((value) => (value === null ? "" : String(value)))]);
    }
    return `${lines.map((line) => line.map(cell).join(",")).join("\n")}\n`;
  }

  function download() {
    const address = URL.createObjectURL(new Blob([labelsFile()], { type: "text/csv" }));
    make("a", { href: address, download: "labels.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  // ---- pictures: one JPEG a video, its frames below each other; heat is drawn from numbers

  const STOPS = [[44, 17, 95], [114, 31, 129], [183, 55, 121], [241, 96, 93], [254, 176, 120], [252, 253, 191]];
  const COLOURS = Array.from({ length: 256 }, (_, level) => {
    const place = (level / 255) * (STOPS.length - 1);
    const low = Math.min(Math.floor(place), STOPS.length - 2);
    const mixed = STOPS[low].map((value, k) => value + (place - low) * (STOPS[low + 1][k] - value));
    return [...mixed, 235 * Math.min(1, (level / 255) * 1.3) ** 1.2]; // the coldest cells leave the frame as it is
  });

  function heat(canvas, layer, position) {
    const size = layer.rows * layer.columns;
    layer.bytes ??= Uint8Array.from(atob(layer.levels), (sign) => sign.charCodeAt(0));
    canvas.width = layer.columns;
    canvas.height = layer.rows;
    const picture = new ImageData(layer.columns, layer.rows);
    for (let place = 0; place < size; place++) {
      picture.data.set(COLOURS[layer.bytes[position * size + place]], 4 * place);
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  function put(made, [x0, y0, x1, y1]) {
    made.style.left = `${100 * Math.min(x0, x1)}%`;
    made.style.top = `${100 * y0}%`;
    made.style.width = `${100 * Math.abs(x1 - x0)}%`;
    made.style.height = `${100 * (y1 - y0)}%`;
    if (x0 > x1) made.style.transform = "scaleX(-1)";
    return made;
  }

  function frame(video, position, caption, alt) {
    const [source, width, height, positions] = video.picture;
    const image = make("img", { loading: "lazy", decoding: "async", src: source, alt });
    image.style.height = `${100 * positions.length}%`;
    image.style.top = `${-100 * positions.indexOf(position)}%`;
    const inside = make("div", { className: "window" }, image);
    inside.style.aspectRatio = `${width} / ${height}`;
    return make("figure", {}, inside, make("figcaption", {}, caption));
  }

  function filmstrip(video) {
    const frames = video.shown.filter((position) => video.picture[3].includes(position));
    return make("div", { className: "frames small" }, ...frames.map((position) => {
      const time = seconds(video.times[position]);
      return frame(video, position, time, `${video.name} at ${time}`);
    }));
  }

  // ---- attention over time: a row a glimpse, a cell a frame

  function timeline(video) {
    const count = video.times.length;
    const picture = document.createElementNS(SVG, "svg");
    const about = video.attention.map((row, k) => {
      const most = row.indexOf(Math.max(...row));
      return `glimpse ${k + 1} most at ${seconds(video.times[most])}, ${percent(row[most])}`;
    });
    for (const [name, value] of Object.entries({
      viewBox: `0 0 ${count} ${glimpses}`, preserveAspectRatio: "none", role: "img",
      "aria-label": `Attention over time: ${about.join("; ")}`,
    })) picture.setAttribute(name, value);
    picture.style.height = `${15 * glimpses}px`;
    video.attention.forEach((row, k) => {
      const most = Math.max(...row);
      row.forEach((share, t) => {
        const made = document.createElementNS(SVG, "rect");
        const title = document.createElementNS(SVG, "title");
        title.textContent = `glimpse ${k + 1}, ${seconds(video.times[t])}: ${percent(share)} of its attention`;
        for (const [name, value] of Object.entries({
          x: t, y: k, width: 1, height: 1, fill: "currentColor", "fill-opacity": (share / most).toFixed(3),
        })) made.setAttribute(name, value);
        made.append(title);
        picture.append(made);
      });
    });
    const names = make("ol", { "aria-hidden": "true" }, ...video.attention.map((_, k) => make("li", {}, `${k + 1}`)));
    const axis = [0, Math.floor((count - 1) / 2), count - 1].filter((place, k, all) => all.indexOf(place) === k);
    return make("div", { className: "time" }, names, picture,
      make("p", { className: "axis" }, ...axis.map((place) => make("span", {}, seconds(video.times[place])))));
  }

  // ---- enlarged frames with attention or influence over them

  function choices(label, names, chosen, choose) {
    const buttons = names.map((name, k) => make("button", { type: "button", onclick: () => choose(k) }, name));
    const mark = (k) => buttons.forEach((button, one) => button.setAttribute("aria-pressed", String(one === k)));
    mark(chosen);
    return [make("span", { className: "switch", role: "group", "aria-label": label }, ...buttons), mark];
  }

  function attended(video) {
    const there = video.enlarged.filter((position) => video.picture[3].includes(position));
    const kinds = video.influence ? ["attention", "influence (Eq. 7)"] : ["attention"];
    let glimpse = video.speaking;
    let kind = 0;
    const frames = there.map((position) => {
      const made = frame(video, position, "", "");
      const canvas = put(make("canvas", {}), video.rectangle);
      const box = make("span", { className: "box" });
      made.firstChild.append(canvas, box);
      return { position, made, canvas, box };
    });
    const draw = () => {
      const layer = kind ? video.influence : video.heat;
      for (const { position, made, canvas, box } of frames) {
        heat(canvas, layer, glimpse * video.enlarged.length + video.enlarged.indexOf(position));
        const [peak, ...sides] = video.peaks[glimpse];
        box.hidden = kind > 0 || peak !== position;
        put(box, sides);
        const share = `${percent(video.attention[glimpse][position])} of glimpse ${glimpse + 1}`;
        made.lastChild.textContent = `${seconds(video.times[position])}, ${share}`;
        made.querySelector("img").alt = `Frame at ${seconds(video.times[position])} with the ${kinds[kind]} of glimpse ${glimpse + 1}`
          + `, whose share here is ${percent(video.attention[glimpse][position])}`;
      }
    };
    const names = Array.from({ length: glimpses }, (_, k) => `${k + 1}`);
    const [ofGlimpse, markGlimpse] = choices("glimpse", names, glimpse, (k) => { glimpse = k; markGlimpse(k); draw(); });
    const [ofKind, markKind] = choices("what is shown", kinds, kind, (k) => { kind = k; markKind(k); draw(); });
    draw();
    const legend = make("span", { className: "legend" }, "least", make("i"), "most");
    const panel = make("div", {},
      make("div", { className: "caption" }, kinds.length > 1 ? ofKind : make("span", {}, "attention"), "of glimpse", ofGlimpse, legend),
      make("div", { className: "frames large" }, ...frames.map((one) => one.made)));
    panel.glimpse = (k) => { if (k < glimpses) { glimpse = k; markGlimpse(k); draw(); } };
    panel.kind = () => { if (kinds.length > 1) { kind = 1 - kind; markKind(kind); draw(); } };
    return panel;
  }

  // ---- scores: a row a tag, a column for all glimpses together and for each

  function bar(share, isBest) {
    const inside = make("i");
    inside.style.width = `${100 * share}%`;
    return make("td", { className: isBest ? "best" : "" }, number(share), make("span", { className: "bar" }, inside));
  }

  function scores(video) {
    const heads = ["tag", "all", ...Array.from({ length: glimpses }, (_, k) => `${k + 1}`)];
    const best = [video.rows[0][0], ...video.firsts];
    const rows = video.rows.map(([tag, ...shares]) => {
      const mark = isTrue(video, tags[tag]) ? "true" : "";
      return make("tr", {}, make("th", { scope: "row", className: mark }, make("bdi", {}, tags[tag].shown)),
        ...shares.map((share, k) => bar(share, best[k] === tag)));
    });
    const table = make("table", { className: "scores" },
      make("thead", {}, make("tr", {}, ...heads.map((name, k) => make("th", { scope: "col", title: k > 1 ? `glimpse ${name}` : "" }, name)))),
      make("tbody", {}, ...rows));
    table.style.minWidth = `${110 + 44 * (glimpses + 1)}px`;
    return make("div", { className: "scroll" }, table);
  }

  function account(video) {
    const changed = video.changed ? `; glimpse ${video.changed} changed the first tag` : "";
    return `${video.agreeing} of ${glimpses} glimpses put ${first(video).shown} first${changed}.`;
  }

  // ---- cards

  function badge(text, kind = "") {
    return make("span", { className: `badge ${kind}`, title: text }, make("bdi", {}, text));
  }

  function badges(video) {
    const made = [];
    const known = video.truth.map((one) => one.shown).join(", ");
    if (isTagged(video) && known) made.push(isRight(video) ? badge("right", "right") : badge(`wrong: ${known}`, "wrong"));
    else if (known) made.push(badge(`label: ${known}`));
    if (isTagged(video) && score(video) < report.unsure) made.push(badge("unsure", "unsure"));
    if (isTagged(video) && video.agreeing < glimpses) made.push(badge("glimpses disagree", "unsure"));
    if (video.trained) made.push(badge("trained on"));
    if (video.status !== "ok") made.push(badge(video.reason ? `${video.status}: ${video.reason}` : video.status, "unsure"));
    return made;
  }

  function correction(video) {
    const offered = new Map(video.rows.slice(0, 3).map((row) => [tags[row[0]].name, tags[row[0]].shown]));
    for (const one of video.truth) offered.set(one.name, one.shown);
    const buttons = [...offered].map(([name, shown]) => {
      const made = make("button", { type: "button", onclick: () => { correct(video, name); mark(); } }, make("bdi", {}, shown));
      return { name, made };
    });
    const input = make("input", { list: "tags", placeholder: "another tag", "aria-label": `right tag of ${video.name}` });
    input.addEventListener("change", () => {
      const typed = input.value.trim();
      const meant = tags.find((tag) => tag.shown === typed);
      if (corrections.get(video.id) !== (meant ? meant.name : typed)) correct(video, meant ? meant.name : typed);
      mark();
    });
    const mark = () => {
      const label = corrections.get(video.id);
      for (const { name, made } of buttons) made.setAttribute("aria-pressed", String(name === label));
      const isOffered = label === undefined || offered.has(label);
      input.value = isOffered ? "" : (tags.find((tag) => tag.name === label) || { shown: label }).shown;
    };
    mark();
    return make("div", { className: "correct", role: "group", "aria-label": "right tag" },
      make("span", {}, "Right tag"), ...buttons.map((one) => one.made), input);
  }

  function card(video) {
    const name = make("bdi", {}, video.name);
    const title = make("h3", {}, video.href ? make("a", { href: video.href }, name) : name);
    const verdict = isTagged(video)
      ? [make("strong", {}, make("bdi", {}, first(video).shown)), make("span", { className: "score" }, score(video).toFixed(3))]
      : [];
    const made = make("article", { className: isTagged(video) ? "card" : "card failed", tabIndex: -1, "aria-label": video.name },
      make("header", {}, title, make("p", { className: "verdict" }, ...verdict, ...badges(video))),
      video.message ? make("p", { className: "message" }, make("bdi", {}, video.message)) : null);
    if (!isTagged(video)) return made;
    const pictures = make("div", { className: "pictures" });
    if (video.picture) pictures.append(filmstrip(video));
    pictures.append(make("p", { className: "caption" }, "attention over time, a row for each glimpse"), timeline(video));
    if (video.picture) pictures.append(made.attended = attended(video));
    const numbers = make("div", { className: "numbers" },
      scores(video), make("p", { className: "account" }, make("bdi", {}, account(video))), correction(video));
    made.append(make("div", { className: "body" }, pictures, numbers));
    return made;
  }

  // ---- the list: filtered, sorted, built as far as it is looked at

  const ONLY = {
    errors: ["errors", (video) => isTagged(video) && video.truth.length > 0 && !isRight(video)],
    unsure: ["unsure", (video) => isTagged(video) && score(video) < report.unsure],
    disagree: ["glimpses disagree", (video) => isTagged(video) && video.agreeing < glimpses],
    unseen: ["not trained on", (video) => isTagged(video) && !video.trained],
    corrected: ["corrected", (video) => corrections.has(video.id)],
  };
  const hasTruth = videos.some((video) => video.truth.length);
  const SORTS = { // what stands first has the lowest value; without a value it stands last
    least: ["score, low first", (video) => score(video)],
    most: ["score, high first", (video) => -score(video)],
    margin: ["margin to the second tag", (video) => video.margin],
    ...(hasTruth ? { truth: ["score of the true tag", (video) => (video.truth.length ? trueScore(video) : Infinity)] } : {}),
    name: ["name", null],
  };

  function sorted(found) {
    const value = SORTS[find("sort").value][1];
    if (value === null) return found;
    const values = new Map(found.map((video) => [video, isTagged(video) ? value(video) : Infinity]));
    const [low, high] = [(a, b) => values.get(a) < values.get(b), (a, b) => values.get(a) > values.get(b)];
    return found.sort((a, b) => (low(a, b) ? -1 : Number(high(a, b))));
  }

  const only = new Set();
  let pair = null; // true and first tag of the confusion that is looked at
  let listed = [];
  let built = 0;
  const cards = new Map();

  for (const video of videos) {
    const words = [video.name, ...(isTagged(video) ? [first(video).shown] : []), ...video.truth.map((one) => one.shown)];
    video.words = words.join("\n").toLowerCase();
  }

  function matches(video, wanted, tag, status) {
    return wanted.every((word) => video.words.includes(word))
      && (!tag || (isTagged(video) && first(video).name === tag) || video.truth.some((one) => one.name === tag)
        || corrections.get(video.id) === tag)
      && (!status || video.status === status)
      && (!pair || (isTagged(video) && !video.trained && first(video).name === pair[1] && isTrue(video, { name: pair[0] })))
      && [...only].every((name) => ONLY[name][1](video));
  }

  function list() {
    const wanted = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [tag, status] = [find("tag").value, find("status").value];
    listed = sorted(videos.filter((video) => matches(video, wanted, tag, status)));
    find("cards").replaceChildren();
    built = 0;
    grow();
    const all = listed.length === videos.length;
    find("found").textContent = all ? `${videos.length} videos` : `${listed.length} of ${videos.length}`;
    find("reset").hidden = !(wanted.length || tag || status || pair || only.size);
    for (const button of document.querySelectorAll("[data-only]")) {
      button.setAttribute("aria-pressed", String(only.has(button.dataset.only)));
    }
    for (const button of document.querySelectorAll("[data-pair]")) {
      button.setAttribute("aria-pressed", String(pair !== null && pair[2] === button.dataset.pair));
    }
  }

  function grow(to = built + AT_ONCE) {
    const added = listed.slice(built, to).map((video) => {
      if (!cards.has(video)) cards.set(video, card(video));
      return cards.get(video);
    });
    find("cards").append(...added);
    built = Math.min(Math.max(to, built), listed.length);
    find("more").textContent = built < listed.length ? `${listed.length - built} more` : "";
    watcher.unobserve(find("more")); // asked anew, it also answers where the end of the list stayed in sight
    if (built < listed.length) watcher.observe(find("more"));
  }

  const watcher = new IntersectionObserver((seen) => {
    if (seen.some((one) => one.isIntersecting)) grow();
  }, { rootMargin: "1200px" });

  function move(step) {
    const shown = [...find("cards").children];
    const here = shown.indexOf(document.activeElement.closest?.(".card"));
    const next = here < 0 ? (step > 0 ? 0 : -1) : here + step;
    if (next < 0 || next >= listed.length) return;
    if (next >= built) grow();
    const made = find("cards").children[next];
    const covered = getComputedStyle(find("tools")).position === "sticky" ? find("tools").offsetHeight : 0;
    made.style.scrollMarginTop = `${covered + 12}px`;
    made.focus({ preventScroll: true });
    made.scrollIntoView({ block: "start" });
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && isTyping) event.target.blur();
    if (isTyping) return;
    const here = document.activeElement.closest?.(".card");
    const act = {
      j: () => move(1), ArrowRight: () => move(1), k: () => move(-1), ArrowLeft: () => move(-1),
      "/": () => { find("search").focus(); find("search").select(); },
      g: () => here?.attended?.kind(),
    }[event.key] || (/^[1-9]$/.test(event.key) ? () => here?.attended?.glimpse(Number(event.key) - 1) : null);
    if (!act) return;
    event.preventDefault();
    act();
  }

  function offer(select, options) {
    select.append(...options.map(([value, text]) => make("option", { value }, text)));
  }

  function start() {
    const given = new Set([...videos.filter(isTagged).map((video) => first(video).name),
      ...videos.flatMap((video) => video.truth.map((one) => one.name))]);
    const shown = new Map([...videos.flatMap((video) => video.truth), ...tags].map((one) => [one.name, one.shown]));
    offer(find("tag"), [...given].sort().map((name) => [name, shown.get(name)]));
    offer(find("status"), [...new Set(videos.map((video) => video.status))].sort().map((one) => [one, one]));
    offer(find("sort"), Object.entries(SORTS).map(([value, [text]]) => [value, text]));
    offer(find("tags"), tags.map((tag) => [tag.shown, ""]));
    for (const [name, [text, holds]] of Object.entries(ONLY)) {
      if ((name === "errors" && !hasTruth) || (name === "unseen" && !videos.some((video) => video.trained))) continue;
      const count = name === "corrected" ? "" : ` ${videos.filter(holds).length}`;
      const button = make("button", { type: "button", onclick: () => { only.delete(name) || only.add(name); list(); } }, text + count);
      button.dataset.only = name;
      find("only").append(button);
    }
    for (const button of document.querySelectorAll("[data-pair]")) {
      button.addEventListener("click", () => {
        pair = pair && pair[2] === button.dataset.pair ? null : [...report.pairs[button.dataset.pair], button.dataset.pair];
        list();
        if (pair) find("videos-title").scrollIntoView();
      });
    }
    find("search").addEventListener("input", list);
    for (const id of ["tag", "status", "sort"]) find(id).addEventListener("change", list);
    find("tools").addEventListener("submit", (event) => event.preventDefault());
    find("reset").addEventListener("click", () => {
      for (const id of ["search", "tag", "status"]) find(id).value = "";
      only.clear();
      pair = null;
      list();
    });
    find("download").addEventListener("click", download);
    document.addEventListener("keydown", onKey);
    tellCorrections();
    list();
  }

  start();
})();
