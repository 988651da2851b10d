"use strict";
// The picture by hand: zoom, move, find, follow a node to the other side. The page reads without it.
const all = (what, where = document) => [...where.querySelectorAll(what)];
const graphs = all(".sheet svg");
const says = document.getElementById("says");
const still = says && says.textContent;

function view(svg, box) {
  svg.box = box;
  svg.setAttribute("viewBox", box.map((value) => value.toFixed(1)).join(" "));
}

function scale(svg) { // units of the picture a pixel of the screen
  const size = svg.getBoundingClientRect();
  return Math.max(svg.box[2] / size.width, svg.box[3] / size.height) || 1;
}

function point(svg, event) {
  const at = svg.getScreenCTM().inverse();
  return [at.a * event.clientX + at.e, at.d * event.clientY + at.f];
}

function zoom(svg, factor, at) {
  const [x, y, width, height] = svg.box;
  const now = Math.min(Math.max(scale(svg) * factor, 0.2), scale(svg) * Math.max(svg.all[2] / width, 1) * 1.5) / scale(svg);
  const [px, py] = at || [x + width / 2, y + height / 2];
  view(svg, [px - (px - x) * now, py - (py - y) * now, width * now, height * now]);
}

function move(svg, x, y) {
  view(svg, [svg.box[0] + x, svg.box[1] + y, svg.box[2], svg.box[3]]);
}

function centre(svg, node) { // at a size that can be read
  const [, x, y] = node.getAttribute("transform").match(/\(([-\d.]+) ([-\d.]+)\)/).map(Number);
  const size = svg.getBoundingClientRect();
  const now = Math.min(scale(svg), 0.9);
  view(svg, [x - (size.width * now) / 2, y - (size.height * now) / 2, size.width * now, size.height * now]);
}

function twin(node) {
  const sheet = node.closest(".sheet").dataset.sheet;
  const side = node.closest(".pane").dataset.side === "before" ? "after" : "before";
  const svg = document.querySelector(`.pane[data-side=${side}] .sheet[data-sheet="${sheet}"] svg`);
  return node.dataset.twin && svg ? [svg, svg.querySelector(`.n[data-n="${node.dataset.twin}"]`)] : [];
}

function light(node) {
  all(".lit").forEach((one) => one.classList.remove("lit"));
  says.textContent = node ? node.says : still;
  if (!node) return;
  const n = node.dataset.n;
  all(`[data-a="${n}"], [data-b="${n}"]`, node.closest("svg")).forEach((one) => one.classList.add("lit"));
  node.classList.add("lit");
  const other = twin(node)[1];
  if (other) other.classList.add("lit");
}

function show(place) {
  all(".sheet").forEach((one) => { one.hidden = one.dataset.sheet !== String(place); });
  const choice = document.getElementById("sheet");
  if (choice) choice.value = place;
}

function hit(test) { // nodes that pass stay, the others fade
  graphs.forEach((svg) => {
    svg.classList.toggle("dim", Boolean(test));
    all(".n", svg).forEach((node) => node.classList.toggle("hit", Boolean(test) && test(node)));
  });
  const first = test && document.querySelector(".sheet:not([hidden]) .hit");
  return first;
}

function listen(svg) {
  const touches = new Map();
  let moved = 0;
  svg.all = svg.getAttribute("viewBox").split(" ").map(Number);
  svg.box = svg.all;
  svg.addEventListener("wheel", (event) => {
    if (document.activeElement !== svg && !event.ctrlKey) return; // else the page scrolls
    event.preventDefault();
    zoom(svg, Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 250), point(svg, event));
  }, { passive: false });
  svg.addEventListener("pointerdown", (event) => { touches.set(event.pointerId, event); moved = 0; });
  svg.addEventListener("pointermove", (event) => {
    const before = touches.get(event.pointerId);
    if (!before) return;
    const [x, y] = [event.clientX - before.clientX, event.clientY - before.clientY];
    moved += Math.abs(x) + Math.abs(y);
    if (moved > 4 && !svg.classList.contains("moving")) {
      svg.classList.add("moving");
      svg.setPointerCapture(event.pointerId);
    }
    const far = () => { const [a, b] = [...touches.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
    const was = touches.size === 2 && far();
    touches.set(event.pointerId, event);
    move(svg, (-x * scale(svg)) / touches.size, (-y * scale(svg)) / touches.size);
    if (was) zoom(svg, was / Math.max(far(), 1));
  });
  const up = (event) => { touches.delete(event.pointerId); svg.classList.remove("moving"); };
  svg.addEventListener("pointerup", up);
  svg.addEventListener("pointercancel", up);
  svg.addEventListener("click", (event) => {
    const node = moved > 4 ? null : event.target.closest(".n");
    if (!node) return;
    if (node.dataset.opens) return show(node.dataset.opens);
    const [other, same] = twin(node);
    if (same) centre(other, same);
  });
  svg.addEventListener("pointerover", (event) => light(event.target.closest(".n")));
  svg.addEventListener("keydown", (event) => {
    const step = 60 * scale(svg);
    const does = {
      "+": () => zoom(svg, 0.8), "=": () => zoom(svg, 0.8), "-": () => zoom(svg, 1.25), "0": () => view(svg, svg.all),
      ArrowLeft: () => move(svg, -step, 0), ArrowRight: () => move(svg, step, 0),
      ArrowUp: () => move(svg, 0, -step), ArrowDown: () => move(svg, 0, step),
    }[event.key];
    if (!does || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    does();
  });
  all(".n", svg).forEach((node) => { // the browser's own bubble would cover the neighbours
    const title = node.querySelector("title");
    node.says = title.textContent;
    node.setAttribute("aria-label", node.says);
    title.remove();
  });
}

graphs.forEach(listen);
all(".controls, .head button").forEach((one) => { one.hidden = false; });
all(".head button").forEach((button) => button.addEventListener("click", () => {
  const svg = button.closest(".pane").querySelector(".sheet:not([hidden]) svg");
  if (svg) ({ in: () => zoom(svg, 0.7), out: () => zoom(svg, 1.4), fit: () => view(svg, svg.all) })[button.dataset.do]();
}));
all("#sheet").forEach((choice) => choice.addEventListener("change", () => show(choice.value)));
all("#find").forEach((field) => {
  field.addEventListener("input", () => {
    const word = field.value.trim().toLowerCase();
    hit(word && ((node) => node.says.toLowerCase().includes(word)));
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") all(".sheet:not([hidden]) svg").forEach((svg) => {
      const found = svg.querySelector(".hit");
      if (found) centre(svg, found);
    });
  });
});
all(".legend").forEach((legend) => {
  legend.classList.add("live");
  all("li", legend).forEach((row) => {
    row.tabIndex = 0;
    row.setAttribute("role", "button");
    row.setAttribute("aria-pressed", "false");
    const press = () => {
      const on = row.getAttribute("aria-pressed") !== "true";
      all("li", legend).forEach((one) => one.setAttribute("aria-pressed", String(one === row && on)));
      const name = row.dataset.kind;
      hit(on && ((node) => node.classList.contains(name)));
    };
    row.addEventListener("click", press);
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") press(); });
  });
});
