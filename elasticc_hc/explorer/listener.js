// Keys, mouse, theme and sizes in the box of the explorer. The class of the box is given by the kernel.
const KEYS = {ArrowRight: "next", ArrowLeft: "previous", r: "random", 1: "root", 2: "level2", 3: "leaf"};
const TYPING = "input:not([type=checkbox]), textarea, select, [contenteditable], [role=slider], .noUi-target";

// Time axis and frame of the figure under an event, and the distance of the mouse from the cut line in pixels.
function cutAt(event) {
  const plot = event.target.closest ? event.target.closest(".js-plotly-plot") : null;
  const full = plot && plot._fullLayout;
  const line = full && (full.shapes || []).find((shape) => shape.name === "cut" && shape.visible === true);
  if (!line) return null;
  const axis = full.xaxis, frame = plot.getBoundingClientRect();
  const pixel = event.clientX - frame.left - axis._offset;
  return {axis, frame, distance: Math.abs(pixel - axis.c2p(line.x0))};
}

function pressed(event, box, model) {
  if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "f") {
    const field = box.querySelector('input[placeholder^="SNID"]');
    field.focus();
    field.select();
  } else {
    if (event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key] || event.target.closest(TYPING)) return;
    model.send({do: KEYS[event.key]});
  }
  event.preventDefault();
  event.stopPropagation();
}

function drag(event, cut, model) {
  event.preventDefault();
  event.stopPropagation();
  let waiting = null;
  const move = (moved) => {
    const pixel = Math.min(Math.max(moved.clientX - cut.frame.left - cut.axis._offset, 0), cut.axis._length);
    if (waiting === null) requestAnimationFrame(() => { model.set("day", waiting); model.save_changes(); waiting = null; });
    waiting = cut.axis.p2c(pixel);
  };
  const drop = () => {
    document.removeEventListener("mousemove", move, true);
    document.removeEventListener("mouseup", drop, true);
  };
  document.addEventListener("mousemove", move, true);
  document.addEventListener("mouseup", drop, true);
}

// A double click asks the kernel for the ranges of the object shown: plotly itself would return to its first ranges.
function hook(plot, model) {
  if (!plot || !plot.on || plot.dataset.hooked) return;
  plot.dataset.hooked = "yes";
  plot.on("plotly_doubleclick", () => model.send({do: "home"}));
}

function watchTheme(model) {
  const tell = () => {
    const dark = document.body.dataset.jpThemeLight === "false";
    if (model.get("dark") !== dark) { model.set("dark", dark); model.save_changes(); }
  };
  new MutationObserver(tell).observe(document.body, {attributes: true, attributeFilter: ["data-jp-theme-light"]});
  tell();
}

// Figures are drawn again when their frame has changed its size. New frames and fields are found when widgets come and go.
function watchSizes(box, model) {
  const sizes = new Map();
  const frames = new ResizeObserver((entries) => {
    const changed = entries.filter(({target, contentRect: {width, height}}) => sizes.get(target) !== `${width} ${height}`);
    changed.forEach(({target, contentRect: {width, height}}) => sizes.set(target, `${width} ${height}`));
    if (changed.length) window.dispatchEvent(new Event("resize"));
  });
  const find = () => {
    box.querySelectorAll(".elasticc-fit").forEach((frame) => frames.observe(frame));
    name(box);
  };
  const soon = () => [200, 1500, 6000].forEach((wait) => setTimeout(find, wait));  // views are made one after the other
  model.on("change:arranged", soon);
  box.addEventListener("focusin", () => name(box));
  soon();
  find();
}

function name(box) {
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Explorer of light curves. Keys: left and right arrow, r, 1 to 3 for the level, control F.");
  box.querySelectorAll(".noUi-handle").forEach((handle) => {
    const label = handle.closest(".widget-slider")?.querySelector("label");
    if (label) handle.setAttribute("aria-label", label.textContent.trim());
  });
  box.querySelectorAll("input:not([type=checkbox])").forEach((field) => {
    const label = field.closest(".jupyter-widgets")?.querySelector("label")?.textContent.trim();
    field.setAttribute("aria-label", label || field.placeholder || field.title);
  });
}

function listen(box, model) {
  box.tabIndex = 0;
  box.setAttribute("data-lm-suppress-shortcuts", "true");
  box.addEventListener("keydown", (event) => pressed(event, box, model));
  box.addEventListener("mousedown", (event) => {
    const cut = cutAt(event);
    if (!event.target.closest("input, textarea, select, button, a, [role=slider]")) box.focus({preventScroll: true});
    hook(event.target.closest(".js-plotly-plot"), model);
    if (cut && cut.distance <= 8 && event.button === 0) drag(event, cut, model);
  }, true);
  box.addEventListener("mousemove", (event) => {
    const cut = cutAt(event);
    box.classList.toggle("near-cut", Boolean(cut) && cut.distance <= 8);
  });
  watchTheme(model);
  watchSizes(box, model);
}

function render({model, el}) {
  const wait = () => {
    const box = el.closest("." + model.get("box"));
    if (!box) { requestAnimationFrame(wait); return; }
    if (!box.dataset.hands) { box.dataset.hands = "ready"; listen(box, model); }
  };
  wait();
}
export default {render};
