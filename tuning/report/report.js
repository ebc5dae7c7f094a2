"use strict";

const content = JSON.parse(document.getElementById("figure-data").textContent);
const PRINT_WIDTH = 660; // A4 less its margins, in CSS pixels
const FONT = { family: getComputedStyle(document.body).fontFamily, size: 12, color: "#1a1d21" };
const AXIS = { gridcolor: "#e8ebef", linecolor: "#aeb5bd", zerolinecolor: "#cfd5db", title: { standoff: 8 }, automargin: true };
const TEMPLATE = { layout: { font: FONT, xaxis: AXIS, yaxis: AXIS, paper_bgcolor: "#fff", plot_bgcolor: "#fff" } };
const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

function draw(place, figure) {
  const narrow = window.matchMedia("(max-width: 40rem)").matches;
  const layout = {
    template: TEMPLATE,
    margin: { l: 8, r: 12, t: 24, b: 8 },
    legend: { orientation: "h", y: -0.22, yanchor: "top", x: 0 },
    hoverlabel: { namelength: -1 },
    // A finger that drags over a figure means to scroll the page.
    dragmode: narrow ? false : "zoom",
    ...figure.layout,
  };
  return Plotly.newPlot(place, figure.data, layout, { ...CONFIG, displayModeBar: narrow ? false : "hover" });
}

function drawSlices(index) {
  const grid = document.getElementById("slices");
  for (const old of grid.children) Plotly.purge(old);
  grid.replaceChildren();
  for (const figure of content.slices[index].figures) {
    const place = document.createElement("div");
    place.className = "plot";
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `Score of the trials over ${figure.layout.xaxis.title.text}`);
    grid.append(place);
    draw(place, figure);
  }
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

function fitToPaper() {
  for (const plot of document.querySelectorAll(".plot")) {
    Plotly.relayout(plot, { width: plot.closest(".grid") ? PRINT_WIDTH / 3 - 12 : PRINT_WIDTH, autosize: false });
  }
}

function fitToScreen() {
  for (const plot of document.querySelectorAll(".plot")) Plotly.relayout(plot, { width: null, autosize: true });
}

for (const place of document.querySelectorAll("[data-figure]")) draw(place, content.figures[place.dataset.figure]);
for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    heading.querySelector("button").addEventListener("click", () => sortBy(table, heading));
  }
}
const choice = document.getElementById("slice-of");
if (choice) {
  choice.addEventListener("change", () => drawSlices(choice.value));
  drawSlices(choice.value);
}
window.addEventListener("beforeprint", fitToPaper);
window.addEventListener("afterprint", fitToScreen);
