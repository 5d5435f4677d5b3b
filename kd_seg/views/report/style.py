"""The style sheet of a report, light and dark by the reader's setting, no fonts or files from elsewhere."""

STYLE = """
:root { --ink:#1c2430; --muted:#566273; --line:#d9dfe7; --paper:#ffffff; --card:#f5f7fa; --up:#0f7a3c; --down:#b3261e;
  --link:#0b5cad; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin:0; color:var(--ink); background:var(--paper); line-height:1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 76rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 2.2rem; }
h1 { font-size: 1.9rem; margin: 0 0 .2rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .8rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .5rem; }
p, li { max-width: 46rem; }
.lead, .notes, footer { color: var(--muted); }
.notes { padding-left: 1.1rem; margin: .4rem 0; }
a { color: var(--link); }
nav { margin: .8rem 0 0; display:flex; flex-wrap:wrap; gap:.3rem 1.1rem; }
.skip { position:absolute; left:-100rem; } .skip:focus { left:1rem; top:1rem; background:var(--paper); padding:.5rem; }
.cards { display:grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap:1rem; margin-top:1.4rem; }
.card { background:var(--card); border:1px solid var(--line); border-radius:.6rem; padding:1rem 1.1rem; }
.card h3 { margin:0 0 .1rem; overflow-wrap:anywhere; }
.card p { margin:.2rem 0 .7rem; color:var(--muted); font-size:.88rem; }
.card dl { display:grid; grid-template-columns: auto auto; gap:.1rem .8rem; margin:0; font-size:.92rem; }
.card dt { color:var(--muted); } .card dd { margin:0; text-align:right; font-variant-numeric: tabular-nums; }
.card .big { font-size:1.7rem; font-weight:650; line-height:1.2; }
.swatch { display:inline-block; width:.8em; height:.8em; border-radius:.18em; margin-right:.45em;
  border:1px solid rgba(0,0,0,.22); vertical-align:-.05em; }
.scroll { overflow-x:auto; }
table { border-collapse: collapse; font-size:.92rem; margin:.6rem 0 1rem; }
caption { text-align:left; color:var(--muted); padding-bottom:.5rem; font-size:.88rem; }
th, td { padding:.28rem .9rem .28rem 0; border-bottom:1px solid var(--line); vertical-align:top; }
thead th { text-align:left; font-weight:600; border-bottom:2px solid var(--line); overflow-wrap:anywhere; }
tbody th { text-align:left; font-weight:500; min-width:8.5rem; }
table.numbers thead th { min-width:5.5rem; }
table.numbers td, table.numbers thead th:not(:first-child) { text-align:right; font-variant-numeric: tabular-nums;
  padding-left:1.2rem; }
table:not(.numbers) td { overflow-wrap:anywhere; min-width:9rem; max-width:26rem; }
.note { display:block; color:var(--muted); font-size:.8rem; font-weight:400; }
.gap { display:inline-block; min-width:3.1em; font-size:.85em; }
.gap.up { color:var(--up); } .gap.down { color:var(--down); }
.gap.same, .none { color:var(--muted); }
.charts { display:grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap:1.2rem; }
figure { margin:0; } figcaption { font-size:.86rem; color:var(--muted); margin:.3rem 0 0; }
.charts figcaption { margin:0 0 .2rem; color:var(--ink); font-weight:600; font-size:.92rem; }
.charts figure { background:#fff; color:#1c2430; border:1px solid var(--line); border-radius:.5rem; padding:.8rem; }
.charts figcaption { color:#1c2430; }
.charts img { width:100%; height:auto; display:block; }
.views { display:grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap:1rem;
  align-items:start; }
.views h4 { margin:0 0 .4rem; font-size:.95rem; } .views figure { margin-bottom:.8rem; }
.views img { width:100%; height:auto; display:block; border-radius:.4rem; background:#0f1219; }
.legend { display:grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap:.1rem .8rem; padding:0;
  list-style:none; font-size:.88rem; margin:.6rem 0 1.2rem; }
.keys { list-style:none; padding:0; display:flex; flex-wrap:wrap; gap:.2rem 1.4rem; }
details { margin:.6rem 0; } summary { cursor:pointer; font-weight:600; }
pre { background:var(--card); border:1px solid var(--line); border-radius:.5rem; padding:.9rem; overflow-x:auto;
  font-size:.84rem; line-height:1.45; }
code { font-size:.92em; }
footer { padding-top:2.5rem; padding-bottom:2rem; font-size:.85rem; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6eaf0; --muted:#a3aebd; --line:#333c49; --paper:#12161d;
  --card:#1a202a; --up:#5fd38d; --down:#ff8a80; --link:#7cc0ff; } }
@media print { nav { display:none; } h2 { break-after: avoid; } figure, .card { break-inside: avoid; } }
"""
