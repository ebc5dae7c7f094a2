"use strict";

const content = document.getElementById("figure-data").textContent;
const PRINT_WIDTH = 670; // A4 less its margins, in CSS pixels
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const narrow = window.matchMedia("(max-width: 40rem)");
// What the figures are drawn with on a light page, and what stands for it on a dark one.
const ON_DARK = [["#111111", "#e9ecf0"], ["rgba(17,17,17,", "rgba(233,236,240,"], ["#eff3f7", "#20262d"], ["#7fb8dd", "#1f5f8f"]];

let figures = {};
let slices = [];
let onPaper = false;

function read() {
  const swap = (value) => (dark.matches && !onPaper ? ON_DARK.reduce((text, [from, to]) => text.replace(from, to), value) : value);
  ({ figures, slices } = JSON.parse(content, (key, value) => (typeof value === "string" ? swap(value) : value)));
}

function template() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = {
    gridcolor: colour("grid"), linecolor: colour("mark"), tickcolor: colour("mark"), zerolinecolor: colour("line"),
    title: { standoff: 8 }, automargin: true,
  };
  return {
    layout: {
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
      xaxis: axis, yaxis: axis, paper_bgcolor: colour("ground"), plot_bgcolor: colour("ground"),
      shapedefaults: { layer: "between", line: { color: colour("mark"), width: 1.5, dash: "4px,4px" } },
      annotationdefaults: { showarrow: false, font: { size: 11, color: colour("soft") } },
    },
  };
}

// Plotly takes the legend out of the figure's height; with many algorithms on a phone nothing would be left.
function legendHeight(data, width) {
  const names = data.filter((trace) => trace.showlegend !== false).map((trace) => trace.name ?? "");
  const perRow = Math.max(1, Math.floor(width / (45 + 7 * Math.max(...names.map((name) => name.length)))));
  return names.length ? 20 * Math.ceil(names.length / perRow) : 0;
}

function draw(place, figure) {
  const small = (narrow.matches && !onPaper) || place.closest(".grid") !== null;
  const layout = {
    template: template(),
    margin: { l: 8, r: 12, t: small || onPaper ? 22 : 42, b: 8 },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0 },
    hoverlabel: { namelength: -1 },
    // A finger that drags over a figure means to scroll the page.
    dragmode: small ? false : "zoom",
    ...figure.layout,
  };
  if (onPaper) layout.width = PRINT_WIDTH / (place.closest(".grid") ? 3.2 : place.closest(".pair") ? 2.15 : 1);
  layout.height += legendHeight(figure.data, layout.width ?? place.clientWidth);
  const config = {
    responsive: !onPaper, displaylogo: false, displayModeBar: small ? false : "hover",
    modeBarButtons: [["toImage", "resetScale2d"]],
  };
  return Plotly.newPlot(place, figure.data, layout, config);
}

function drawSlices() {
  const choice = document.getElementById("slice-of");
  if (!choice) return;
  const grid = document.getElementById("slices");
  for (const old of grid.children) Plotly.purge(old);
  grid.replaceChildren();
  for (const figure of slices[choice.value].figures) {
    const place = document.createElement("div");
    place.className = "plot";
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `Score of the trials over ${figure.layout.xaxis.title.text}`);
    grid.append(place);
    draw(place, figure);
  }
}

function drawAll() {
  read();
  for (const place of document.querySelectorAll("[data-figure]")) draw(place, figures[place.dataset.figure]);
  drawSlices();
}

function valueOf(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(text);
  return text !== "" && !Number.isNaN(number) ? number : text;
}

function compare(left, right) {
  if (typeof left === "number" && typeof right === "number") return left - right;
  // A failed run has no return: it comes before every number.
  if (typeof left !== typeof right) return typeof left === "string" ? -1 : 1;
  return left.localeCompare(right);
}

function sortBy(table, heading) {
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row, heading.cellIndex), row]);
  rows.sort(([left], [right]) => sign * compare(left, right));
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  body.append(...rows.map(([, row]) => row));
}

function toPaper() {
  onPaper = true;
  document.documentElement.dataset.paper = ""; // light, also where the screen is dark
  for (const closed of document.querySelectorAll("details:not(.screen-only):not([open])")) {
    closed.open = true;
    closed.dataset.wasClosed = "";
  }
  drawAll();
}

function toScreen() {
  onPaper = false;
  delete document.documentElement.dataset.paper;
  for (const opened of document.querySelectorAll("details[data-was-closed]")) {
    opened.open = false;
    delete opened.dataset.wasClosed;
  }
  drawAll();
}

drawAll();
for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    heading.querySelector("button").addEventListener("click", () => sortBy(table, heading));
  }
}
document.getElementById("slice-of")?.addEventListener("change", drawSlices);
dark.addEventListener("change", drawAll);
window.addEventListener("beforeprint", toPaper);
window.addEventListener("afterprint", toScreen);
