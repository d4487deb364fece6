"use strict";
// Without this script the page lists every operation; with it, the page shows one operation at a
// time.

// Removes the ranges of an operation from a drawing, and closes the gaps.
function withoutTouched(svg) {
  let removed = 0;
  for (const group of svg.querySelectorAll("g")) {
    if (group.classList.contains("touch")) {
      removed += Number(group.dataset.height);
      group.remove();
    } else if (removed > 0) {
      group.setAttribute("transform", `translate(0 ${-removed})`);
    }
  }
  const { width, height } = svg.viewBox.baseVal;
  svg.setAttribute("height", height - removed);
  svg.setAttribute("viewBox", `0 0 ${width} ${height - removed}`);
}

for (const part of document.querySelectorAll(".divergence")) {
  const list = part.querySelector(".steps");
  const steps = [...list.children];
  if (steps.length === 0) continue;

  // A step has only the processes that it changed; the other processes are shown unchanged beside
  // them.
  const latest = new Map();
  for (const step of steps) {
    const living = step.dataset.living.split(" ").filter(Boolean);
    for (const process of [...latest.keys()]) if (!living.includes(process)) latest.delete(process);
    for (const process of living) {
      const own = step.querySelector(`figure[data-process="${process}"]`);
      if (own) {
        latest.set(process, own);
      } else if (latest.has(process)) {
        const copy = latest.get(process).cloneNode(true);
        copy.classList.add("carried");
        withoutTouched(copy.querySelector("svg"));
        const later = [...step.querySelectorAll("figure")].find(
          (figure) => Number(figure.dataset.process) > Number(process));
        step.insertBefore(copy, later ?? null);
      }
    }
  }

  const make = (name, attributes) => Object.assign(document.createElement(name), attributes);
  const controls = make("div", { className: "controls", tabIndex: 0 });
  controls.setAttribute("role", "group");
  controls.setAttribute("aria-label", "Steps: arrow keys go through the operations");
  const back = make("button", { type: "button", textContent: "← Back" });
  const next = make("button", { type: "button", textContent: "Next →" });
  const slider = make("input", { type: "range", min: 0, max: steps.length - 1, step: 1 });
  slider.setAttribute("aria-label", "Operation");
  const where = make("output", { className: "mono" });
  where.setAttribute("aria-live", "polite");
  controls.append(back, slider, next, where);
  list.before(controls);

  let shown = steps.length - 1;
  const show = (n) => {
    shown = Math.min(Math.max(n, 0), steps.length - 1);
    steps.forEach((step, at) => { step.hidden = at !== shown; });
    slider.value = shown;
    const text = `operation ${steps[shown].dataset.at} (last: ${steps.at(-1).dataset.at}): ${steps[shown].dataset.op}`;
    slider.setAttribute("aria-valuetext", text);
    where.value = text;
    back.disabled = shown === 0;
    next.disabled = shown === steps.length - 1;
  };
  back.addEventListener("click", () => show(shown - 1));
  next.addEventListener("click", () => show(shown + 1));
  slider.addEventListener("input", () => show(Number(slider.value)));
  controls.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: shown - 1, ArrowRight: shown + 1, Home: 0, End: steps.length - 1 }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    show(to);
  });
  show(shown);
}

for (const box of document.querySelectorAll(".box")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy ${box.dataset.what}`);
  button.addEventListener("click", async () => {
    const text = box.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // If the clipboard cannot be written, the text is selected, so that it can be copied by hand.
      getSelection().selectAllChildren(box.querySelector("pre"));
      button.textContent = "Selected";
      return;
    }
    button.textContent = "Copied";
  });
  box.prepend(button);
}
