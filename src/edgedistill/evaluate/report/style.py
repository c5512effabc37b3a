"""The style sheet of the HTML report: system fonts, light and dark by preference, print."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f7f7f5; --card: #ffffff; --ink: #1a1a19; --muted: #62615c; --line: #e2e1dc;
  --good: #0a6b2d; --good-soft: #e3f4e8; --bad: #a3211c; --bad-soft: #fbe7e5; --tint: #f0f4fb;
  --series1: #2a6fd1; --series2: #d9541e; --series3: #12876a; --series4: #8a5ac2; --faint: #a9a8a2;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #151514; --card: #1f1f1d; --ink: #f1f0ec; --muted: #a9a8a1; --line: #363531;
    --good: #6fd494; --good-soft: #14301e; --bad: #ff9a92; --bad-soft: #3b1a18; --tint: #1d2838;
    --series1: #6aa5f7; --series2: #f48a5a; --series3: #45c29f; --series4: #b892ea;
    --faint: #6d6c66;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1020px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 2px 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 0 0 12px; }
p { margin: 0 0 12px; max-width: 75ch; overflow-wrap: anywhere; }
ul { margin: 0 0 12px; padding-left: 20px; }
li { overflow-wrap: anywhere; }
.eyebrow, .muted { color: var(--muted); font-size: 13px; }
.eyebrow { margin: 0; }
.summary { font-size: 16.5px; max-width: 80ch; margin: 18px 0; }
.verdict { border-radius: 10px; padding: 16px 20px; margin: 18px 0; }
.verdict strong { font-size: 24px; letter-spacing: 0.02em; }
.verdict ul { margin: 8px 0 0; }
.verdict.good { background: var(--good-soft); border-left: 6px solid var(--good); }
.verdict.bad { background: var(--bad-soft); border-left: 6px solid var(--bad); }
.verdict.good strong { color: var(--good); }
.verdict.bad strong { color: var(--bad); }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 0 0 20px; font-size: 13.5px; }
a { color: var(--series1); text-decoration: none; }
a:hover { text-decoration: underline; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 20px 22px 12px; margin: 0 0 18px;
}
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px; }
.figures { margin: 4px 0 18px; }
.figures div { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.figures dt, .figures p { color: var(--muted); font-size: 12.5px; margin: 0; }
.figures dd { font-size: 22px; font-weight: 600; margin: 0; white-space: nowrap; }
.table { overflow-x: auto; margin: 0 0 14px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
table.narrow { width: auto; min-width: min(100%, 460px); }
caption { text-align: left; color: var(--muted); font-size: 13px; padding: 0 0 6px; }
th, td {
  text-align: left; vertical-align: top; padding: 6px 18px 6px 0;
  border-bottom: 1px solid var(--line); overflow-wrap: break-word; max-width: 44ch;
}
th:first-child, td:first-child { padding-left: 6px; }
th { color: var(--muted); font-weight: 600; font-size: 12.5px; }
tbody tr:last-child td { border-bottom: 0; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
tr.strong td { background: var(--tint); font-weight: 600; }
.mark { display: inline-block; border-radius: 20px; padding: 0 9px; font-size: 12.5px; }
.mark { font-weight: 600; white-space: nowrap; background: var(--line); }
.mark.good { background: var(--good-soft); color: var(--good); }
.mark.bad { background: var(--bad-soft); color: var(--bad); }
.columns { display: flex; flex-wrap: wrap; gap: 8px 36px; }
.columns > div { flex: 1 1 400px; min-width: 0; }
.plots { display: flex; flex-wrap: wrap; gap: 18px; margin: 6px 0 14px; }
figure { margin: 0; flex: 1 1 400px; max-width: 560px; min-width: 0; }
figcaption { font-size: 13px; font-weight: 600; margin: 0 0 4px; }
.chart { width: 100%; height: auto; display: block; }
.chart text { fill: var(--muted); font-size: 11.5px; }
.chart .label {
  fill: var(--ink); paint-order: stroke; stroke: var(--card); stroke-width: 4px;
  stroke-linejoin: round;
}
.chart .middle { text-anchor: middle; }
.chart .end { text-anchor: end; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .axis { stroke: var(--faint); stroke-width: 1; }
.chart .mark { stroke: var(--muted); stroke-width: 1; stroke-dasharray: 4 3; }
.chart .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart .line.thin { stroke-width: 1.25; opacity: 0.7; }
.chart .reference { stroke: var(--faint); stroke-width: 1.25; stroke-dasharray: 4 4; }
.chart .line.series1 { stroke: var(--series1); }
.chart .line.series2 { stroke: var(--series2); stroke-dasharray: 7 3; }
.chart .line.series3 { stroke: var(--series3); stroke-dasharray: 2 3; }
.chart .line.series4 { stroke: var(--series4); stroke-dasharray: 9 3 2 3; }
.chart .dot { stroke: var(--card); stroke-width: 1.5; fill-opacity: 0.85; }
.chart .dot.series1, .chart .bar.series1 { fill: var(--series1); }
.chart .dot.series2 { fill: var(--series2); }
.chart .dot.series3 { fill: var(--series3); }
.chart .dot.series4 { fill: var(--series4); }
.chart .dot.faint { fill: var(--faint); fill-opacity: 0.6; }
.chart .bar.series2 { fill: var(--series2); }
.chart .bar.series3 { fill: var(--series3); }
.chart .bar.soft { fill-opacity: 0.3; }
.chart .strip { fill: none; stroke: var(--series1); stroke-width: 1.5; stroke-opacity: 0.22; }
.chart .strip.series2 { stroke: var(--series2); }
.chart .strip.faint { stroke: var(--muted); }
@media print {
  :root { color-scheme: light; }
  body { background: #fff; font-size: 11pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  section { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: 14px 0 0; }
  figure, tr, .figures, .verdict { break-inside: avoid; }
  h2, caption { break-after: avoid; }
  .table { overflow: visible; }
  * { print-color-adjust: exact; }
}
"""
