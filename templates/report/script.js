"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));

  for (const box of all(".switches")) box.hidden = false;
  for (const button of all("[data-switch]")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const part of all(`[data-series="${button.dataset.switch}"]`)) part.classList.toggle("off", !on);
    });
  }

  const theme = document.querySelector(".theme");
  const isDark = () =>
    (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { theme.textContent = isDark() ? "Light page" : "Dark page"; };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  nameTheme();

  const value = (row, column) => {
    const cell = row.cells[column];
    const given = cell.dataset.sort === undefined ? "" : cell.dataset.sort;
    return given === "" || Number.isNaN(Number(given)) ? given : Number(given);
  };
  const compare = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = all("tbody tr", table);
        rows.sort((a, b) => compare(value(a, column), value(b, column)) * (down ? -1 : 1));
        table.tBodies[0].append(...rows);
      });
    });
  }

  for (const story of all(".story")) {
    const epochs = all("details.epoch", story);
    const steps = story.querySelector(".steps");
    steps.hidden = epochs.length < 2;
    const go = (step) => {
      const at = epochs.findIndex((epoch) => epoch.open);
      const next = epochs[at < 0 ? 0 : Math.min(Math.max(at + step, 0), epochs.length - 1)];
      for (const epoch of epochs) epoch.open = epoch === next;
      const summary = next.querySelector("summary");
      summary.focus({ preventScroll: true });
      summary.scrollIntoView({ block: "nearest" });
    };
    for (const button of all("button", steps)) {
      button.addEventListener("click", () => { go(Number(button.dataset.step)); button.focus(); });
    }
    story.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const sideways = event.target.closest("pre, .scroll"); // these scroll with the arrows
      if (!step || sideways || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      go(step);
    });
  }

  const links = new Map(all(".contents li a").map((link) => [link.hash.slice(1), link]));
  const mark = () => {
    let current = "top";
    for (const section of all("section.part")) {
      if (section.getBoundingClientRect().top < innerHeight * 0.35) current = section.id;
    }
    for (const [id, link] of links) {
      if (id === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
})();
