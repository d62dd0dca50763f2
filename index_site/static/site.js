// What the pages can do on top of what they are: copy, and search. Without it everything is there all the same.
(() => {
  "use strict";

  const root = document.documentElement.dataset.root;

  // -- where this index is, if it was not told so -----------------------------------------------------------

  for (const code of document.querySelectorAll("code[data-here]")) {
    const here = new URL(root || "./", location.href).href;
    code.textContent = code.textContent.replaceAll("https://THIS-HOST/", here);
  }

  // -- copying ----------------------------------------------------------------------------------------------

  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };

  const copied = async (element) => {
    // On plain HTTP beyond loopback browsers have no clipboard for scripts; an older way may do.
    if (navigator.clipboard) {
      return navigator.clipboard.writeText(element.textContent).then(() => true, () => false);
    }
    select(element);
    return document.execCommand("copy");
  };

  for (const button of document.querySelectorAll("button[data-copy]")) {
    const word = button.firstChild;
    const source = document.getElementById(button.dataset.copy);
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await copied(source);
      if (!done) select(source);
      word.data = done ? "Copied" : "Selected";
      setTimeout(() => { word.data = "Copy"; }, 2000);
    });
  }

  // -- search -----------------------------------------------------------------------------------------------

  const form = document.querySelector("form[data-search]");
  if (!form) return;
  const input = form.querySelector("input");
  const found = form.querySelector("[role=status]");
  const list = document.getElementById("list");
  const rows = new Map(Array.from(list.rows, (row) => [row.dataset.name, row]));
  const links = () => Array.from(list.querySelectorAll("tr:not([hidden]) th a"));
  let projects = [];

  // Lower is better; null: it is not found. A name first, then its beginning, then what is said of it.
  const rank = (project, words) => {
    let worst = 0;
    for (const word of words) {
      // Names of projects are normalised (PEP 503).
      const name = word.replace(/[-_.]+/g, "-");
      const at = project.name.indexOf(name);
      const said = project.text.includes(word);
      if (at < 0 && !said) return null;
      worst = Math.max(worst, project.name === name ? 0 : at === 0 ? 1 : at > 0 ? 2 : 3);
    }
    return worst;
  };

  const show = () => {
    const words = input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const hits = projects
      .map((project) => ({ name: project.name, rank: rank(project, words) }))
      .filter((hit) => hit.rank !== null)
      .sort((a, b) => a.rank - b.rank || (a.name < b.name ? -1 : 1));
    const shown = new Set(hits.map((hit) => hit.name));
    for (const [name, row] of rows) row.hidden = !shown.has(name);
    list.append(...hits.map((hit) => rows.get(hit.name)).filter(Boolean));
    found.textContent = words.length ? `${hits.length} of ${projects.length} projects` : "";
  };

  input.addEventListener("input", show);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const first = links()[0];
    if (input.value.trim() && first) location.assign(first.href);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") {
      event.preventDefault();
      links()[0]?.focus();
    } else if (event.key === "Escape") {
      input.value = "";
      show();
    }
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const all = links();
    const at = all.indexOf(document.activeElement);
    if (!step || at < 0) return;
    event.preventDefault();
    (all[at + step] ?? (step < 0 ? input : all[at])).focus();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.focus();
    }
  });

  fetch(root + form.dataset.search)
    .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(String(answer.status)))))
    .then((content) => {
      projects = content.projects.map((project) => ({
        name: project.name,
        text: `${project.name} ${project.summary}`.toLowerCase(),
      }));
      form.hidden = false;
      show();
    })
    .catch(() => {}); // The list of all projects is there; a search that can't work is not shown.
})();
